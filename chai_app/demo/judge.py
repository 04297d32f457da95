"""The judge: small classifiers that name what a clip of the demo world shows.

They are trained on rendered clips only and never see a generated one, so they can tell how well the demo model does
what a prompt asks. `python -m chai_app.demo.judge out.mp4` names what it sees in a file; without a file it is
measured itself, on clips that it was not trained on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import BadMedia, ChaiError
from ..settings import BUNDLED_MODELS
from .world import COLOURS, FRAME_SIZE_PX, MAX_COUNT, MOTIONS, OBJECTS, SCENES, ClipSpec

WEIGHTS = BUNDLED_MODELS / "demo" / "judge" / "judge.safetensors"
HEADS = {
    "object": len(OBJECTS),
    "colour": len(COLOURS),
    "scene": len(SCENES),
    "motion": len(MOTIONS),
    "count": MAX_COUNT,
}


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in one clip; `objects` and `colours` name one for each kind asked for, likeliest first."""

    objects: tuple[str, ...]
    colours: tuple[str, ...]
    scene: str
    motion: str
    count: int
    consistency: float
    """Mean cosine likeness of the features of neighbouring frames; 1 is a still picture, real clips lie around 0.92."""

    def agrees(self, spec: ClipSpec) -> dict[str, bool]:
        """For each question, whether the answer is what `spec` says; with two kinds, both must be found."""
        return {
            "object": set(self.objects) == {thing.object for thing in spec.things},
            "colour": set(self.colours) == {thing.colour for thing in spec.things},
            "scene": self.scene == spec.scene,
            "motion": self.motion == spec.motion,
            "count": self.count == spec.count,
        }


class Judge(nn.Module):
    """Each frame through a small convolutional network, then convolutions over time; one linear head per question."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        channels = (3, 24, 48, 64, 96)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.frame = nn.Sequential(
            *layers, nn.Conv2d(96, 96, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(96 * 16, width)
        )
        self.through_time = nn.Sequential(
            nn.SiLU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.SiLU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.SiLU(),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(2 * width, size) for name, size in HEADS.items()})

    def forward(self, clips: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Look at every second frame: enough for every motion of this world, at half the cost.

        Args: clips: (B, T, 3, 64, 64), pixels in -1..1.
        Returns: logits by question, each (B, answers), and features of the frames looked at (B, (T + 1) / 2, width).
        """
        clips = clips[:, ::2] if clips.shape[1] > 9 else clips
        batch, frames = clips.shape[:2]
        features = self.frame(clips.flatten(0, 1)).unflatten(0, (batch, frames))  # (B, T, width)
        moving = self.through_time(features.transpose(1, 2))  # (B, width, T)
        summary = torch.cat([F.silu(features).mean(1), moving.mean(2)], dim=1)
        return {name: head(summary) for name, head in self.heads.items()}, features

    @torch.inference_mode()
    def verdicts(self, clips: Tensor | NDArray[np.uint8], kinds: Sequence[int] | None = None) -> list[Verdict]:
        """Judge clips.

        Args:
            clips: (B, T, 3, 64, 64) in -1..1, or (B, T, 64, 64, 3) uint8.
            kinds: how many kinds of things to name in each clip, 1 or 2; one in each by default.
        """
        if isinstance(clips, np.ndarray):
            clips = torch.from_numpy(np.ascontiguousarray(clips)).movedim(-1, -3).float() / 127.5 - 1
        found: list[Verdict] = []
        for start in range(0, len(clips), 32):
            logits, features = self(clips[start : start + 32])
            steady = F.cosine_similarity(features[:, 1:], features[:, :-1], dim=-1).mean(1)
            for i in range(len(features)):
                number = 1 if kinds is None else kinds[start + i]
                found.append(
                    Verdict(
                        objects=tuple(OBJECTS[j] for j in logits["object"][i].topk(number).indices.tolist()),
                        colours=tuple(COLOURS[j] for j in logits["colour"][i].topk(number).indices.tolist()),
                        scene=SCENES[int(logits["scene"][i].argmax())],
                        motion=MOTIONS[int(logits["motion"][i].argmax())],
                        count=int(logits["count"][i].argmax()) + 1,
                        consistency=float(steady[i]),
                    )
                )
        return found


def targets(specs: Sequence[ClipSpec]) -> dict[str, Tensor]:
    """What the heads should say: object and colour as (B, answers) of 0 and 1, the others as (B,) indices."""
    objects, colours = torch.zeros(len(specs), len(OBJECTS)), torch.zeros(len(specs), len(COLOURS))
    for i, spec in enumerate(specs):
        for thing in spec.things:
            objects[i, OBJECTS.index(thing.object)] = colours[i, COLOURS.index(thing.colour)] = 1
    return {
        "object": objects,
        "colour": colours,
        "scene": torch.tensor([SCENES.index(spec.scene) for spec in specs]),
        "motion": torch.tensor([MOTIONS.index(spec.motion) for spec in specs]),
        "count": torch.tensor([spec.count - 1 for spec in specs]),
    }


def scores(judge: Judge, clips: Tensor | NDArray[np.uint8], specs: Sequence[ClipSpec]) -> dict[str, float]:
    """Share of right answers for each question, and the mean consistency."""
    verdicts = judge.verdicts(clips, [len(spec.things) for spec in specs])
    answers = [verdict.agrees(spec) for verdict, spec in zip(verdicts, specs, strict=True)]
    result = {name: sum(answer[name] for answer in answers) / len(answers) for name in HEADS}
    return result | {"consistency": sum(verdict.consistency for verdict in verdicts) / len(verdicts)}


def save_judge(judge: Judge, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in judge.state_dict().items()}, path)


def load_judge(path: Path = WEIGHTS) -> Judge:
    judge = Judge()
    judge.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return judge.eval()


def main() -> None:
    from ..media.video import read_video
    from .data import specs
    from .render import render

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "videos", nargs="*", type=Path, metavar="VIDEO", help=f"{FRAME_SIZE_PX} x {FRAME_SIZE_PX} pixels"
    )
    parser.add_argument("--json", type=Path, help="write the answers or figures here")
    arguments = parser.parse_args()
    judge = load_judge()
    answers: dict[str, object] = {}
    for path in arguments.videos:
        try:
            frames = read_video(path).frames
            if frames.shape[1:3] != (FRAME_SIZE_PX, FRAME_SIZE_PX):
                size = f"{frames.shape[2]} x {frames.shape[1]}"
                raise BadMedia(
                    f"{path} is {size} pixels: the judge knows the demo model's {FRAME_SIZE_PX} x {FRAME_SIZE_PX}."
                )
        except ChaiError as error:
            print(f"error {error}", file=sys.stderr)
            sys.exit(2)
        verdict = judge.verdicts(frames[None])[0]
        answers[str(path)] = verdict.__dict__
        things = f"{verdict.count} {verdict.colours[0]} {verdict.objects[0]}"
        print(f"{path}: {things}, {verdict.motion}, {verdict.scene}; consistency {verdict.consistency:.3f}")
    if not arguments.videos:
        shown = specs("test", 600)
        figures = scores(judge, np.stack([render(spec) for spec in shown]), shown)
        answers = dict(figures)
        print("on 600 real clips that it was not trained on:", "  ".join(f"{k} {v:.3f}" for k, v in figures.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
