"""Putting a hand between a mixture-of-experts model's routers and its experts, in the decode steps of a batch.

Hooks on the router modules see their logits, weights and chosen experts, and may choose others. A prefill passes
through untouched, as does a batch in which no more than one text is still being written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from ..errors import BadRequest

if TYPE_CHECKING:
    from torch import Tensor, nn

NO_EXPERT = -1
_TOLERANCE = 0.02  # of normalised weights; bf16 rounds to 0.004


Scoring = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Choice:
    """What the routers of one layer chose for the tokens of one decode step.

    logits: (B, N) fp32, before softmax or sigmoid. experts: (B, k) int64, distinct in each row. is_voter: (B,), False
    for texts that are finished and only fill the batch; num_voters of them are True. scoring makes weights of logits.
    """

    logits: Tensor
    experts: Tensor
    is_voter: Tensor
    num_voters: int
    scoring: Scoring = "softmax"

    @property
    def shares(self) -> Tensor:
        """(B, k): the weights of the chosen experts, in each row as shares of 1."""
        logits = self.logits.gather(1, self.experts)
        if self.scoring == "softmax":
            return logits.softmax(1)
        weights = logits.sigmoid()
        return weights / weights.sum(1, keepdim=True)


Policy = Callable[[Choice], "Tensor"]
"""From a choice to another, (B, k). Experts differ within a row, but for `NO_EXPERT`, which leaves a place empty."""


@dataclass
class LayerCount:
    """Experts touched in one layer, summed over decode steps; tensors until somebody asks, so that no step waits."""

    num_experts: int
    steps: int = 0
    before: Any = 0
    after: Any = 0

    @property
    def mean_before(self) -> float:
        """Distinct experts per step that the routers chose."""
        return float(self.before) / max(1, self.steps)

    @property
    def mean_after(self) -> float:
        """Distinct experts per step that ran."""
        return float(self.after) / max(1, self.steps)


class Statistics:
    """Distinct experts per layer and decode step, as the routers chose them and as they ran."""

    def __init__(self, layers: Mapping[str, int]) -> None:
        self.layers = {name: LayerCount(num_experts) for name, num_experts in layers.items()}

    @property
    def steps(self) -> int:
        """Decode steps in which a choice could be made."""
        return max((layer.steps for layer in self.layers.values()), default=0)

    @property
    def before(self) -> float:
        """Mean over layers and steps."""
        return _mean([layer.mean_before for layer in self.layers.values() if layer.steps])

    @property
    def after(self) -> float:
        """Mean over layers and steps."""
        return _mean([layer.mean_after for layer in self.layers.values() if layer.steps])

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        layers = [
            {"layer": name, "experts": layer.num_experts, "before": layer.mean_before, "after": layer.mean_after}
            for name, layer in self.layers.items()
        ]
        return {"steps": self.steps, "before": self.before, "after": self.after, "layers": layers}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@dataclass(frozen=True)
class Router:
    """A router module: how many experts it knows, how many it chooses, and what makes weights of its logits."""

    name: str
    module: nn.Module
    num_experts: int
    top_k: int
    scoring: Scoring


def find_routers(model: nn.Module) -> list[Router]:
    """The routers of a transformers model: modules with `top_k` and a weight (experts, width) that return logits,
    weights and indices.

    Raises: BadRequest if there is none, or one whose weights are neither a softmax nor a sigmoid of its logits.
    """
    routers = []
    for name, module in model.named_modules():
        weight, top_k = getattr(module, "weight", None), getattr(module, "top_k", None)
        if isinstance(top_k, int) and getattr(weight, "ndim", 0) == 2:
            router = _tried(name, module, top_k)
            if router is not None:
                routers.append(router)
    if not routers:
        raise BadRequest(
            f"{type(model).__name__} has no router that returns logits, weights and experts, so its experts cannot be "
            "chosen for it: use a mixture-of-experts model of transformers 5, or leave Lynx off."
        )
    return routers


def _tried(name: str, module: Any, top_k: int) -> Router | None:
    """Ask the router once: that is surer than going by the names of classes."""
    import torch

    weight = module.weight
    width = weight.shape[1]
    with torch.no_grad():
        states = torch.linspace(-1, 1, 3 * width).reshape(width, 3).T.to(weight)
        output = module(states)
        if not (isinstance(output, tuple) and len(output) == 3 and all(torch.is_tensor(part) for part in output)):
            return None
        logits, weights, experts = output
        if logits.shape != (3, weight.shape[0]) or weights.shape != (3, top_k) or experts.shape != (3, top_k):
            return None
        chosen = logits.float().gather(1, experts)
        wanted = weights.float() / weights.float().sum(1, keepdim=True)
        by_sigmoid = chosen.sigmoid() / chosen.sigmoid().sum(1, keepdim=True)
        softmax_error = float((chosen.softmax(1) - wanted).abs().max())
        sigmoid_error = float((by_sigmoid - wanted).abs().max())
    if min(softmax_error, sigmoid_error) > _TOLERANCE:
        raise BadRequest(f"The router {name} weighs its experts by neither a softmax nor a sigmoid: leave Lynx off.")
    scoring: Scoring = "softmax" if softmax_error <= sigmoid_error else "sigmoid"
    return Router(name, module, weight.shape[0], top_k, scoring)


class Rerouting:
    """A policy on all routers of a model, from `__init__` until `remove`."""

    def __init__(self, model: Any, policy: Policy, routers: list[Router] | None = None) -> None:
        routers = find_routers(model) if routers is None else routers
        self.statistics = Statistics({router.name: router.num_experts for router in routers})
        self._policy = policy
        self._step: tuple[Tensor, int] | None = None  # voters of the decode step that is under way
        config = getattr(model, "config", None)
        self._pad_token_id = getattr(config, "pad_token_id", None)
        backbone = getattr(model, "base_model", model)
        self._handles = [
            backbone.register_forward_pre_hook(self._begin, with_kwargs=True),
            backbone.register_forward_hook(self._end, always_call=True),
        ]
        self._handles += [router.module.register_forward_hook(self._hook_for(router)) for router in routers]

    def remove(self) -> None:
        """Take every hook off again."""
        for handle in self._handles:
            handle.remove()

    def _begin(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find out whether this is a decode step, and whose tokens are in it."""
        import torch

        self._step = None
        ids = kwargs.get("input_ids", args[0] if args else None)
        tokens = ids if ids is not None else kwargs.get("inputs_embeds")
        # transformers 5.24 calls it cache, earlier ones past_key_values.
        cache = kwargs.get("cache") if kwargs.get("past_key_values") is None else kwargs["past_key_values"]
        if tokens is None or tokens.shape[1] != 1 or tokens.shape[0] == 1:
            return
        if cache is None or int(cache.get_seq_length()) == 0:
            return
        is_voter = torch.ones(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        if ids is not None and self._pad_token_id is not None:
            is_voter &= ids[:, 0] != self._pad_token_id
        mask = kwargs.get("attention_mask")
        if torch.is_tensor(mask) and mask.ndim == 2:
            is_voter &= mask[:, -1].to(torch.bool)
        num_voters = int(is_voter.sum())
        if num_voters > 1:
            self._step = (is_voter, num_voters)

    def _end(self, module: Any, args: Any, output: Any) -> None:
        self._step = None

    def _hook_for(self, router: Router) -> Callable[[Any, Any, Any], Any]:
        count = self.statistics.layers[router.name]

        def reroute(module: Any, args: Any, output: Any) -> Any:
            if self._step is None:
                return None
            logits, weights, experts = output
            choice = Choice(logits.float(), experts, *self._step, router.scoring)
            chosen = self._policy(choice)
            weights, new = reweighted(choice, weights, chosen, router.scoring)
            count.steps += 1
            count.before = count.before + num_touched(experts, router.num_experts)
            count.after = count.after + num_touched(new, router.num_experts)
            return logits, weights, new

        return reroute


def reweighted(choice: Choice, weights: Tensor, chosen: Tensor, scoring: Scoring) -> tuple[Tensor, Tensor]:
    """Weights for the experts of a policy.

    Args:
        weights: (B, k) of the router's own choice. chosen: (B, k), the policy's.
    Returns: weights (B, k), which sum to what they summed to, bit for bit the same in rows that have not changed; and
        experts (B, k), where an empty place has weight 0 and the row's best expert.
    """
    import torch

    is_there = chosen != NO_EXPERT
    best = choice.experts.gather(1, choice.logits.gather(1, choice.experts).argmax(1, keepdim=True))  # (B, 1)
    chosen = torch.where(is_there, chosen, best)
    logits = choice.logits.gather(1, chosen)
    parts = logits.sigmoid() if scoring == "sigmoid" else (logits - logits.amax(1, keepdim=True)).exp()
    parts = parts * is_there
    old = weights.float()
    new = parts * (old.sum(1, keepdim=True) / parts.sum(1, keepdim=True))
    is_same = ((chosen == choice.experts) & is_there).all(1, keepdim=True)
    return torch.where(is_same, old, new).to(weights.dtype), chosen


def num_touched(experts: Tensor, num_experts: int) -> Tensor:
    """How many distinct experts (B, k) names: a tensor of one number, so that nothing waits for it."""
    touched = experts.new_zeros(num_experts)
    return touched.index_fill(0, experts.flatten(), 1).sum()


_active: WeakKeyDictionary[Any, Rerouting] = WeakKeyDictionary()


def apply_policy(model: Any, policy: Policy, routers: list[Router] | None = None) -> Statistics:
    """Put a policy on a model, in place of the one that may be on it.

    Returns: the statistics, which go on counting.
    """
    remove_policy(model)
    _active[model] = Rerouting(model, policy, routers)
    return _active[model].statistics


def remove_policy(model: Any) -> None:
    """Take the policy off, if one is on; the model is bit for bit what it was."""
    rerouting = _active.pop(model, None)
    if rerouting is not None:
        rerouting.remove()


@contextmanager
def policy_on(model: Any, policy: Policy | None, routers: list[Router] | None = None) -> Iterator[Statistics]:
    """The policy is on within the block and off after it, however it ends. None counts, and leaves all as it is."""
    statistics = apply_policy(model, policy or (lambda choice: choice.experts), routers)
    try:
        yield statistics
    finally:
        remove_policy(model)
