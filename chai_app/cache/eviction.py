"""Which entries leave when the budget is used up. Pinned entries never do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from .entries import Entry
from .errors import CacheError, CacheFull
from .ports import Connection
from .rows import entry_by_number, forget

EvictionPolicy = Literal["lru", "lfu", "lcbfu"]
DEFAULT_BUDGET_BYTES = 5_000_000_000


def least_recently_used() -> str:
    """The order in which entries leave, as SQL: the one that was not reused for the longest time first."""
    return "last_used, number"


def least_frequently_used() -> str:
    """The one with the fewest hits first."""
    return "hits, last_used, number"


def least_computation_saved() -> str:
    """The one first whose reuse saved the least computation (LCBFU of NIRVANA, arXiv 2312.04429: hits times steps).

    A hit saves what making the entry cost. hits + 1, because a new entry has had no chance yet: with plain hits it
    would leave before an old one that was hit once, however little that one saves.
    """
    return "(hits + 1) * compute_seconds, last_used, number"


def order_of(policy: EvictionPolicy) -> Callable[[], str]:
    """Raises: CacheError for a policy that there is not."""
    match policy:
        case "lru":
            return least_recently_used
        case "lfu":
            return least_frequently_used
        case "lcbfu":
            return least_computation_saved
    raise CacheError(f"Unknown eviction policy {policy!r}: choose one of {', '.join(get_args(EvictionPolicy))}.")


def make_room(connection: Connection, needed_bytes: int, budget_bytes: int, policy: EvictionPolicy) -> list[Entry]:
    """Take the rows of entries away until `needed_bytes` fit into the budget; their files are the caller's.

    Raises: CacheFull if they would not fit even with every entry gone that is not pinned.
    """
    entries = leaving(connection, needed_bytes, budget_bytes, policy)
    forget(connection, [entry.number for entry in entries])
    return entries


def leaving(connection: Connection, needed_bytes: int, budget_bytes: int, policy: EvictionPolicy) -> list[Entry]:
    """Which entries `make_room` would take away, in that order. Changes nothing.

    Raises: CacheFull as `make_room`.
    """
    used_bytes, pinned_bytes = used(connection)
    if needed_bytes and needed_bytes > budget_bytes - pinned_bytes:
        raise CacheFull(
            f"An entry of {needed_bytes:,} bytes does not fit into the cache's budget of {budget_bytes:,} bytes, of "
            f"which {pinned_bytes:,} are pinned: raise the budget or unpin something."
        )
    surplus = used_bytes + needed_bytes - budget_bytes
    victims: list[int] = []
    query = f"SELECT number, bytes FROM entries WHERE is_pinned = 0 ORDER BY {order_of(policy)()}"
    if surplus > 0:
        for number, size_bytes in connection.execute(query):
            if surplus <= 0:
                break
            victims.append(number)
            surplus -= size_bytes
    return [entry for entry in (entry_by_number(connection, number) for number in victims) if entry is not None]


def used(connection: Connection) -> tuple[int, int]:
    """Bytes of the latents of all entries, and of the pinned ones among them."""
    by_pin = dict(
        connection.execute("SELECT is_pinned, CAST(sum(bytes) AS BIGINT) FROM entries GROUP BY is_pinned").fetchall()
    )
    return sum(by_pin.values()), by_pin.get(1, 0)
