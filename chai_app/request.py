"""What a person asks for, and what came of it: the values that cross rooms and are stored in every video.

`GenerationRequest` is checked once, where it is made. A field that is None means "as the model likes it";
`resolved` fills those in, and a resolved request (seed included) repeats its video exactly: with the same weights,
libraries, device and number of threads.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self

from .checks import check_fields, check_text
from .errors import BadRequest
from .fields import GUIDING, MACHINE, MAIN, MODEL, REUSE, SIZE, Choice, Number, Option, Switch, Text, Whole, asked
from .presets import ACCELERATIONS, DEFAULT_PRESET, FEWEST_TO_ACCELERATE, PRESETS, RECIPES, Preset

REUSE_MODES = ("auto", "full", "fast")
MAX_SEED = 2**63 - 1
MOST_DONORS = 8

_ENTRY_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class RequestDefaults:
    """What a model likes best; the values here are those of the published Open-Sora 1.2 weights.

    Height and width are pixels, fps is frames per second of the finished video; start_level is a noise level.
    guidance_per_step limits the guidance scale of few steps: each of them goes so far that strong guidance overshoots.
    acceleration is the technique that was measured not to cost the model's videos anything; recipe is how the model
    attends to donors best.
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
    recipe: str = "paper"

    def few_step_guidance(self, steps: int) -> float:
        """The guidance scale of a hit, or of a fast run, of so many steps."""
        limit = math.inf if self.guidance_per_step is None else self.guidance_per_step * steps
        return min(self.guidance_scale, limit)


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """One video to be made. None stands for the model's (or the machine's) own choice.

    Each field says what people read of it (`fields.Option`); this is what engineers have to know beyond that.
    original_prompt is what the person wrote, where prompt is what the enhancer made of it; num_frames counts the frames
    of one loop. reuse is auto, full, fast, or ids of entries (or their first digits) with commas between them.
    adaptive_steps lets fast_steps grow as the similarity of the donor falls. Few steps, of a hit or fast, begin with
    noise alone at 1, as in the paper; below it with that much noise on the mean of all latents, so that none of them
    goes to the noisiest part of the way. They are guided by fast_guidance_scale; left open, it is guidance_scale if
    that was asked for, and else what suits the number of steps. preset (`presets`) fills in what is left open of reuse,
    steps and acceleration, which names a technique that reuses within a run.
    Raises: BadRequest, one sentence, for the first field that makes no sense.
    """

    # fmt: off
    prompt: str
    _: KW_ONLY
    original_prompt: str | None = asked(Text("original prompt", "What the prompt was before it was enhanced."))
    seed: int | None = asked(
        Whole(
            "seed", "Whole number that makes the video repeatable.", usual="random, and shown",
            panel=MAIN, short="-s", least=0, most=MAX_SEED,
        )
    )
    num_inference_steps: int | None = asked(
        Whole(
            "steps of a full run", "Denoising steps of a full run.", usual="the model's, 30",
            name="steps", panel=MAIN, least=1, most=1000,
        )
    )
    guidance_scale: float | None = asked(
        Number(
            "guidance", "How strictly to follow the prompt.", usual="the model's",
            name="guidance", panel=MAIN, least=0, most=100, step=0.5,
        )
    )
    fast_guidance_scale: float | None = asked(
        Number("guidance of few steps", name="fast_guidance", least=0, most=100)
    )
    width: int | None = asked(Whole("width", "Pixels.", usual="the model's", hint="px", least=16, most=4096, step=8))
    height: int | None = asked(Whole("height", "Pixels.", usual="the model's", hint="px", least=16, most=4096, step=8))
    num_frames: int | None = asked(
        Whole("frames", "Number of frames; 1 makes a picture.", name="frames", panel=SIZE, least=1, most=1000)
    )
    fps: float | None = asked(
        Number("frames per second", "Frames per second.", panel=SIZE, least=1, most=120, step=1.0)
    )
    num_loops: int = asked(
        Whole(
            "clips in a row",
            'Clips in a row, each going on from the end of the one before. A prompt like "|0| a sunny day |1| rain" '
            "gives each clip its own.",
            name="loops", panel=SIZE, least=1, most=64,
        ),
        default=1,
    )
    image: str | None = asked(Text("picture to start from", "A picture to start from.", panel=GUIDING, metavar="FILE"))
    extend: str | None = asked(Text("video to go on with", "A video to go on with.", panel=GUIDING, metavar="FILE"))
    negative_prompt: str | None = asked(
        Text(
            "what it should not show", "What the video should not show.",
            name="negative", panel=GUIDING, may_be_blank=True,
        )
    )
    aesthetic_score: float | None = asked(
        Number(
            "aesthetic score", "Aesthetic score to ask for, 0 to 10 (6.5 is good).",
            name="aesthetic", panel=GUIDING, hint="6.5 is good", least=0, most=10, step=0.1,
        )
    )
    motion_score: float | None = asked(
        Number(
            "motion score", "How much should move (5 is usual; more is livelier).",
            other_names=("motion",), panel=GUIDING, hint="5 is usual", least=0, most=1000, step=0.5,
        )
    )
    camera_motion: str | None = asked(
        Text(
            "camera motion", 'Camera motion, such as "pan right" or "zoom in".',
            name="camera", panel=GUIDING,
        )
    )
    reuse: str | None = asked(
        Text(
            "reuse",
            "auto: attend to an earlier video that shares an object or a scene, in fewer steps. full: never. fast: "
            "the few steps alone. Or the id of an entry to attend to, or several with commas.",
            usual="auto", panel=REUSE, metavar="HOW",
        )
    )
    fast_steps: int | None = asked(
        Whole("steps of a hit", "Denoising steps of a hit.", usual="the model's", panel=REUSE, least=1, most=1000)
    )
    recipe: str | None = asked(
        Choice(
            "recipe",
            "How a hit attends to its donor. paper: the first block, in steps 2 to 4. trained: all blocks, in all "
            "steps, for a model that learnt with donors.",
            usual="the model's", panel=REUSE, choices=RECIPES,
        )
    )
    start_level: float | None = asked(
        Number(
            "noise few steps begin with",
            "Noise that few steps begin with, 0.05 to 1; below 1, none goes to the noisiest part.",
            usual="the model's", panel=REUSE, info="below 1, none goes to the noisiest part",
            least=0.05, most=1, step=0.05,
        )
    )
    donors: int = asked(
        Whole(
            "donors at most",
            "Attend to as many as N earlier videos at once, each for what the others do not show.",
            usual="1", panel=REUSE, metavar="N", info="each for what others lack", least=1, most=MOST_DONORS,
        ),
        default=1,
    )
    preset: str | None = asked(
        Choice(
            "preset",
            "exact: no approximation. balanced: earlier videos help, and full runs leave out what does not matter. "
            "draft: half the steps, for a first look.",
            usual=DEFAULT_PRESET, panel=REUSE, choices=tuple(PRESETS),
        )
    )
    acceleration: str | None = asked(
        Choice(
            "acceleration", f"Reuse within the run: {', '.join(ACCELERATIONS)}.", usual="the preset's",
            panel=REUSE, choices=ACCELERATIONS,
        )
    )
    adaptive_steps: bool = asked(
        Switch("adaptive steps", "The less a hit's donor resembles, the more steps it takes.", panel=REUSE),
        default=False,
    )
    is_private: bool = asked(
        Switch("private", "Read the cache, but write nothing into it.", name="private", panel=REUSE), default=False
    )
    model: str | None = asked(
        Text("model", "demo, opensora-1.2, or a folder.", usual="demo", panel=MODEL, short="-m")
    )
    dtype: str | None = asked(
        Choice(
            "dtype", "fp32, bf16 or fp16.", usual="bf16 on CUDA and on a CPU with AMX, else fp32",
            panel=MACHINE, choices=("fp32", "bf16", "fp16"),
        )
    )
    device: str | None = asked(
        Choice(
            "device", "cpu, cuda, cuda:1, mps.", usual="the best",
            panel=MACHINE, choices=("cpu", "cuda", "cuda:1", "mps"), pattern=r"cuda:\d+",
        )
    )
    offload: str | None = asked(
        Choice(
            "offload",
            "Keep weights in main memory: model (one part at a time on the GPU) or sequential (least, slowest).",
            panel=MACHINE, choices=("none", "model", "sequential"),
        )
    )
    # fmt: on

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise BadRequest("The prompt is empty: say in a few words what the video should show.")
        check_text("The prompt", self.prompt)
        for name, option in OPTIONS.items():
            value = getattr(self, name)
            if value is not None or getattr(type(self), name) is not None:  # what is None by itself may be left open
                option.check(value)
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

    def resolved(self, defaults: RequestDefaults) -> ResolvedRequest:
        """The same request with every None filled in that `defaults` or the preset knows about, and a seed."""
        preset = self.preset or DEFAULT_PRESET
        known = {f.name: getattr(defaults, f.name) for f in fields(defaults)} | _of_preset(PRESETS[preset], defaults)
        del known["guidance_per_step"]
        known["fast_guidance_scale"] = self.guidance_scale
        if self.guidance_scale is None:
            known["fast_guidance_scale"] = defaults.few_step_guidance(self.fast_steps or known["fast_steps"])
        known |= {"preset": preset, "seed": secrets.randbelow(2**32)}
        given = {name: value for name, value in vars(self).items() if value is not None}
        return ResolvedRequest(**known | given)

    def __eq__(self, other: object) -> bool:
        """By what they say: one in which all was settled equals one that left nothing open."""
        return isinstance(other, GenerationRequest) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).items()))

    def to_json(self) -> dict[str, Any]:
        """Plain values by the names of the options, ready for `json.dumps`; `from_json` gives an equal request back."""
        return {"prompt": self.prompt, **{option.name: getattr(self, field) for field, option in OPTIONS.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The request in `values`, which may leave out any field but the prompt.

        Raises: BadRequest for a field that does not exist, or a value that makes no sense.
        """
        if not isinstance(values, Mapping):
            raise BadRequest(f"A request is a JSON object with a prompt, not {type(values).__name__}.")
        return cls(**{"prompt": "", **by_field(values)})


@dataclass(frozen=True, eq=False)
class ResolvedRequest(GenerationRequest):
    """A request that leaves nothing open of how its video is made, but for the machine: it repeats exactly."""

    _: KW_ONLY
    seed: int
    num_inference_steps: int
    guidance_scale: float
    fast_guidance_scale: float
    width: int
    height: int
    num_frames: int
    fps: float
    fast_steps: int
    start_level: float
    preset: str
    acceleration: str
    recipe: str

    def __post_init__(self) -> None:
        for name in ResolvedRequest.__annotations__.keys() & OPTIONS:
            if getattr(self, name) is None:
                raise BadRequest(f"{OPTIONS[name].title} is left open in a request in which all should be settled.")
        super().__post_init__()

    def reopened(self) -> GenerationRequest:
        """The same as a request of which something may be left open again, such as the seed."""
        return GenerationRequest(**vars(self))

    def with_fast_steps(self, steps: int) -> Self:
        """The same request with other steps for a hit; with more of them its guidance grows, up to that of a full
        run."""
        most = max(self.fast_guidance_scale, self.guidance_scale)
        guidance = min(most, self.fast_guidance_scale * max(1.0, steps / self.fast_steps))
        return replace(self, fast_steps=steps, fast_guidance_scale=guidance)


OPTIONS: Mapping[str, Option] = {
    each.name: replace(option, name=option.name or each.name)
    for each in fields(GenerationRequest)
    if (option := each.metadata.get("option")) is not None
}
"""What people read of each field of a request but the prompt, by the field."""

_FIELD_OF = {"prompt": "prompt"} | {
    name: field for field, option in OPTIONS.items() for name in (field, option.name, *option.other_names)
}


def field_of(name: str) -> str | None:
    """The field of a request that is called `name`: as an option ("--fast-steps" or "fast_steps"), or as in files of
    earlier versions; None if there is none."""
    return _FIELD_OF.get(name.strip().removeprefix("--").replace("-", "_"))


def by_field(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the fields that they belong to, from values by any name that a field has.

    Raises: BadRequest for a name that no field has, or two names of one.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = field_of(name)
        if field is None:
            known = ", ".join(("prompt", *(option.name for option in OPTIONS.values())))
            raise BadRequest(f"Unknown field {name!r} in a request: the fields are {known}.")
        if field in found:
            raise BadRequest(f"{OPTIONS[field].title} is there twice: give {name!r} or its other name, not both.")
        found[field] = value
    return found


@dataclass(frozen=True)
class Decision:
    """Whether an earlier video is to help to make one, and why.

    outcome is hit, miss, full or fast (the last two: nothing was looked for); steps are the denoising steps that
    follow from it. entry_id and entry_prompt name the donor; wanted is the phrase of the prompt that found it, found
    the donor's own, similarity their cosine times the likeness of the counts. why are sentences for the person,
    candidates every entry that was considered; bytes_read are those of the donors' latents, once they are in memory.
    donors are all entries that are attended to, the one named above first, as entry_id, entry_prompt, wanted (the
    phrases of the prompt that it serves), found and similarity. keeps are those phrases again where the video will show
    the very thing or place of the donor, which a recipe has to bring about.
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
    donors: tuple[Mapping[str, Any], ...] = ()
    keeps: tuple[str, ...] = ()
    bytes_read: int = 0

    @property
    def kept(self) -> str:
        """What the video shows again: "this red fish and this reef"; empty where nothing is promised."""
        *first, last = [f"this {phrase}" for phrase in self.keeps] or [""]
        return f"{', '.join(first)} and {last}" if first else last

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
class Reuse(Decision):
    """What a run did with the decision: reused_steps (counted from 1), start_level if it began below all noise, the
    guidance_scale that it had, the entry that it left behind, and full_seconds, what full runs of this model and size
    usually take on this machine, without loading the model; None where too few are known."""

    reused_steps: tuple[int, ...] = ()
    start_level: float | None = None
    guidance_scale: float | None = None
    stored_entry_id: str | None = None
    bytes_written: int = 0
    full_seconds: float | None = None

    @classmethod
    def of(cls, decision: Decision, **did: Any) -> Self:
        """What came of `decision`."""
        return cls(**vars(decision) | did)

    @property
    def beginning(self) -> str | None:
        """How much noise few steps began with, in words; None for noise alone."""
        return None if self.start_level is None else f"{self.start_level:.0%} noise"

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


@dataclass(frozen=True)
class Plan:
    """What `Engine.generate` would do with a request; made without loading any model.

    request is resolved, seed and donor included. notes are sentences for the person.
    """

    request: ResolvedRequest
    notes: tuple[str, ...] = ()
    reuse: Decision = field(default_factory=lambda: Decision("full", 0))

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
