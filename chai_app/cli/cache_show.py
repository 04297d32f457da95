"""How the cache looks on a terminal: entries as a table, one entry in full, figures with bars."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..files import human_bytes
from ..settings import PROGRAM
from .show import console_for, shortened

if TYPE_CHECKING:
    from ..cache import Day, Entry, LatentCache, Phrase, Stats

EMPTY = f'The cache is empty: generate a video first, as in {PROGRAM} generate "a red balloon in the desert".'
LEAVES_FIRST = {
    "lru": "least recently used",
    "lfu": "fewest hits",
    "lcbfu": "least computation saved",
}

_DRIFT_SCALE = "(0 is that run itself, strangers are about 1.4 apart)"
_SHORT_ID = 8
_WIDE = 110
_PIPED = 10_000
_FIXED_WIDTH = 68  # of the wide table, without prompt and entities
_BAR_WIDTH = 24
_LONGEST_LIST = 20
_TEXT_SHOWN = 60
_HOUR, _DAY = 3_600, 86_400
# name, its seconds, and from how many seconds on the next unit reads better
_UNITS = (
    ("s", 1, 60),
    ("min", 60, _HOUR),
    ("h", _HOUR, _DAY),
    ("day", _DAY, 60 * _DAY),
    ("month", 30 * _DAY, 720 * _DAY),
    ("year", 365 * _DAY, float("inf")),
)


def wide_console(json_file: str | None) -> Console:
    """`console_for`, whose lines are not cut or folded where a program reads them."""
    console = console_for(json_file)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPED
    return console


def short_id(entry: Entry, console: Console) -> str:
    """What stands for an entry in a line: its first digits for people, all of them for programs."""
    return entry.id if console.width == _PIPED else entry.id[:_SHORT_ID]


def told(entry: Entry, phrases: Iterable[Phrase]) -> dict[str, Any]:
    """An entry as plain values, with what it is found by."""
    entities = [{"kind": p.kind, "text": p.text, "head": p.head, "count": p.count} for p in phrases]
    return {**entry.to_json(), "entities": entities}


def entities_line(phrases: Iterable[Phrase]) -> str:
    """red ball, desert: the prompt itself, under which every entry is kept, goes without saying."""
    return ", ".join(phrase.text for phrase in phrases if phrase.kind != "prompt")


def entries_table(console: Console, lines: Sequence[tuple[Entry, Sequence[Phrase]]]) -> Table:
    """A line for each entry; where there is little room, a second line takes what the first cannot."""
    is_wide = console.width >= _WIDE
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("id", no_wrap=True)
    table.add_column("prompt", overflow="fold")
    if is_wide:
        table.add_column("found by", overflow="fold")
    table.add_column("size", no_wrap=True)
    if is_wide:
        table.add_column("frames", no_wrap=True, justify="right")
    table.add_column("bytes", no_wrap=True, justify="right")
    table.add_column("hits", no_wrap=True, justify="right")
    table.add_column("last used", no_wrap=True)
    if is_wide:
        table.add_column("pinned", no_wrap=True)
    room = min(max(console.width - _FIXED_WIDTH, 0), 2 * _TEXT_SHOWN)
    for entry, phrases in lines:
        shape, used = entry.shape, ago(entry.last_used)
        id, size = Text(short_id(entry, console), "cyan"), f"{shape.width}x{shape.height}"
        count, hits = human_bytes(entry.bytes), str(entry.hits)
        entities, mark = entities_line(phrases), "pinned" if entry.is_pinned else ""
        if is_wide:
            prompt = Text(shortened(entry.prompt, room * 3 // 5))
            found = Text(shortened(entities, room * 2 // 5), "dim")
            mark = "yes" if entry.is_pinned else ""
            table.add_row(id, prompt, found, size, str(shape.num_frames), count, hits, used, Text(mark, "yellow"))
        else:
            words = Text(shortened(entry.prompt, _TEXT_SHOWN)).append("\n")
            words.append(shortened(entities, _TEXT_SHOWN), "dim")
            frames = f"{size}\n{frames_in_words(shape.num_frames)}"
            table.add_row(id, words, frames, count, hits, Text(f"{used}\n").append(mark, "yellow"))
    return table


def print_entries(console: Console, what: str, entries: Sequence[Entry]) -> None:
    """How many entries of how many bytes `what` ("removed", ...) is true of, and which; of many, the first."""
    if not entries:
        return
    total = human_bytes(sum(entry.bytes for entry in entries))
    console.print(f"{what} {entries_in_words(len(entries))}, {total}:", markup=False, soft_wrap=True)
    for entry in entries[:_LONGEST_LIST]:
        line = Text("  ").append(short_id(entry, console), "cyan").append(f"  {shortened(entry.prompt, _TEXT_SHOWN)}")
        console.print(line.append("  pinned" if entry.is_pinned else "", "yellow"), soft_wrap=True)
    if len(entries) > _LONGEST_LIST:
        console.print(f"  and {len(entries) - _LONGEST_LIST} more")


def entry_table(cache: LatentCache, entry: Entry, lineage: Mapping[str, Any]) -> Table:
    """Everything about one entry, a line for each thing."""
    shape, schedule = entry.shape, entry.schedule
    file, preview = file_of(cache, entry), cache.preview(entry)
    tensors = ", ".join(f"{name} at {at:g}" for name, at in schedule.timesteps.items())
    found = [
        f"{phrase.kind} {phrase.text!r}" + ("" if phrase.count is None else f", count {phrase.count}")
        for phrase in cache.phrases(entry)
        if phrase.kind != "prompt"
    ]
    return pairs_table(
        {
            "entry": entry.id + (", pinned" if entry.is_pinned else ""),
            "prompt": entry.prompt,
            "found by": "\n".join(found) or "its prompt alone",
            "made": f"{date(entry.created)} ({ago(entry.created)}), in {entry.compute_seconds:.1f} s",
            "last used": f"{date(entry.last_used)} ({ago(entry.last_used)})",
            "hits": str(entry.hits),
            "seed": str(entry.seed),
            "schedule": f"{schedule.steps} steps, guidance {schedule.guidance_scale:g}",
            "size": f"{shape.width}x{shape.height}, {frames_in_words(shape.num_frames)} at {shape.fps:g} fps",
            "latents": f"{shape.latent_key}" + (f": {tensors}" if tensors else ""),
            "model": entry.fingerprint,
            "lineage": _lineage_in_words(entry, lineage),
            "preview": str(preview) if preview else "none",
            "file": str(file) + ("" if file.is_file() else " (missing: see cache verify)"),
            "bytes": f"{human_bytes(entry.bytes)} ({entry.bytes:,})",
            "checksum": entry.checksum,
        }
    )


def _lineage_in_words(entry: Entry, lineage: Mapping[str, Any]) -> str:
    lines = ["made by a full run"]
    if entry.parent is not None:
        gone = "" if lineage["parent_is_here"] else ", which has left the cache"
        begun = "a full run" if entry.root in (None, entry.parent) else f"the full run {entry.root}"
        depth = f"{entry.reuse_depth} generation{'s' * (entry.reuse_depth != 1)} from {begun}"
        drift = "unknown: that run has left the cache" if entry.drift is None else f"{entry.drift:.3g} {_DRIFT_SCALE}"
        lines = [f"made by reusing {entry.parent}{gone}; {depth}, drift {drift}"]
    if len(donors := entry.extra.get("donors", [])) > 1:
        lines.append(f"and by reusing {', '.join(donors[1:])} with it")
    if lineage["children"]:
        lines.append(f"reused for {', '.join(lineage['children'])}")
    return "\n".join(lines)


def counted(count: int, noun: str) -> str:
    """1 hit, 2 hits, 1,000 misses."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def stats_table(stats: Stats) -> Table:
    """The cache in figures."""
    share = stats.bytes / stats.budget_bytes if stats.budget_bytes else 1.0
    used = f"{human_bytes(stats.bytes)} of {human_bytes(stats.budget_bytes)} ({percent(share)})"
    rate = "" if stats.hit_rate is None else f", hit rate {percent(stats.hit_rate)}"
    embedders = [f"{fingerprint}: {count:,} of the entities" for fingerprint, count in stats.embedders.items()]
    return pairs_table(
        {
            "entries": f"{stats.entries:,}, of which {stats.pinned:,} pinned ({human_bytes(stats.pinned_bytes)})",
            "budget": f"{used}; {policy_in_words(stats.policy)}",
            "reuse": f"{counted(stats.hits, 'hit')}, {counted(stats.misses, 'miss')}{rate}",
            "changes": f"{stats.inserted:,} stored, {stats.evicted:,} evicted",
            "entities": f"{stats.entities:,}",
            "embedder" + "s" * (len(embedders) > 1): "\n".join(embedders) or "none yet",
        }
    )


def days_table(days: Sequence[Day]) -> Table:
    """A bar for each day: hits full, misses hollow, all to one scale."""
    most = max(day.hits + day.misses for day in days)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("day (UTC)", no_wrap=True)
    table.add_column("█ hits ░ misses", no_wrap=True)
    for title in ("hits", "misses", "hit rate", "stored", "evicted"):
        table.add_column(title, no_wrap=True, justify="right")
    for day in days:
        total = day.hits + day.misses
        length = max(round(total / most * _BAR_WIDTH), 1) if total else 0
        full = round(day.hits / total * length) if total else 0
        bar = Text("█" * full, "green").append("░" * (length - full), "yellow")
        rate = "" if day.hit_rate is None else percent(day.hit_rate)
        table.add_row(day.day, bar, *map(str, (day.hits, day.misses, rate, day.inserted, day.evicted)))
    return table


def latest_days(days: Sequence[Day], count: int, now: float) -> list[Day]:
    """Those of the last `count` days on which something happened."""
    first = (datetime.fromtimestamp(now, UTC) - timedelta(days=count - 1)).date().isoformat()
    return [day for day in days if day.day >= first]


def pairs_table(pairs: Mapping[str, str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, words in pairs.items():
        table.add_row(name, Text(words))
    return table


def file_of(cache: LatentCache, entry: Entry) -> Path:
    """Where an entry's latents are."""
    return cache.home / "latents" / entry.file


def policy_in_words(policy: str) -> str:
    """lru (least recently used leaves first)"""
    return f"{policy} ({LEAVES_FIRST.get(policy, policy)} leaves first)"


def entries_in_words(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def frames_in_words(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"


def percent(share: float) -> str:
    """70%; what is not quite nothing or not quite all is not rounded to it."""
    return "under 1%" if 0 < share < 0.01 else "over 99%" if 0.99 < share < 1 else f"{share:.0%}"


def date(moment: float) -> str:
    """On this machine's clock."""
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M")


def ago(moment: float, now: float | None = None) -> str:
    """3 min ago, 2 h ago, 5 days ago."""
    seconds = max((time.time() if now is None else now) - moment, 0)
    name, length = next((unit for unit in _UNITS if seconds < unit[2]), _UNITS[-1])[:2]
    count = int(seconds // length)
    if name == "s":
        return "just now"
    return f"{count} {name}{'s' * (count != 1 and name not in ('min', 'h'))} ago"
