"""What a person asks for, and what came of it: the values that cross rooms and are stored in every video.

`GenerationRequest` is checked once, where it is made. A field that is None means "as the model likes it";
`resolved` fills those in, and a resolved request (seed included) repeats its video exactly: with the same weights,
libraries, device and number of threads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self

from .checks import check_fields, check_text
from .errors import BadRequest
from .presets import ACCELERATIONS, DEFAULT_PRESET, FEWEST_TO_ACCELERATE, PRESETS, Preset

DTYPES = ("fp32", "bf16", "fp16")
OFFLOADS = ("none", "model", "sequential")
REUSE_MODES = ("auto", "full", "fast")
MAX_SEED = 2**63 - 1
MOST_DONORS = 8

_DEVICE = re.compile(r"(cpu|mps|cuda(:\d+)?)")
_ENTRY_ID = re.compile(r"[0-9a-f]{16}")

# field: (least, most, what the person reads). Bounds are wide on purpose: they catch slips, not taste.
_INTEGER_RANGES: dict[str, tuple[int, int, str]] = {
    "height": (16, 4096, "Height in pixels"),
    "width": (16, 4096, "Width in pixels"),
    "num_frames": (1, 1000, "The number of frames"),
    "num_inference_steps": (1, 1000, "The number of steps"),
    "fast_steps": (1, 1000, "The number of steps of a hit"),
    "seed": (0, MAX_SEED, "The seed"),
    "num_loops": (1, 64, "The number of loops"),
    "donors": (1, MOST_DONORS, "The number of donors"),
}
_NUMBER_RANGES: dict[str, tuple[float, float, str]] = {
    "fps": (1, 120, "Frames per second"),
    "guidance_scale": (0, 100, "The guidance scale"),
    "fast_guidance_scale": (0, 100, "The guidance scale of few steps"),
    "aesthetic_score": (0, 10, "The aesthetic score (6.5 is usual)"),
    "motion_score": (0, 1000, "The motion score (5 is usual)"),
    "start_level": (0.05, 1, "The noise level that few steps begin at (1 is noise alone)"),
}


@dataclass(frozen=True)
class RequestDefaults:
    """What a model likes best; the values here are those of the published Open-Sora 1.2 weights.

    Height and width are pixels, fps is frames per second of the finished video; start_level is a noise level.
    guidance_per_step limits the guidance scale of few steps: each of them goes so far that strong guidance overshoots.
    acceleration is the technique that was measured not to cost the model's videos anything.
    """

    height: int = 240
    width: int = 426
    num_frames: int = 51
    fps: float = 24
    num_inference_steps: int = 30
    guidance_scale: float = 7.0
    fast_steps: int = 8
    start_level: float = 1.0
    guidance_per_step: float | None = None
    acceleration: str = "none"

    def few_step_guidance(self, steps: int) -> float:
        """The guidance scale of a hit, or of a fast run, of so many steps."""
        limit = math.inf if self.guidance_per_step is None else self.guidance_per_step * steps
        return min(self.guidance_scale, limit)


@dataclass(frozen=True)
class GenerationRequest:
    """One video to be made. None stands for the model's (or the machine's) own choice.

    height, width are pixels; num_frames counts the frames of one loop, 1 is a picture; fps is frames per second;
    image is the path of a picture to start from; extend the path of a video to go on with; num_loops continues a
    clip with itself that many times.
    reuse is auto (attend to an earlier video if one fits), full (never), fast (the few steps of a hit, without one), or
    the id of the entry to attend to (its first digits, or several ids with commas between them). donors is how many
    entries a hit may attend to at once: one alone, or further ones for what the first does not show.
    original_prompt is what the person wrote, where prompt is what the enhancer made of it.
    num_inference_steps are those of a full run, fast_steps those of a hit, which adaptive_steps lets grow as the
    similarity of the donor falls. Few steps, of a hit or fast, begin at the noise level start_level, above 0 to 1: with
    noise alone at 1, as in the paper; below it with that much noise on the mean of all latents, so that none of them
    goes to the noisiest part of the way. They are guided by fast_guidance_scale; left open, it is guidance_scale if
    that was asked for, and else what suits the number of steps. preset (`presets`) fills in what is left open of reuse,
    steps and acceleration, which names a technique that reuses within a run. A private request reads the cache and
    writes nothing into it.
    Raises: BadRequest, one sentence, for the first field that makes no sense.
    """

    prompt: str
    negative_prompt: str | None = None
    model: str | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    aesthetic_score: float | None = None
    motion_score: float | None = None
    camera_motion: str | None = None
    image: str | None = None
    extend: str | None = None
    num_loops: int = 1
    dtype: str | None = None
    device: str | None = None
    offload: str | None = None
    reuse: str | None = None
    fast_steps: int | None = None
    is_private: bool = False
    donors: int = 1
    original_prompt: str | None = None
    preset: str | None = None
    acceleration: str | None = None
    adaptive_steps: bool = False
    start_level: float | None = None
    fast_guidance_scale: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise BadRequest("The prompt is empty: say in a few words what the video should show.")
        check_text("The prompt", self.prompt)
        for name in ("negative_prompt", "model", "camera_motion", "image", "extend", "reuse", "original_prompt"):
            _check_text(name, getattr(self, name))
        for name, (least, most, words) in _INTEGER_RANGES.items():
            value = getattr(self, name)
            if value is None and name not in ("num_loops", "donors"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise BadRequest(f"{words} must be a whole number from {least} to {most}, not {value!r}.")
        for name, (low, high, words) in _NUMBER_RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise BadRequest(f"{words} must be a number from {low:g} to {high:g}, not {value!r}.")
        if not isinstance(self.is_private, bool):
            raise BadRequest(f"is_private must be true or false, not {self.is_private!r}.")
        if not isinstance(self.adaptive_steps, bool):
            raise BadRequest(f"adaptive_steps must be true or false, not {self.adaptive_steps!r}.")
        _check_choice("preset", self.preset, tuple(PRESETS))
        _check_choice("acceleration", self.acceleration, ACCELERATIONS)
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("offload", self.offload, OFFLOADS)
        if self.device is not None and not (isinstance(self.device, str) and _DEVICE.fullmatch(self.device)):
            raise BadRequest(f"Unknown device {self.device!r}: choose cpu, cuda, cuda:0 (or another number) or mps.")
        if self.image is not None and self.extend is not None:
            raise BadRequest("Give either an image to start from or a video to extend, not both.")
        if self.num_frames == 1 and (self.image is not None or self.extend is not None or self.num_loops > 1):
            raise BadRequest(
                "A request for 1 frame makes a picture, which cannot start from an image, extend a video or loop: "
                "ask for more frames."
            )

    @property
    def can_attend(self) -> bool:
        """Whether an earlier video can have a part in it: one that starts from a picture or a video, or goes on in
        loops, looks for no donor and attends to those that are chosen by name."""
        has_start = self.image is not None or self.extend is not None or self.num_loops > 1
        return not has_start or self.reuse not in (None, *REUSE_MODES)

    def resolved(self, defaults: RequestDefaults) -> Self:
        """The same request with every None that `defaults` or the preset knows about filled in; the seed is left as it
        is."""
        preset = self.preset or DEFAULT_PRESET
        known = {f.name: getattr(defaults, f.name) for f in fields(defaults)} | _of_preset(PRESETS[preset], defaults)
        del known["guidance_per_step"]
        known["fast_guidance_scale"] = self.guidance_scale
        if self.guidance_scale is None:
            known["fast_guidance_scale"] = defaults.few_step_guidance(self.fast_steps or known["fast_steps"])
        missing = {name: value for name, value in known.items() if getattr(self, name) is None}
        return replace(self, **missing, preset=preset)

    def with_fast_steps(self, steps: int) -> Self:
        """The same resolved request with other steps for a hit; with more of them its guidance grows, up to that of a
        full run."""
        assert self.fast_steps and self.fast_guidance_scale is not None, "not resolved"
        most = max(self.fast_guidance_scale, self.guidance_scale or 0.0)
        guidance = min(most, self.fast_guidance_scale * max(1.0, steps / self.fast_steps))
        return replace(self, fast_steps=steps, fast_guidance_scale=guidance)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; `from_json` gives an equal request back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The request in `values`, which may leave out any field but the prompt.

        Raises: BadRequest for a field that does not exist, or a value that makes no sense.
        """
        if not isinstance(values, Mapping):
            raise BadRequest(f"A request is a JSON object with a prompt, not {type(values).__name__}.")
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise BadRequest(f"Unknown field {name!r} in a request: the fields are {', '.join(known)}.")
        return cls(**{"prompt": "", **values})


@dataclass(frozen=True)
class Reuse:
    """Whether an earlier video helps to make one, and why.

    outcome is hit, miss, full or fast (the last two: nothing was looked for); steps are the denoising steps that
    follow from it. entry_id and entry_prompt name the donor; wanted is the phrase of the prompt that found it, found
    the donor's own, similarity their cosine times the likeness of the counts. why are sentences for the person,
    candidates every entry that was considered.
    What a run adds: reused_steps (counted from 1), start_level if it began below all noise, the guidance_scale that it
    had, stored_entry_id, bytes read and written, and full_seconds, what full runs of this model and size usually take
    on this machine, without loading the model; None where too few are known.
    donors are all entries that were attended to, the one named above first, as entry_id, entry_prompt, wanted (the
    phrases of the prompt that it serves), found and similarity.
    """

    outcome: Literal["hit", "miss", "full", "fast"]
    steps: int
    entry_id: str | None = None
    entry_prompt: str | None = None
    wanted: str | None = None
    found: str | None = None
    similarity: float | None = None
    lookup_ms: float = 0.0
    why: tuple[str, ...] = ()
    candidates: tuple[Mapping[str, Any], ...] = ()
    reused_steps: tuple[int, ...] = ()
    start_level: float | None = None
    guidance_scale: float | None = None
    stored_entry_id: str | None = None
    bytes_read: int = 0
    bytes_written: int = 0
    full_seconds: float | None = None
    donors: tuple[Mapping[str, Any], ...] = ()

    def without_others(self) -> Self:
        """The same without a word of other entries, whose prompts are nobody's business who is given the video."""
        names_one = ("Hit: ", "Not '", 'Not "')  # "Not 'red ball' of 'a red ball in the desert'": a candidate
        own = ("entry_id", "wanted", "similarity")
        return replace(
            self,
            entry_prompt=None,
            found=None,
            candidates=(),
            why=tuple(sentence for sentence in self.why if not sentence.startswith(names_one)),
            donors=tuple({name: donor[name] for name in own if name in donor} for donor in self.donors),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The outcome in `values`; fields that this version does not know are passed over.

        Raises: TypeError for a value that makes no sense.
        """
        known: dict[str, Any] = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        check_fields(cls, known)
        for told in (*known.get("candidates", ()), *known.get("donors", ())):
            _check_told(told)
        lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**known | lists)


@dataclass(frozen=True)
class Plan:
    """What `Engine.generate` would do with a request; made without loading any model.

    request is resolved, seed and donor included. notes are sentences for the person.
    """

    request: GenerationRequest
    notes: tuple[str, ...] = ()
    reuse: Reuse = field(default_factory=lambda: Reuse("full", 0))

    @property
    def acceleration(self) -> str:
        """The technique that the run reuses within: that of the request, or none in a run too short for it."""
        is_long_enough = self.reuse.steps >= FEWEST_TO_ACCELERATE
        return (self.request.acceleration if is_long_enough else None) or "none"

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"request": self.request.to_json(), "notes": list(self.notes), "reuse": asdict(self.reuse)}


@dataclass(frozen=True)
class Report:
    """What a run did.

    model_fingerprint names the weights by their content. height, width (px), num_frames and fps are those of the
    finished video, which may be longer (loops, extension) than the request's. seconds holds the stages start (of the
    program, before its first video), wait (for another program that makes it), plan, load, text, denoise, decode, keep
    and write (write only once it is known: a file cannot hold the time of its own writing). threads is how many worked
    on a CPU: with another number the same request makes a video that differs by rounding.
    acceleration is what reused within the run; with few steps nothing does, whatever was asked for.
    latents_sha256 is the checksum of the final latents: two runs with the same one made the same video.
    """

    model: str
    model_fingerprint: str
    steps: int
    height: int
    width: int
    num_frames: int
    fps: float
    device: str
    dtype: str
    latents_sha256: str
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reuse: Reuse | None = None
    acceleration: str = "none"
    threads: int | None = None

    def guidance_scale(self, request: GenerationRequest) -> float:
        """What the video was guided by, in a run of `request`; 0 where a report of an earlier version does not tell."""
        used = None if self.reuse is None else self.reuse.guidance_scale
        return (request.guidance_scale if used is None else used) or 0.0

    @property
    def total_seconds(self) -> float:
        """Wall-clock seconds of all stages together."""
        return math.fsum(self.seconds.values())

    @property
    def making_seconds(self) -> float:
        """Seconds from prompt to frames: what the model itself takes, once it is loaded."""
        return math.fsum(self.seconds.get(stage, 0.0) for stage in ("text", "denoise", "decode"))

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`; `from_json` gives an equal report back."""
        return {**asdict(self), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The report in `values`; fields that this version does not know are passed over.

        Raises: BadRequest if a field is missing, or has a value that makes no sense.
        """
        try:
            known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
            reuse = Reuse.from_json(known.pop("reuse")) if known.get("reuse") else None
            check_fields(cls, known)
            if any(seconds < 0 for seconds in known.get("seconds", {}).values()):
                raise TypeError("seconds are below 0")
            return cls(**{**known, "notes": tuple(known.get("notes", ())), "reuse": reuse})
        except (AttributeError, KeyError, TypeError) as error:
            raise BadRequest(f"This is not a report of ours ({error}).") from None


def _check_told(told: Mapping[str, Any]) -> None:
    """What a report tells of an entry. Raises: TypeError for a value that makes no sense."""
    numbers = [told.get(name) for name in ("score", "similarity", "count_likeness", "covers")]
    texts = [told.get(name) for name in ("entry_prompt", "prompt", "kind", "found", "lost_because", "counts")]
    if not isinstance(told.get("entry_id"), str) or not _ENTRY_ID.fullmatch(told["entry_id"]):
        raise TypeError(f"entry_id is {str(told.get('entry_id'))[:40]!r}")
    if not all(number is None or (isinstance(number, int | float) and abs(number) < 1e6) for number in numbers):
        raise TypeError("a score is no number")
    if not all(text is None or isinstance(text, str) for text in texts):
        raise TypeError("a phrase is no text")


def _of_preset(preset: Preset, defaults: RequestDefaults) -> dict[str, Any]:
    """The fields that a preset settles."""
    return {
        "reuse": None if preset.reuse == "auto" else preset.reuse,
        "acceleration": preset.acceleration or defaults.acceleration,
        "num_inference_steps": preset.steps(defaults.num_inference_steps),
        "fast_steps": preset.steps(defaults.fast_steps),
    }


def _check_text(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or (not value.strip() and name != "negative_prompt")):
        raise BadRequest(f"{name} must be a text that is not blank, not {value!r}.")
    if isinstance(value, str):
        check_text(name, value)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise BadRequest(f"Unknown {name} {value!r}: choose one of {', '.join(choices)}.")
