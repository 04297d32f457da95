"""The picture of the enhancer's benchmark: quality, and time, over experts touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import whole_file

_SCALE = 2  # drawn larger and made smaller, so that edges are smooth
_PANEL = (470, 330)
_MARGIN = (64, 44, 20, 52)  # left, top, right, bottom
_FAMILIES = {  # first word of an arm's name: colour, name in the legend
    "plain": ("#222222", "plain"),
    "Lynx": ("#0b7285", "Lynx"),
    "Lynx,": ("#66b2c0", "Lynx, binned votes"),
    "k": ("#e8590c", "fewer experts"),
    "OEA": ("#7048e8", "OEA"),
    "random": ("#adb5bd", "random set"),
}
_COLOURS = {family: colour for family, (colour, _) in _FAMILIES.items()}
_NAMES = {family: name for family, (_, name) in _FAMILIES.items()}
_INK, _FAINT = "#222222", "#e9ecef"


def draw(figures: dict[str, Any], path: Path) -> None:
    """A PNG with a panel for each question that the figures answer, at the batch size with most arms.

    Raises: CannotWrite if the system refuses.
    """
    from PIL import Image, ImageDraw

    panels = [
        ("Tokens agreed with plain, %", "quality", "tokens_agreed", 100.0),
        ("Prompts of which all is kept, %", "quality", "kept", 100.0),
        ("Times less processor time a step", "speed", "cpu_faster", 1.0),
    ]
    panels = [panel for panel in panels if figures.get(panel[1])]
    width, height = _PANEL
    picture = Image.new("RGB", (_SCALE * width * len(panels), _SCALE * (height + 34)), "white")
    pen = ImageDraw.Draw(picture)
    for i, (title, part, field, factor) in enumerate(panels):
        points = _points(figures[part], field, factor)
        if field == "tokens_agreed":  # far below the others, a random set would hide what tells them apart
            points = [point for point in points if _family(point[0]) != "random"]
        _panel(pen, i * width, title, points)
    _legend(pen, height, {_family(row["arm"]) for part in ("quality", "speed") for row in figures.get(part, [])})
    picture = picture.resize((picture.width // _SCALE, picture.height // _SCALE), Image.Resampling.LANCZOS)
    with whole_file(path) as temporary:
        picture.save(temporary, "PNG")


def _points(rows: Sequence[dict[str, Any]], field: str, factor: float) -> list[tuple[str, float, float]]:
    """(arm, experts, value) of the batch size that was measured with most arms."""
    sizes = [row["batch"] for row in rows]
    batch = max(sorted(set(sizes), reverse=True), key=sizes.count)
    return [(row["arm"], row["experts"], factor * row[field]) for row in rows if row["batch"] == batch]


def _family(arm: str) -> str:
    return arm.split()[0]


def _panel(pen: Any, left: int, title: str, points: Sequence[tuple[str, float, float]]) -> None:
    x0, y0 = left + _MARGIN[0], _MARGIN[1]
    x1, y1 = left + _PANEL[0] - _MARGIN[2], _PANEL[1] - _MARGIN[3]
    low, high, step = _range([value for _, _, value in points])
    most = 10 * (int(max(experts for _, experts, _ in points)) // 10 + 1)

    def place(experts: float, value: float) -> tuple[float, float]:
        return x0 + (x1 - x0) * experts / most, y1 - (y1 - y0) * (value - low) / (high - low)

    _text(pen, (left + _MARGIN[0], 12), title, 15)
    tick = low
    while tick <= high + step / 2:
        y = place(0, tick)[1]
        _line(pen, [(x0, y), (x1, y)], _FAINT)
        _text(pen, (x0 - 8, y), f"{tick:g}", 12, "rm")
        tick = round(tick + step, 6)
    for experts in range(0, most + 1, 10):
        x = place(experts, low)[0]
        _line(pen, [(x, y1), (x, y1 + 4)], _INK)
        _text(pen, (x, y1 + 7), str(experts), 12, "ma")
    _line(pen, [(x0, y1), (x1, y1)], _INK)
    _text(pen, ((x0 + x1) / 2, y1 + 26), "distinct experts per layer and step", 12, "ma")
    for family, colour in _COLOURS.items():
        own = sorted((place(experts, value), arm) for arm, experts, value in points if _family(arm) == family)
        _line(pen, [where for where, _ in own], colour, 2)
        for (x, y), _ in own:
            box = [_SCALE * c for c in (x - 4, y - 4, x + 4, y + 4)]
            pen.ellipse(box, fill=colour, outline="white", width=_SCALE)


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """Least and greatest value of the axis and the step between its ticks."""
    spread = max(max(values) - min(values), 1e-3 * max(map(abs, values)), 1e-6)
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 1e9) if spread / s <= 6)
    low = step * (min(values) // step)
    high = step * -(-max(values) // step)
    return low, high if high > low else low + step, step


def _legend(pen: Any, top: int, families: set[str]) -> None:
    x = _MARGIN[0]
    for family, colour in _COLOURS.items():
        if family in families:
            pen.ellipse([_SCALE * c for c in (x, top + 4, x + 9, top + 13)], fill=colour)
            _text(pen, (x + 15, top + 9), _NAMES[family], 13, "lm")
            x += 40 + 7 * len(_NAMES[family])


def _line(pen: Any, points: Sequence[tuple[float, float]], colour: str, width: int = 1) -> None:
    if len(points) > 1:
        pen.line([(_SCALE * x, _SCALE * y) for x, y in points], fill=colour, width=_SCALE * width)


def _text(pen: Any, place: tuple[float, float], text: str, size: int, anchor: str = "la") -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(_SCALE * size)
    pen.text((_SCALE * place[0], _SCALE * place[1]), text, fill=_INK, font=font, anchor=anchor)
