"""What happened, when: hits, misses, what came and what went. Single events fade, their sums by day stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from .eviction import used
from .ports import Among, Connection

EventKind = Literal["hit", "miss", "insert", "evict", "remove", "damage"]
_KEPT_EVENTS = 10_000


@dataclass(frozen=True)
class Event:
    """at is a moment in seconds since 1970; entry its id, None for a miss."""

    at: float
    kind: EventKind
    entry: str | None
    bytes: int


@dataclass(frozen=True)
class Day:
    """Sums of one day in UTC."""

    day: str
    hits: int
    misses: int
    inserted: int
    evicted: int

    @property
    def hit_rate(self) -> float | None:
        """Share of hits among lookups that were acted upon, None on a day without any."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


@dataclass(frozen=True)
class Stats:
    """The cache in figures. bytes counts latents files, which is what the budget is about.

    embedders maps the fingerprint of an embedder to the number of entities that it embedded.
    """

    entries: int
    pinned: int
    entities: int
    bytes: int
    pinned_bytes: int
    budget_bytes: int
    policy: str
    hits: int
    misses: int
    inserted: int
    evicted: int
    embedders: dict[str, int]

    @property
    def hit_rate(self) -> float | None:
        """Share of hits among all lookups that were acted upon, None if there was none."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {**asdict(self), "hit_rate": self.hit_rate}


def record(connection: Connection, at: float, kind: EventKind, entry: str | None = None, size: int = 0) -> None:
    """Note one event, in the transaction of what it tells about."""
    query = "INSERT INTO events (at, kind, entry, bytes) VALUES (?, ?, ?, ?) RETURNING number"
    ((number,),) = connection.execute(query, [at, kind, entry, size]).fetchall()
    connection.execute("DELETE FROM events WHERE number <= ?", [number - _KEPT_EVENTS])
    day = datetime.fromtimestamp(at, UTC).date().isoformat()
    connection.execute(
        "INSERT INTO days VALUES (?, ?, 1, ?) "
        "ON CONFLICT (day, kind) DO UPDATE SET times = days.times + 1, bytes = days.bytes + excluded.bytes",
        [day, kind, size],
    )


def recent_events(connection: Connection, limit: int) -> list[Event]:
    """Newest first."""
    query = "SELECT at, kind, entry, bytes FROM events ORDER BY number DESC LIMIT ?"
    return [Event(*row) for row in connection.execute(query, [limit])]


def removed(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of some entries' ids whose leaving is among the events that are kept."""
    query = (
        "SELECT DISTINCT entry FROM events WHERE kind IN ('evict', 'remove', 'damage') "
        "AND entry IN (SELECT value FROM json_each(?))"
    )
    return {id for (id,) in connection.execute(query, [Among(ids)])}


def days(connection: Connection) -> list[Day]:
    """Every day on which something happened, oldest first."""
    by_day: dict[str, dict[str, int]] = {}
    for day, kind, times in connection.execute("SELECT day, kind, times FROM days ORDER BY day"):
        by_day.setdefault(day, {})[kind] = times
    return [Day(day, *(kinds.get(k, 0) for k in ("hit", "miss", "insert", "evict"))) for day, kinds in by_day.items()]


def stats(connection: Connection, budget_bytes: int, policy: str) -> Stats:
    counts = dict(connection.execute("SELECT is_pinned, count(*) FROM entries GROUP BY is_pinned").fetchall())
    times = dict(connection.execute("SELECT kind, CAST(sum(times) AS BIGINT) FROM days GROUP BY kind").fetchall())
    embedders = connection.execute(
        "SELECT s.embedder, count(*) FROM entities e JOIN vectors v ON v.number = e.vector "
        "JOIN shelves s ON s.number = v.shelf GROUP BY s.embedder"
    )
    by_embedder = dict(embedders.fetchall())
    used_bytes, pinned_bytes = used(connection)
    return Stats(
        entries=sum(counts.values()),
        pinned=counts.get(1, 0),
        entities=sum(by_embedder.values()),
        bytes=used_bytes,
        pinned_bytes=pinned_bytes,
        budget_bytes=budget_bytes,
        policy=policy,
        hits=times.get("hit", 0),
        misses=times.get("miss", 0),
        inserted=times.get("insert", 0),
        evicted=times.get("evict", 0),
        embedders=by_embedder,
    )
