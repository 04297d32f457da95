"""The study's figures as a table, beside what the papers report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .study import LONG, PAPER


def table(figures: dict[str, Any]) -> str:
    """Markdown: means over seeds with 95 % intervals, shares in %."""
    parts = [_small_networks(figures), _layout(figures), _growth(figures), _counting(figures), _likeness(figures)]
    return "\n\n".join(parts)


def _lines(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _share(values: dict[str, float]) -> str:
    return f"{100 * values['mean']:.1f} ({100 * values['low']:.1f} to {100 * values['high']:.1f})"


def _cosine(values: dict[str, float]) -> str:
    return f"{values['mean']:.2f} ({values['low']:.2f} to {values['high']:.2f})"


def _small_networks(figures: dict[str, Any]) -> str:
    names = ("count list", "place value", "place value, squared error")
    rows: list[tuple[str, ...]] = []
    for kind in ("trained", "held out", "held out, within tens", "held out, crossing tens"):
        cells = tuple(_share(figures[name]["right"][kind]) for name in names)
        paper = f"{100 * PAPER['place value']['held out']:.0f} (place value)" if kind == "held out" else ""
        rows.append((f"right, {kind}, %", *cells, paper))
    for kind in ("trained", "held out", "within tens", "crossing tens", "drop"):
        cells = tuple(_cosine(figures[name]["cosine"][kind]) for name in names)
        paper = f"{PAPER['count list'][kind]:.2f} (count list)" if kind in PAPER["count list"] else ""
        rows.append((f"cosine of N and N + 1, {kind}", *cells, paper))
    return _lines((f"{figures['seeds']} seeds each", *names, "papers"), rows)


def _layout(figures: dict[str, Any]) -> str:
    names = ("count list", "place value")
    kinds = figures["geometry"]["place value"]
    rows = [(kind, *(_cosine(figures["geometry"][name][kind]) for name in names)) for kind in kinds]
    return _lines(("hidden space", *names), rows)


def _growth(figures: dict[str, Any]) -> str:
    growth = figures["curriculum"]
    rows = [
        (f"{10 * i} to {10 * i + 9}", _cosine(own), _cosine(last))
        for i, (own, last) in enumerate(zip(growth["own stage"], growth["last stage"], strict=True))
    ]
    head = ("probability given to N + 1", "when the stage ends that brought them in", "when the last stage ends")
    sharper = _share(growth["sharper in the end"])
    return _lines(head, rows) + f"\n\nOf the tens before the last, sharper in the end than at first, %: {sharper}."


def _counting(figures: dict[str, Any]) -> str:
    counting, carry = figures["counting"], figures["carry"]
    words = {
        "trained": "all of up to three digits",
        "random": f"random, {LONG} digits",
        "ending in nines": f"{LONG} digits, the last 0 to {LONG} nines",
        "nines only": "9, 99, ... 100 nines",
    }
    rows = [
        (
            words[name],
            str(counting["numbers"][name]),
            f"{100 * counting[name]['mean']:.2f}",
            ", ".join(f"{100 * share:.2f}" for share in counting["each"][name]),
        )
        for name in words
    ]
    alone = counting["by itself"]
    slips = "without a slip" if alone["right"] else "and slips"
    told = (
        f"Reading its own answers, the first one counts from {alone['from']:,} on for {alone['steps']} steps {slips}. "
        f"Its states with a carry and those without lie on two sides of one direction in "
        f"{100 * carry['told_apart']:.2f} % of cases. Moved along it, it goes on as if the carry were the other one in "
        f"{100 * carry['flips']:.1f} %; moved as far in a direction across it, in "
        f"{100 * carry['flips_elsewhere']:.1f} %."
    )
    return _lines(("counting network", "numbers", "right, %", "each network"), rows) + "\n\n" + told


def _likeness(figures: dict[str, Any]) -> str:
    likeness = figures["likeness"]
    rows = [
        (spread, *(f"{100 * likeness[name][spread]:.1f}" for name in ("cosine", "path"))) for spread in likeness["path"]
    ]
    return _lines(("of two counts the nearer one is more alike, %", "cosine", "path"), rows)
