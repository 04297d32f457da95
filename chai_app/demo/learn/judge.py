"""Training the judge, on drawn clips of the whole world (held-out combinations too: it must be fair to all).

Everything but motion shows in a single frame, so the frame network learns from single frames, each from another clip.
What passes through time is then learnt in minutes, on features that are worked out once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..drawn.data import Split, specs
from ..drawn.render import render
from ..drawn.spec import FRAME_SIZE_PX, MOTIONS, NUM_FRAMES, ClipSpec
from ..measure.judge import MASK_SIZE_PX, Judge, raw_poses, targets, trait_targets
from .loop import LossOf, Settings, train

BLOCK = 32
FRAMES = Settings(steps=1200, batch_size=64, peak_lr=3e-3, warmup_steps=30, ema_decay=0.99, use_muon=True, seed=21)
MOTION = Settings(steps=500, batch_size=128, peak_lr=2e-3, ema_decay=0.99, seed=22)
MIRRORED = torch.tensor(
    [MOTIONS.index({"moving left": "moving right", "moving right": "moving left"}.get(name, name)) for name in MOTIONS]
)
# x, angle and facing change sign in a mirror; as numbers of a raw pose: x, y, radius, sin, cos, facing.
_MIRROR = torch.tensor([-1.0, 1, 1, -1, 1, -1])


@dataclass(frozen=True, eq=False)
class Drawn:
    """Clips `specs(split, N)`, every second frame, and the truth about them.

    frames: (N, T, H, W, 3). masks: (N, T, H/2, W/2), 0 to 255. paths: (N, T, 5), x, y, radius in px, angle, facing.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    paths: NDArray[np.float32]


def draw(folder: Path, split: Split, number: int, stride: int = 2) -> Drawn:
    """The first `number` clips of a split, drawn if they are not on disk yet; safe to interrupt."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{split}-every-{stride}-{number}"
    times = np.linspace(0, 1, NUM_FRAMES, dtype=np.float32)[::stride]
    kinds = {
        "frames": (np.uint8, (FRAME_SIZE_PX, FRAME_SIZE_PX, 3)),
        "masks": (np.uint8, (MASK_SIZE_PX, MASK_SIZE_PX)),
        "paths": (np.float32, (5,)),
    }
    counter = folder / f"{name}.json"
    done = json.loads(counter.read_text())["done"] if counter.exists() else 0
    arrays = {
        key: np.memmap(folder / f"{name}.{key}", dtype, "r+" if done else "w+", shape=(number, len(times), *shape))
        for key, (dtype, shape) in kinds.items()
    }
    for start in range(done, number, BLOCK):
        block = specs(split, min(BLOCK, number - start), start)
        for i, spec in enumerate(block, start):
            drawn = render(spec, times)
            path = drawn.path
            halved = drawn.mask.reshape(len(times), MASK_SIZE_PX, 2, MASK_SIZE_PX, 2).mean((2, 4))
            arrays["frames"][i] = drawn.frames
            arrays["masks"][i] = 255 * halved + 0.5
            arrays["paths"][i] = np.stack(
                [path.x, path.y, path.radius, path.angle, np.full_like(path.x, path.facing)], axis=1
            )
        for array in arrays.values():
            array.flush()
        counter.write_text(json.dumps({"done": start + len(block)}))
    return Drawn(**arrays)


def train_judge(
    drawn: Drawn,
    shown: list[ClipSpec],
    folder: Path,
    frames: Settings = FRAMES,
    motion: Settings = MOTION,
) -> Judge:
    """Train on drawn clips and their specs: first the network of single frames, then what passes through time."""
    torch.manual_seed(frames.seed)
    judge = Judge().to(memory_format=torch.channels_last)
    judge.through_time.requires_grad_(False)
    judge.moves.requires_grad_(False)
    train("judge_frames", folder, judge, frames, frame_loss(judge, drawn, shown, frames))
    judge.requires_grad_(False)
    judge.through_time.requires_grad_(True)
    judge.moves.requires_grad_(True)
    train("judge_motion", folder, judge, motion, motion_loss(judge, drawn, shown, motion))
    return judge.requires_grad_(False)


def changed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Frames (B, 3, H, W) a little blurred, brighter or darker, noisier, each for itself: a judge that leans on single
    pixels would be lost in a generated clip."""

    def dice() -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=generator)

    soft = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    x = x + dice() * (soft - x)
    x = (x + 1) * (0.9 + 0.2 * dice()) - 1
    return x + 0.06 * dice() * torch.randn(x.shape, generator=generator)


def frame_loss(judge: Judge, drawn: Drawn, shown: list[ClipSpec], settings: Settings) -> LossOf:
    """First stage: single frames, each of another clip; half of the batches are seen in a mirror."""
    answers = {name: goal for name, goal in targets(shown).items() if name != "motion"} | trait_targets(shown)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(drawn.frames), (settings.batch_size,), generator=generator)
        times = torch.randint(drawn.frames.shape[1], rows.shape, generator=generator)
        at = rows.numpy(), times.numpy()
        x = torch.from_numpy(drawn.frames[at]).movedim(-1, 1).float() / 127.5 - 1
        covered = torch.from_numpy(drawn.masks[at]).float() / 255
        pose = raw_poses(torch.from_numpy(drawn.paths[at]))
        if torch.rand((), generator=generator) < 0.5:
            x, covered, pose = x.flip(-1), covered.flip(-1), _mirrored(pose)
        found, mask, _ = judge(changed(x, generator))
        losses, figures = [], {}
        for name, goals in answers.items():
            answer, goal = found[name], goals[rows]
            if goal.ndim == 2:
                losses.append(3 * F.binary_cross_entropy_with_logits(answer, goal))
                right = goal[torch.arange(len(goal)), answer.argmax(1)] == 1
            else:
                losses.append(F.cross_entropy(answer, goal, ignore_index=-1))
                right = (answer.argmax(1) == goal)[goal >= 0]
            figures[name] = right.float().mean().item()
        pose_error = F.smooth_l1_loss(found["pose"][:, :5], pose[:, :5], beta=0.1)
        facing = F.binary_cross_entropy_with_logits(found["pose"][:, 5], pose[:, 5])
        overlap = (mask.sigmoid() * covered).sum((1, 2))
        together = (mask.sigmoid() + covered).sum((1, 2))
        dice = 1 - (2 * overlap / together).mean()
        shape = F.binary_cross_entropy_with_logits(mask, covered) + dice
        loss = torch.stack(losses).sum() + 10 * pose_error + 0.3 * facing + 2 * shape
        return loss, figures | {"pose": pose_error.item(), "facing": facing.item(), "dice": dice.item()}

    return loss_of


def _mirrored(pose: Tensor) -> Tensor:
    mirrored = pose * _MIRROR
    mirrored[..., 5] += 1  # a probability, not a sign
    return mirrored


def motion_loss(judge: Judge, drawn: Drawn, shown: list[ClipSpec], settings: Settings) -> LossOf:
    """Second stage: motion, from features of whole clips that are worked out once; every second clip is mirrored."""
    wanted = targets(shown)["motion"].clone()
    wanted[1::2] = MIRRORED[wanted[1::2]]
    generator = torch.Generator().manual_seed(settings.seed)
    features, poses = [], []
    with torch.no_grad():
        for i, clip in enumerate(drawn.frames):
            x = torch.from_numpy(clip).movedim(-1, 1).float() / 127.5 - 1
            found, _, feature = judge(changed(x.flip(-1) if i % 2 else x, generator))
            features.append(feature)
            poses.append(found["pose"])
    all_features, all_poses = torch.stack(features), torch.stack(poses)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(wanted), (settings.batch_size,), generator=generator)
        answer = judge.motion(all_features[rows], all_poses[rows])
        right = answer.argmax(1) == wanted[rows]
        return F.cross_entropy(answer, wanted[rows]), {"motion": right.float().mean().item()}

    return loss_of
