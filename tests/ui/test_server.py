"""What the browser UI gives out, to whom, and its endpoints for programs. No browser needed."""

import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from chai_app.errors import ChaiError
from chai_app.media.video import read_metadata
from chai_app.presets import PRESETS
from chai_app.request import Decision, GenerationRequest, Plan, RequestDefaults
from chai_app.settings import Settings
from ui.compare_donors import ACTS as DONOR_ACTS
from ui.compare_donors import MOST_CHOSEN, chosen_donors
from ui.enhancement import Enhancement
from ui.form import fields_of, preset_words, request_from, requests_from, without_preset
from ui.generate_page import compare_arms
from ui.markup import ago, button, seconds, tag
from ui.plan_view import _chips
from ui.server import Access, launch
from ui.system_page import _memory


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def file_at(site, path):
    return f"{site.url}gradio_api/file={quote(str(path))}"


@pytest.fixture(scope="module")
def client(site):
    return Client(site.url, verbose=False)


def test_a_program_plans_and_generates_and_gets_the_file(client, site):
    plan = client.predict("a red ball in the desert", {"seed": 7, "num_inference_steps": 3}, api_name="/plan")
    assert (plan["request"]["seed"], plan["reuse"]["outcome"], plan["reuse"]["steps"]) == (7, "miss", 3)
    file, told = client.predict("a red ball in the desert", {"seed": 7, "num_inference_steps": 3}, api_name="/generate")
    assert read_metadata(Path(file))["chai"]["request"]["seed"] == 7
    assert told["report"]["steps"] == 3
    assert [job["state"] for job in client.predict(api_name="/queue")] == ["done"]
    assert [entry["prompt"] for entry in client.predict("red", 10, api_name="/entries")] == ["a red ball in the desert"]
    (captioned,) = client.predict(["a red ball in the desert"], 1, api_name="/enhance")
    assert captioned["original"] == "a red ball in the desert" and "red ball" in captioned["text"]
    id = client.predict("a boat", {"num_inference_steps": 1000, "reuse": "full"}, api_name="/submit")
    assert client.predict(id, api_name="/cancel") is True
    assert site.studio.jobs.wait(id, 120).state == "cancelled"


def test_a_program_s_mistake_is_told_in_our_words(client):
    with pytest.raises(AppError, match="Seed must be a whole number"):
        client.predict("a boat", {"seed": -1}, api_name="/plan")
    with pytest.raises(AppError, match="Unknown field 'colour'"):
        client.predict("a boat", {"colour": "red"}, api_name="/generate")
    with pytest.raises(AppError, match="none of them empty"):
        client.predict([" "], api_name="/enhance")


def test_no_inner_handler_is_an_endpoint(client):
    names = set(client.view_api(return_format="dict")["named_endpoints"])
    assert names == {"/generate", "/plan", "/enhance", "/submit", "/queue", "/cancel", "/entries"}


def test_only_our_own_output_is_given_out(site, tmp_path):
    (job,) = site.studio.jobs.submit([GenerationRequest("a red star", num_inference_steps=2, reuse="full")])
    done = site.studio.jobs.wait(job.id, 120)
    assert status_of(file_at(site, done.file)) == 200
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    home = site.studio.settings.home
    for path in (
        secret,
        home / "cache.sqlite3",
        home / "jobs.json",
        Path(__file__),
        done.file.parent / ".." / "home" / "jobs.json",
    ):
        assert status_of(file_at(site, path)) == 403, path


def test_acts_take_no_file_that_did_not_come_through_the_server(site, tmp_path):
    from ui.cache_acts import ACTS

    path = tmp_path / "secret.zip"
    path.write_bytes(b"")
    for act in ("import_check", "import"):
        with pytest.raises(ChaiError, match="did not arrive"):
            ACTS[act](site.studio, {"path": str(path)})


def test_with_a_password_nothing_is_given_to_strangers(model_folder, tmp_path):
    settings = Settings(tmp_path / "home", tmp_path / "models", tmp_path / "videos")
    started = launch(settings, str(model_folder), Access(user="me", password="a long one"))
    try:
        (tmp_path / "videos" / "mine.mp4").write_bytes(b"1")
        assert status_of(f"{started.url}gradio_api/file={tmp_path / 'videos' / 'mine.mp4'}") == 401
        assert status_of(f"{started.url}config") == 401
        with pytest.raises(Exception, match=r"[Aa]uth|[Ll]ogin|401"):
            Client(started.url, verbose=False)
        assert Client(started.url, auth=("me", "a long one"), verbose=False).predict(api_name="/queue") == []
    finally:
        started.close()


def test_open_to_the_network_without_a_password_is_known_as_such():
    assert Access(host="0.0.0.0").is_open
    assert not Access(host="0.0.0.0", user="me", password="x").is_open
    assert not Access().is_open and Access().host == "127.0.0.1"


def test_a_port_that_is_taken_is_told_in_one_sentence(site, model_folder, tmp_path):
    settings = Settings(tmp_path / "home", tmp_path / "models", tmp_path / "videos")
    port = int(site.url.rstrip("/").rsplit(":", 1)[1])
    with pytest.raises(ChaiError, match=f"Port {port} of 127.0.0.1 is not free"):
        launch(settings, str(model_folder), Access(port=port))


def test_a_form_and_a_request_say_the_same():
    request = GenerationRequest(
        "a boat on the moon, drifting left", seed=3, width=64, height=48, num_frames=17, fps=8, guidance_scale=4.0,
        reuse="full", model="demo", preset="draft", acceleration="pab", adaptive_steps=True, start_level=0.6, donors=2,
        original_prompt="a boat",
    )  # fmt: skip
    assert request_from(fields_of(request)) == request


def test_what_is_set_by_itself_counts_more_than_the_preset(site):
    own = site.studio.default_model().defaults
    values = {"prompt": "a boat", "preset": "draft", "reuse": "", "model": str(site.studio.model)}
    drafted = request_from(values).resolved(own)
    half = PRESETS["draft"].steps(own.num_inference_steps)
    assert (drafted.num_inference_steps, drafted.acceleration) == (half, "first-block")
    mine = {**values, "num_inference_steps": "7", "acceleration": "none"}
    settled = request_from(mine).resolved(own)
    assert (settled.num_inference_steps, settled.acceleration) == (7, "none")
    assert settled.fast_steps == drafted.fast_steps
    words, steps, _ = preset_words(mine, site.studio)
    assert words.endswith("What you set counts more: steps of a full run, acceleration.")
    assert steps == str(half)


def test_restored_settings_leave_to_the_preset_what_it_says_anyway(site):
    own = site.studio.default_model().defaults
    request = GenerationRequest("a boat", model=str(site.studio.model), preset="draft", num_inference_steps=7)
    settled = request.resolved(own)
    fields = without_preset(fields_of(settled), site.studio)
    assert (fields["preset"], fields["acceleration"], fields["fast_steps"]) == ("draft", "", "")
    assert fields["num_inference_steps"] == "7"
    assert request_from(fields).resolved(own) == settled


def test_a_caption_keeps_its_original_while_most_of_it_is_left():
    kept = Enhancement("red ball\nblue boat", (("red ball", "one red ball rises in the desert"),
                                               ("blue boat", "a blue boat drifts on the ocean")))  # fmt: skip
    assert Enhancement.from_text(kept.to_text()) == kept
    edited = "one red ball rises quickly in the desert at night"
    assert kept.originals_of(["a blue boat drifts on the ocean", edited]) == ["blue boat", "red ball"]
    assert kept.originals_of(["a star in the desert", "red ball"]) == [None, None]
    assert kept.originals_of([edited, edited]) == ["red ball", None]
    values = {"prompt": f"{edited}\na fish", "per_line": True, "enhanced": kept.to_text()}
    assert [request.original_prompt for request in requests_from(values)] == ["red ball", None]
    for nothing in ("", "no json", "[]", '{"pairs": 3}', '{"strange": 1}'):
        assert Enhancement.from_text(nothing) == Enhancement()


def test_a_comparison_takes_some_donors_of_choice_and_no_more(site):
    jobs = site.studio.jobs
    fields = {"num_inference_steps": 3, "fast_steps": 2, "reuse": "full"}
    made = [jobs.submit([GenerationRequest("a boat", seed=seed, **fields)])[0] for seed in range(MOST_CHOSEN + 2)]
    ids = [jobs.wait(job.id, 120).report.reuse.stored_entry_id for job in made]
    group = compare_arms(site.studio, GenerationRequest("a boat", seed=1, num_inference_steps=3), ids[:2])
    add = DONOR_ACTS["compare_add"]
    with pytest.raises(ChaiError, match="has its arm already"):
        add(site.studio, {"group": group, "id": ids[0]})
    for id in ids[2:MOST_CHOSEN]:
        add(site.studio, {"group": group, "id": id})
    with pytest.raises(ChaiError, match="4 donors of choice are the most"):
        add(site.studio, {"group": group, "id": ids[-1]})
    with pytest.raises(ChaiError, match="no longer on the list"):
        add(site.studio, {"group": "gone", "id": ids[0]})
    assert chosen_donors(jobs.group(group)) == ids[:MOST_CHOSEN]
    arms = [jobs.wait(job.id, 120) for job in jobs.group(group)]
    assert {arm.request.seed for arm in arms} == {1}
    assert {arm.report.reuse.entry_id for arm in arms if arm.label.startswith("donor")} == set(ids[:MOST_CHOSEN])


def test_a_form_gives_every_line_every_seed():
    values = {"prompt": "one\n\n two ", "per_line": True, "count": 2, "seed": 5, "seed_mode": "fixed"}
    assert [(r.prompt, r.seed) for r in requests_from(values)] == [("one", 5), ("one", 6), ("two", 5), ("two", 6)]
    assert request_from({"prompt": "one", "seed": 5, "seed_mode": "random"}).seed is None
    assert request_from({"prompt": "one", "seed_mode": "as before"}, last_seed=9).seed == 9
    assert request_from({"prompt": "one", "resolution": "144p", "aspect": "wide"}).height == 144
    with pytest.raises(ChaiError, match="none is given"):
        request_from({"prompt": "one", "seed_mode": "fixed"})


def test_markup_escapes_what_it_is_given():
    evil = '"><script>alert(1)</script>'
    assert "<script>" not in tag("p", evil, title=evil, data_x=evil)
    assert "<script>" not in button(evil, "act", id=evil, confirm=evil)
    assert tag("p", tag("b", "x")) == "<p><b>x</b></p>"


def test_times_are_told_as_people_do():
    assert [seconds(each) for each in (0.42, 42, 200, 7500)] == ["0.4 s", "42 s", "3 min 20 s", "2 h 5 min"]
    assert [ago(0, now) for now in (5, 300, 7200, 200_000)] == ["just now", "5 min ago", "2 h ago", "2 d ago"]


def test_a_phrase_tells_of_the_nearest_candidate_whichever_comes_last():
    for why, told in (("below the threshold 0.995", "nearest 0.99"), ("older", "in another entry")):
        found = [("moon", 1.0, None), ("red ball", 0.99, why), ("red ball", 0.4, "below the threshold 0.995")]
        candidates = tuple({"wanted": phrase, "score": score, "lost_because": why} for phrase, score, why in found)
        request = GenerationRequest("a red ball on the moon").resolved(RequestDefaults())
        plan = Plan(request, reuse=Decision("hit", 2, candidates=candidates))
        chips = str(_chips(plan))
        assert told in chips and "found 1.00" in chips


def test_the_system_page_is_there_while_torch_is_being_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # as another thread's import leaves it at first
    assert [name for name, _ in _memory(has_torch=False)] == ["Main memory"]
