"""Plots of the benchmarks, from the tables that they print. Colours are those of Okabe and Ito, which the colour-blind
can tell apart, and every line has its own marker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ChaiError
from ..files import whole_file

BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#777777",
)  # fmt: skip
COLOURS = (BLUE, RED, GREEN, ORANGE, PINK, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.fonttype": "none",
}


@contextmanager
def figure(path: Path, *shape: int, **options: Any) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, written to `path` (png, svg, pdf) when the block ends.

    Raises: ChaiError without matplotlib; CannotWrite if the system refuses.
    """
    try:
        import matplotlib
    except ImportError:
        raise ChaiError("Plots need matplotlib: pip install -r tests/requirements.txt, or leave --plot out.") from None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        drawing = Figure(figsize=options.pop("figsize", (7, 4)), layout="constrained")
        FigureCanvasAgg(drawing)
        axes = drawing.subplots(*shape, **options)
        yield drawing, axes
        with whole_file(path) as temporary:
            drawing.savefig(temporary, dpi=130)


def draw_gains(table: Sequence[dict[str, Any]], path: Path) -> None:
    """The ablation: each arm's gain over as many steps without the cache, one panel for each number of steps."""
    lines = [line for line in table if "score_gain" in line]
    if not lines:
        raise ChaiError("There is nothing to draw: the table has no arm beside the one without the cache.")
    arms = list(dict.fromkeys((line["group"], line["arm"]) for line in lines))
    steps = sorted({line["steps"] for line in lines})
    places, ticks, y, last = {}, [], 0.0, arms[0][0]
    for group, arm in arms:
        y += 0.6 if group != last else 0
        places[arm], last = y, group
        ticks.append((y, arm))
        y += 1
    groups = list(dict.fromkeys(group for group, _ in arms))
    size = (2.6 + 2.1 * len(steps), 1.3 + 0.2 * y)
    with figure(path, 1, len(steps), figsize=size, sharex=True, sharey=True, squeeze=False) as (drawing, axes):
        for panel, number in zip(axes[0], steps, strict=True):
            panel.axvline(0, color="black", linewidth=0.8)
            full = [line for line in table if line["arm"] == "full"]
            plain = [line for line in table if line["arm"] == "no cache" and line["steps"] == number]
            if full and plain:
                gap = 100 * (full[0]["score"] - plain[0]["score"])
                panel.axvline(gap, color=GREY, linestyle="--", linewidth=1)
                name = f"{full[0]['full_steps']} steps"
                panel.annotate(
                    name, (gap, 1.01), xycoords=("data", "axes fraction"), color=GREY, fontsize=8,
                    ha="center", va="bottom",
                )  # fmt: skip
            for line in lines:
                if line["steps"] == number:
                    mean, low, high = (100 * value for value in line["score_gain"])
                    index = groups.index(line["group"]) % len(COLOURS)
                    where = places[line["arm"]]
                    panel.plot([low, high], [where, where], color=COLOURS[index], linewidth=1.4, solid_capstyle="butt")
                    panel.plot(mean, where, MARKERS[index], color=COLOURS[index], markersize=4.5)
            panel.set_title(f"{number} steps\n", fontsize=9)
            panel.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
            panel.grid(axis="y", visible=False)
        axes[0][0].invert_yaxis()
        n = max(line["n"] for line in lines)
        drawing.supxlabel(
            f"gain over as many steps without the cache, points of the judge's score, 95 % interval, {n} prompts",
            fontsize=9,
        )


def draw_quality(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Bench reuse: judged quality against seconds, with the cache and without, and the full run."""
    with figure(path, figsize=(7, 4.2)) as (_, axes):
        full = table[0]
        axes.axhline(100 * full["score"], color=GREY, linestyle="--", linewidth=1)
        axes.plot(full["median_s"], 100 * full["score"], "*", color="black", markersize=11, label=full["arm"])
        kinds = dict.fromkeys(line["group"] for line in table[1:])
        for i, (kind, colour, marker) in enumerate(zip(kinds, (RED, BLUE, *COLOURS[2:]), ("s", "o", *MARKERS[2:]))):
            lines = sorted((line for line in table[1:] if line["group"] == kind), key=lambda line: line["steps"])
            x, y = [line["median_s"] for line in lines], [100 * line["score"] for line in lines]
            spread = [[100 * abs(line["difference"][end] - line["difference"][0]) for line in lines] for end in (1, 2)]
            axes.errorbar(x, y, yerr=spread, color=colour, marker=marker, markersize=5, linewidth=1.4, capsize=2,
                          elinewidth=0.9, label=kind)  # fmt: skip
            for line, a, b in zip(lines, x, y, strict=True):
                axes.annotate(str(line["steps"]), (a, b), xytext=(-6, 6) if i else (6, -11),
                              textcoords="offset points", color=colour, fontsize=8, ha="center")  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds from prompt to frames, median (numbers: denoising steps)")
        axes.set_ylabel("judged as asked, %")
        axes.set_title(f"Quality against time, {full['n']} prompts; bars: 95 % of the difference to {full['arm']}")
        axes.legend(loc="lower right")


def draw_stream(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Bench stream: share of hits so far along the stream and, where there are seconds, their mean so far."""
    panels = [("running_hit_rate", "Prompts that hit so far, %", 100)]
    if all("running_seconds" in row for row in table):
        panels.append(("running_seconds", "Mean seconds of a video so far", 1))
    with figure(path, 1, len(panels), figsize=(4.8 * len(panels), 3.6), squeeze=False) as (_, axes):
        for panel, (key, title, times) in zip(axes[0], panels, strict=True):
            for row, colour, marker in zip(table, COLOURS, MARKERS, strict=False):
                values = [times * value for value in row[key]]
                panel.plot(range(1, 1 + len(values)), values, label=row["arm"], color=colour, marker=marker,
                           markevery=max(1, len(values) // 8), markersize=4.5, linewidth=1.4)  # fmt: skip
            panel.set_title(title)
            panel.set_xlabel("prompts of the stream")
            panel.set_ylim(bottom=0)
        axes[0][0].set_ylim(-3, 103)
        axes[0][-1].legend(loc="best")
