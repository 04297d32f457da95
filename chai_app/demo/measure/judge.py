"""The judge: one small network that names what a clip of the drawn world shows, and where.

It is trained on drawn clips only and never sees a generated one, so it can tell how well a model does what a prompt
asks. Each frame goes through convolutions by itself; what it shows (thing, colour, scene, count, every trait, the
place of the thing and its mask) is answered frame by frame, and a clip's answer is the mean of its frames. Motion alone
is answered by convolutions over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...settings import BUNDLED_MODELS
from ..drawn.looks import SCENE_TRAITS, THING_TRAITS
from ..drawn.spec import COLOURS, FRAME_SIZE_PX, MAX_COUNT, MOTIONS, OBJECTS, SCENES, ClipSpec

WEIGHTS = BUNDLED_MODELS / "demo" / "measure" / "judge.safetensors"
COUNTS = tuple(range(1, MAX_COUNT + 1))
QUESTIONS: dict[str, tuple[str | int, ...]] = {
    "object": OBJECTS,
    "colour": COLOURS,
    "scene": SCENES,
    "motion": MOTIONS,
    "count": COUNTS,
}
TRAITS = {**THING_TRAITS, **SCENE_TRAITS}
MASK_SIZE_PX = FRAME_SIZE_PX // 2
FRAMES_AT_ONCE = 64


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in one clip; `objects` and `colours` name one for each kind asked for, likeliest first."""

    objects: tuple[str, ...]
    colours: tuple[str, ...]
    scene: str
    motion: str
    count: int
    consistency: float
    """Mean cosine likeness of the features of neighbouring frames; 1 is a still picture."""

    def agrees(self, spec: ClipSpec) -> dict[str, bool]:
        """For each question, whether the answer is what `spec` says; with two kinds, both must be found."""
        return {
            "object": set(self.objects) == {thing.object for thing in spec.things},
            "colour": set(self.colours) == {thing.colour for thing in spec.things},
            "scene": self.scene == spec.scene.name,
            "motion": self.motion == spec.motion,
            "count": self.count == spec.count,
        }


@dataclass(frozen=True, eq=False)
class Poses:
    """Where the thing is, or the middle of a group; each (N, T). x, y and radius are in pixels, angle in radians
    (-pi to pi, clockwise), facing is the probability that it looks to the right."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    radius: NDArray[np.float32]
    angle: NDArray[np.float32]
    facing: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seen:
    """All that the judge has to say about N clips of T frames.

    logits: by question, (N, answers). traits: by trait, probabilities (N, T, values). masks: (N, T, 48, 48), the share
    of each place that a thing covers, 0 to 1. features: (N, T, width).
    """

    logits: dict[str, Tensor]
    traits: dict[str, NDArray[np.float32]]
    poses: Poses
    masks: NDArray[np.float32]
    features: Tensor

    def verdicts(self, kinds: Sequence[int] | None = None) -> list[Verdict]:
        """What the clips show. Args: kinds: how many kinds of things to name in each clip, one by default."""
        steady = F.cosine_similarity(self.features[:, 1:], self.features[:, :-1], dim=-1).mean(1)
        best = {name: logits.argmax(1).tolist() for name, logits in self.logits.items()}
        return [
            Verdict(
                objects=tuple(OBJECTS[j] for j in self.logits["object"][i].topk(number).indices.tolist()),
                colours=tuple(COLOURS[j] for j in self.logits["colour"][i].topk(number).indices.tolist()),
                scene=SCENES[best["scene"][i]],
                motion=MOTIONS[best["motion"][i]],
                count=COUNTS[best["count"][i]],
                consistency=float(steady[i]),
            )
            for i, number in enumerate(kinds or [1] * len(self.features))
        ]

    def log_odds(self, specs: Sequence[ClipSpec]) -> dict[str, NDArray[np.float32]]:
        """How sure the judge is of what `specs` say, question by question, in nats, (N,); 0 is undecided. With two
        kinds, the mean of both."""
        found = {}
        for name, wanted in targets(specs).items():
            logits = self.logits[name]
            if wanted.ndim == 1:
                goal = F.one_hot(wanted, logits.shape[1]).bool()
                others = logits.masked_fill(goal, -torch.inf).logsumexp(1)
                odds = logits[goal] - others
            else:
                odds = (logits * wanted).sum(1) / wanted.sum(1)
            found[name] = odds.numpy()
        return found


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1), nn.GroupNorm(8, after), nn.SiLU())


class Judge(nn.Module):
    """See the module. `forward` is for single frames, `motion` for the features of clips, `look` for everything."""

    def __init__(self, width: int = 320) -> None:
        super().__init__()
        self.to_24 = nn.Sequential(_convolution(3, 16, 2), _convolution(16, 32, 2), _convolution(32, 48))
        self.to_12 = nn.Sequential(_convolution(48, 96, 2), _convolution(96, 96))
        self.to_6 = nn.Sequential(_convolution(96, 128, 2), _convolution(128, 128))
        self.places = nn.Sequential(nn.Conv2d(128, 48, 1), nn.SiLU(), nn.Flatten())
        self.summary = nn.Sequential(nn.Linear(48 * 36 + 2 * 128 + 96, width), nn.SiLU())
        self.mask_from = nn.ModuleList(nn.Conv2d(channels, 48, 1) for channels in (128, 96, 48))
        self.mask = nn.Sequential(nn.SiLU(), nn.Conv2d(48, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 4, 3, padding=1))
        sizes = {name: len(answers) for name, answers in QUESTIONS.items() if name != "motion"}
        sizes |= {name: len(values) for name, values in TRAITS.items()} | {"pose": 6}
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})
        self.through_time = nn.Sequential(
            nn.Conv1d(width + 6, 96, 1), nn.SiLU(),
            nn.Conv1d(96, 96, 5, padding=2), nn.SiLU(),
            nn.Conv1d(96, 96, 5, padding=2), nn.SiLU(),
        )  # fmt: skip
        self.moves = nn.Linear(96, len(MOTIONS))

    def forward(self, frames: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Args: frames: (B, 3, H, W), pixels in -1..1.

        Returns: answers by question and trait, each (B, answers), with the raw "pose" (B, 6) among them; logits of the
            mask (B, H/2, W/2); features (B, width).
        """
        frames = frames.contiguous(memory_format=torch.channels_last)
        at_24 = self.to_24(frames)
        at_12 = self.to_12(at_24)
        at_6 = self.to_6(at_12)
        mask = self.mask_from[0](at_6)
        for level, project in zip((at_12, at_24), list(self.mask_from)[1:], strict=True):
            mask = F.interpolate(mask, scale_factor=2.0, mode="nearest") + project(level)
        mask = F.pixel_shuffle(self.mask(mask), 2)  # (B, 1, 48, 48)
        # What a thing is like is asked of the places where it is.
        weight = F.avg_pool2d(mask.detach().sigmoid(), 4)  # (B, 1, 12, 12)
        of_thing = (at_12 * weight).sum((2, 3)) / (weight.sum((2, 3)) + 0.1)
        summary = torch.cat([self.places(at_6), at_6.mean((2, 3)), at_6.amax((2, 3)), of_thing], dim=1)
        features = self.summary(summary)
        return {name: head(features) for name, head in self.heads.items()}, mask[:, 0], features

    def motion(self, features: Tensor, poses: Tensor) -> Tensor:
        """Logits of the motions from every second frame's features (B, T, width) and raw poses (B, T, 6)."""
        return self.moves(self.through_time(torch.cat([features, poses], 2).transpose(1, 2)).mean(2))

    @torch.inference_mode()
    def look(self, clips: NDArray[np.uint8]) -> Seen:
        """Look at every frame of (N, T, H, W, 3) clips."""
        number, length = clips.shape[:2]
        parts = []
        for few in torch.from_numpy(np.ascontiguousarray(clips)).flatten(0, 1).split(FRAMES_AT_ONCE):
            answers, mask, features = self(few.movedim(-1, 1).float() / 127.5 - 1)
            parts.append({**answers, "mask": mask.sigmoid(), "features": features})
        seen = {name: torch.cat([part[name] for part in parts]).unflatten(0, (number, length)) for name in parts[0]}
        every = slice(None, None, 2 if length > 9 else 1)
        logits = {name: seen[name].mean(1) for name in QUESTIONS if name != "motion"}
        logits["motion"] = self.motion(seen["features"][:, every], seen["pose"][:, every])
        return Seen(
            logits=logits,
            traits={name: seen[name].softmax(2).numpy() for name in TRAITS},
            poses=_poses(seen["pose"]),
            masks=seen["mask"].numpy(),
            features=seen["features"],
        )

    def verdicts(self, clips: NDArray[np.uint8], kinds: Sequence[int] | None = None) -> list[Verdict]:
        return self.look(clips).verdicts(kinds)

    def log_odds(self, clips: NDArray[np.uint8], specs: Sequence[ClipSpec]) -> dict[str, NDArray[np.float32]]:
        return self.look(clips).log_odds(specs)

    def traits(self, clips: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return self.look(clips).traits

    def poses(self, clips: NDArray[np.uint8]) -> Poses:
        return self.look(clips).poses

    def masks(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.look(clips).masks


HALF_PX = FRAME_SIZE_PX / 2
RADIUS_UNIT_PX = 20.0


def raw_poses(paths: Tensor) -> Tensor:
    """What the pose head should say, (..., 6), of paths (..., 5): x, y, radius in px, angle, facing (1 or -1)."""
    x, y, radius, angle, facing = paths.unbind(-1)
    place = [(x - HALF_PX) / HALF_PX, (y - HALF_PX) / HALF_PX, radius / RADIUS_UNIT_PX - 1]
    return torch.stack([*place, angle.sin(), angle.cos(), (facing + 1) / 2], dim=-1)


def _poses(raw: Tensor) -> Poses:
    x, y, radius, sin, cos, facing = raw.unbind(-1)
    return Poses(
        x=(HALF_PX * (x + 1)).numpy(),
        y=(HALF_PX * (y + 1)).numpy(),
        radius=(RADIUS_UNIT_PX * (radius + 1)).clamp_min(2).numpy(),
        angle=torch.atan2(sin, cos).numpy(),
        facing=facing.sigmoid().numpy(),
    )


def targets(specs: Sequence[ClipSpec]) -> dict[str, Tensor]:
    """The right answer to every question: object and colour as (N, answers) of 0 and 1, the others as (N,) indices."""
    objects, colours = torch.zeros(len(specs), len(OBJECTS)), torch.zeros(len(specs), len(COLOURS))
    for i, spec in enumerate(specs):
        for thing in spec.things:
            objects[i, OBJECTS.index(thing.object)] = colours[i, COLOURS.index(thing.colour)] = 1
    return {
        "object": objects,
        "colour": colours,
        "scene": torch.tensor([SCENES.index(spec.scene.name) for spec in specs]),
        "motion": torch.tensor([MOTIONS.index(spec.motion) for spec in specs]),
        "count": torch.tensor([spec.count - 1 for spec in specs]),
    }


def trait_targets(specs: Sequence[ClipSpec]) -> dict[str, Tensor]:
    """The number of every trait's value, (N,); -1 for a thing's traits where two kinds are shown, each with its own."""
    found = {}
    for name, values in TRAITS.items():
        numbers = []
        for spec in specs:
            look = spec.scene.look if name in SCENE_TRAITS else spec.things[0].look
            is_clear = name in SCENE_TRAITS or len(spec.things) == 1
            numbers.append(values.index(getattr(look, name)) if is_clear else -1)
        found[name] = torch.tensor(numbers)
    return found


def accuracies(judge: Judge, clips: NDArray[np.uint8], specs: Sequence[ClipSpec]) -> dict[str, float]:
    """Share of right answers to each question, clip by clip, and to each trait, frame by frame."""
    seen = judge.look(clips)
    agreed = [
        verdict.agrees(spec)
        for verdict, spec in zip(seen.verdicts([len(spec.things) for spec in specs]), specs, strict=True)
    ]
    found = {name: float(np.mean([answer[name] for answer in agreed])) for name in QUESTIONS}
    for name, numbers in trait_targets(specs).items():
        known = numbers.numpy() >= 0
        right = seen.traits[name].argmax(2)[known] == numbers.numpy()[known, None]
        found[name] = float(right.mean())
    return found


def save_judge(judge: Judge, path: Path = WEIGHTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in judge.state_dict().items()}, path)


def load_judge(path: Path = WEIGHTS) -> Judge:
    judge = Judge()
    judge.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return judge.eval().requires_grad_(False)
