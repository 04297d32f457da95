"""From a prompt to a video: text encoder, rectified flow through the transformer, autoencoder.

Text to video, text to image (one frame), image to video and extension (given frames), loops, negative prompts, and a
seed for every video, all in `OpenSoraPipeline.__call__`; the way of the latents is `denoise`.

Source: Open-Sora v1.2.0, scripts/inference.py and opensora/schedulers/rf.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from ..errors import BadRequest, ChaiError
from .autoencoder import AutoencoderKLOpenSora
from .caption_cleaning import clean_caption
from .checkpoint import load_scheduler, load_text_encoder, load_tokenizer
from .frames import OUTPUT_TYPES, FrameCollector, Frames, OutputType
from .given_frames import FrameCondition, GivenFrames, place
from .prompt_format import split_loops, text_for_loop, with_scores
from .schedule import new_scheduler, set_timesteps, timestep_shift
from .text_context import TextContext, guidance_context
from .transformer import OpenSoraTransformer3DModel
from .weight_files import OnBytes

IMAGE_FPS = 120.0  # the frame rate that stood for "image" in training

StepCallback = Callable[["OpenSoraPipeline", int, Tensor, dict[str, Tensor]], dict[str, Tensor]]
Generators = torch.Generator | list[torch.Generator]


@dataclass
class OpenSoraPipelineOutput(BaseOutput):
    """What a run gives back.

    Attributes:
        frames: in the form asked for. "pt": (B, T, 3, H, W), 0 to 1. "np": an array (B, T, H, W, 3), 0 to 1. "uint8":
            (B, T, H, W, 3), 0 to 255, in main memory. "pil": a list of pictures per video. None for "latent", and for
            a run that was stopped. H and W are the size asked for, cut down to multiples of 8.
        latents: (B, C, t, h, w), fp32, normalised; the clips of several loops one after the other, overlaps included.
    """

    frames: Frames | None
    latents: Tensor


class OpenSoraPipeline(DiffusionPipeline):
    """Open-Sora 1.2, from a prompt to a video."""

    model_cpu_offload_seq = "text_encoder->transformer->vae"
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: T5EncoderModel,
        vae: AutoencoderKLOpenSora,
        transformer: OpenSoraTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
        self._interrupt = False
        self.runs_on: torch.device | None = None
        """Where things are computed, told by whoever knows; else diffusers looks through all modules for it, 3 ms."""
        self._device_of_run: torch.device | None = None
        self._current_timestep: float | None = None
        self._num_timesteps = 0

    # -- loading ------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        torch_dtype: torch.dtype | None = None,
        text_quantization: Any = None,
        on_bytes: OnBytes | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a folder or hub repository with the subfolders of diffusers' layout.

        Every part is loaded by its class, and not by the module that `model_index.json` names: this package may have
        been imported under another name than the one it was saved under.

        Args:
            torch_dtype: of all weights; None is fp32.
            text_quantization: how the text encoder's weights are kept: a quantization config of transformers.
            on_bytes: told as the text encoder is read, by far the largest part.
            **kwargs: parts that are here already, by name; `cache_dir`, `local_files_only`, `revision`, `token`.
        Raises: MissingWeights, DamagedCheckpoint.
        """
        dtype = torch_dtype or torch.float32
        loaders: dict[str, Callable[..., Any]] = {
            "tokenizer": load_tokenizer,
            "text_encoder": partial(
                load_text_encoder, torch_dtype=dtype, quantization=text_quantization, on_bytes=on_bytes
            ),
            "vae": partial(AutoencoderKLOpenSora.from_pretrained, torch_dtype=dtype),
            "transformer": partial(OpenSoraTransformer3DModel.from_pretrained, torch_dtype=dtype),
            "scheduler": load_scheduler,
        }
        given = {name: kwargs.pop(name) for name in loaders if name in kwargs}
        missing = {name: load for name, load in loaders.items() if name not in given}
        loaded = {name: load(pretrained_model_name_or_path, subfolder=name, **kwargs) for name, load in missing.items()}
        return cls(**given, **loaded)

    @classmethod
    def from_released(
        cls,
        transformer: str = "hpcai-tech/OpenSora-STDiT-v3",
        vae: str = "hpcai-tech/OpenSora-VAE-v1.2",
        text_encoder: str = "DeepFloyd/t5-v1_1-xxl",
        torch_dtype: torch.dtype = torch.bfloat16,
        text_quantization: Any = None,
        on_bytes: OnBytes | None = None,
        **hub_options: Any,
    ) -> Self:
        """Load the three parts as they were published, each a folder or a hub repository.

        Args:
            torch_dtype: of all weights; but with fp16 the autoencoder, which overflows in it, is loaded in fp32.
            text_quantization: as in `from_pretrained`.
            on_bytes: told as weights are read.
            **hub_options: `cache_dir`, `local_files_only`, `revision`, `token`.
        Raises: MissingWeights, DamagedCheckpoint.
        """
        vae_dtype = torch.float32 if torch_dtype == torch.float16 else torch_dtype
        options = {"on_bytes": on_bytes, **hub_options}
        return cls(
            tokenizer=load_tokenizer(text_encoder, **hub_options),
            text_encoder=load_text_encoder(text_encoder, torch_dtype, text_quantization, **options),
            vae=AutoencoderKLOpenSora.from_pretrained(vae, torch_dtype=vae_dtype, **options),
            transformer=OpenSoraTransformer3DModel.from_pretrained(transformer, torch_dtype=torch_dtype, **options),
            scheduler=new_scheduler(),
        )

    # -- text ---------------------------------------------------------------------------------------------------------

    def cut_text(
        self,
        prompt: str,
        aesthetic_score: float | None = None,
        motion_score: float | None = None,
        camera_motion: str | None = None,
    ) -> str:
        """The end of a prompt that the text encoder will not see, because there are too many tokens; empty if none.

        Args: as in `__call__`; the scores stand at the end, so that they are what is cut first.
        """
        limit = self.transformer.config.model_max_length
        cut = []
        for _, text in split_loops(prompt):
            text = clean_caption(with_scores(text, aesthetic_score, motion_score, camera_motion))
            spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            unseen = spans["offset_mapping"][limit - self.tokenizer.num_special_tokens_to_add() :]
            cut.append(text[unseen[0][0] :].strip() if unseen else "")
        return " ... ".join(filter(None, cut))

    def encode_prompt(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Clean texts and run the text encoder on them.

        Returns: its states (B, L, D), and a mask (B, L), 1 for the tokens of a text. L is that of the longest text.
        """
        tokens = self.tokenizer(
            [clean_caption(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self.transformer.config.model_max_length,
            return_tensors="pt",
        ).to(self._execution_device)
        states = self.text_encoder(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return states.last_hidden_state, tokens.attention_mask

    # -- latents ------------------------------------------------------------------------------------------------------

    def prepare_latents(
        self,
        batch_size: int,
        num_frames: int,
        height: int,
        width: int,
        generator: Generators | None = None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """The noise that a run begins with.

        It is drawn in fp32 where its generator lives. With one CPU generator per video a seed gives one video: on any
        device, and whatever else is in the batch.

        Args:
            height, width: size of the video in pixels.
            latents: take these and draw nothing.
        Returns: (B, C, t, h, w), fp32.
        Raises: BadRequest if `latents` have another shape.
        """
        ratio = self.vae.spatial_compression_ratio
        shape = (
            batch_size,
            self.vae.latent_channels,
            self.vae.num_latent_frames(num_frames),
            height // ratio,
            width // ratio,
        )
        if latents is None:
            return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        if latents.shape != shape:
            raise BadRequest(f"These latents are {tuple(latents.shape)}, but the video asked for needs {shape}.")
        return latents.to(self._execution_device, torch.float32)

    def overlap(self, num_frames: int, condition_latent_frames: int | None = None) -> int:
        """The frames that a clip repeats of the clip which it goes on from.

        Args:
            num_frames: frames of the clip.
            condition_latent_frames: how many of its latent frames are given; None takes 5 (17 frames), or half of a
                clip that has no more than 5.
        Raises: BadRequest if that leaves nothing given, or nothing to generate.
        """
        total = self.vae.num_latent_frames(num_frames)
        given = condition_latent_frames or (5 if total > 5 else total // 2)
        if not 0 < given < total:
            raise BadRequest(
                f"A clip of {num_frames} frames has {total} latent frames and cannot go on from {given} given ones: "
                "choose longer clips, or fewer given frames."
            )
        return self.vae.leading_frames(given, num_frames)

    def continuation(
        self, frames: Tensor, num_frames: int, condition_latent_frames: int | None = None, loop: int = 0
    ) -> FrameCondition:
        """Let a clip go on from the end of another video.

        The result begins with the last `overlap(...)` frames of that video, to be left out where the two are joined.

        Args:
            frames: (B, 3, T, H, W), the video so far or its end, pixels in -1..1, of the clip's size.
            num_frames, condition_latent_frames: of the clip, as in `overlap`.
        Raises: BadRequest if the video so far is too short, or as `overlap`.
        """
        overlap = self.overlap(num_frames, condition_latent_frames)
        if frames.shape[2] < overlap:
            raise BadRequest(
                f"The video to go on from has {frames.shape[2]} frames, but {overlap} are needed: choose a longer one, "
                "or fewer given frames."
            )
        return FrameCondition(frames[:, :, -overlap:], loop=loop)

    def place_conditions(
        self, latents: Tensor, conditions: Sequence[FrameCondition], generator: Generators | None = None
    ) -> tuple[Tensor, GivenFrames | None]:
        """Put given frames into the noise.

        Returns: the latents, and what `denoise` needs to keep the frames; None if all frames are generated.
        """
        ratios = [1.0] * latents.shape[2]
        for condition in conditions:
            if condition.edit_ratio == 1:  # made anew, that is from the noise that is there
                continue
            given = condition.frames
            if not condition.is_latent:
                given = self.vae.encode(given.to(latents.device, self.vae.dtype)).latent_dist.mode()
            latents, where = place(latents, given, condition)
            ratios[where] = [condition.edit_ratio] * (where.stop - where.start)
        if all(ratio == 1 for ratio in ratios):
            return latents, None
        joins_late = any(0 < ratio < 1 for ratio in ratios)
        noise = randn_tensor(latents.shape, generator, latents.device, torch.float32) if joins_late else latents
        return latents, GivenFrames(ratios, noise)

    def denoise(
        self,
        latents: Tensor,
        text: TextContext,
        given: GivenFrames | None,
        guidance_scale: float,
        size: dict[str, Any],
        on_step: Callable[[int, Tensor], Tensor],
    ) -> Tensor:
        """Rectified flow: from noise to data in straight steps along the predicted velocity.

        Args:
            latents: (B, C, t, h, w), noise, with given frames in place.
            text: of the prompts; of the negative ones before them if `guidance_scale` is above 1.
            given: which frames are given; None if all are generated.
            size: `fps`, `height` and `width`, as the transformer wants them.
            on_step: told the index of a finished step and the latents, which it may replace.
        Returns: (B, C, t, h, w), as far as the run came before it was interrupted.
        Raises: ChaiError if a latent is no finite number.
        """
        halves = 2 if guidance_scale > 1 else 1
        sigmas = self.scheduler.sigmas.tolist()
        for i, t in enumerate(self.scheduler.timesteps):
            if self._interrupt:
                break
            self._current_timestep = 1000 * sigmas[i]
            moving = None
            if given is not None:
                latents, moving = given.enter(latents, sigmas[i])  # (B, T), True where frames are generated
                size = {**size, "frame_mask": moving.repeat(halves, 1)}

            with self.transformer.cache_context(
                "cond_uncond", step_index=i, num_inference_steps=len(sigmas) - 1, sigma=sigmas[i]
            ):
                (velocity,) = self.transformer(
                    hidden_states=latents.to(self.transformer.dtype).repeat(halves, 1, 1, 1, 1),
                    timestep=t.expand(halves * latents.shape[0]),
                    encoder_hidden_states=text,
                    return_dict=False,
                    **size,
                )
            velocity = velocity.float()
            if halves == 2:
                away, toward = velocity.chunk(2)
                velocity = away + guidance_scale * (toward - away)

            # The model's velocity points from noise to data, diffusers' schedulers want it from data to noise.
            stepped = self.scheduler.step(-velocity, t, latents, return_dict=False)[0]
            latents = stepped if moving is None else torch.where(moving[:, None, :, None, None], stepped, latents)
            if not torch.isfinite(latents).all():
                raise ChaiError(
                    f"The latents are no longer finite numbers after step {i + 1} of {len(sigmas) - 1}: run again in "
                    "bf16 or fp32, and if that is what this was, fetch the weights again."
                )
            latents = on_step(i, latents)
        return latents

    def decode_latents(self, latents: Tensor, num_frames: int) -> Iterator[Tensor]:
        """Decode a clip, one chunk of 17 frames at a time.

        Args:
            latents: (B, C, t, h, w), of one loop.
        Yields: (B, 3, 17 or fewer, H, W), pixels in -1..1.
        Raises: ChaiError if a pixel is no finite number.
        """
        for chunk in self.vae.decode_chunks(latents.to(self.vae.dtype), num_frames):
            if not torch.isfinite(chunk).all():
                dtype = str(self.vae.dtype).removeprefix("torch.")
                raise ChaiError(
                    f"The autoencoder gave pixels that are no finite numbers in {dtype}: run again in bf16 or fp32."
                )
            pixels = chunk.float().clamp_(-1, 1)
            del chunk
            yield pixels
            del pixels

    # -- a run --------------------------------------------------------------------------------------------------------

    @property
    def _execution_device(self) -> torch.device:
        """Where things are computed; within a run worked out once at most."""
        return self.runs_on or self._device_of_run or super()._execution_device

    @property
    def current_timestep(self) -> float | None:
        """The timestep of the step that is running, 1000 to 0; None between runs. diffusers' PAB asks for it."""
        return self._current_timestep

    @property
    def num_timesteps(self) -> int:
        """Steps of the run, those of all loops together."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the run has been asked to stop; a step callback asks by `pipe._interrupt = True`."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int = 240,
        width: int = 426,
        num_frames: int = 51,
        fps: float = 24.0,
        num_inference_steps: int = 30,
        guidance_scale: float = 7.0,
        generator: Generators | None = None,
        latents: Tensor | None = None,
        first_sigma: float = 1.0,
        conditions: Sequence[FrameCondition] | None = None,
        num_loops: int = 1,
        condition_latent_frames: int | None = None,
        aesthetic_score: float | None = None,
        motion_score: float | None = None,
        camera_motion: str | None = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        output_type: OutputType = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> OpenSoraPipelineOutput | tuple[Any, Tensor]:
        """Make videos, one per prompt.

        Args:
            prompt: what is to be seen; `|0| ... |1| ...` gives a text per loop. May be left out for `prompt_embeds`.
            negative_prompt: what is to be kept away from; None is the learnt null caption.
            height, width: pixels; the video has them cut down to multiples of 8.
            num_frames: frames of a clip; 1 is an image.
            fps: frames per second of the finished video; counts not for an image.
            guidance_scale: how much the prompt weighs; 1 or less is no guidance, at half the time.
            generator: one per video, so that a seed is a video; or one for all.
            latents: (B, C, t, h, w), noise to begin with in place of that of `generator`; for the first loop.
            first_sigma: where the first loop begins, above 0 (clean) to 1 (noise alone): below 1 with that much noise
                on the mean of all latents, 0, and the steps are spread over what is left of the way.
            conditions: frames that are given.
            num_loops: clips, each going on from the one before.
            condition_latent_frames: how many latent frames of a clip come from the one before; see `continuation`.
            aesthetic_score, motion_score, camera_motion: appended to the prompt; see `with_scores`.
            prompt_embeds, prompt_attention_mask: (B, L, D) states and (B, L) mask in place of `prompt`; likewise the
                negative ones.
            output_type: see `OpenSoraPipelineOutput`. "uint8" and "pil" hold one chunk at a time at full precision.
            callback_on_step_end: called with this pipeline, the index of the step, its timestep and `{"latents": ...}`;
                what it returns replaces them. It may stop the run by `pipe._interrupt = True`, or by raising.
            callback_on_step_end_tensor_inputs: nothing but "latents" is to be had.
        Raises: BadRequest for arguments that make no sense; ChaiError if numbers overflow.
        """
        if (prompt is None) == (prompt_embeds is None):
            raise BadRequest("Give either a prompt or prompt_embeds, and not both.")
        prompts = [prompt] if isinstance(prompt, str) else prompt or []
        batch_size = len(prompts) if prompt_embeds is None else len(prompt_embeds)
        self._check(batch_size, height, width, num_frames, num_inference_steps, num_loops, output_type, generator)
        if not 0 < first_sigma <= 1:
            raise BadRequest(f"A run begins at a noise level above 0 and up to 1, not at {first_sigma:g}.")
        if set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise BadRequest(f"A step callback can have {', '.join(self._callback_tensor_inputs)}, and nothing else.")
        scores = (aesthetic_score, motion_score, camera_motion)
        texts = [tuple(with_scores(text_for_loop(p, i), *scores) for p in prompts) for i in range(num_loops)]
        overlap = self.overlap(num_frames, condition_latent_frames) if num_loops > 1 else 0
        base_size, latent_frames = self.transformer.config.input_sq_size, self.vae.num_latent_frames(num_frames)
        shift = timestep_shift(height, width, num_frames, latent_frames, base_size)
        self._device_of_run = self._execution_device
        frame_rate = torch.tensor(IMAGE_FPS if num_frames == 1 else fps, device=self._device_of_run)
        size = {"height": height, "width": width, "fps": frame_rate}

        self._interrupt, self._num_timesteps = False, num_loops * num_inference_steps
        collector, tail = FrameCollector(output_type), None
        clips: list[Tensor] = []
        try:
            states: dict[tuple[str, ...], tuple[Tensor, Tensor | None]] = {
                each: self.encode_prompt(each) if prompt_embeds is None else (prompt_embeds, prompt_attention_mask)
                for each in dict.fromkeys(texts)
            }
            negative = (negative_prompt_embeds, negative_prompt_attention_mask)
            if negative_prompt is not None and guidance_scale > 1:
                unwanted = [negative_prompt] * batch_size if isinstance(negative_prompt, str) else negative_prompt
                negative = self.encode_prompt(unwanted)
            contexts = {
                each: guidance_context(self.transformer, *encoded, *negative, guidance_scale > 1)
                for each, encoded in states.items()
            }

            with self.progress_bar(total=self._num_timesteps) as progress_bar:
                for loop, of_loop in enumerate(texts):
                    noise = latents if loop == 0 else None
                    clip = self.prepare_latents(batch_size, num_frames, height, width, generator, noise)
                    level = first_sigma if loop == 0 else 1.0
                    clip = level * clip
                    wanted = [condition for condition in conditions or () if condition.loop == loop]
                    if tail is not None:
                        wanted.append(self.continuation(tail, num_frames, condition_latent_frames, loop))
                    clip, given = self.place_conditions(clip, wanted, generator)
                    set_timesteps(self.scheduler, num_inference_steps, shift, clip.device, level)
                    self.transformer._reset_stateful_cache()
                    on_step = partial(self._step_done, progress_bar, callback_on_step_end, loop * num_inference_steps)
                    clips.append(self.denoise(clip, contexts[of_loop], given, guidance_scale, size, on_step))
                    if self._interrupt:
                        break
                    if output_type != "latent" or loop < num_loops - 1:
                        chunks = self.decode_latents(clips[-1], num_frames)
                        tail = collector.add_clip(chunks, skip=overlap if loop else 0, keep=overlap)
        finally:
            self._current_timestep = self._device_of_run = None
            self.maybe_free_model_hooks()

        frames = None if self._interrupt else collector.result()
        output = OpenSoraPipelineOutput(frames=frames, latents=torch.cat(clips, dim=2))
        return output if return_dict else (output.frames, output.latents)

    def _step_done(
        self, progress_bar: Any, callback: StepCallback | None, first_step: int, i: int, latents: Tensor
    ) -> Tensor:
        """Tell the progress bar and the caller; the caller may replace the latents."""
        progress_bar.update()
        if callback is None:
            return latents
        outputs = callback(self, first_step + i, self.scheduler.timesteps[i], {"latents": latents})
        return outputs.get("latents", latents)

    def _check(
        self,
        batch_size: int,
        height: int,
        width: int,
        num_frames: int,
        num_inference_steps: int,
        num_loops: int,
        output_type: str,
        generator: Generators | None,
    ) -> None:
        if batch_size < 1:
            raise BadRequest("There is no prompt: give at least one.")
        smallest = self.vae.spatial_compression_ratio
        if height < smallest or width < smallest:
            raise BadRequest(f"The video would be {width} x {height} pixels, but {smallest} x {smallest} is the least.")
        for count, what in ((num_frames, "frame"), (num_inference_steps, "step"), (num_loops, "loop")):
            if count < 1:
                raise BadRequest(f"A run needs at least one {what}, but {count} were asked for.")
        if output_type not in OUTPUT_TYPES:
            raise BadRequest(f"Unknown output type {output_type!r}: choose one of {', '.join(OUTPUT_TYPES)}.")
        if isinstance(generator, list) and len(generator) != batch_size:
            raise BadRequest(
                f"There are {len(generator)} generators for {batch_size} videos: give one for each, or one."
            )
