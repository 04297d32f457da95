"""What sharing experts costs: the demo enhancer on prompts it has never seen, greedy, arm by arm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..demo.short_prompts import Pair, is_complete, lost
from ..enhance.enhancer import Enhancer
from ..enhance.routing import find_routers, policy_on
from .runner import Arm

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Quality:
    """One arm on all prompts. kept and complete are a bool per prompt; the log-likelihoods and likeliest tokens are
    one per token of the reference captions, in decode steps."""

    arm: str
    batch_size: int
    before: float
    after: float
    kept: list[bool]
    complete: list[bool]
    texts: list[str]
    log_likelihoods: list[float]
    likeliest: list[int]

    def row(self, plain: Quality) -> dict[str, Any]:
        """The arm's line of the table, beside the plain arm at the same batch size."""
        same_text = [a == b for a, b in zip(self.texts, plain.texts, strict=True)]
        agreed = [a == b for a, b in zip(self.likeliest, plain.likeliest, strict=True)]
        return {
            "arm": self.arm,
            "batch": self.batch_size,
            "n": len(self.kept),
            "experts_before": self.before,
            "experts": self.after,
            "kept": _share(self.kept),
            "kept_difference": _share(self.kept) - _share(plain.kept),
            "complete": _share(self.complete),
            "perplexity": math.exp(-sum(self.log_likelihoods) / len(self.log_likelihoods)),
            "tokens_agreed": _share(agreed),
            "texts_same": _share(same_text),
        }


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def measure(enhancer: Enhancer, pairs: Sequence[Pair], arm: Arm, batch_size: int) -> Quality:
    """Have every prompt's caption written, then force the reference captions through the same decode steps."""
    import torch

    texts: list[str] = []
    log_likelihoods: list[float] = []
    likeliest: list[int] = []
    with policy_on(enhancer.model, arm.how) as statistics, torch.inference_mode():
        for batch in batches(pairs, batch_size):
            texts += enhancer.write([pair.prompt for pair in batch])
        before, after = statistics.before, statistics.after
        for batch in batches(pairs, batch_size):
            for logits, targets, is_said in forced_steps(enhancer, batch):
                logits = logits.log_softmax(-1)
                log_likelihoods += logits.gather(1, targets[:, None])[is_said, 0].tolist()
                likeliest += logits.argmax(-1)[is_said].tolist()
    return Quality(
        arm.name,
        batch_size,
        before,
        after,
        [not lost(pair.prompt, text) for pair, text in zip(pairs, texts, strict=True)],
        [is_complete(text) for text in texts],
        texts,
        log_likelihoods,
        likeliest,
    )


def batches(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def forced_steps(enhancer: Enhancer, pairs: Sequence[Pair]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The decode steps in which the model reads the reference captions.

    Yields: logits (B, V), the tokens that come next (B,), and whether the caption goes that far (B,). The first token
    comes out of the prefill, where all arms are equal, so it is not among them.
    """
    import torch

    tokenizer = enhancer.tokenizer
    given = tokenizer(
        [enhancer.manner.text_for(pair.prompt, tokenizer) for pair in pairs], return_tensors="pt", padding=True
    )
    mask = given.attention_mask
    captions = [tokenizer(pair.caption).input_ids + [tokenizer.eos_token_id] for pair in pairs]
    longest = max(map(len, captions))
    ids = torch.tensor([caption + [tokenizer.pad_token_id] * (longest - len(caption)) for caption in captions])
    lengths = torch.tensor([len(caption) for caption in captions])
    output = enhancer.model(
        input_ids=given.input_ids, attention_mask=mask, position_ids=_positions(mask), use_cache=True
    )
    for i in range(longest - 1):
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        output = enhancer.model(
            input_ids=ids[:, i : i + 1],
            attention_mask=mask,
            position_ids=_positions(mask)[:, -1:],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        yield output.logits[:, -1].float(), ids[:, i + 1], i + 1 < lengths


def _positions(mask: Tensor) -> Tensor:
    """(B, L): positions count from the first token that is no padding, as in `generate`."""
    return (mask.cumsum(1) - 1).clamp(min=0)


def recorded_logits(enhancer: Enhancer, pairs: Sequence[Pair], batch_size: int) -> list[list[Tensor]]:
    """Router logits (B, N) of full decode steps, a list for each layer: what trained routers say to real tokens."""
    import torch

    routers = find_routers(enhancer.model)
    seen: list[list[Tensor]] = [[] for _ in routers]
    is_on = False

    def listen(layer: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            if is_on:
                seen[layer].append(output[0].float().clone())

        return hook

    handles = [router.module.register_forward_hook(listen(i)) for i, router in enumerate(routers)]
    try:
        with torch.inference_mode():
            for batch in batches(pairs, batch_size):
                if len(batch) < batch_size:
                    continue
                steps = forced_steps(enhancer, batch)
                is_on = False
                for _, _, is_said in steps:
                    is_on = bool(is_said.all())  # holds for the step that comes next: all texts go on in it
                is_on = False
    finally:
        for handle in handles:
            handle.remove()
    return seen
