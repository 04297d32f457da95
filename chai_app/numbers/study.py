"""The study: both networks over many seeds, how they lay numbers out, how they grow, and the network that counts on.

Every figure is measured by `run`; a minute or two on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from . import counter, successor
from .carry import Carry, find_carry
from .likeness import count_likeness, shipped_states
from .measures import accuracies, geometry, interval, monotone_share, plane, similarities, similarity_means
from .successor import COUNT_LIST, PAIRS, PLACE_VALUE, Networks, Stage

if TYPE_CHECKING:
    from torch import Tensor

Say = Callable[[str], None]

PAPER = {
    "count list": {"trained": 0.77, "held out": 0.79, "within tens": 0.78, "crossing tens": 0.74},
    "place value": {"held out": 0.24},
}
"""What the papers report: for the count list cosines of the hidden states of N and N + 1, for place value the share of
held-out pairs that come out right."""
LONG = 30
_EVERY = 10  # epochs between two looks at the curriculum
_AT_ONCE = 1_000  # numbers read in one go


@dataclass(frozen=True)
class Size:
    """How much is run: seeds of the small networks and of the counting one, epochs, and numbers that are tried."""

    seeds: int = 20
    epochs: int = successor.EPOCHS
    stage_epochs: int = 80
    counters: int = 5
    counter_epochs: int = counter.EPOCHS
    numbers: int = 10_000


@dataclass(frozen=True)
class Study:
    """figures are plain values, ready for `json.dumps`; the rest is what the plots are drawn from.

    curriculum: (looks, S, 10), the confidence in N + 1 by tens, after the epochs in curriculum_epochs; planes: (100, 2)
    of the first seed, the plane that shows the tens or the ones best; cosines: (S, 98) for each encoding; by_length:
    for each length the share of right answers of each counting network; likeness: (100, 100) by cosine and by path.
    """

    figures: dict[str, Any]
    cosines: dict[str, Tensor]
    planes: dict[tuple[str, str], Tensor]
    curriculum: Tensor
    curriculum_epochs: list[int]
    by_length: dict[int, Tensor]
    carry: Carry
    likeness: dict[str, Tensor]


def run(size: Size | None = None, say: Say = lambda line: None) -> Study:
    """Train and measure everything.

    Args: say: gets a line as each part is done.
    """
    size = size or Size()
    started = time.perf_counter()
    figures: dict[str, Any] = {"seeds": size.seeds, "counters": size.counters}
    stages = (Stage(PAIRS, size.epochs),)
    networks: dict[str, Networks] = {}
    for name, encoding, loss in (
        ("count list", COUNT_LIST, "cross-entropy"),
        ("place value", PLACE_VALUE, "cross-entropy"),
        ("place value, squared error", PLACE_VALUE, "squared"),
    ):
        trained = successor.train(encoding, size.seeds, stages, loss=loss)  # type: ignore[arg-type]
        networks[name] = trained
        figures[name] = {
            "right": {kind: interval(values) for kind, values in accuracies(trained).items()},
            "cosine": {kind: interval(values) for kind, values in similarity_means(trained).items()},
        }
        say(f"{name}: {_percent(figures[name]['right']['held out'])} of the held-out pairs right")
    figures["geometry"] = {
        name: {kind: interval(values) for kind, values in geometry(networks[name]).items()}
        for name in ("count list", "place value")
    }
    curriculum, epochs = _curriculum(size)
    figures["curriculum"] = _growth(curriculum, epochs, size.stage_epochs)
    say("curriculum: done")
    counters, by_length = _counting(size, figures)
    say(f"counting: {_percent(figures['counting']['random'])} of random {LONG}-digit numbers right")
    carry = find_carry(counters, _numbers(200, Random(4), with_nines=True))
    figures["carry"] = {name: getattr(carry, name) for name in ("told_apart", "flips", "flips_elsewhere")}
    likeness = _likeness()
    figures["likeness"] = {
        name: {f"{least} to {most}": monotone_share(values, least, most) for least, most in ((1, 9), (1, 20), (1, 99))}
        for name, values in likeness.items()
    }
    figures["seconds"] = time.perf_counter() - started
    import torch

    everyone = torch.arange(100)
    pair = {name: networks[name] for name in ("count list", "place value")}
    cosines = {name: similarities(each) for name, each in pair.items()}
    planes = {
        (name, shown): plane(each.hidden(everyone), groups)[0]
        for name, each in pair.items()
        for shown, groups in (("tens", everyone // 10), ("ones", everyone % 10))
    }
    return Study(figures, cosines, planes, curriculum, epochs, by_length, carry, likeness)


def _percent(values: dict[str, float]) -> str:
    return f"{100 * values['mean']:.1f} % ({100 * values['low']:.1f} to {100 * values['high']:.1f})"


def _curriculum(size: Size) -> tuple[Tensor, list[int]]:
    """Ten stages: the pairs below 10, below 20, and so on; none is held out."""
    import torch

    numbers, looks, epochs = torch.arange(PAIRS), [], []

    def look(epoch: int, networks: Networks) -> None:
        if epoch % _EVERY == 0:
            confidence = networks.confidence(numbers)
            by_tens = [confidence[:, numbers // 10 == tens].mean(1) for tens in range(10)]
            looks.append(torch.stack(by_tens, dim=1))
            epochs.append(epoch)

    stages = [Stage(10 * tens, size.stage_epochs) for tens in range(1, 11)]
    successor.train(PLACE_VALUE, size.seeds, stages, held_out=0, after_epoch=look)
    return torch.stack(looks), epochs


def _growth(curriculum: Tensor, epochs: list[int], stage_epochs: int) -> dict[str, Any]:
    """Confidence in the successors of each ten numbers at the end of the stage that brought them in and at the end of
    all; and of the tens before the last, how many were sharper in the end."""
    ends = curriculum[[i for i, epoch in enumerate(epochs) if epoch % stage_epochs == 0]]  # (10, S, 10)
    own, last = ends.diagonal(dim1=0, dim2=2), ends[-1]  # (S, 10)
    return {
        "own stage": [interval(values) for values in own.T],
        "last stage": [interval(values) for values in last.T],
        "sharper in the end": interval((last > own)[:, :-1].float().mean(1)),
    }


def _counting(size: Size, figures: dict[str, Any]) -> tuple[counter.Counters, dict[int, Tensor]]:
    counters = counter.train(size.counters, epochs=size.counter_epochs)
    random, nines, all_nines = Random(1), Random(2), [10**digits - 1 for digits in range(1, 101)]
    sets = {
        "trained": list(range(10**counter.TRAINED_DIGITS)),
        "random": _numbers(size.numbers, random),
        "ending in nines": _numbers(size.numbers, nines, with_nines=True),
        "nines only": all_nines,
    }
    shares = {name: _right(counters, numbers).float().mean(1) for name, numbers in sets.items()}
    figures["counting"] = {name: interval(values) for name, values in shares.items()}
    figures["counting"]["each"] = {name: values.tolist() for name, values in shares.items()}
    figures["counting"]["numbers"] = {name: len(numbers) for name, numbers in sets.items()}
    started = 9_900
    counted = counter.count_on(counters, started, 200)
    figures["counting"]["by itself"] = {"from": started, "steps": 200, "right": counted == [*range(started, 10_101)]}
    by_length = {
        digits: _right(counters, _numbers(200, Random(digits), digits, with_nines=True)).float().mean(1)
        for digits in (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100)
    }
    return counters.one(0), by_length


def _numbers(number: int, random: Random, digits: int = LONG, with_nines: bool = False) -> list[int]:
    """Numbers of so many digits; with_nines makes the last 0 to all of them nines, each as often."""
    drawn = []
    for _ in range(number):
        value = random.randrange(10 ** (digits - 1), 10**digits)
        tail = 10 ** random.randint(0, digits) if with_nines else 1
        drawn.append(value // tail * tail + tail - 1)
    return drawn


def _right(counters: counter.Counters, numbers: list[int]) -> Tensor:
    """(S, N), a thousand numbers at a time."""
    import torch

    parts = [numbers[i : i + _AT_ONCE] for i in range(0, len(numbers), _AT_ONCE)]
    return torch.cat([counter.is_right(counters, part) for part in parts], dim=1)


def _likeness() -> dict[str, Tensor]:
    """Of every two counts below 100: the cosine of their hidden states, mean of the shipped networks, and what the
    cache is given."""
    import torch
    import torch.nn.functional as F

    states = F.normalize(torch.from_numpy(shipped_states()), dim=-1)
    alike = count_likeness()
    table = [[alike(wanted, found) for found in range(100)] for wanted in range(100)]
    return {"cosine": (states @ states.transpose(1, 2)).mean(0), "path": torch.tensor(table)}
