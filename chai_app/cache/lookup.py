"""Which entry a prompt can reuse, and why that one.

Every entity of the prompt is looked for on its own shelf. An entry's score is the best of its entities' scores, each a
cosine times how well the counts agree. Of the entries whose scores are within `TIE` of the best, the one that covers
most of the prompt's entities is taken; if that leaves several, the one with the fewest generations of reuse between it
and a full run; then the newest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from .entries import KINDS, Entity, Entry, Kind, Shape
from .ports import Connection
from .rows import NO_COUNT, entry_by_number, reuse_depths
from .shelf import Floats, Ints
from .shelves import Searchable, Shelves, Space
from .thresholds import Thresholds

CountLikeness = Callable[[int | None, int | None], float]

TIE = 0.005
"""Scores closer than this are equal: rounding to fp16, an article or a plural move a cosine by as much."""

_FIRST_PHRASES = 16
_ALIKE_PHRASES = 64  # as many as are alike enough are looked at, so that what an entry covers is counted right
_MOST_PHRASES = 1_024  # further only while none of them leads to an entry that passes
_STRANGE_PHRASES = 4
_NAMED_STRANGERS = 2  # from each shelf
_MOST_CANDIDATES = 6
_MOST_OTHER_SHELVES = 4
_NUMBERS = 2**40  # more entries than there will be, and more than `MOST_COUNT`
_OTHER_WIDTH = (
    "Not looked at: embeddings in the cache of another width than the embedder's; cache repair makes them anew."
)


@dataclass(frozen=True)
class Candidate:
    """An entry that was considered. wanted is the prompt's phrase, found the entry's; score is similarity (a cosine)
    times count_likeness; covers counts the prompt's entities that it would serve; lost_because is None for the one
    that was taken; serves are the phrases that covers counts; counts says, where they differ, how many the entry
    shows and how much that counts for, such as "2 of 3 dogs: 0.72"."""

    entry_id: str
    prompt: str
    kind: Kind
    wanted: str
    found: str
    similarity: float
    count_likeness: float
    score: float
    covers: int
    lost_because: str | None
    serves: tuple[str, ...] = ()
    counts: str = ""


@dataclass(frozen=True)
class LookupResult:
    """What a lookup came to. entry is None for a miss; candidates are best first, the taken one leading."""

    entry: Entry | None
    candidates: tuple[Candidate, ...]
    thresholds: Thresholds
    lookup_ms: float
    notes: tuple[str, ...] = ()

    @property
    def is_hit(self) -> bool:
        """Whether there is an entry to reuse."""
        return self.entry is not None

    @property
    def chosen(self) -> Candidate | None:
        """The candidate that is the entry."""
        return self.candidates[0] if self.entry is not None else None

    def sentences(self) -> list[str]:
        """The decision in words, one sentence for each candidate."""
        if not self.candidates:
            return ["Miss: nothing in the cache is like anything in the prompt.", *self.notes]
        lines = [] if self.is_hit else ["Miss: no candidate fits."]
        for c in self.candidates:
            what = f"{c.found!r} of {c.prompt!r} for {c.wanted!r}, score {c.score:.3f}"
            what += f" ({c.counts})" if c.counts else ""
            lines.append(f"Hit: {what}." if c.lost_because is None else f"Not {what}: {c.lost_because}.")
        return [*lines, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {
            "entry": None if self.entry is None else self.entry.to_json(),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "thresholds": asdict(self.thresholds),
            "lookup_ms": self.lookup_ms,
        }


def same_count(wanted: int | None, found: int | None) -> float:
    """1 if the counts are equal or one is not said, else 0: three dogs never come from nine dogs."""
    return float(wanted is None or found is None or wanted == found)


@dataclass(frozen=True)
class _Matches:
    """What wanted entities (by their place in the prompt) lead to: for each of them and each entry the best row."""

    wanted: Ints
    entries: Ints
    vectors: Ints
    similarities: Floats
    likenesses: Floats
    counts: Ints

    @property
    def scores(self) -> Floats:
        return self.similarities * self.likenesses


def decide(
    connection: Connection,
    shelves: Shelves,
    embedder: Space,
    wanted: Sequence[Entity],
    fingerprint: str,
    shape: Shape,
    thresholds: Thresholds,
    count_likeness: CountLikeness,
    has_file: Callable[[Entry], bool],
) -> LookupResult:
    """Choose. Reads the database and the shelves and changes neither, beyond bringing the shelves up to date.

    Args:
        count_likeness: of a wanted count and a found one, 0 to 1; None stands for a count that is not said.
        has_file: whether an entry's latents are where they should be; asked of those only that would be taken.
    """
    started = time.perf_counter()
    key = shape.latent_key
    ours: list[_Matches] = []
    strangers: list[Candidate] = []
    for kind in KINDS:
        asked = {i: entity for i, entity in enumerate(wanted) if entity.kind == kind}
        if not asked:
            continue
        threshold = thresholds.of(kind)
        shelf = shelves.find(connection, embedder, kind, fingerprint, key)
        if shelf is not None:
            ours.append(_matches(shelf, asked, threshold, count_likeness, _FIRST_PHRASES))
        for reason, other in shelves.others(connection, embedder, kind, fingerprint, key, _MOST_OTHER_SHELVES):
            theirs = _matches(other, asked, threshold, count_likeness, _STRANGE_PHRASES)
            best = np.argsort(-theirs.scores)[:_NAMED_STRANGERS]
            best = best[theirs.scores[best] >= threshold]
            words = _words(connection, theirs, best) if len(best) else {}
            lines = (_candidate(wanted, theirs, i, [], reason, words) for i in best.tolist())
            strangers += [line for line in lines if line is not None]
    entry, candidates = _choose(connection, wanted, _together(ours), thresholds, has_file)
    strangers.sort(key=lambda candidate: -candidate.score)
    candidates += strangers[: max(_NAMED_STRANGERS, _MOST_CANDIDATES - len(candidates))]
    losers = sorted(candidates[entry is not None :], key=lambda candidate: -candidate.score)
    candidates = candidates[: entry is not None] + losers
    notes = (_OTHER_WIDTH,) if shelves.has_other_width(connection, embedder) else ()
    return LookupResult(entry, tuple(candidates), thresholds, (time.perf_counter() - started) * 1e3, notes)


def _matches(
    shelf: Searchable, asked: dict[int, Entity], threshold: float, count_likeness: CountLikeness, most: int
) -> _Matches:
    """What the phrases nearest to each entity lead to. More and more phrases, as long as all are alike enough and none
    leads to an entry that passes (the count is another, or the entries went)."""
    queries = np.stack([entity.embedding for entity in asked.values()]).astype(np.float32)
    while True:
        places, cosines = shelf.search(queries, most)  # (Q, K)
        is_found = places >= 0
        of_place, _ = np.nonzero(is_found)
        which, entries, counts = shelf.rows_at(places[is_found])
        of, similarities = of_place[which], cosines[is_found][which]
        likenesses = _likenesses(list(asked.values()), of, counts, count_likeness)
        scores = similarities * likenesses
        if places.shape[1] < most or most >= _MOST_PHRASES:
            break
        has_rows = np.bincount(of, minlength=len(asked)) > 0
        passes = np.bincount(of, weights=scores >= threshold, minlength=len(asked)) > 0
        are_others_unlike = cosines[:, -1] < threshold
        if ((passes & (most >= _ALIKE_PHRASES)) | (has_rows & are_others_unlike)).all():
            break
        most *= 4
    order = np.argsort(-scores, kind="stable")
    _, first = np.unique(of[order] * _NUMBERS + entries[order], return_index=True)
    best = order[first]
    in_prompt = np.array(list(asked))[of[best]]
    vectors = shelf.vectors[places[is_found][which[best]]]
    return _Matches(in_prompt, entries[best], vectors, similarities[best], likenesses[best], counts[best])


def _likenesses(asked: Sequence[Entity], of: Ints, counts: Ints, count_likeness: CountLikeness) -> Floats:
    pairs, inverse = np.unique(of * _NUMBERS + (counts - NO_COUNT), return_inverse=True)
    values = []
    for i, shifted in zip(*(part.tolist() for part in np.divmod(pairs, _NUMBERS)), strict=True):
        found = shifted + NO_COUNT
        values.append(count_likeness(asked[i].count, None if found == NO_COUNT else found))
    return np.array(values, np.float32)[inverse]


def _together(matches: Sequence[_Matches]) -> _Matches:
    if not matches:
        none, nothing = np.empty(0, np.int64), np.empty(0, np.float32)
        return _Matches(none, none, none, nothing, nothing, none)
    return _Matches(*(np.concatenate([getattr(m, field.name) for m in matches]) for field in fields(_Matches)))


def _choose(
    connection: Connection,
    wanted: Sequence[Entity],
    matches: _Matches,
    thresholds: Thresholds,
    has_file: Callable[[Entry], bool],
) -> tuple[Entry | None, list[Candidate]]:
    """The entry to reuse, and the candidates worth naming, the taken one leading."""
    limits = np.array([thresholds.of(entity.kind) for entity in wanted], np.float32)
    scores = matches.scores
    passes = scores >= limits[matches.wanted]

    # One line for each entry: its best row that passes, and how many of the wanted it covers.
    order = np.lexsort((-scores, ~passes))
    entries, first, inverse = np.unique(matches.entries[order], return_index=True, return_inverse=True)
    covers = np.bincount(inverse, weights=passes[order], minlength=len(entries)).astype(np.int64)
    line = order[first]
    passing = matches.entries[passes], matches.wanted[passes]
    scores = scores[line]
    is_tied = (covers > 0) & (scores >= scores[covers > 0].max(initial=-1) - TIE)
    depth_of = reuse_depths(connection, entries[is_tied].tolist())
    depths = np.array([depth_of.get(number, 0) for number in entries.tolist()], np.int64)
    # Those that pass before the others, the tied ones before the rest; the tied by what they cover and by their depth,
    # the rest by score.
    keys = (-entries, depths, np.where(is_tied, 0, -scores), np.where(is_tied, -covers, 0), ~is_tied, covers == 0)

    ranking = np.lexsort(keys)
    taken: Candidate | None = None
    taken_entry: Entry | None = None
    losers: list[Candidate] = []
    for begin in range(0, len(ranking), _MOST_CANDIDATES + 1):
        chunk = ranking[begin : begin + _MOST_CANDIDATES + 1]
        if begin and (taken or not covers[chunk[0]]):
            break  # only further candidates that could still be taken are worth a look
        words = _words(connection, matches, line[chunk])
        for i in chunk.tolist():
            reason: str | None = None
            if not covers[i]:
                entity = wanted[matches.wanted[line[i]]]
                reason = _why_below(entity, float(matches.similarities[line[i]]), thresholds.of(entity.kind))
            elif taken is not None:
                is_deeper = int(depths[i]) > depth_of.get(taken_entry.number, 0) if taken_entry else False
                reason = _why_second(taken, bool(is_tied[i]), int(covers[i]), is_deeper)
            else:
                entry = entry_by_number(connection, int(entries[i]))
                if entry is None or not has_file(entry):
                    reason = "file missing"
            serves = sorted(passing[1][passing[0] == entries[i]].tolist()) if covers[i] else []
            candidate = _candidate(wanted, matches, int(line[i]), serves, reason, words)
            if candidate is not None and reason is None:
                taken, taken_entry = candidate, entry
            elif candidate is not None:
                losers.append(candidate)
    return taken_entry, ([taken] if taken else []) + losers


def _why_below(entity: Entity, similarity: float, threshold: float) -> str:
    if similarity >= threshold:
        return "another count" if entity.count is None else f"another count than {entity.count}"
    return f"below the threshold {threshold:.3g}"


def _why_second(taken: Candidate, is_tied: bool, covers: int, is_deeper: bool) -> str:
    if not is_tied:
        return "scores lower"
    if covers < taken.covers:
        return "covers fewer"
    return "further from a full run" if is_deeper else "older"


def _words(connection: Connection, matches: _Matches, rows: Ints) -> dict[tuple[int, int], tuple[str, ...]]:
    """(id, prompt, text) of the (vector, entry) of each row; rows that have gone are left out (an index that another
    database saved can speak of them)."""
    pairs = [pair for i in rows.tolist() for pair in (int(matches.vectors[i]), int(matches.entries[i]))]
    places = ", ".join(["(?, ?)"] * len(rows))
    # CROSS JOIN keeps SQLite to this order; left to itself it reads all entities, which takes as long as the search.
    query = f"""
        WITH wanted (vector, entry) AS (VALUES {places})
        SELECT e.vector, e.entry, t.id, t.prompt, e.text FROM wanted w
        CROSS JOIN entities e ON e.vector = w.vector AND e.entry = w.entry CROSS JOIN entries t ON t.number = e.entry
    """
    return {(vector, entry): tuple(words) for vector, entry, *words in connection.execute(query, pairs)}


def _candidate(
    wanted: Sequence[Entity],
    matches: _Matches,
    i: int,
    serves: Sequence[int],
    reason: str | None,
    words: dict[tuple[int, int], tuple[str, ...]],
) -> Candidate | None:
    """One line of the explanation; None if its words have gone. serves are places in the prompt."""
    found = words.get((int(matches.vectors[i]), int(matches.entries[i])))
    if found is None:
        return None
    id, prompt, text = found
    entity = wanted[matches.wanted[i]]
    similarity, likeness = float(matches.similarities[i]), float(matches.likenesses[i])
    score = similarity * likeness
    served = tuple(wanted[place].text for place in serves)
    told = _counts(entity, int(matches.counts[i]), likeness)
    return Candidate(
        id, prompt, entity.kind, entity.text, text, similarity, likeness, score, len(served), reason, served, told
    )


def _counts(entity: Entity, found: int, likeness: float) -> str:
    if entity.count is None or found in (NO_COUNT, entity.count) or likeness == 1:
        return ""
    things = " ".join(entity.text.split()[-len(entity.head.split()) :])
    return f"{found} {'of' if found < entity.count else 'for'} {entity.count} {things}: {likeness:.2f}"
