"""Training the transformer: single frames first (a fifth of the tokens), then clips, as Open-Sora itself was trained.

Rectified flow: a straight line from noise to data, the velocity along it to be predicted. Times are drawn from a
logit-normal distribution and shifted as sampling shifts them. In part of the batches some frames are given, so that
image-to-video and extension work.

A probe reads the tokens half way through the blocks and has to say what is there: how much of it a thing covers, which
thing, which traits, which scene. It is thrown away afterwards; like an alignment with the features of a trained vision
model (REPA), it teaches the first half to recognise and leaves the second half to draw.

The last stage goes on with donors (see `partners.py`): a part of each batch also sees the other clip of its pair, which
mostly shares the thing or the scene, and sometimes nothing, so that a donor is asked only for what it has to give.

Sources: Open-Sora 1.2's report; Esser et al., arXiv 2403.03206; Yu et al., REPA, arXiv 2410.06940.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from ...opensora.pipeline import IMAGE_FPS
from ...opensora.schedule import timestep_shift
from ...opensora.transformer import OpenSoraTransformer3DModel
from ..drawn.captions import caption
from ..drawn.looks import SCENE_TRAITS, THING_TRAITS, trait_numbers
from ..drawn.spec import COLOURS, FPS, FRAME_SIZE_PX, NUM_FRAMES, OBJECTS, SCENES, ClipSpec
from .autoencoder import LATENT_CHANNELS
from .latents import Latents
from .loop import LossOf, Settings
from .partners import Partners
from .text import MAX_LENGTH, with_unknown_words

FRAMES = Settings(steps=2400, batch_size=96, peak_lr=2e-3, ema_decay=0.998, use_muon=True, seed=51)
CLIPS = Settings(steps=6000, batch_size=24, peak_lr=2e-3, ema_decay=0.998, use_muon=True, seed=52)
DONORS = Settings(steps=1500, batch_size=24, peak_lr=7e-4, ema_decay=0.998, use_muon=True, seed=53)
DEPTH = 6
SHARE_OF_TAKERS = 1 / 3  # of a batch see a donor; as many are donors
DONOR_LEVEL = 0.25  # the most noise that a donor is shown with
SHARE_UNPROMPTED = 0.5  # of the donors are shown under no prompt
SHARE_WITH_GIVEN_FRAMES = 0.15
PROBE_WEIGHT = 0.1
PADDED_TO = 16  # tokens of a batch's prompts, so that compiled blocks meet few sizes
COVERED = 0.4  # a token whose square a thing covers by so much is asked which thing it is

# What the probe says of a token, and of a whole picture: answers by question.
OF_A_TOKEN = {"object": len(OBJECTS), "colour": len(COLOURS)} | {name: len(v) for name, v in THING_TRAITS.items()}
OF_A_PICTURE = {"scene": len(SCENES)} | {name: len(values) for name, values in SCENE_TRAITS.items()}


def new_transformer() -> OpenSoraTransformer3DModel:
    torch.manual_seed(FRAMES.seed)
    return OpenSoraTransformer3DModel(
        hidden_size=192,
        depth=DEPTH,
        num_heads=6,
        in_channels=LATENT_CHANNELS,
        caption_channels=128,
        model_max_length=MAX_LENGTH,
        pred_sigma=False,
        input_sq_size=FRAME_SIZE_PX,
    )


class Probed(nn.Module):
    """The transformer with a probe at its middle, for training alone."""

    def __init__(self, transformer: OpenSoraTransformer3DModel) -> None:
        super().__init__()
        self.transformer = transformer
        width = transformer.config.hidden_size
        self.token = nn.Linear(width, 1 + sum(OF_A_TOKEN.values()))
        self.picture = nn.Linear(width, sum(OF_A_PICTURE.values()))
        self._middle: list[Tensor] = []
        block = transformer.transformer_blocks[DEPTH - 1]
        block.register_forward_hook(lambda _module, _inputs, output: self._middle.append(output))

    def forward(self, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Returns: the velocity, and the probe's logits of tokens (B, T, S, answers) and of frames (B, T, answers)."""
        self._middle.clear()
        velocity = self.transformer(*inputs).sample
        middle = F.layer_norm(self._middle.pop(), (self.transformer.config.hidden_size,))
        return velocity, self.token(middle), self.picture(middle.mean(2))


def labels_of(specs: Sequence[ClipSpec]) -> dict[str, Tensor]:
    """The right answers by question, (N,) each; -100 for what a clip with two kinds of things leaves open."""
    columns: dict[str, list[int]] = {name: [] for name in (*OF_A_TOKEN, *OF_A_PICTURE)}
    for spec in specs:
        thing = spec.things[0]
        answers = (OBJECTS.index(thing.object), COLOURS.index(thing.colour), *trait_numbers(thing.look))
        for name, answer in zip(OF_A_TOKEN, answers, strict=True):
            columns[name].append(answer if len(spec.things) == 1 else -100)
        place = (SCENES.index(spec.scene.name), *trait_numbers(spec.scene.look))
        for name, answer in zip(OF_A_PICTURE, place, strict=True):
            columns[name].append(answer)
    return {name: torch.tensor(values) for name, values in columns.items()}


def probe_loss(token: Tensor, picture: Tensor, coverage: Tensor, labels: dict[str, Tensor], time: Tensor) -> Tensor:
    """How wrong the probe is, by clip, the less to weigh the more noise there was.

    Args:
        token: (B, T, S, answers). picture: (B, T, answers). coverage: (B, T, S), 0 to 1.
        labels: (B,) by question. time: (B,), 0 clean to 1 noise.
    """
    batch, frames, patches = coverage.shape
    share, *answers = token.split((1, *OF_A_TOKEN.values()), dim=-1)
    loss = F.binary_cross_entropy_with_logits(share.squeeze(-1), coverage, reduction="none").mean((1, 2))  # (B,)
    on_thing = coverage > COVERED  # (B, T, S)
    count = on_thing.sum((1, 2)).clamp_min(1)
    for name, logits in zip(OF_A_TOKEN, answers, strict=True):
        goal = torch.where(on_thing, labels[name][:, None, None], -100)
        wrong = F.cross_entropy(logits.flatten(0, 2), goal.flatten(), reduction="none", ignore_index=-100)
        loss = loss + wrong.view(batch, frames, patches).sum((1, 2)) / count / len(OF_A_TOKEN)
    for name, logits in zip(OF_A_PICTURE, picture.split(tuple(OF_A_PICTURE.values()), dim=-1), strict=True):
        goal = labels[name][:, None].expand(batch, frames)
        wrong = F.cross_entropy(logits.flatten(0, 1), goal.flatten(), reduction="none")
        loss = loss + wrong.view(batch, frames).mean(1) / len(OF_A_PICTURE)
    return (loss * (1 - time)).mean()


def _rows(number: int, batch_size: int, pairs: int, generator: torch.Generator) -> Tensor:
    """Which clips a batch holds, (B,): `pairs` donors, then the other clip of each one's pair, then any."""
    donors = torch.randint(number, (pairs,), generator=generator)
    others = torch.randint(number, (batch_size - 2 * pairs,), generator=generator)
    return torch.cat([donors, donors ^ 1, others])


def flow_loss(
    model: Probed,
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: T5EncoderModel,
    store: Latents,
    specs: Sequence[ClipSpec],
    weight: Tensor,
    settings: Settings,
    known: Partners | None = None,
) -> LossOf:
    """The loss of rectified flow on a store of latents, with captions of `specs` worded anew each time.

    Args:
        weight: (C, 1, 1, 1), what an error in each channel weighs. With equal weights most of the training goes into
            channels that can hardly be seen.
        known: where to say how many of a batch are donors; None trains without donors.
    """
    num_latent_frames = store.latents.shape[2]
    num_frames = 1 if num_latent_frames == 1 else NUM_FRAMES
    shift = timestep_shift(FRAME_SIZE_PX, FRAME_SIZE_PX, num_frames, num_latent_frames, FRAME_SIZE_PX)
    fps = IMAGE_FPS if num_frames == 1 else float(FPS)
    labels = labels_of(specs)

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        random = Random(int(torch.randint(2**31, (), generator=generator)))
        torch.manual_seed(random.getrandbits(31))  # the model drops captions by the global generator
        has_given_frames = num_latent_frames > 1 and random.random() < SHARE_WITH_GIVEN_FRAMES
        pairs = 0 if known is None or has_given_frames else round(SHARE_OF_TAKERS * settings.batch_size)
        rows = _rows(len(specs), settings.batch_size, pairs, generator)
        texts = [with_unknown_words(caption(specs[row], random), random) for row in rows.tolist()]
        tokens = tokenizer(
            texts,
            padding=True,
            pad_to_multiple_of=PADDED_TO,
            truncation=True,
            max_length=MAX_LENGTH,
            return_tensors="pt",
        )
        with torch.no_grad():
            states = text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        clean = torch.from_numpy(store.latents[rows.numpy()].astype(np.float32))  # (B, C, T, h, w)
        coverage = torch.from_numpy(store.coverage[rows.numpy()].astype(np.float32)) / 255  # (B, T, S)
        noise = torch.randn(clean.shape, generator=generator)
        time = torch.randn(len(rows), generator=generator).sigmoid()
        time = shift * time / (1 + (shift - 1) * time)
        if known is not None:
            known.pairs, known.batch_size = pairs, len(rows)
            time[:pairs] = DONOR_LEVEL * torch.rand(pairs, generator=generator)
            unprompted = torch.rand(pairs, 1, 1, generator=generator) < SHARE_UNPROMPTED
            null = model.transformer.null_caption(states.shape[1])
            states = torch.cat([torch.where(unprompted, null, states[:pairs]), states[pairs:]])
        noisy = torch.lerp(clean, noise, time[:, None, None, None, None])
        frame_mask = None
        if has_given_frames:
            given = torch.randint(0, num_latent_frames - 1, (len(rows), 1), generator=generator)
            frame_mask = torch.arange(num_latent_frames) >= given  # (B, T)  the first ones are given
            noisy = torch.where(frame_mask[:, None, :, None, None], noisy, clean)
        velocity, token, picture = model(
            noisy, 1000 * time, states, tokens.attention_mask, fps, FRAME_SIZE_PX, FRAME_SIZE_PX, frame_mask
        )
        error = (weight * (velocity - (clean - noise)).square()).mean((1, 3, 4))  # (B, T)
        flow = error.mean() if frame_mask is None else (error * frame_mask).sum() / frame_mask.sum()
        probe = probe_loss(token, picture, coverage, {name: answer[rows] for name, answer in labels.items()}, time)
        return flow + PROBE_WEIGHT * probe, {"flow": flow.item(), "probe": probe.item()}

    return loss_of
