"""What sharing experts saves where decoding is bound by memory: layers of OLMoE's dimensions with random weights.

Random routers are flatter than trained ones, so the routers here are told what to say: logits of the bundled enhancer's
trained routers, recorded in its decode steps, which have as many experts and as many of them active.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..enhance.routing import Choice, Router, find_routers, num_touched, policy_on, reweighted
from .runner import Arm

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_LAYERS, PUBLISHED_VOCABULARY = 16, 50304
CONTEXT = 64


@dataclass(frozen=True)
class Size:
    """Dimensions of a mixture-of-experts model; the defaults are OLMoE-1B-7B's but for the number of layers."""

    layers: int = 2
    hidden: int = 2048
    expert: int = 1024
    heads: int = 16
    experts: int = 64
    active: int = 8

    @property
    def vocabulary(self) -> int:
        """So large that the output layer has the share that it has in the published model of 16 layers."""
        return PUBLISHED_VOCABULARY * self.layers // PUBLISHED_LAYERS


@dataclass(frozen=True)
class Speed:
    """Decode steps of one arm: milliseconds each by the clock and of the processor (all threads together), and distinct
    experts per layer that ran in it."""

    arm: str
    batch_size: int
    step_ms: list[float]
    cpu_ms: list[float]
    experts: list[float]


def new_model(size: Size) -> Any:
    """A model with random weights, on the CPU in fp32; its experts run one after the other, those asked for alone."""
    import torch
    from transformers import OlmoeConfig, OlmoeForCausalLM

    config = OlmoeConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.expert,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_experts=size.experts,
        num_experts_per_tok=size.active,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.device("meta"):
        model = OlmoeForCausalLM(config)
    model = model.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data.normal_(0.0, 0.02, generator=generator)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its buffers are no weights
    model.set_experts_implementation("eager")
    return model


@contextmanager
def told_routers(routers: Sequence[Router], recorded: Sequence[Sequence[Tensor]]) -> Iterator[list[int]]:
    """Within the block, each router says the recorded logits (B, N) of a layer like it in a trained model.

    Yields: a list of one number, the step of the record; it is counted on by whoever makes steps.
    """
    now = [0]

    def tell(layer: int, router: Router) -> Any:
        record = recorded[layer * len(recorded) // len(routers)]

        def hook(module: Any, args: Any, output: Any) -> Any:
            if len(output[0]) != len(record[0]):  # the prefill
                return None
            logits = record[now[0] % len(record)]
            weights, experts = logits.softmax(-1).topk(router.top_k, dim=-1)
            return logits, weights.to(output[1].dtype), experts

        return hook

    handles = [router.module.register_forward_hook(tell(i, router)) for i, router in enumerate(routers)]
    try:
        yield now
    finally:
        for handle in handles:
            handle.remove()


def measure_steps(
    model: Any, arms: Sequence[Arm], recorded: Sequence[Sequence[Tensor]], steps: int, seed: int
) -> list[Speed]:
    """Decode steps of all arms, taking turns: the same record, the same cache, one arm after the other.

    Args:
        recorded: for each layer of the trained model, router logits (B, N) step by step.
    """
    import torch

    routers = find_routers(model)
    batch_size = len(recorded[0][0])
    vocabulary = model.config.vocab_size
    ids = torch.randint(vocabulary, (batch_size, CONTEXT), generator=torch.Generator().manual_seed(seed))
    found = [Speed(arm.name, batch_size, [], [], []) for arm in arms]
    with torch.inference_mode(), told_routers(routers, recorded) as now:
        cache = model(input_ids=ids, use_cache=True).past_key_values
        gc.disable()
        try:
            for step in range(steps + 1):  # the first warms up
                now[0] = step
                for arm, speed in zip(arms, found, strict=True):
                    with policy_on(model, arm.how, routers) if arm.how else nullcontext() as statistics:
                        start, start_cpu = time.perf_counter(), time.process_time()
                        model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
                        clock_ms = (time.perf_counter() - start) * 1e3
                        cpu_ms = (time.process_time() - start_cpu) * 1e3
                    cache.crop(-1)
                    if step:
                        speed.step_ms.append(clock_ms)
                        speed.cpu_ms.append(cpu_ms)
                        counted = statistics is not None and statistics.steps and statistics.after
                        speed.experts.append(counted or _chosen(routers, recorded, step))
        finally:
            gc.enable()
    return found


def _chosen(routers: Sequence[Router], recorded: Sequence[Sequence[Tensor]], step: int) -> float:
    """Distinct experts per layer that the routers choose in a step of the record."""
    counts = []
    for layer, router in enumerate(routers):
        record = recorded[layer * len(recorded) // len(routers)]
        counts.append(len(record[step % len(record)].topk(router.top_k, dim=-1).indices.unique()))
    return sum(counts) / len(counts)


def selection_ms(
    arm: Arm, recorded: Sequence[Sequence[Tensor]], layers: int, top_k: int, repeats: int = 50
) -> list[float]:
    """Milliseconds of the processor per step for the choosing alone, in as many layers: policy, weights and counts."""
    import torch

    found = []
    with torch.inference_mode():
        for step in range(repeats + 5):
            logits = [record[step % len(record)] for record in recorded]
            chosen = [each.softmax(-1).topk(top_k, dim=-1) for each in logits]
            is_voter = torch.ones(len(logits[0]), dtype=torch.bool)
            start = time.process_time()
            for layer in range(layers):
                i = layer % len(recorded)
                choice = Choice(logits[i].float(), chosen[i].indices, is_voter, len(is_voter))
                new = arm.how(choice)
                _, experts = reweighted(choice, chosen[i].values, new, "softmax")
                num_touched(experts, logits[i].shape[1])
            if step >= 5:
                found.append((time.process_time() - start) * 1e3)
    return found
