"""Whole runs: against the original's recorded ones, and what a user may rely on."""

import gc
import json
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers.utils import export_to_video
from safetensors.torch import load_file

from chai_app.errors import BadRequest, ChaiError
from chai_app.opensora import FrameCondition, clean_caption
from chai_app.opensora.prompt_format import with_scores

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "rflow_cases.json").read_text())
TOLERANCE = 1e-4  # fp32, whole runs with guidance; the largest measured is 0.000016

SMALL = {"height": 16, "width": 24, "num_frames": 17, "num_inference_steps": 3}


@pytest.mark.parametrize("name", CASES)
def test_a_whole_run_ends_where_the_originals_did(pipeline, name):
    case, recorded = CASES[name], load_file(GOLDEN / "rflow_cases.safetensors")
    given = [i for i, moves in enumerate(case["frame_mask"] or []) if not moves]
    latents = recorded[f"{name}.z"]
    output = pipeline(
        prompt_embeds=recorded[f"{name}.y"].squeeze(1),
        prompt_attention_mask=recorded[f"{name}.mask"],
        latents=latents,
        conditions=[FrameCondition(latents[:, :, : len(given)])] if given else None,
        num_inference_steps=case["steps"],
        **{key: case[key] for key in ("height", "width", "num_frames", "fps", "guidance_scale")},
        output_type="latent",
    )
    torch.testing.assert_close(output.latents, recorded[f"{name}.out"], atol=TOLERANCE, rtol=0)


# -- text -------------------------------------------------------------------------------------------------------------


def states_given_to(pipe, *args, **kwargs) -> list[torch.Tensor]:
    """The text encoder's inputs during a run."""
    inputs = []
    hook = pipe.text_encoder.register_forward_pre_hook(
        lambda _, a, kw: inputs.append(kw["input_ids"]), with_kwargs=True
    )
    pipe(*args, **kwargs, output_type="latent", **SMALL)
    hook.remove()
    return inputs


def test_prompts_are_scored_and_then_cleaned(pipeline):
    (ids,) = states_given_to(pipeline, "A  RED Cat runs", aesthetic_score=6.5, motion_score=5, camera_motion="rises")
    text = clean_caption(with_scores("A  RED Cat runs", 6.5, 5, "rises"))
    assert text.startswith("a red cat runs aesthetic score: 6.5. motion score: 5.0. camera motion: rises")
    expected = pipeline.tokenizer(text, truncation=True, max_length=12, return_tensors="pt").input_ids
    assert torch.equal(ids, expected)


def test_the_end_of_a_long_prompt_is_cut_and_can_be_named(pipeline):
    fits = "a red balloon rises in the desert a cat runs in"
    assert pipeline.cut_text(fits) == ""
    assert pipeline.cut_text(fits + " the jungle") == "the jungle"
    assert pipeline.cut_text("|0| a dog |1| " + fits + " rainy day") == "rainy day"
    assert pipeline.cut_text(fits, motion_score=5) != ""
    generator = torch.Generator().manual_seed(0)
    short = pipeline(fits, generator=generator, output_type="latent", **SMALL).latents
    long = pipeline(fits + " the jungle", generator=generator.manual_seed(0), output_type="latent", **SMALL).latents
    assert torch.equal(short, long)


def test_a_run_may_begin_below_all_noise_on_the_mean_of_all_latents(pipeline, seeded):
    shape = {"num_frames": 17, "height": 32, "width": 48, "num_inference_steps": 2, "output_type": "latent"}
    begun, levels = [], []

    def listen(_model, _args, kwargs):
        begun.append(kwargs["hidden_states"][:1].clone())
        levels.append(float(kwargs["timestep"][0]) / 1000)

    noise = pipeline.prepare_latents(1, 17, 32, 48, seeded(3))
    handle = pipeline.transformer.register_forward_pre_hook(listen, with_kwargs=True)
    pipeline("a cat", generator=seeded(3), first_sigma=0.7, **shape)
    handle.remove()
    torch.testing.assert_close(begun[0], 0.7 * noise)
    assert levels[0] == pytest.approx(0.7) and 0 < levels[1] < 0.7
    with pytest.raises(BadRequest, match="above 0 and up to 1, not at 0"):
        pipeline("a cat", generator=seeded(3), first_sigma=0.0, **shape)


def test_the_prompt_and_its_weight_matter(pipeline, seeded):
    def latents(prompt, **kwargs) -> torch.Tensor:
        return pipeline(prompt, generator=seeded(1), output_type="latent", **SMALL, **kwargs).latents

    plain = latents("a red cat")
    assert torch.equal(latents("a red cat"), plain)
    for other in (
        latents("a dog"),
        latents("a red cat", guidance_scale=2.0),
        latents("a red cat", negative_prompt="a dog"),
    ):
        assert not torch.allclose(other, plain, atol=1e-3)


def test_a_prompt_that_is_its_own_negative_prompt_weighs_nothing(pipeline, seeded):
    def latents(**kwargs) -> torch.Tensor:
        return pipeline("a red cat", generator=seeded(1), output_type="latent", **SMALL, **kwargs).latents

    against_itself = latents(negative_prompt="a red cat", guidance_scale=7.0)
    torch.testing.assert_close(against_itself, latents(guidance_scale=1.0), atol=1e-4, rtol=0)


def test_negative_prompts_of_another_length_go_beside_the_prompts(pipeline, seeded):
    run = {"generator": seeded(1, 2), "output_type": "latent", **SMALL}
    both = pipeline(["a red cat", "a dog"], negative_prompt=["rainy day in the jungle", "the cat"], **run).latents
    one = pipeline("a dog", negative_prompt="the cat", **{**run, "generator": seeded(2)}).latents
    torch.testing.assert_close(both[1:], one, atol=1e-4, rtol=0)


def test_without_guidance_half_the_work_is_done(pipeline):
    batches = []
    pipeline.transformer.x_embedder.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    pipeline("a cat", guidance_scale=1.0, output_type="latent", **SMALL)
    pipeline("a cat", guidance_scale=7.0, output_type="latent", **SMALL)
    assert batches == [1, 1, 1, 2, 2, 2]


# -- seeds and batches ------------------------------------------------------------------------------------------------


def test_a_seed_is_a_video_whatever_else_is_in_the_batch(pipeline, seeded):
    run = {"output_type": "latent", **SMALL}
    prompts = ["a red cat", "a dog runs in the jungle", "a balloon"]
    together = pipeline(prompts, generator=seeded(1, 2, 3), **run).latents
    for i, prompt in enumerate(prompts):
        alone = pipeline(prompt, generator=seeded(i + 1), **run).latents
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=0)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_noise_is_drawn_in_fp32_whatever_the_weights_are(pipeline, seeded):
    noise = pipeline.prepare_latents(1, 17, 16, 24, seeded(5))
    pipeline.transformer.to(torch.bfloat16)
    assert torch.equal(pipeline.prepare_latents(1, 17, 16, 24, seeded(5)), noise)
    assert noise.dtype == torch.float32
    assert noise.shape == (1, 4, 5, 2, 3)


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_frames_come_in_every_form(pipeline, seeded):
    def frames(output_type: str, **kwargs):
        return pipeline("a cat", generator=seeded(1), output_type=output_type, **{**SMALL, **kwargs}).frames

    pixels = frames("pt")
    assert pixels.shape == (1, 17, 3, 16, 24)
    assert 0 <= pixels.min() < pixels.max() <= 1
    channels_last = pixels.permute(0, 1, 3, 4, 2)
    np.testing.assert_array_equal(frames("np"), channels_last.numpy())
    as_bytes = frames("uint8")
    assert (as_bytes.dtype, as_bytes.shape) == (torch.uint8, (1, 17, 16, 24, 3))
    assert (as_bytes / 255 - channels_last).abs().max() <= 0.5 / 255 + 1e-6
    (pictures,) = frames("pil")
    assert [picture.size for picture in pictures] == [(24, 16)] * 17
    np.testing.assert_array_equal(np.asarray(pictures[3]), as_bytes[0, 3].numpy())
    assert frames("latent") is None
    assert frames("pt", num_frames=1).shape == (1, 1, 3, 16, 24)
    assert isinstance(pipeline("a cat", return_dict=False, **SMALL), tuple)


def test_the_usual_export_takes_what_comes_out(pipeline, monkeypatch, tmp_path):
    """`export_to_video` itself runs; the program that would encode what it hands over need not be here."""
    imageio = pytest.importorskip("imageio")
    writer = MagicMock()
    monkeypatch.setattr(imageio.plugins, "ffmpeg", MagicMock(), raising=False)
    monkeypatch.setattr(imageio, "get_writer", writer)
    frames = pipeline("a cat", **SMALL).frames[0]
    export_to_video(frames, str(tmp_path / "x.mp4"))
    handed = [call.args[0] for call in writer.return_value.__enter__.return_value.append_data.call_args_list]
    assert [(pixels.shape, pixels.dtype) for pixels in handed] == [((16, 24, 3), np.uint8)] * 17
    assert np.std(handed) > 1


def test_sizes_are_cut_down_to_multiples_of_8(pipeline):
    assert pipeline("a cat", **{**SMALL, "height": 21, "width": 29}).frames[0][0].size == (24, 16)


@pytest.mark.parametrize("num_frames", [1, 2, 16, 17, 18, 42, 51])
def test_any_number_of_frames_can_be_made(pipeline, num_frames):
    assert len(pipeline("a cat", **{**SMALL, "num_frames": num_frames}).frames[0]) == num_frames


def test_an_image_is_made_at_the_frame_rate_that_stands_for_images(pipeline):
    rates = []
    pipeline.transformer.register_forward_pre_hook(lambda _, args, kw: rates.append(float(kw["fps"])), with_kwargs=True)
    pipeline("a cat", fps=8, **{**SMALL, "num_frames": 1, "num_inference_steps": 1})
    pipeline("a cat", fps=8, **{**SMALL, "num_inference_steps": 1})
    assert rates == [120, 8]


@pytest.mark.parametrize("output_type", ["uint8", "pil"])
def test_a_long_video_is_never_held_at_full_precision_as_a_whole(pipeline, monkeypatch, output_type):
    held, decode = [], pipeline.vae._decode_chunk

    def look_around_and_decode(z, num_frames):
        held.append(
            [t.shape[2] for t in gc.get_objects() if type(t) is torch.Tensor and t.is_floating_point() and is_video(t)]
        )
        return decode(z, num_frames)

    def is_video(tensor: torch.Tensor) -> bool:
        return tensor.ndim == 5 and tuple(tensor.shape[-2:]) == (16, 24)

    monkeypatch.setattr(pipeline.vae, "_decode_chunk", look_around_and_decode)
    output = pipeline("a cat", output_type=output_type, **{**SMALL, "num_frames": 51, "num_inference_steps": 1})
    assert len(output.frames[0]) == 51
    assert held == [[]] * 3  # whenever a chunk is made, the one before is gone
    held.clear()
    pipeline("a cat", output_type="pt", **{**SMALL, "num_frames": 51, "num_inference_steps": 1})
    assert [sum(frames) for frames in held] != [0, 0, 0]  # and one that is kept would have been seen


# -- given frames, loops ----------------------------------------------------------------------------------------------


def test_a_picture_stays_the_first_frame(pipeline, seeded):
    picture = torch.rand(1, 3, 1, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    output = pipeline("a cat", generator=seeded(1), conditions=[FrameCondition(picture)], **SMALL)
    with torch.no_grad():
        expected = pipeline.vae.encode(picture).latent_dist.mode()
    assert torch.equal(output.latents[:, :, :1], expected)
    plain = pipeline("a cat", generator=seeded(1), **SMALL).latents
    assert not torch.allclose(output.latents[:, :, 1:], plain[:, :, 1:], atol=1e-3)  # the others know of it


def test_the_transformer_is_told_which_frames_are_given(pipeline):
    masks = []
    pipeline.transformer.register_forward_pre_hook(
        lambda _, args, kw: masks.append(kw.get("frame_mask")), with_kwargs=True
    )
    latents = torch.zeros(1, 4, 1, 2, 3)
    pipeline(["a cat", "a dog"], conditions=[FrameCondition(latents)], output_type="latent", **SMALL)
    assert all(mask.tolist() == [[False, True, True, True, True]] * 4 for mask in masks)
    masks.clear()
    pipeline("a cat", conditions=[FrameCondition(latents, edit_ratio=1.0)], output_type="latent", **SMALL)
    assert masks == [None] * 3


def test_an_edit_ratio_is_between_kept_and_made_anew(pipeline, seeded):
    given = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(0))

    def distance(ratio: float) -> float:
        condition = FrameCondition(given, edit_ratio=ratio)
        output = pipeline(
            "a cat",
            generator=seeded(1),
            conditions=[condition],
            output_type="latent",
            **{**SMALL, "num_inference_steps": 10},
        )
        return float((output.latents - given).norm())

    distances = [distance(ratio) for ratio in (0.0, 0.3, 0.6, 1.0)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distance(0.6) == distances[2]  # the noise comes from the seed, too


def test_each_loop_goes_on_from_the_one_before(pipeline, seeded):
    run = {**SMALL, "num_frames": 34, "output_type": "pt"}
    output = pipeline("|0| a sunny day |1| a rainy day", generator=seeded(1), num_loops=3, **run)
    assert output.frames.shape[1] == 34 + 17 + 17
    assert output.latents.shape[2] == 3 * 10
    first, second, _ = output.latents.chunk(3, dim=2)
    with torch.no_grad():
        end = pipeline.vae.decode(first, num_frames=34).sample.clamp(-1, 1)[:, :, 17:]
        torch.testing.assert_close(second[:, :, :5], pipeline.vae.encode(end).latent_dist.mode(), atol=1e-5, rtol=0)
        alone = pipeline.vae.decode(second, num_frames=34).sample.clamp(-1, 1)[:, :, 17:]
    torch.testing.assert_close(output.frames[:, 34:51] * 2 - 1, alone.transpose(1, 2), atol=1e-5, rtol=0)
    again = pipeline("a sunny day", generator=seeded(1), **run)
    torch.testing.assert_close(again.latents, first, atol=1e-4, rtol=0)


def test_each_loop_reads_its_own_text_and_the_text_encoder_runs_once_for_each(pipeline):
    ids = states_given_to(pipeline, "|0| a sunny day |2| a rainy day", num_loops=4)
    words = [pipeline.tokenizer.decode(each[0], skip_special_tokens=True) for each in ids]
    assert words == ["a sunny day", "a rainy day"]


@pytest.mark.parametrize(
    ("num_frames", "condition_latent_frames", "overlap"),
    [
        (17, None, 5),
        (34, None, 17),
        (51, None, 17),
        (51, 7, 22),
        (42, 11, 34 + 4),
        (8, None, 4),
        (17, 1, 1),
        (5, None, 1),
    ],
)
def test_the_overlap_of_loops_is_what_the_given_latent_frames_stand_for(
    pipeline, num_frames, condition_latent_frames, overlap
):
    assert pipeline.overlap(num_frames, condition_latent_frames) == overlap
    run = {**SMALL, "num_frames": num_frames, "num_inference_steps": 1}
    frames = pipeline("a cat", num_loops=2, condition_latent_frames=condition_latent_frames, **run).frames
    assert len(frames[0]) == 2 * num_frames - overlap


def test_a_condition_may_be_for_a_later_loop(pipeline, seeded):
    given = torch.randn(1, 4, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    condition = FrameCondition(given, target_start=5, loop=1)
    run = {**SMALL, "num_frames": 34, "output_type": "latent", "generator": seeded(1)}
    first, second = pipeline("a cat", num_loops=2, conditions=[condition], **run).latents.chunk(2, dim=2)
    assert torch.equal(second[:, :, 5:], given)
    assert not torch.equal(first[:, :, 5:], given)


def test_another_video_can_be_gone_on_from(pipeline, seeded):
    video = torch.rand(1, 3, 40, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    condition = pipeline.continuation(video, num_frames=34)
    assert torch.equal(condition.frames, video[:, :, 23:])
    output = pipeline("a cat", generator=seeded(1), conditions=[condition], **{**SMALL, "num_frames": 34})
    with torch.no_grad():
        expected = pipeline.vae.encode(video[:, :, 23:]).latent_dist.mode()
    assert torch.equal(output.latents[:, :, :5], expected)
    with pytest.raises(BadRequest, match=r"has 16 frames, but 17 are needed.*\.$"):
        pipeline.continuation(video[:, :, :16], num_frames=34)


# -- callbacks, stopping, what goes wrong -----------------------------------------------------------------------------


def test_a_callback_sees_every_step_and_may_change_the_latents(pipeline):
    seen = []

    def callback(pipe, i, timestep, tensors):
        seen.append((i, round(float(timestep)), pipe.current_timestep))
        return {"latents": torch.zeros_like(tensors["latents"])} if i == 5 else {}

    output = pipeline("a cat", callback_on_step_end=callback, num_loops=2, condition_latent_frames=1, **SMALL)
    assert [i for i, *_ in seen] == [0, 1, 2, 3, 4, 5]
    assert seen[0][1] == 1000
    assert all(timestep == pytest.approx(current, abs=1) for _, timestep, current in seen)
    assert pipeline.num_timesteps == 6
    assert pipeline.current_timestep is None
    assert not output.latents[:, :, 5:].any()


def test_a_callback_can_stop_a_run(pipeline):
    def stop(pipe, i, timestep, tensors):
        pipe._interrupt = i == 1
        return {}

    forwards = []
    pipeline.transformer.register_forward_pre_hook(lambda *_: forwards.append(1))
    output = pipeline("a cat", callback_on_step_end=stop, num_loops=3, **SMALL)
    assert len(forwards) == 2
    assert output.frames is None
    assert output.latents.shape == (1, 4, 5, 2, 3)
    assert pipeline("a cat", **SMALL).frames is not None  # and the next run is none the worse


def test_an_exception_in_a_callback_ends_the_run_and_leaves_nothing_behind(pipeline, seeded):
    def fail(pipe, i, timestep, tensors):
        raise KeyboardInterrupt

    plain = pipeline("a cat", generator=seeded(1), **SMALL).latents
    with pytest.raises(KeyboardInterrupt):
        pipeline("a cat", callback_on_step_end=fail, **SMALL)
    assert pipeline.current_timestep is None
    assert torch.equal(pipeline("a cat", generator=seeded(1), **SMALL).latents, plain)


def test_numbers_that_overflow_are_told_with_the_step(pipeline):
    def overflow(pipe, i, timestep, tensors):
        if i == 0:
            pipe.transformer.proj_out.weight.data.fill_(torch.inf)
        return {}

    with pytest.raises(
        ChaiError, match=r"^The latents are no longer finite numbers after step 2 of 3: .* bf16 or fp32.*\.$"
    ):
        pipeline("a cat", callback_on_step_end=overflow, **SMALL)


def test_an_autoencoder_that_overflows_is_told(pipeline):
    pipeline.vae.spatial_vae.decoder.conv_out.weight.data.fill_(torch.nan)
    with pytest.raises(ChaiError, match=r"^The autoencoder gave pixels that are no finite numbers in float32: .*\.$"):
        pipeline("a cat", **SMALL)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"prompt": None}, "either a prompt or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 3, 32)}, "either a prompt or prompt_embeds"),
        ({"prompt": []}, "at least one"),
        ({"height": 7}, "8 x 8 is the least"),
        ({"num_frames": 0}, "at least one frame"),
        ({"num_inference_steps": 0}, "at least one step"),
        ({"num_loops": 0}, "at least one loop"),
        ({"output_type": "gif"}, "pt, np, pil, uint8, latent"),
        ({"generator": [torch.Generator()] * 2}, "2 generators for 1 videos"),
        ({"latents": torch.zeros(1, 4, 5, 2, 2)}, r"needs \(1, 4, 5, 2, 3\)"),
        ({"num_loops": 2, "num_frames": 1}, "cannot go on from 0"),
        ({"num_loops": 2, "condition_latent_frames": 5}, "cannot go on from 5"),
        ({"callback_on_step_end_tensor_inputs": ["noise_pred"]}, "can have latents"),
        ({"conditions": [FrameCondition(torch.zeros(1, 3, 1, 32, 32))]}, "own width and height"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(pipeline, arguments, complaint):
    with pytest.raises(BadRequest, match=rf"^[^\n]*{complaint}[^\n]*\.$"):
        pipeline(**({"prompt": "a cat"} | SMALL | arguments))


# -- precision and places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.15), (torch.float16, 0.02)])
def test_a_run_in_half_precision_stays_near_fp32(make_pipeline, text_encoder, seeded, dtype, bound):
    import copy

    run = {"generator": seeded(1), "guidance_scale": 2.0, "output_type": "pt", **SMALL}
    plain = make_pipeline()("a red cat", **run)
    half = make_pipeline()
    half.register_modules(text_encoder=copy.deepcopy(text_encoder))
    output = half.to(dtype)("a red cat", **{**run, "generator": seeded(1)})
    assert {half.transformer.dtype, half.vae.dtype, half.text_encoder.dtype} == {dtype}
    assert output.latents.dtype == output.frames.dtype == torch.float32
    assert (output.latents - plain.latents).norm() < bound * plain.latents.norm()
    assert (output.frames - plain.frames).abs().mean() < bound


def test_all_weights_may_wait_elsewhere_until_they_are_used(make_pipeline, text_encoder, seeded):
    import copy

    picture = torch.rand(1, 3, 1, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    run = {"conditions": [FrameCondition(picture)], "negative_prompt": "a dog", "num_loops": 2, **SMALL}
    plain = make_pipeline()("a cat", generator=seeded(1), **run)
    pipe = make_pipeline()
    pipe.register_modules(text_encoder=copy.deepcopy(text_encoder))
    # What `enable_sequential_cpu_offload` does to each part; it wants a GPU itself.
    for part in (pipe.text_encoder, pipe.transformer, pipe.vae):
        cpu_offload(part, execution_device=torch.device("cpu"))
        assert all(weight.is_meta for weight in part.parameters())
    output = pipe("a cat", generator=seeded(1), **run)
    assert torch.equal(output.latents, plain.latents)
    assert output.frames == plain.frames


def test_parts_take_turns_on_the_device(make_pipeline, text_encoder, seeded):
    import copy

    from accelerate import cpu_offload_with_hook

    plain = make_pipeline()("a cat", generator=seeded(1), **SMALL)
    pipe = make_pipeline()
    pipe.register_modules(text_encoder=copy.deepcopy(text_encoder))
    # What `enable_model_cpu_offload` does, in the order it does it; it wants a GPU itself.
    hook, moves = None, []
    for name in pipe.model_cpu_offload_seq.split("->"):
        part, hook = cpu_offload_with_hook(getattr(pipe, name), torch.device("cpu"), prev_module_hook=hook)
        pre_forward = part._hf_hook.pre_forward
        part._hf_hook.pre_forward = lambda *a, name=name, f=pre_forward, **kw: moves.append(name) or f(*a, **kw)
    assert torch.equal(pipe("a cat", generator=seeded(1), **SMALL).latents, plain.latents)
    turns = [name for i, name in enumerate(moves) if i == 0 or moves[i - 1] != name]
    assert turns == ["text_encoder", "transformer", "vae"]
