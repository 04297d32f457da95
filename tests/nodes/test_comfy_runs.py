"""Every node run as the host runs it, with a tiny model: what comes out, what is shown, what is
left in the cache; and ComfyUI's cache of outputs in step with ours."""

import itertools
import json
import os
from pathlib import Path

import av
import pytest
import torch
from comfy_double import InterruptProcessingException

from chai_app.cache import LatentCache
from chai_app.media.video import read_metadata
from chai_app.settings import Settings

FIRST, SECOND = "a red ball in the desert", "a red ball on the ocean"
FEW = {"steps": 3, "fast_steps": 2}
_number = itertools.count()


class Graph:
    """The nodes wired one after the other, each run as the host would. Its plan has an id of its own: the pack lives on
    from test to test, and remembers what a node of that id asked of an engine that may go at any time."""

    def __init__(self, pack, model_folder):
        self.pack = pack
        self.plan_id = f"plan {next(_number)}"
        (self.pipeline,), _ = pack.run("CHAI_LoadPipeline", folder=str(model_folder))

    def plan(self, prompt, node_id=None, wires=(), **values):
        values = {"pipeline": self.pipeline, "prompt": prompt, **values}
        (plan, decision, is_hit), ui = self.pack.run("CHAI_Plan", node_id or self.plan_id, wires, **values)
        assert ui["text"] == [decision]
        return plan, decision, is_hit

    def fingerprint(self, prompt, wires=(), **values):
        return self.pack.fingerprint("CHAI_Plan", self.plan_id, wires, pipeline=self.pipeline, prompt=prompt, **values)

    def sample(self, plan, **values):
        values = {"pipeline": self.pipeline, "plan": plan, **FEW, **values}
        (latent, report), _ = self.pack.run("CHAI_Sampler", "sample", **values)
        return latent, json.loads(report)["report"]


@pytest.fixture
def graph(pack, model_folder) -> Graph:
    return Graph(pack, model_folder)


def entries():
    with LatentCache(Settings.from_environment().home, read_only=True) as cache:
        return cache.entries()


def test_the_whole_way_through_every_node(graph, pack, tmp_path):
    (text, told), _ = pack.run("CHAI_ExtractEntities", prompt=FIRST)
    assert text.splitlines() == ["object: red ball (count 1)", "scene: desert (count 1)"]
    assert json.loads(told)["objects"][0]["head"] == "ball"

    (cache,), _ = pack.run("CHAI_OpenCache", folder=str(tmp_path / "mine"), budget_gb=0.5, policy="lfu")
    plan, decision, is_hit = graph.plan(FIRST, cache=cache)
    assert not is_hit and decision.startswith("MISS: 3 steps")
    latent, report = graph.sample(plan, seed=5)
    assert latent["samples"].shape == (1, 4, 5, 4, 6)
    assert (report["reuse"]["outcome"], report["steps"]) == ("miss", 3)

    (frames, fps, video), _ = pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=latent)
    assert frames.shape == (17, 32, 48, 3) and frames.dtype == torch.float32
    assert frames.min() >= 0 and frames.max() <= 1
    assert fps == 8.0
    with av.open(video.get_stream_source()) as container:
        tags = dict(container.metadata)
        assert len(list(container.decode(video=0))) == 17
    assert set(json.loads(tags["prompt"])) == {"1"} and json.loads(tags["workflow"]) == {"nodes": []}
    assert read_metadata(Path(video.get_stream_source()))["chai"]["request"]["prompt"] == FIRST

    plan, decision, is_hit = graph.plan(SECOND, cache=cache)
    assert is_hit and decision.startswith("HIT, red ball is red ball of #")
    latent, report = graph.sample(plan, seed=6)
    assert (report["reuse"]["outcome"], report["steps"], report["reuse"]["reused_steps"]) == ("hit", 2, [2])

    told = json.dumps({"request": json.loads(tags["comment"])["chai"]["request"], "report": report})
    (text, outcome, steps, seconds, entry), _ = pack.run("CHAI_ReportText", report=told)
    assert (outcome, steps, entry) == ("hit", 2, "") and seconds > 0 and "HIT" in text

    (text, picture, listed), ui = pack.run("CHAI_CacheBrowser", cache=cache)
    (only,) = json.loads(listed)["entries"]
    assert picture.ndim == 4 and picture.shape[-1] == 3
    assert only["prompt"] == FIRST and only["hits"] == 1 and ui["text"] == [text]
    assert json.loads(listed)["stats"]["policy"] == "lfu"

    (donor, preview, _), _ = pack.run("CHAI_PickDonor", cache=cache, pipeline=graph.pipeline, search="red ball")
    assert donor == only["id"] and preview.shape[-1] == 3
    values = {"pipeline": graph.pipeline, "cache": cache, "entry": donor[:8]}
    (frames, fps, latent, prompt), _ = pack.run("CHAI_CacheEntry", **values)
    assert frames.shape == (17, 32, 48, 3) and prompt == FIRST and latent["samples"].shape == (1, 4, 5, 4, 6)


def test_one_node_is_enough(pack, model_folder, graph):
    values = {"prompt": FIRST, "seed": 3, "steps": 3, "pipeline": graph.pipeline}
    (frames, fps, report, video), ui = pack.run("CHAI_PromptToVideo", **values)
    assert frames.shape == (17, 32, 48, 3) and fps == 8.0
    assert json.loads(report)["report"]["reuse"]["outcome"] == "miss"
    assert Path(video.get_stream_source()).is_file() and "MISS" in ui["text"][0]


def test_progress_comes_with_every_step_and_pictures_where_previews_are_on(graph):
    host = graph.pack.host
    plan, *_ = graph.plan(FIRST)
    graph.sample(plan, seed=1)
    assert [(done, total) for done, total, _ in host.progress] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert all(preview is None for *_, preview in host.progress)
    host.progress.clear()
    host.arguments.preview_method.value = "latent2rgb"
    graph.sample(plan, seed=2)
    kind, picture, _ = host.progress[-1][2]
    assert kind == "JPEG" and picture.size[0] >= 192 and picture.width * 32 == picture.height * 48


def test_cancel_stops_between_steps_and_leaves_nothing_behind(graph):
    plan, *_ = graph.plan(FIRST)
    graph.pack.host.cancel_at_step = 2
    with pytest.raises(InterruptProcessingException):
        graph.sample(plan, seed=1)
    assert [done for done, *_ in graph.pack.host.progress] == [0, 1]
    assert entries() == []
    graph.pack.host.cancel_at_step = None
    assert graph.sample(plan, seed=1)[1]["steps"] == 3


def test_what_a_run_leaves_behind_does_not_run_its_graph_again(graph):
    asked = graph.fingerprint(FIRST)
    plan, *_ = graph.plan(FIRST)
    assert graph.fingerprint(FIRST) == asked
    graph.sample(plan, seed=1)
    assert len(entries()) == 1
    assert graph.fingerprint(FIRST) == asked


def test_a_changed_cache_plans_again(graph):
    asked = graph.fingerprint(FIRST)
    plan, _, is_hit = graph.plan(FIRST)
    graph.sample(plan, seed=1)
    other, *_ = graph.plan(SECOND, node_id="other", reuse="full")
    graph.sample(other, seed=2)  # newer, and shows a red ball as well
    with LatentCache(Settings.from_environment().home) as cache:
        cache.remove(next(entry for entry in cache.entries() if entry.prompt == FIRST))
    changed = graph.fingerprint(FIRST)
    assert not is_hit and changed != asked
    _, _, is_hit = graph.plan(FIRST)
    assert is_hit and graph.fingerprint(FIRST) == changed


def test_a_prompt_that_comes_over_a_wire_is_followed(graph):
    asked = graph.fingerprint(FIRST, wires=("prompt",))
    plan, *_ = graph.plan(FIRST, wires=("prompt",))
    graph.sample(plan, seed=1)
    assert graph.fingerprint("unseen", wires=("prompt",)) == asked
    _, _, is_hit = graph.plan(SECOND, wires=("prompt",))
    assert is_hit and graph.fingerprint("unseen", wires=("prompt",)) == asked
    with LatentCache(Settings.from_environment().home) as cache:
        cache.clear()
    assert graph.fingerprint("unseen", wires=("prompt",)) != asked


def test_with_another_seed_the_same_plan_uses_what_it_made(graph):
    plan, *_ = graph.plan(FIRST)
    asked = graph.fingerprint(FIRST)
    assert graph.sample(plan, seed=1)[1]["reuse"]["outcome"] == "miss"
    assert graph.sample(plan, seed=2)[1]["reuse"]["outcome"] == "hit"
    assert graph.fingerprint(FIRST) == asked


def test_the_host_moves_the_model_away_and_gets_it_back(graph):
    host = graph.pack.host
    plan, *_ = graph.plan(FIRST, reuse="full")
    graph.sample(plan, seed=1)
    (_, patcher) = host.memory[-1]
    weights = next(patcher.model.parameters())
    assert weights.device.type == "cpu" and patcher.partially_unload("cpu", 1) == 0
    patcher.detach()
    host.memory.clear()
    graph.sample(plan, seed=2)
    assert host.memory == [("load", patcher)]


def test_latents_that_were_changed_are_decoded_anew(graph):
    plan, *_ = graph.plan(FIRST)
    latent, _ = graph.sample(plan, seed=1)
    (as_made, _, _), _ = graph.pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=latent)
    halved = {**latent, "samples": latent["samples"] * 0.5}
    (changed, _, video), _ = graph.pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=halved)
    assert changed.shape == as_made.shape and not torch.equal(changed, as_made)
    notes = read_metadata(Path(video.get_stream_source()))["chai"]["report"]["notes"]
    assert any("changed after this run" in note for note in notes)
    bare = {"samples": latent["samples"]}
    (again, fps, _), _ = graph.pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=bare)
    assert torch.equal(again, as_made) and fps == 8.0


def test_a_picture_starts_a_video_that_attends_to_a_chosen_donor(graph):
    plan, *_ = graph.plan(FIRST)
    _, first = graph.sample(plan, seed=1)
    plan, decision, is_hit = graph.plan(SECOND, donor=first["reuse"]["stored_entry_id"])
    assert is_hit and "chosen by name" in decision
    picture = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(0))
    _, report = graph.sample(plan, seed=2, start_image=picture)
    assert (report["reuse"]["outcome"], report["reuse"]["entry_id"]) == ("hit", first["reuse"]["stored_entry_id"])


@pytest.mark.parametrize(
    ("node", "values", "sentence"),
    [
        ("CHAI_LoadPipeline", {"folder": "/nowhere/at/all"}, "There is no model '/nowhere/at/all'"),
        ("CHAI_Plan", {"prompt": "  "}, "The prompt is empty"),
        ("CHAI_Plan", {"prompt": FIRST, "donor": "beef"}, "There is no entry"),
        ("CHAI_CacheEntry", {"entry": "beef"}, "There is no entry"),
        ("CHAI_PickDonor", {"search": ""}, "The cache has 0 entries, so there is no number 1"),
        ("CHAI_ReportText", {"report": "no JSON"}, "This text is no report"),
        ("CHAI_CacheBrowser", {"action": "delete"}, "Nothing to delete"),
    ],
)
def test_what_goes_wrong_is_one_sentence(graph, node, values, sentence):
    if "pipeline" in graph.pack.inputs(node):
        values = {"pipeline": graph.pipeline, **values}
    if node == "CHAI_PickDonor":
        values.pop("pipeline")
    errors = graph.pack.part("chai_app.errors")
    with pytest.raises(errors.ChaiError) as raised:
        graph.pack.run(node, **values)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_a_private_cache_is_read_and_not_written(graph, tmp_path):
    (cache,), _ = graph.pack.run("CHAI_OpenCache", private=True)
    plan, *_ = graph.plan(FIRST, cache=cache)
    picture = torch.zeros(1, 32, 48, 3)
    graph.sample(plan, seed=1, start_image=picture)
    assert entries() == [] and not (Settings.from_environment().home / "starts").exists()


def test_pictures_to_start_from_are_kept_up_to_a_size(graph, monkeypatch):
    starts = graph.pack.part("nodes.starts")
    cache = graph.pack.run("CHAI_OpenCache")[0][0]
    pictures = [torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    first, second = (Path(starts.picture_file(picture, cache)) for picture in pictures[:2])
    os.utime(first, (1, 1))
    assert Path(starts.picture_file(pictures[0], cache)) == first  # used again, so that it is not the oldest any more
    os.utime(second, (2, 2))
    monkeypatch.setattr(starts, "_MOST_BYTES", int(2.5 * first.stat().st_size))
    third = Path(starts.picture_file(pictures[2], cache))
    assert [path.is_file() for path in (first, second, third)] == [True, False, True]


def test_the_browser_pins_and_deletes_and_says_so_twice(graph):
    plan, *_ = graph.plan(FIRST)
    graph.sample(plan, seed=1)
    (entry,) = entries()
    for action, is_pinned in (("pin", True), ("unpin", False)):
        (text, _, _), _ = graph.pack.run("CHAI_CacheBrowser", action=action, entries=entry.id[:8])
        assert text.startswith(f"#{entry.id[:8]} {action}ned") and entries()[0].is_pinned is is_pinned
    (text, _, _), _ = graph.pack.run("CHAI_CacheBrowser", action="delete", entries=entry.id)
    assert "deleted" in text and entries() == []
    (text, _, _), _ = graph.pack.run("CHAI_CacheBrowser", action="delete", entries=entry.id)
    assert "There is no entry" in text
    assert ("chai.cache" in {event for event, _ in graph.pack.host.events}) is True


def test_a_preset_settles_what_the_widgets_leave_open(graph):
    plan, decision, _ = graph.plan(FIRST, preset="exact")
    assert decision.startswith("FULL RUN: 3 steps") and "preset exact" in decision
    latent, report = graph.sample(plan, steps=0)
    assert latent["chai"].request.preset == "exact" and report["reuse"]["outcome"] == "full"
    plan, decision, _ = graph.plan(SECOND, preset="draft")
    latent, report = graph.sample(plan, steps=0, fast_steps=0)
    assert latent["chai"].request.acceleration == "first-block" and report["steps"] == 2
    plan, *_ = graph.plan(SECOND, preset="draft", reuse="full")
    latent, report = graph.sample(plan, acceleration="none")
    assert (latent["chai"].request.acceleration, report["steps"]) == ("none", 3)


def test_adaptive_steps_let_a_hit_grow_as_its_donor_resembles_less(graph):
    plan, *_ = graph.plan(FIRST)
    graph.sample(plan, seed=1)
    engine = graph.pipeline.engine(graph.pack.part("nodes.handles").default_cache())
    with_sampling = graph.pack.part("nodes.plan_nodes").with_sampling
    steps = {}
    for is_adaptive in (False, True):
        plan, *_ = graph.plan("red balls on the ocean", adaptive_steps=is_adaptive)  # 0.99 like the red ball
        reuse = engine.plan(with_sampling(plan.request, {"steps": 1000, "fast_steps": 8}, None)).reuse
        assert reuse.outcome == "hit" and reuse.similarity is not None and reuse.similarity < 0.995
        steps[is_adaptive] = reuse.steps
    assert steps[False] == 8 < steps[True] < 100


def test_loops_follow_one_another(graph):
    plan, decision, _ = graph.plan("|0| a red ball |1| a blue star", num_loops=2)
    assert "in several loops, looks for no donor" in decision
    latent, report = graph.sample(plan, seed=1)
    (frames, *_), _ = graph.pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=latent)
    assert len(frames) == report["num_frames"] > 17
    assert [total for *_, total, _ in graph.pack.host.progress] == [6] * 7


def test_an_earlier_video_goes_on(graph):
    plan, *_ = graph.plan(FIRST)
    latent, _ = graph.sample(plan, seed=1)
    (_, _, video), _ = graph.pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=latent)
    plan, *_ = graph.plan(SECOND)
    latent, report = graph.sample(plan, seed=2, extend=video)
    assert report["num_frames"] > 17 and report["reuse"]["outcome"] == "full"
    kept = Path(latent["chai"].request.extend)
    assert kept.parent == Settings.from_environment().home / "starts" and kept.suffix == ".mp4"
    (frames, *_), _ = graph.pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=latent)
    assert len(frames) == report["num_frames"]
    again, _ = graph.sample(plan, seed=3, extend=video)
    assert Path(again["chai"].request.extend) == kept and len(list(kept.parent.iterdir())) == 1
    changed = {**latent, "samples": latent["samples"] * 0.5}  # of the new clip alone
    (frames, *_), _ = graph.pack.run("CHAI_Decode", pipeline=graph.pipeline, latent=changed)
    assert len(frames) == 17
    assert list(Path(graph.pack.host.folder / "temp").glob("*.part")) == []


def test_scores_and_camera_reach_the_model(graph):
    plan, *_ = graph.plan(FIRST)
    latent, _ = graph.sample(plan, seed=1)
    scores = {"aesthetic_score": 6.5, "motion_score": 5.0, "camera_motion": " pan right "}
    scored, _ = graph.sample(graph.plan(FIRST, reuse="full")[0], seed=1, **scores)
    request = scored["chai"].request
    assert (request.aesthetic_score, request.motion_score, request.camera_motion) == (6.5, 5.0, "pan right")
    assert latent["chai"].request.aesthetic_score is None and latent["chai"].request.camera_motion is None
    assert not torch.equal(scored["samples"], latent["samples"])


def test_a_graph_of_before_these_inputs_runs_as_it_did(graph):
    """The host leaves out what a saved prompt does not have."""
    plan_nodes = graph.pack.part("nodes.plan_nodes")
    request = plan_nodes.with_sampling(plan_nodes.request_of({"prompt": FIRST, "reuse": "full"}), {"seed": 1}, None)
    usual = graph.plan(FIRST, reuse="full")[0].request
    defaults = graph.pack.defaults("CHAI_Sampler")
    now = plan_nodes.with_sampling(usual, {**defaults, "seed": 1}, None)
    resolved = graph.pack.part("chai_app.request").RequestDefaults()
    assert request.resolved(resolved) == now.resolved(resolved)


def test_the_enhancer_writes_a_caption_for_each_line_and_says_what_it_left(pack):
    prompts = "red balloon\n\n  a tiger in the jungle  \ntwo blue cars in the city"
    (captions, notes, originals), ui = pack.run("CHAI_EnhancePrompt", prompt=prompts, seed=4)
    assert originals == ["red balloon", "a tiger in the jungle", "two blue cars in the city"]
    assert len(captions) == 3 and "red balloon" in captions[0] and len(captions[0]) > len("red balloon")
    assert captions[1] == originals[1] and notes.startswith("a tiger in the jungle: The prompt was left as it is")
    assert ui["text"][0].startswith(captions[0]) and ui["text"][0].endswith(notes)
    again, _ = pack.run("CHAI_EnhancePrompt", prompt=prompts, seed=4)
    assert again == [captions, notes, originals]


def test_the_enhancer_moves_the_bar_and_stops_when_told(pack):
    host = pack.host
    pack.run("CHAI_EnhancePrompt", prompt="red balloon")
    done, totals = [done for done, *_ in host.progress], {total for _, total, _ in host.progress}
    assert len(totals) == 1 and done == sorted(done) and done[0] == 0 and done[-1] == totals.pop()
    host.progress.clear()
    host.cancel_at_step = 3
    with pytest.raises(InterruptProcessingException):
        pack.run("CHAI_EnhancePrompt", prompt="red balloon")
    assert [done for done, *_ in host.progress] == [0, 1, 2]
    host.cancel_at_step = None
    (captions, *_), _ = pack.run("CHAI_EnhancePrompt", prompt="red balloon")
    assert "red balloon" in captions[0]


def test_what_was_enhanced_keeps_the_prompt_that_it_was(graph):
    caption, original = "a red ball bouncing in the desert", "red ball"
    plan, *_ = graph.plan(caption, original_prompt=original)
    latent, _ = graph.sample(plan, seed=1)
    assert latent["chai"].request.original_prompt == original
    plan, *_ = graph.plan(caption, original_prompt=caption)  # the enhancer left it as it was
    assert plan.request.original_prompt is None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prompt": " \n "}, "The prompt is empty"),
        ({"prompt": FIRST, "lynx": 1.5}, "dial"),
        ({"prompt": FIRST, "folder": "no such"}, "There is no enhancer 'no such'"),
        ({"prompt": FIRST, "enhancer": "olmoe"}, "hf download allenai/OLMoE-1B-7B-0924-Instruct"),
    ],
)
def test_what_the_enhancer_cannot_do_is_one_sentence(pack, monkeypatch, tmp_path, values, sentence):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    errors = pack.part("chai_app.errors")
    with pytest.raises(errors.ChaiError) as raised:
        pack.run("CHAI_EnhancePrompt", **values)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_no_video_is_one_sentence_and_leaves_no_draft(graph, tmp_path):
    from comfy_double import VideoFromFile

    (tmp_path / "broken.mp4").write_bytes(b"no video")
    plan, *_ = graph.plan(FIRST)
    errors = graph.pack.part("chai_app.errors")
    with pytest.raises(errors.BadMedia, match="The video to go on from cannot be read"):
        graph.sample(plan, seed=1, extend=VideoFromFile(str(tmp_path / "broken.mp4")))
    assert not (Settings.from_environment().home / "starts").exists()
