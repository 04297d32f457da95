"""Every node run as the host runs it, by both interfaces, with a tiny model: what comes out, what is shown, what is
left in the cache; and ComfyUI's cache of outputs in step with ours."""

import json
from pathlib import Path

import av
import pytest
import torch
from comfy_double import InterruptProcessingException

from chai_app.cache import LatentCache
from chai_app.settings import Settings
from chai_app.video import read_metadata

FIRST, SECOND = "a red ball in the desert", "a red ball on the ocean"
FEW = {"steps": 3, "fast_steps": 2}


class Graph:
    """The nodes wired one after the other, each run as the host would."""

    def __init__(self, pack, model_folder):
        self.pack = pack
        (self.pipeline,), _ = pack.run("CHAI_LoadPipeline", folder=str(model_folder))

    def plan(self, prompt, node_id="plan", wires=(), **values):
        values = {"pipeline": self.pipeline, "prompt": prompt, **values}
        (plan, decision, is_hit), ui = self.pack.run("CHAI_Plan", node_id, wires, **values)
        assert ui["text"] == [decision]
        return plan, decision, is_hit

    def fingerprint(self, prompt, node_id="plan", wires=(), **values):
        return self.pack.fingerprint("CHAI_Plan", node_id, wires, pipeline=self.pipeline, prompt=prompt, **values)

    def sample(self, plan, **values):
        values = {"pipeline": self.pipeline, "plan": plan, **FEW, **values}
        (latent, report), _ = self.pack.run("CHAI_Sampler", "sample", **values)
        return latent, json.loads(report)["report"]


@pytest.fixture
def graph(pack, model_folder) -> Graph:
    return Graph(pack, model_folder)


@pytest.fixture
def current(current_pack, model_folder) -> Graph:
    return Graph(current_pack, model_folder)


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


def test_progress_comes_with_every_step_and_pictures_where_previews_are_on(current):
    host = current.pack.host
    plan, *_ = current.plan(FIRST)
    current.sample(plan, seed=1)
    assert [(done, total) for done, total, _ in host.progress] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert all(preview is None for *_, preview in host.progress)
    host.progress.clear()
    host.arguments.preview_method.value = "latent2rgb"
    current.sample(plan, seed=2)
    kind, picture, _ = host.progress[-1][2]
    assert kind == "JPEG" and picture.size[0] >= 192 and picture.width * 32 == picture.height * 48


def test_cancel_stops_between_steps_and_leaves_nothing_behind(current):
    plan, *_ = current.plan(FIRST)
    current.pack.host.cancel_at_step = 2
    with pytest.raises(InterruptProcessingException):
        current.sample(plan, seed=1)
    assert [done for done, *_ in current.pack.host.progress] == [0, 1]
    assert entries() == []
    current.pack.host.cancel_at_step = None
    assert current.sample(plan, seed=1)[1]["steps"] == 3


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


def test_with_another_seed_the_same_plan_uses_what_it_made(current):
    plan, *_ = current.plan(FIRST)
    asked = current.fingerprint(FIRST)
    assert current.sample(plan, seed=1)[1]["reuse"]["outcome"] == "miss"
    assert current.sample(plan, seed=2)[1]["reuse"]["outcome"] == "hit"
    assert current.fingerprint(FIRST) == asked


def test_the_host_moves_the_model_away_and_gets_it_back(current):
    host = current.pack.host
    plan, *_ = current.plan(FIRST, reuse="full")
    current.sample(plan, seed=1)
    (_, patcher) = host.memory[-1]
    weights = next(patcher.model.parameters())
    assert weights.device.type == "cpu" and patcher.partially_unload("cpu", 1) == 0
    patcher.detach()
    host.memory.clear()
    current.sample(plan, seed=2)
    assert host.memory == [("load", patcher)]


def test_latents_that_were_changed_are_decoded_anew(current):
    plan, *_ = current.plan(FIRST)
    latent, _ = current.sample(plan, seed=1)
    (as_made, _, _), _ = current.pack.run("CHAI_Decode", pipeline=current.pipeline, latent=latent)
    halved = {**latent, "samples": latent["samples"] * 0.5}
    (changed, _, video), _ = current.pack.run("CHAI_Decode", pipeline=current.pipeline, latent=halved)
    assert changed.shape == as_made.shape and not torch.equal(changed, as_made)
    notes = read_metadata(Path(video.get_stream_source()))["chai"]["report"]["notes"]
    assert any("changed after this run" in note for note in notes)
    bare = {"samples": latent["samples"]}
    (again, fps, _), _ = current.pack.run("CHAI_Decode", pipeline=current.pipeline, latent=bare)
    assert torch.equal(again, as_made) and fps == 8.0


def test_a_picture_starts_a_video_that_attends_to_a_chosen_donor(current):
    plan, *_ = current.plan(FIRST)
    _, first = current.sample(plan, seed=1)
    plan, decision, is_hit = current.plan(SECOND, donor=first["reuse"]["stored_entry_id"])
    assert is_hit and "chosen by name" in decision
    picture = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(0))
    _, report = current.sample(plan, seed=2, start_image=picture)
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
def test_what_goes_wrong_is_one_sentence(current, node, values, sentence):
    if "pipeline" in current.pack.inputs(node):
        values = {"pipeline": current.pipeline, **values}
    if node == "CHAI_PickDonor":
        values.pop("pipeline")
    errors = current.pack.part("chai_app.errors")
    with pytest.raises(errors.ChaiError) as raised:
        current.pack.run(node, **values)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_a_private_cache_is_read_and_not_written(current, tmp_path):
    (cache,), _ = current.pack.run("CHAI_OpenCache", private=True)
    plan, *_ = current.plan(FIRST, cache=cache)
    picture = torch.zeros(1, 32, 48, 3)
    current.sample(plan, seed=1, start_image=picture)
    assert entries() == [] and not (Settings.from_environment().home / "starts").exists()


def test_the_browser_pins_and_deletes_and_says_so_twice(current):
    plan, *_ = current.plan(FIRST)
    current.sample(plan, seed=1)
    (entry,) = entries()
    for action, is_pinned in (("pin", True), ("unpin", False)):
        (text, _, _), _ = current.pack.run("CHAI_CacheBrowser", action=action, entries=entry.id[:8])
        assert text.startswith(f"#{entry.id[:8]} {action}ned") and entries()[0].is_pinned is is_pinned
    (text, _, _), _ = current.pack.run("CHAI_CacheBrowser", action="delete", entries=entry.id)
    assert "deleted" in text and entries() == []
    (text, _, _), _ = current.pack.run("CHAI_CacheBrowser", action="delete", entries=entry.id)
    assert "There is no entry" in text
    assert ("chai.cache" in {event for event, _ in current.pack.host.events}) is True
