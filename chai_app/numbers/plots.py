"""The study's pictures. Colours are Okabe and Ito's, which people with any colour vision can tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ChaiError
from ..files import whole_file

if TYPE_CHECKING:
    from .study import Study

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#777777",
)
TENS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "#000000", "#999933", "#882255", GREY)
NAMES = ("similarity", "plane", "curriculum", "counting", "likeness")


class NoPlots(ChaiError):
    """matplotlib is not installed."""


def check() -> None:
    """Raises: NoPlots, before any work begins."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise NoPlots(
            "The study draws its plots with matplotlib, which is not here: pip install matplotlib."
        ) from error


def draw(study: Study, folder: Path) -> list[Path]:
    """Write numbers-NAME.png for each of `NAMES` into a folder that is there.

    Raises: NoPlots; CannotWrite if the system refuses.
    """
    check()
    from matplotlib.figure import Figure

    paths = []
    for name, size, drawn in (
        ("similarity", (8, 3.6), _similarity),
        ("plane", (11, 4.2), _plane),
        ("curriculum", (8, 3.6), _curriculum),
        ("counting", (9, 3.4), _counting),
        ("likeness", (9, 3.4), _likeness),
    ):
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        drawn(study, figure)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        paths.append(folder / f"numbers-{name}.png")
        with whole_file(paths[-1]) as temporary:
            figure.savefig(temporary, format="png")
    return paths


def _similarity(study: Study, figure: Any) -> None:
    axes = figure.subplots()
    for tens in range(9):
        axes.axvline(10 * tens + 9, color="#dddddd", linewidth=6, zorder=0)
    for name, colour in (("count list", ORANGE), ("place value", BLUE)):
        cosines = study.cosines[name]
        mean, error = cosines.mean(0), 1.96 * cosines.std(0) / len(cosines) ** 0.5
        axes.plot(range(98), mean, color=colour, linewidth=1.4, label=name)
        axes.fill_between(range(98), mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="N", ylabel="cosine of hidden states of N and N + 1", xlim=(-1, 98))
    axes.set_title(
        "The next number is less like this one where the tens change (grey), if numbers have places", size=10
    )
    axes.legend(frameon=False, loc="lower right", ncols=2)


def _plane(study: Study, figure: Any) -> None:
    panels = (("place value", "tens"), ("place value", "ones"), ("count list", "tens"))
    for axes, (name, shown) in zip(figure.subplots(1, 3), panels, strict=True):
        points = study.planes[name, shown].numpy()
        for number, (x, y) in enumerate(points):
            group = number // 10 if shown == "tens" else number % 10
            axes.text(x, y, str(number), color=TENS[group], size=6.5, ha="center", va="center")
        if (name, shown) == ("place value", "tens"):
            for number in range(9, 99, 10):
                arrow = {"arrowstyle": "->", "color": "#bbbbbb", "shrinkA": 5, "shrinkB": 5, "linewidth": 0.8}
                axes.annotate("", points[number + 1], points[number], arrowprops=arrow, zorder=0)
        low, high = points.min(0), points.max(0)
        room = 0.07 * (high - low)
        axes.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{name}: the plane that shows the {shown} best", size=9)
    figure.supxlabel("one colour for each ten, in the middle for each ones; arrows: 9 to 10, 19 to 20, ...", size=9)


def _curriculum(study: Study, figure: Any) -> None:
    axes = figure.subplots()
    mean = study.curriculum.mean(1)  # (looks, 10)
    epochs = study.curriculum_epochs
    stage = epochs[-1] // 10
    for tens in range(10):
        axes.plot(epochs, mean[:, tens], color=TENS[tens], linewidth=2.2 if tens == 0 else 1)
        axes.text(
            epochs[-1] * 1.01, 1 - 0.085 * tens, f"{10 * tens} to {10 * tens + 9}", color=TENS[tens], size=8, va="top"
        )
    for i in range(1, 10):
        axes.axvline(i * stage, color="#dddddd", linewidth=1, zorder=0)
    axes.set(xlabel="epochs; at each line the next ten numbers come in", ylabel="probability given to N + 1")
    axes.set(xlim=(0, epochs[-1] * 1.1), ylim=(0, 1.02))
    axes.set_title("New numbers blur the earlier ones for a while, which then go on being sharpened with them", size=10)


def _counting(study: Study, figure: Any) -> None:
    left, right = figure.subplots(1, 2)
    lengths = list(study.by_length)
    for i in range(len(study.by_length[lengths[0]])):
        left.plot(lengths, [100 * float(study.by_length[n][i]) for n in lengths], color=BLUE, alpha=0.6, marker=".")
    left.axvspan(0.9, 3, color=ORANGE, alpha=0.25, linewidth=0)
    left.set(xscale="log", xlabel="digits (orange: trained)", ylabel="right successors, %", ylim=(-3, 103))
    left.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    left.set_title("Counting past what was trained: one line for each network", size=9)
    for along, colour, name in (
        (study.carry.along_without, BLUE, "nothing to carry"),
        (study.carry.along_with, RED, "a carry"),
    ):
        right.hist(along.numpy(), bins=60, range=(-0.7, 1.7), color=colour, alpha=0.7, density=True, label=name)
    right.set(xlabel="state along the carry axis", ylabel="density", yticks=[])
    right.legend(frameon=False)
    right.set_title("Where the carry lives: one direction, two places", size=9)


def _likeness(study: Study, figure: Any) -> None:
    titles = {"cosine": "cosine of hidden states", "path": "along the counting path (what the cache uses)"}
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        for wanted, colour in ((3, BLUE), (10, ORANGE), (40, GREEN)):
            axes.plot(
                range(1, 100), study.likeness[name][wanted, 1:], color=colour, linewidth=1.4, label=f"{wanted} wanted"
            )
        axes.set(xlabel="count of the donor", ylim=(0, 1.03))
        axes.set_title(title, size=9)
    figure.axes[0].set_ylabel("likeness")
    figure.axes[1].legend(frameon=False, loc="upper right")
