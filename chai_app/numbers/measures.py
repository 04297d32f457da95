"""What is measured on networks that have learned to count; one value per network, so that seeds give an interval."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .successor import Networks

Interval = dict[str, float]
_RESAMPLES = 2_000


def interval(values: Tensor) -> Interval:
    """Mean of one value per seed, and its 95 % interval: bootstrap over the seeds, (S,)."""
    import torch

    generator = torch.Generator().manual_seed(0)
    values = values.double()
    drawn = torch.randint(len(values), (_RESAMPLES, len(values)), generator=generator)
    means = values[drawn].mean(1)
    low, high = (float(means.quantile(q)) for q in (0.025, 0.975))
    return {"mean": float(values.mean()), "low": low, "high": high}


def accuracies(networks: Networks) -> dict[str, Tensor]:
    """Share of right answers on pairs that each network was trained on, and on the others: (S,) each."""
    import torch

    is_right = networks.is_right(torch.arange(networks.is_trained.shape[1])).float()
    held = ~networks.is_trained
    shares = {"trained": _share(is_right, networks.is_trained)}
    if held.any():
        crosses = torch.arange(held.shape[1]) % 10 == 9
        shares["held out"] = _share(is_right, held)
        shares["held out, within tens"] = _share(is_right, held & ~crosses)
        shares["held out, crossing tens"] = _share(is_right, held & crosses)
    return shares


def similarities(networks: Networks) -> Tensor:
    """Cosine of the hidden states of N and N + 1, N = 0 ... 97, so that both are among the pairs: (S, 98)."""
    import torch
    import torch.nn.functional as F

    states = networks.hidden(torch.arange(99))
    return F.cosine_similarity(states[:, :-1], states[:, 1:], dim=-1)


def similarity_means(networks: Networks) -> dict[str, Tensor]:
    """`similarities` by kind of pair, (S,) each."""
    import torch

    cosines, trained = similarities(networks), networks.is_trained[:, :98]
    crosses = (torch.arange(98) % 10 == 9).expand_as(trained)
    within, across = _share(cosines, ~crosses), _share(cosines, crosses)
    kinds = {"trained": _share(cosines, trained)}
    if not trained.all():
        kinds["held out"] = _share(cosines, ~trained)
    return {**kinds, "within tens": within, "crossing tens": across, "drop": within - across}


def geometry(networks: Networks) -> dict[str, Tensor]:
    """How the hidden space of 0 ... 99 is laid out, (S,) each, shares and cosines:

    tens separable: tens that a plane parts from all other numbers;
    tens separable in 2-D: pairs of tens that a line parts in the plane that shows the tens best;
    same ones grouped: numbers whose nearest one of other tens, each seen from the middle of its tens, has the same
    ones (by chance 0.1);
    boundary step is a sum: cosine of the step from 10 t + 9 to 10 t + 10 with what the sum of two vectors predicts, the
    average change of these tens and the average change from 9 to 0 ones;
    boundary steps alike: cosine between two such steps;
    other steps alike: cosine between the steps from ones o to o + 1 in two tens.
    """
    import torch
    import torch.nn.functional as F

    numbers = torch.arange(100)
    tens, ones = numbers // 10, numbers % 10
    states = networks.hidden(numbers)
    flat = plane(states, tens)
    inside = F.one_hot(tens, 10).T.bool()  # (10, 100)
    whole = torch.stack([_separable(each.expand(10, -1, -1), inside).float().mean() for each in states])
    pairs = torch.tensor(list(combinations(range(10), 2)))
    members = torch.stack([torch.cat([numbers[tens == a], numbers[tens == b]]) for a, b in pairs])  # (45, 20)
    halves = torch.arange(20) < 10
    in_plane = torch.stack([_separable(each[members], halves.expand(45, -1)).float().mean() for each in flat])

    table = states.unflatten(1, (10, 10))  # (S, tens, ones, H)
    centred = (table - table.mean(2, keepdim=True)).flatten(1, 2)
    far = torch.cdist(centred, centred) + 1e6 * (tens[:, None] == tens)
    grouped = (ones[far.argmin(-1)] == ones).float().mean(1)

    steps = table[:, 1:, 0] - table[:, :-1, 9]  # (S, 9, H)
    of_tens = (table[:, 1:] - table[:, :-1]).mean(2)
    of_ones = (table[:, :, 0] - table[:, :, 9]).mean(1, keepdim=True)
    is_sum = F.cosine_similarity(steps, of_tens + of_ones, dim=-1).mean(1)
    others = (table[:, :, 1:] - table[:, :, :-1]).transpose(1, 2)  # (S, 9 ones, 10 tens, H)
    return {
        "tens separable": whole,
        "tens separable in 2-D": in_plane,
        "same ones grouped": grouped,
        "boundary step is a sum": is_sum,
        "boundary steps alike": _mutual(steps),
        "other steps alike": _mutual(others).mean(1),
    }


def plane(states: Tensor, groups: Tensor) -> Tensor:
    """Each network's states in the plane along which the means of ten groups differ most, that of the two largest
    principal components of the means: (S, N, H) and (N,) -> (S, N, 2)."""
    import torch

    centred = states - states.mean(1, keepdim=True)
    means = torch.stack([centred[:, groups == group].mean(1) for group in range(10)], dim=1)
    _, _, directions = torch.linalg.svd(means, full_matrices=False)
    return centred @ directions[:, :2].transpose(1, 2)


def monotone_share(likeness: Tensor, least: int, most: int) -> float:
    """Of three counts a, b, c on one side in this order, how often b is more like a than c is.

    Args: likeness: (N, N), of the counts 0 ... N - 1; least, most: the counts that are looked at.
    """
    import torch

    right = total = 0
    for a in range(least, most + 1):
        for side in (range(a, most + 1), range(a, least - 1, -1)):
            row = likeness[a, list(side)]
            later = torch.ones(len(row), len(row)).triu(1).bool()
            right += int((row[:, None] > row)[later].sum())
            total += int(later.sum())
    return right / total


def _share(values: Tensor, which: Tensor) -> Tensor:
    """Mean over a row's chosen places, (S, N) and (S, N) -> (S,); of a row without any, the mean of all rows'."""
    picked = (values * which).sum(1) / which.sum(1)
    return picked.where(which.any(1), picked[which.any(1)].mean())


def _mutual(vectors: Tensor) -> Tensor:
    """Mean cosine between two different ones of the last axis but one: (..., N, H) -> (...)."""
    import torch.nn.functional as F

    units = F.normalize(vectors, dim=-1)
    n = units.shape[-2]
    return (units.sum(-2).square().sum(-1) - n) / (n * (n - 1))


def _separable(points: Tensor, inside: Tensor) -> Tensor:
    """Whether a plane parts the points inside from the others, (P, N, D) and (P, N) -> (P,).

    Found by Newton's method on a logistic regression: a plane that is there could in principle be missed, so shares are
    lower bounds.
    """
    import torch

    points = (points - points.mean(1, keepdim=True)) / points.std(1, keepdim=True).clamp_min(1e-6)
    points = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1).double()
    signs = inside.double() * 2 - 1
    plane = torch.zeros(len(points), points.shape[-1], dtype=torch.float64)
    ridge = 1e-6 * torch.eye(points.shape[-1], dtype=torch.float64)
    for _ in range(40):
        margins = signs * (points @ plane[..., None])[..., 0]
        wrong = torch.sigmoid(-margins)
        slope = (points * (signs * wrong)[..., None]).sum(1) - 1e-6 * plane
        bend = points.transpose(1, 2) @ (points * (wrong * (1 - wrong))[..., None]) + ridge
        step = torch.linalg.solve(bend, slope)
        plane = plane + step / (step.norm(dim=-1, keepdim=True) / 5).clamp_min(1)
    return (signs * (points @ plane[..., None])[..., 0] > 0).all(-1)
