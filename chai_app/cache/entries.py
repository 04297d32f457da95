"""What is kept: an entry is one captured generation, and its entities are what it can be found by."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["object", "scene", "prompt"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Order = Literal["made", "used", "hits", "bytes"]
ORDERS: tuple[Order, ...] = get_args(Order)
Tensors = Mapping[str, "NDArray[np.floating[Any]]"]
MOST_COUNT = 2**31 - 1
"""A larger count than this is none that anybody could see."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # a terminal obeys them, no encoding has them
_LAST_MOMENT = 253_402_300_800.0  # the year 10000, which no calendar here has
_NORM_TOLERANCE = 0.01  # fp16 alone moves a norm by less than 0.001; more than this was never normalised


def plain(text: str) -> str:
    """A text without the characters that a terminal would obey."""
    return _CONTROL.sub("", text)


@dataclass(frozen=True)
class Shape:
    """What an entry's latents can be used for. Two shapes fit each other if their latents have one size.

    latent is (C, T, H, W); height and width are pixels, fps is frames per second of the finished video.
    """

    latent: tuple[int, ...]
    num_frames: int
    height: int
    width: int
    fps: float

    def __post_init__(self) -> None:
        if not self.latent or min(*self.latent, self.num_frames, self.height, self.width) < 1 or not self.fps > 0:
            raise ValueError(f"every size of a shape is at least 1, which {self} breaks")

    @property
    def latent_key(self) -> str:
        """The size of the latents as text, such as 4x15x30x53."""
        return "x".join(map(str, self.latent))


@dataclass(frozen=True)
class Schedule:
    """How the latents came about. timesteps maps the name of each tensor to its place in time (0 is clean)."""

    steps: int
    guidance_scale: float
    timesteps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Phrase:
    """Something that a prompt names: text as it stands, head its noun ("ball" of "red ball"), count if it is said."""

    kind: Kind
    text: str
    head: str
    count: int | None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not self.text.strip():
            raise ValueError("an entity needs a text")
        if self.count is not None and not 0 <= self.count <= MOST_COUNT:
            raise ValueError(f"a count of {self.count} is none that anybody could see")


@dataclass(frozen=True, eq=False)
class Entity(Phrase):
    """A phrase with its embedding, (D,) and of length 1: what a lookup wants, and what an entry is kept under."""

    embedding: NDArray[np.float32]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding.ndim != 1:
            raise ValueError(f"an embedding has one axis, not {self.embedding.ndim}")
        norm = math.sqrt(float((self.embedding.astype("float64") ** 2).sum()))
        if not abs(norm - 1) <= _NORM_TOLERANCE:
            raise ValueError(f"the embedding of {self.text!r} has length {norm:.3f} instead of 1")


@dataclass(frozen=True)
class NewEntry:
    """What a generation hands over.

    Args:
        fingerprint: of the model's weights.
        tensors: latents by name, each of `shape.latent`.
        compute_seconds: what making them cost; an eviction policy may weigh it.
        parent: id of the entry that was reused to make this one; root that of the full run with which the line of
            parents begins, reuse_depth generations ago.
        drift: how far the latents are from the root's, by `drift`; None if nobody could compare them.
        extra: the caller's own, kept as JSON and never looked into.
        preview: bytes of a WebP picture, moving or not.
    """

    fingerprint: str
    shape: Shape
    prompt: str
    seed: int
    schedule: Schedule
    entities: Sequence[Entity]
    tensors: Tensors
    compute_seconds: float
    parent: str | None = None
    root: str | None = None
    reuse_depth: int = 0
    drift: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    preview: bytes | None = None

    def __post_init__(self) -> None:
        if not self.fingerprint or not self.tensors:
            raise ValueError("an entry needs the fingerprint of a model and at least one tensor")
        for name, tensor in self.tensors.items():
            if tuple(tensor.shape) != self.shape.latent:
                raise ValueError(f"{name} is {tuple(tensor.shape)}, but the shape says {self.shape.latent}")


@dataclass(frozen=True)
class Entry:
    """One row of the cache. id is for people and files, number for the database; bytes counts the latents file."""

    id: str
    number: int
    fingerprint: str
    shape: Shape
    prompt: str
    seed: int
    schedule: Schedule
    file: str
    bytes: int
    checksum: str
    hits: int
    created: float
    last_used: float
    is_pinned: bool
    parent: str | None
    root: str | None
    reuse_depth: int
    drift: float | None
    compute_seconds: float
    extra: Mapping[str, Any]

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, is_right in (
                ("prompt", bool(self.prompt.strip()) and plain(self.prompt) == self.prompt),
                ("fingerprint", bool(self.fingerprint) and plain(self.fingerprint) == self.fingerprint),
                ("seed", 0 <= self.seed < 2**63),
                ("bytes", self.bytes > 0),
                ("created", 0 <= self.created < _LAST_MOMENT),
                ("last_used", 0 <= self.last_used < _LAST_MOMENT),
                ("reuse_depth", self.reuse_depth >= 0),
                ("drift", self.drift is None or 0 <= self.drift < math.inf),
                ("compute_seconds", 0 <= self.compute_seconds < math.inf),
                ("schedule", self.schedule.steps >= 0 and math.isfinite(self.schedule.guidance_scale)),
                ("extra", isinstance(self.extra, Mapping)),
            )
            if not is_right
        ]
        if wrong:
            raise ValueError(f"its {' and its '.join(wrong)} cannot be")

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True)
class LoadedLatents:
    """Tensors in fp32, or None and a note that says why there are none. Either way the cache is sound afterwards."""

    tensors: Tensors | None
    note: str | None = None


@dataclass(frozen=True)
class Selection:
    """Which entries are meant; what is left open excludes nothing.

    entity is the text or the head of one of an entry's entities, in any case; prompt is a part of its prompt; since and
    before are moments (seconds since 1970) between which it was made.
    """

    entity: str | None = None
    prompt: str | None = None
    since: float | None = None
    before: float | None = None
    fingerprint: str | None = None
    is_pinned: bool | None = None
