"""Plans cost nothing, videos repeat bit by bit, and whatever goes wrong is said in one sentence. Real tiny model."""

import os
import re
import shutil
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from chai_app.engine import Engine, Generation
from chai_app.engine.loading import Machine, choose_machine
from chai_app.errors import BadMedia, BadRequest, Cancelled, ChaiError, DamagedCheckpoint
from chai_app.media import stream
from chai_app.media.stream import pixels_of
from chai_app.media.video import read_metadata, read_video, write_video
from chai_app.request import GenerationRequest, Report
from chai_app.settings import BUNDLED_MODELS, Settings

PROMPT = "a red ball rising over the ocean"
FPS_12 = {"chai": {"report": {"fps": 12}}}


@pytest.fixture(scope="module")
def shared(tiny_model_folder) -> Engine:
    """One engine for all tests that leave its model as it is."""
    return Engine(str(tiny_model_folder))


def own_engine(tiny_model_folder: Path, tmp_path: Path) -> Engine:
    """An engine on a copy of the model that a test may break."""
    return Engine(str(shutil.copytree(tiny_model_folder, tmp_path / "mine")))


def num_hooks(engine: Engine) -> int:
    pipeline = engine._loaded.pipeline
    modules = [*pipeline.text_encoder.modules(), *pipeline.transformer.modules(), *pipeline.vae.modules()]
    return sum(len(module._forward_pre_hooks) for module in modules)


# -- plans ------------------------------------------------------------------------------------------------------------


def test_a_plan_settles_model_size_steps_and_seed(shared, tiny_model_folder):
    request = shared.plan(GenerationRequest(PROMPT, width=64)).request
    assert request.model == str(tiny_model_folder)
    assert (request.height, request.width, request.num_frames, request.fps) == (32, 64, 17, 8)
    assert (request.num_inference_steps, request.guidance_scale) == (3, 4.0)
    assert request.seed is not None
    assert shared.plan(request).request == request


def test_a_plan_draws_another_seed_each_time(shared):
    assert len({shared.plan(GenerationRequest(PROMPT)).request.seed for _ in range(5)}) == 5


def test_a_plan_makes_no_file_and_loads_no_model(tiny_model_folder, tmp_path):
    engine = Engine(str(tiny_model_folder))
    engine.plan(GenerationRequest(PROMPT))
    assert engine._loaded is None
    assert not (tmp_path / "home").exists()


def test_a_plan_names_words_never_seen(shared):
    (note,) = shared.plan(GenerationRequest("a tiger in the desert")).notes
    assert "it has never seen: tiger." in note and "the model opensora-1.2" in note


def test_a_plan_says_what_of_a_long_prompt_is_cut_off(shared):
    long = "a red ball and a blue ball and a green ball and two star over the moon"
    (note,) = shared.plan(GenerationRequest(long)).notes
    assert note == "The prompt has 18 tokens and the model reads 12, so this is cut off: 'and two star over the moon'."
    assert shared.plan(GenerationRequest("a red ball and a blue ball and a green ball")).notes == ()
    (note,) = shared.plan(
        GenerationRequest("a red ball and a blue boat", camera_motion="over the moon", motion_score=5)
    ).notes
    assert "cut off" in note and "over the moon" in note, "what is appended to the prompt counts as well"


def test_a_prompt_that_cleaning_empties_is_refused(shared):
    with pytest.raises(BadRequest, match="Nothing of '红色的球' is left that the model can read"):
        shared.plan(GenerationRequest("红色的球"))
    with pytest.raises(BadRequest, match="Nothing of '红色的球' is left"):
        shared.plan(GenerationRequest("|0| a ball |1| 红色的球", num_loops=2))


def test_a_picture_that_is_none_is_refused_before_any_work(shared, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(BadMedia, match=r"notes\.png is not a picture that can be read"):
        shared.plan(GenerationRequest(PROMPT, image=str(tmp_path / "notes.png")))
    with pytest.raises(BadMedia, match=r"There is no picture at .*missing\.png"):
        shared.plan(GenerationRequest(PROMPT, image=str(tmp_path / "missing.png")))
    with pytest.raises(BadMedia, match="is not a video that can be read"):
        shared.plan(GenerationRequest(PROMPT, extend=str(tmp_path / "notes.png")))


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "original_prompt", "camera_motion"])
def test_a_text_too_long_or_with_a_word_too_long_is_refused_at_once(name):
    for text, words in (
        ("a " * 30_000, "has 60,000 characters, and 50,000 is the most"),
        ("a ball " + "x" * 32_000, "has a word of 32,000 characters"),
        ("a \x1b[2J ball", "which cannot be shown"),
        ("a \ud800 ball", "which cannot be shown"),
    ):
        started = time.perf_counter()
        with pytest.raises(BadRequest, match=words):
            GenerationRequest(**{"prompt": "a ball", name: text})
        assert time.perf_counter() - started < 1


def test_a_prompt_for_the_enhancer_has_a_length_too(shared):
    with pytest.raises(BadRequest, match="has a word of 1,000 characters"):
        shared.enhance(["a " + "x" * 1_000])


def test_a_long_prompt_of_short_words_is_planned(shared):
    shared.plan(GenerationRequest("a red ball and " * 1_500))


def test_what_cannot_fit_into_memory_is_refused_with_what_can(shared, monkeypatch):
    monkeypatch.setattr("chai_app.engine.room._main_memory_bytes", lambda: 16_000_000_000)
    words = r"1000 frames of 4096x4096 in 64 loops need [\d,]+ GB of memory at least, and cpu has 16 GB: "
    with pytest.raises(BadRequest, match=words + r"the nearest that fits is \d+ frames of \d+x\d+") as refusal:
        shared.plan(GenerationRequest(PROMPT, width=4096, height=4096, num_frames=1000, num_loops=64))
    found = re.search(r"fits is (\d+) frames of (\d+)x(\d+)(?: in (\d+) loops)?", str(refusal.value)).groups()
    frames, width, height, loops = (int(each or 1) for each in found)
    shared.plan(GenerationRequest(PROMPT, width=width, height=height, num_frames=frames, num_loops=loops))


def test_a_plan_reads_one_frame_of_the_video_that_it_goes_on_from(shared, tmp_path, monkeypatch):
    path = write_video(tmp_path / "long.mp4", np.full((200, 48, 64, 3), 90, np.uint8), 8).path
    decoded = []
    monkeypatch.setattr(stream, "pixels_of", lambda frame: decoded.append(frame.pts) or pixels_of(frame))
    request = shared.plan(GenerationRequest(PROMPT, extend=str(path), num_inference_steps=1)).request
    assert (request.height, request.width, request.fps) == (48, 64, 8)
    assert len(decoded) == 2, "one for its size, and one for what is cut off"


def test_only_the_frames_asked_for_are_held_at_the_size_of_the_file(tmp_path):
    path = write_video(tmp_path / "clip.mp4", np.full((6, 64, 64, 3), 90, np.uint8), 8).path
    clip = read_video(path, lambda frame: frame[:16, :16])
    assert clip.frames.shape == (6, 16, 16, 3)


# -- videos -----------------------------------------------------------------------------------------------------------


def test_a_video_has_the_size_asked_for_and_a_report(shared):
    stages, steps = [], []
    generation = shared.generate(
        GenerationRequest(PROMPT, seed=7),
        progress=lambda step, total, latents: steps.append((step, total, latents is not None)),
        on_stage=stages.append,
    )
    assert generation.frames.shape == (17, 32, 48, 3) and generation.frames.dtype == np.uint8
    assert generation.frames.std() > 1, "not one flat colour"
    assert stages == ["load", "text", "denoise", "decode"]
    assert steps == [(0, 3, False), (1, 3, True), (2, 3, True), (3, 3, True)]
    report = generation.report
    assert (report.height, report.width, report.num_frames, report.fps) == (32, 48, 17, 8)
    assert (report.model, report.steps, report.device, report.dtype) == ("tiny", 3, "cpu", "fp32")
    assert list(report.seconds) == ["plan", "load", "text", "denoise", "decode", "keep"]
    assert all(seconds > 0 for seconds in report.seconds.values())
    assert set(report.versions) == {"chai", "python", "torch", "diffusers", "transformers"}
    assert (generation.request.device, generation.request.dtype, generation.request.offload) == ("cpu", "fp32", "none")


def test_a_seed_gives_one_video_bit_by_bit(shared):
    first, again = (shared.generate(GenerationRequest(PROMPT, seed=7)) for _ in range(2))
    assert torch.equal(first.latents, again.latents) and np.array_equal(first.frames, again.frames)
    assert first.report.latents_sha256 == again.report.latents_sha256
    other = shared.generate(GenerationRequest(PROMPT, seed=8))
    assert not torch.equal(first.latents, other.latents)
    assert first.report.latents_sha256 != other.report.latents_sha256


def test_a_video_is_the_same_among_others_as_alone(shared):
    requests = [GenerationRequest(prompt, seed=7) for prompt in ("a blue star", PROMPT, "a boat")]
    batch = list(shared.generate_batch(requests))
    assert [generation.request.prompt for generation in batch] == ["a blue star", PROMPT, "a boat"]
    assert torch.equal(batch[1].latents, shared.generate(requests[1]).latents)


def test_a_batch_is_checked_whole_before_it_begins(shared):
    with pytest.raises(BadRequest):
        shared.generate_batch([GenerationRequest(PROMPT), GenerationRequest("红")])


def test_every_wish_changes_the_video(shared):
    plain = GenerationRequest(PROMPT, seed=7)
    seen = {shared.generate(plain).report.latents_sha256}
    wishes = [
        {"negative_prompt": "a boat"},
        {"guidance_scale": 1.0},
        {"num_inference_steps": 4},
        {"fps": 24},
        {"camera_motion": "bouncing"},
        {"prompt": "a blue star"},
    ]
    for wish in wishes:
        seen.add(shared.generate(replace(plain, **wish)).report.latents_sha256)
    assert len(seen) == 1 + len(wishes)


@pytest.mark.parametrize(("height", "width", "num_frames"), [(33, 47, 17), (16, 16, 1), (32, 32, 16), (24, 40, 20)])
def test_odd_sizes_and_lengths_come_out_as_asked_for(shared, height, width, num_frames):
    request = GenerationRequest(PROMPT, height=height, width=width, num_frames=num_frames, num_inference_steps=1)
    assert shared.generate(request).frames.shape == (num_frames, height, width, 3)


def test_loops_go_on_from_the_clip_before(shared):
    request = GenerationRequest("|0| a red ball |1| a blue ball", seed=7, num_loops=2)
    steps = []
    generation = shared.generate(request, progress=lambda step, total, _: steps.append((step, total)))
    assert len(generation.frames) == 17 + 12, "two latent frames, which are 5 frames, are shared"
    assert steps[-1] == (6, 6) and generation.report.steps == 6


def test_a_picture_is_kept_as_the_first_latent_frame(shared, tmp_path):
    picture = np.zeros((70, 70, 3), np.uint8)
    picture[:, 35:] = (250, 120, 10)
    Image.fromarray(picture).save(tmp_path / "start.png")
    request = GenerationRequest(PROMPT, seed=7, image=str(tmp_path / "start.png"))
    generation = shared.generate(request)
    assert generation.frames.shape == (17, 32, 48, 3)
    fitted = np.array(Image.fromarray(picture).resize((48, 48), Image.Resampling.LANCZOS))[8:40]
    pixels = torch.from_numpy(fitted).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1  # (1, 3, 1, H, W)
    with torch.no_grad():
        given = shared._loaded.pipeline.vae.encode(pixels).latent_dist.mode()
    assert torch.allclose(generation.latents[:, :, :1], given, atol=1e-4)
    assert not torch.equal(generation.latents, shared.generate(GenerationRequest(PROMPT, seed=7)).latents)


def test_an_extended_video_begins_with_the_earlier_one(shared, tmp_path):
    path = shared.generate(GenerationRequest(PROMPT, seed=7)).save(tmp_path / "first.mp4")[0].path
    generation = shared.generate(GenerationRequest("a blue ball falling", seed=8, extend=str(path)))
    earlier = read_video(path).frames
    assert generation.frames.shape == (17 + 12, 32, 48, 3)
    assert np.array_equal(generation.frames[:17], earlier)
    assert generation.report.num_frames == 29
    longer = shared.generate(GenerationRequest(PROMPT, seed=8, extend=str(path), num_frames=51, num_inference_steps=1))
    assert len(longer.frames) == 17 + 51 - 17, "of a clip of several chunks one whole chunk is shared"


def test_a_video_is_extended_at_its_own_size_and_speed(shared, tmp_path):
    path = write_video(tmp_path / "two.png", np.full((2, 50, 40, 3), 90, np.uint8), 12, FPS_12).path
    generation = shared.generate(GenerationRequest(PROMPT, extend=str(path), num_inference_steps=1))
    assert generation.frames.shape == (2 + 12, 50, 40, 3), "two frames are too few to go on from: the first is held"
    assert (generation.frames[:2] == 90).all()
    assert generation.fps == 12
    assert generation.report.notes == (
        "The model tiny learnt 48x32 alone: at another size things fall apart.",
        "The model tiny learnt 8 frames a second: at 12 things are 1.5 times too fast.",
    )


def test_what_is_cut_off_a_start_of_another_shape_is_told(shared, tmp_path):
    path = write_video(tmp_path / "two.png", np.full((2, 50, 40, 3), 90, np.uint8), 12, FPS_12).path
    request = GenerationRequest(PROMPT, extend=str(path), height=32, width=48, num_inference_steps=1)
    generation = shared.generate(request)
    assert generation.frames.shape == (2 + 12, 32, 48, 3)
    assert generation.report.notes == (
        "The model tiny learnt 8 frames a second: at 12 things are 1.5 times too fast.",
        "The earlier video is 40x50 and the video 48x32, so its top and bottom are cut off.",
    )
    _, note = shared.plan(GenerationRequest(PROMPT, image=str(path / "0001.png"), height=50, width=16)).notes
    assert note == "The picture is 40x50 and the video 16x50, so its left and right are cut off."


@pytest.mark.parametrize(
    ("fps", "told"), [(24, ["3 times too fast"]), (4, ["2 times too slow"]), (8, []), (7.9, [])]
)  # fmt: skip
def test_a_speed_that_the_model_never_learnt_is_told(shared, fps, told):
    notes = shared.plan(GenerationRequest(PROMPT, fps=fps)).notes
    assert [note.partition("things are ")[2].rstrip(".") for note in notes] == told
    assert shared.plan(GenerationRequest(PROMPT, fps=fps, num_frames=1)).notes == (), "a picture has no speed"


def test_what_of_an_earlier_video_is_not_kept_is_told(shared, tmp_path):
    path = tmp_path / "talk.mp4"
    with av.open(str(path), "w") as container:
        pictures, sound = container.add_stream("libx264", rate=8), container.add_stream("aac", rate=48000)
        pictures.width, pictures.height, pictures.pix_fmt = 48, 32, "yuv420p"
        pictures.codec_context.color_trc = 16  # PQ
        for i in range(16):
            frame = av.VideoFrame.from_ndarray(np.full((48, 48), 90, np.uint8), format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 8)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 48000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 48000
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    notes = shared.plan(GenerationRequest(PROMPT, extend=str(path))).notes
    assert [note.partition(":")[0] for note in notes] == [
        "The sound of the earlier video is left out",
        "The earlier video is HDR but read as if it were not, and so looks pale",
    ]


def test_a_video_that_breaks_off_is_extended_from_what_is_whole(shared, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8)
    path = write_video(tmp_path / "first.mp4", noise, 8).path
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    whole = len(read_video(path).frames)
    generation = shared.generate(GenerationRequest(PROMPT, extend=str(path), num_inference_steps=1))
    assert len(generation.frames) == whole + 12 < 40
    (note,) = generation.report.notes
    assert note == (
        f"The earlier video is damaged, and {5 - whole / 8:.1f} s at its end are lost: it goes on from there."
    )


def test_too_few_frames_to_extend_a_video_are_refused(shared, tmp_path):
    path = write_video(tmp_path / "two.png", np.full((2, 50, 40, 3), 90, np.uint8), 12).path
    with pytest.raises(BadRequest, match="4 frames are too few to extend a video: ask for 9"):
        shared.plan(GenerationRequest(PROMPT, extend=str(path), num_frames=4))


def test_a_saved_video_carries_all_that_repeats_it(shared, tmp_path):
    generation = shared.generate(GenerationRequest(PROMPT))
    written, report = generation.save(tmp_path / "out.mp4")
    assert list(report.seconds) == ["plan", "load", "text", "denoise", "decode", "keep", "write"]
    carried = read_metadata(written.path)["chai"]
    assert Report.from_json(carried["report"]) == generation.report
    request = GenerationRequest.from_json(carried["request"])
    assert request == generation.request
    assert torch.equal(shared.generate(request).latents, generation.latents)


def test_one_engine_serves_several_models_and_keeps_one(tiny_model_folder, tmp_path):
    engine = own_engine(tiny_model_folder, tmp_path)
    first = engine.generate(GenerationRequest(PROMPT, seed=7, num_inference_steps=1))
    second = engine.generate(GenerationRequest(PROMPT, seed=7, num_inference_steps=1, model=str(tiny_model_folder)))
    assert first.report.latents_sha256 == second.report.latents_sha256
    assert first.report.model_fingerprint == second.report.model_fingerprint
    assert engine._loaded.model.folder == tiny_model_folder
    engine.unload()
    assert engine._loaded is None


def test_bf16_is_another_machine_for_the_same_model(shared):
    half = shared.generate(GenerationRequest(PROMPT, seed=7, dtype="bf16"))
    full = shared.generate(GenerationRequest(PROMPT, seed=7))
    assert half.report.dtype == "bf16"
    assert half.report.latents_sha256 != full.report.latents_sha256
    assert torch.allclose(half.latents, full.latents, atol=0.3), "three steps in bf16 drift, but stay near"


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_progress_can_stop_a_run(shared):
    def stop_at_two(step, total, latents):
        return step < 2

    with pytest.raises(Cancelled):
        shared.generate(GenerationRequest(PROMPT), progress=stop_at_two)

    def raise_at_one(step, total, latents):
        if step == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        shared.generate(GenerationRequest(PROMPT), progress=raise_at_one)
    assert num_hooks(shared) == 0
    assert isinstance(shared.generate(GenerationRequest(PROMPT)), Generation), "the engine is free again"


@pytest.mark.parametrize("stage", ["text", "denoise", "decode"])
def test_an_event_stops_a_run_in_every_stage(shared, stage):
    cancel, steps = threading.Event(), []

    def stop_here(name):
        if name == stage:
            cancel.set()

    with pytest.raises(Cancelled):
        shared.generate(
            GenerationRequest(PROMPT), lambda step, *_: steps.append(step), cancel=cancel, on_stage=stop_here
        )
    assert num_hooks(shared) == 0
    assert steps == {"text": [0], "denoise": [0, 1], "decode": [0, 1, 2, 3]}[stage]


def test_a_run_can_be_stopped_while_another_has_the_engine(shared):
    cancel, outcome = threading.Event(), []

    def second():
        try:
            shared.generate(GenerationRequest(PROMPT), cancel=cancel)
        except Cancelled:
            outcome.append("stopped in the queue")

    def first_step(step, total, latents):
        if step == 1:
            waiting = threading.Thread(target=second)
            waiting.start()
            cancel.set()
            waiting.join(timeout=20)

    shared.generate(GenerationRequest(PROMPT), progress=first_step)
    assert outcome == ["stopped in the queue"]


def test_two_threads_get_the_videos_they_asked_for(shared):
    alone = {seed: shared.generate(GenerationRequest(PROMPT, seed=seed)).latents for seed in (1, 2)}
    together = {}

    def work(seed):
        together[seed] = shared.generate(GenerationRequest(PROMPT, seed=seed)).latents

    threads = [threading.Thread(target=work, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert all(torch.equal(alone[seed], together[seed]) for seed in alone)


def test_a_plan_beside_generations_and_closings_is_safe(tmp_path, tiny_model_folder):
    """Any thread may ask: one connection is never used by two of them, nor after it was closed."""
    folder = shutil.copytree(tiny_model_folder, tmp_path / "mine")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    engine, problems, done = Engine(str(folder)), [], threading.Event()
    request = GenerationRequest("a red ball in the desert", seed=1)
    engine.generate(request)

    def ask():
        while not done.is_set():
            try:
                engine.plan(GenerationRequest("a blue boat in the desert"))
            except Exception as error:
                problems.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(4):
        engine.generate(replace(request, seed=seed))
        engine.close()
    done.set()
    for thread in threads:
        thread.join(60)
    engine.close()
    assert problems == []


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_latents_that_are_no_numbers_stop_the_run_with_advice(tiny_model_folder, tmp_path):
    engine = own_engine(tiny_model_folder, tmp_path)
    engine.generate(GenerationRequest(PROMPT, num_inference_steps=1))
    with torch.no_grad():
        engine._loaded.pipeline.transformer.proj_out.weight.fill_(float("nan"))
    with pytest.raises(ChaiError, match="no longer finite numbers after step 1 of 3: run again in bf16 or fp32"):
        engine.generate(GenerationRequest(PROMPT))
    assert num_hooks(engine) == 0


def test_weights_of_another_shape_are_a_damaged_checkpoint(tiny_model_folder, tmp_path):
    engine = own_engine(tiny_model_folder, tmp_path)
    config = tmp_path / "mine" / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    with pytest.raises(DamagedCheckpoint, match="mine/transformer"):
        engine.generate(GenerationRequest(PROMPT))


def scale_weights(folder: Path, part: str, factor: float) -> None:
    """Other weights in a file of the same length and the same time."""
    from safetensors.torch import load_file, save_file

    (file,) = (folder / part).glob("*.safetensors")
    before = file.stat()
    save_file({name: factor * tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_weights_that_change_under_a_running_engine_are_read_anew(tiny_model_folder, tmp_path):
    engine = own_engine(tiny_model_folder, tmp_path)
    request = GenerationRequest(PROMPT, seed=7)
    before = engine.generate(request).report
    assert engine.generate(request).report.latents_sha256 == before.latents_sha256
    scale_weights(tmp_path / "mine", "transformer", 1.5)
    after = engine.generate(request).report
    assert after.model_fingerprint != before.model_fingerprint
    fresh = Engine(str(tmp_path / "mine")).generate(request).report
    assert (after.model_fingerprint, after.latents_sha256) == (fresh.model_fingerprint, fresh.latents_sha256)


def test_weights_that_change_while_they_are_read_are_not_used(tiny_model_folder, tmp_path, monkeypatch):
    from chai_app.engine import loading

    engine, load = own_engine(tiny_model_folder, tmp_path), loading._load_pipeline

    def load_and_change(*args):
        pipeline = load(*args)
        scale_weights(tmp_path / "mine", "vae", 1.5)
        return pipeline

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_load_pipeline", load_and_change)
        with pytest.raises(ChaiError, match="were changed while they were read: ask again"):
            engine.generate(GenerationRequest(PROMPT))
    assert isinstance(engine.generate(GenerationRequest(PROMPT)), Generation)


def test_text_encoder_weights_that_are_no_pickle_are_a_damaged_checkpoint(tiny_model_folder, tmp_path):
    engine = own_engine(tiny_model_folder, tmp_path)
    (file,) = (tmp_path / "mine" / "text_encoder").glob("*.safetensors")
    file.with_name("pytorch_model.bin").write_bytes(b"no pickle at all" * 100)
    file.unlink()
    with pytest.raises(DamagedCheckpoint, match="mine/text_encoder"):
        engine.generate(GenerationRequest(PROMPT))


def test_a_tokenizer_that_is_damaged_is_named(tiny_model_folder, tmp_path):
    engine = own_engine(tiny_model_folder, tmp_path)
    (tmp_path / "mine" / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(DamagedCheckpoint, match=r"tokenizer\.json is damaged"):
        engine.plan(GenerationRequest(PROMPT))


def test_a_flipped_header_is_a_damaged_checkpoint(tiny_model_folder, tmp_path):
    engine = own_engine(tiny_model_folder, tmp_path)
    (weights,) = (tmp_path / "mine" / "vae").glob("*.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content.replace(b'"F32"', b'"X32"', 1))
    with pytest.raises(DamagedCheckpoint, match="mine/vae"):
        engine.generate(GenerationRequest(PROMPT))


def test_a_device_that_is_not_here_is_refused(shared, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BadRequest, match="There is no cuda:1 on this machine: ask for --device cpu"):
        shared.generate(GenerationRequest(PROMPT, device="cuda:1"))


def test_the_machine_is_chosen_by_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": False})
    assert choose_machine(None, None, None) == Machine("cpu", "fp32", "none")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert choose_machine(None, None, None) == Machine("cpu", "bf16", "none")
    assert choose_machine(None, None, None, is_exact=True) == Machine("cpu", "fp32", "none")
    with pytest.raises(BadRequest, match="does nothing on cpu: leave --offload out"):
        choose_machine("cpu", None, "model")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_machine(None, None, "sequential") == Machine("cuda", "bf16", "sequential")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert choose_machine("cuda:0", None, None) == Machine("cuda:0", "fp32", "none")


def test_on_a_cpu_with_matrix_units_a_video_is_made_in_bf16_and_exact_in_fp32(tiny_model_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    request = GenerationRequest(PROMPT, model=str(tiny_model_folder), num_inference_steps=3, seed=1, reuse="full")
    made = {}
    for has_them in (False, True):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has_them=has_them: {"amx_bf16": has_them})
        engine = Engine()
        made[has_them] = engine.generate(request)
        assert engine.generate(replace(request, preset="exact")).report.dtype == "fp32"
        engine.close()
    assert (made[False].report.dtype, made[True].report.dtype) == ("fp32", "bf16")
    error = (made[True].frames.astype(float) - made[False].frames).std()
    assert error > 0 and 20 * np.log10(255 / error) > 30, "dB"


def test_memory_that_runs_out_is_told_with_what_to_do(shared, monkeypatch):
    shared.generate(GenerationRequest(PROMPT, num_inference_steps=1))

    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(shared._loaded.pipeline.vae.temporal_vae.decoder, "forward", out_of_memory)
    words = "The memory of cpu does not hold 17 frames of 48x32: ask for a smaller size or fewer frames"
    with pytest.raises(ChaiError, match=words):
        shared.generate(GenerationRequest(PROMPT))


def test_a_model_too_large_for_the_memory_is_told(tiny_model_folder, monkeypatch):
    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("chai_app.opensora.OpenSoraPipeline.to", out_of_memory)
    with pytest.raises(ChaiError, match="The memory of cpu does not hold the model tiny: close what else is using it"):
        Engine(str(tiny_model_folder)).generate(GenerationRequest(PROMPT))


def test_compiled_blocks_make_the_same_videos_at_any_size(tiny_model_folder, monkeypatch):
    compile_module = torch.nn.Module.compile  # traced for real, but run as it is: making C++ of it takes a minute
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *self, **how: compile_module(*self, backend="eager", **how))
    monkeypatch.setattr("chai_app.engine.loading.shutil.which", lambda _: "g++")
    settings = Settings.from_environment()
    plain, compiled = (Engine(str(tiny_model_folder), settings=replace(settings, compile=how)) for how in ("off", "on"))
    for size in (32, 48):
        request = GenerationRequest(PROMPT, seed=7, width=size, num_inference_steps=1, is_private=True)
        latents = [engine.generate(request).latents for engine in (compiled, plain)]
        torch.testing.assert_close(*latents, rtol=0, atol=1e-3)
    assert compiled._loaded.pipeline.transformer.spatial_block(0)._compiled_call_impl is not None


def test_compiling_without_a_compiler_is_refused(tiny_model_folder, monkeypatch):
    monkeypatch.setenv("CHAI_COMPILE", "on")
    monkeypatch.setattr("chai_app.engine.loading.shutil.which", lambda _: None)
    with pytest.raises(ChaiError, match=r"finds no C\+\+ compiler here: install g\+\+, or set CHAI_COMPILE to off"):
        Engine(str(tiny_model_folder)).generate(GenerationRequest(PROMPT))


def test_cuda_graphs_without_a_gpu_are_refused(tiny_model_folder, monkeypatch):
    monkeypatch.setenv("CHAI_COMPILE", "graphs")
    monkeypatch.setattr("chai_app.engine.loading.shutil.which", lambda _: "g++")
    with pytest.raises(ChaiError, match="the model runs on cpu: set CHAI_COMPILE to on or off"):
        Engine(str(tiny_model_folder), device="cpu").generate(GenerationRequest(PROMPT))


def test_a_text_encoder_in_8_bits_makes_nearly_the_same_video_and_the_report_says_so(tiny_model_folder, monkeypatch):
    request = GenerationRequest(PROMPT, seed=7, is_private=True)
    plain = Engine(str(tiny_model_folder)).generate(request)
    monkeypatch.setenv("CHAI_TEXT_ENCODER", "int8")
    engine = Engine(str(tiny_model_folder))
    small = engine.generate(request)
    encoder = engine.loaded.pipeline.text_encoder
    assert "Int8Tensor" in {type(weight).__name__ for weight in encoder.parameters()}
    assert small.report.notes == (*plain.report.notes, "The text encoder's weights have 8 bits (CHAI_TEXT_ENCODER).")
    difference = (small.latents - plain.latents).norm() / plain.latents.norm()
    assert 0 < difference < 0.01


def test_8_bits_without_torchao_are_refused(tiny_model_folder, monkeypatch):
    monkeypatch.setenv("CHAI_TEXT_ENCODER", "int8")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ChaiError, match="needs the package torchao: pip install torchao, or set it to full"):
        Engine(str(tiny_model_folder)).generate(GenerationRequest(PROMPT))


def test_importing_the_engine_loads_nothing_heavy():
    import subprocess

    heavy = "{'torch', 'diffusers', 'transformers', 'numpy', 'av', 'PIL', 'rich', 'typer'}"
    code = f"import sys, chai_app.engine; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


# -- weights that are new here ----------------------------------------------------------------------------------------


@pytest.fixture
def heard(monkeypatch) -> list[str]:
    """What the engine says while it reads, with files of any size counted as large ones."""
    monkeypatch.setattr("chai_app.models.fingerprint._REMEMBERED_BYTES", 10)
    return []


def listening(folder: Path, heard: list[str]) -> Engine:
    def hear(what: str, done: int, total: int) -> None:
        assert 0 <= done <= total > 0
        heard.append(what)

    return Engine(str(folder), on_reading=hear)


def test_new_weights_are_checked_while_they_are_loaded_and_never_again(tiny_model_folder, heard):
    request = GenerationRequest(PROMPT, seed=7)
    engine = listening(tiny_model_folder, heard)
    engine.plan(request)
    assert heard == []  # nobody has to wait for a plan
    report = engine.generate(request).report
    assert set(heard) == {"checking", "loading"}
    assert list(report.seconds) == ["plan", "load", "text", "denoise", "decode", "keep"]
    assert report.seconds["load"] > report.seconds["plan"]
    heard.clear()
    again = listening(tiny_model_folder, heard).generate(request).report
    assert set(heard) == {"loading"}
    assert (again.model_fingerprint, again.latents_sha256) == (report.model_fingerprint, report.latents_sha256)


def test_what_is_wrong_with_a_request_is_told_before_new_weights_are_read(tiny_model_folder, heard, tmp_path):
    with pytest.raises(ChaiError):
        listening(tiny_model_folder, heard).generate(GenerationRequest(PROMPT, image=str(tmp_path / "none.png")))
    assert heard == []


def test_a_load_that_fails_does_not_wait_for_checksums(tiny_model_folder, monkeypatch):
    from chai_app.engine import loading
    from chai_app.models import find_model

    model, settings = find_model(str(tiny_model_folder), Settings.from_environment()), Settings.from_environment()
    begun, gave_up = threading.Event(), threading.Event()

    def endless(self, settings, on_bytes):
        begun.set()
        try:
            while True:
                on_bytes(1)
        except Cancelled:
            gave_up.set()
            raise

    def fail(*args):
        begun.wait()
        raise DamagedCheckpoint("It cannot be loaded: fetch it again.")

    monkeypatch.setattr(type(model), "fingerprint", endless)
    monkeypatch.setattr(loading, "_load_pipeline", fail)
    with pytest.raises(DamagedCheckpoint):
        loading.load(model, choose_machine("cpu", None, None), settings)
    assert gave_up.is_set()
