"""Pictures that nodes draw: the cache in one picture, and entries' previews as frames."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .words import counted

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ..chai_app.cache import Day, Stats
    from .browse import Shown

_INK, _SOFT, _PAPER, _CARD = (232, 234, 240), (150, 156, 170), (24, 26, 32), (38, 41, 50)
_HIT, _MISS, _USED, _PINNED = (94, 200, 150), (120, 126, 142), (92, 148, 240), (240, 184, 80)
_WIDTH, _MARGIN, _THUMB, _COLUMNS = 960, 28, 128, 6
_DAYS_SHOWN = 30


def preview_frames(path: Path) -> np.ndarray:
    """The frames of an entry's preview, uint8 (T, H, W, 3)."""
    import numpy as np
    from PIL import Image, ImageSequence

    with Image.open(path) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def cache_picture(
    stats: Stats, days: Sequence[Day], shown: Sequence[Shown], previews: Sequence[bytes | None]
) -> np.ndarray:
    """Budget, hits by day and the entries' thumbnails in one picture, uint8 (H, W, 3)."""
    import numpy as np
    from PIL import Image, ImageDraw

    from .words import size_text

    rows = -(-len(shown) // _COLUMNS)
    cell = (_WIDTH - 2 * _MARGIN) // _COLUMNS
    height = 250 + rows * (_THUMB + 52) + _MARGIN
    picture = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    rate = "no lookups yet" if stats.hit_rate is None else f"{stats.hit_rate:.0%} hits"
    draw.text((_MARGIN, 20), f"{stats.entries} entries", _INK, _font(30))
    draw.text((_MARGIN + 330, 20), rate, _INK, _font(30))
    used = f"{size_text(stats.bytes)} of {size_text(stats.budget_bytes)}, {stats.pinned} pinned, {stats.policy}"
    draw.text((_MARGIN, 64), used, _SOFT, _font(17))
    draw.text(
        (_MARGIN + 330, 64), f"{stats.hits} hits, {stats.misses} misses, {stats.evicted} evicted", _SOFT, _font(17)
    )
    _gauge(draw, (_MARGIN, 98, _WIDTH - _MARGIN, 112), stats)
    _bars(draw, (_MARGIN, 132, _WIDTH - _MARGIN, 222), days[-_DAYS_SHOWN:])
    for i, (each, preview) in enumerate(zip(shown, previews, strict=True)):
        x, y = _MARGIN + (i % _COLUMNS) * cell, 246 + (i // _COLUMNS) * (_THUMB + 52)
        draw.rounded_rectangle((x, y, x + cell - 10, y + _THUMB + 42), 6, _CARD)
        if preview is not None:
            with Image.open(io.BytesIO(preview)) as thumbnail:
                small = thumbnail.convert("RGB")
                times = min(_THUMB / small.width, _THUMB / small.height)
                small = small.resize((round(small.width * times), round(small.height * times)))
            picture.paste(small, (x + (cell - 10 - small.width) // 2, y + 4))
        colour = _PINNED if each.entry.is_pinned else _INK
        draw.text(
            (x + 6, y + _THUMB + 5), f"#{each.entry.id[:8]}  {counted(each.entry.hits, 'hit')}", colour, _font(13)
        )
        draw.text((x + 6, y + _THUMB + 22), _fitting(draw, each.entry.prompt, cell - 24), _SOFT, _font(12))
    return np.asarray(picture)


def _gauge(draw: Any, box: tuple[int, int, int, int], stats: Stats) -> None:
    left, top, right, bottom = box
    draw.rounded_rectangle(box, 5, _CARD)
    for amount, colour in ((stats.bytes, _USED), (stats.pinned_bytes, _PINNED)):
        share = min(1.0, amount / stats.budget_bytes) if stats.budget_bytes else 1.0
        if amount:
            draw.rounded_rectangle((left, top, left + max(8, round(share * (right - left))), bottom), 5, colour)


def _bars(draw: Any, box: tuple[int, int, int, int], days: Sequence[Day]) -> None:
    left, top, right, bottom = box
    draw.line((left, bottom, right, bottom), _CARD, 2)
    if not days:
        draw.text((left, top + 30), "hits and misses by day will stand here", _SOFT, _font(15))
        return
    most = max(1, *(day.hits + day.misses for day in days))
    step = min(60, (right - left) // max(len(days), 1))
    for i, day in enumerate(days):
        x, floor = left + i * step, bottom - 18
        for count, colour in ((day.hits, _HIT), (day.misses, _MISS)):
            tall = round(count / most * (floor - top))
            if tall:
                draw.rectangle((x, floor - tall, x + max(4, step - 8), floor), colour)
            floor -= tall
        if step >= 34:
            draw.text((x, bottom - 14), day.day[5:], _SOFT, _font(11))
    draw.rectangle((right - 150, top, right - 140, top + 10), _HIT)
    draw.text((right - 134, top - 3), "hits", _SOFT, _font(13))
    draw.rectangle((right - 84, top, right - 74, top + 10), _MISS)
    draw.text((right - 68, top - 3), "misses", _SOFT, _font(13))


def _fitting(draw: Any, text: str, width: int) -> str:
    """As much of a text as is at most `width` pixels wide, found by halving: a prompt can be as long as it likes."""
    font = _font(12)
    text = text[:width]  # no letter is less than a pixel wide
    if draw.textlength(text, font) <= width:
        return text
    longest = bisect_left(range(len(text)), True, key=lambda n: draw.textlength(text[: n + 1] + "…", font) > width)
    return text[:longest] + "…"


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
