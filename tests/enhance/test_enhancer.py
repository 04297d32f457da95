"""The enhancer: the bundled model, what it is asked and what it answers, and every reason to leave a prompt alone."""

import json
import shutil

import pytest

from chai_app.demo.short_prompts import held_out_pairs, is_complete, lost
from chai_app.enhance import DEMO, Enhancer, enhance
from chai_app.enhance.enhancer import checked, cleaned
from chai_app.enhance.models import EXAMPLES, Manner, find, read_manner
from chai_app.errors import BadRequest, Cancelled, DamagedCheckpoint, MissingWeights
from chai_app.prompts import extract
from chai_app.settings import BUNDLED_MODELS, Settings

BUNDLED = BUNDLED_MODELS / "enhancer"
PROMPTS = ["red balloon", "two fish, reef", "a boat moving left", "the rocket on the moon", "white star, forest"]


@pytest.fixture(scope="module")
def enhancer():
    return Enhancer.load(DEMO, device="cpu")


def test_the_bundled_enhancer_completes_prompts_it_has_never_seen_and_loses_nothing(enhancer):
    pairs = held_out_pairs(48)
    results = enhancer.enhance([pair.prompt for pair in pairs], extract, seed=3)
    changed = [each for each in results if each.is_changed]
    assert len(changed) >= 43
    assert all(each.note for each in results if not each.is_changed)
    assert sum(is_complete(each.text) for each in changed) >= 0.95 * len(changed)
    assert sum(not lost(each.original, each.text) for each in changed) >= 0.95 * len(changed)
    assert [each.original for each in results] == [pair.prompt for pair in pairs]


def test_a_prompt_and_a_seed_settle_the_caption_whatever_else_is_in_the_batch(enhancer):
    together = enhancer.enhance(PROMPTS, extract, seed=5)
    apart = enhancer.enhance(PROMPTS[::-1], extract, seed=5, batch_size=2)[::-1]
    assert together == apart
    others = enhancer.enhance(PROMPTS, extract, seed=6)
    assert [each.text for each in others] != [each.text for each in together]


def test_captions_can_be_watched_as_they_grow(enhancer):
    seen = {i: [""] for i in range(len(PROMPTS))}
    results = enhancer.enhance(PROMPTS, extract, on_text=lambda number, text: seen[number].append(text), batch_size=2)
    shown = [(texts[-1], each.text) for texts, each in zip(seen.values(), results, strict=True) if each.is_changed]
    assert len(shown) >= 4 and all(last == text for last, text in shown)
    assert all(len(set(texts)) > 5 for texts in seen.values())


def test_who_watches_can_stop_it(enhancer):
    with pytest.raises(Cancelled):
        enhancer.enhance(PROMPTS, extract, on_text=lambda number, text: len(text) < 10)
    assert enhancer.enhance(PROMPTS[:1], extract)[0].is_changed


def test_with_lynx_fewer_experts_run_and_what_was_asked_for_still_stays(enhancer):
    prompts = [pair.prompt for pair in held_out_pairs(16)]
    results = enhancer.enhance(prompts, extract, lynx_dial=0.5)
    assert enhancer.statistics.after < 0.7 * enhancer.statistics.before
    assert sum(each.is_changed for each in results) >= 10
    assert all(not lost(each.original, each.text) for each in results if each.is_changed)
    enhancer.enhance(prompts[:2], extract, lynx_dial=0)
    assert enhancer.statistics is None


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("a tiger and a red ball", 'does not know "tiger"'),
        ("|0| a red ball |1| a blue ball", "a text of its own"),
        ("a red ball " * 20, "too long"),
    ],
)
def test_a_prompt_that_the_enhancer_cannot_help_is_left_as_it_is_and_a_note_says_why(enhancer, prompt, why):
    others = enhancer.enhance(["red balloon", prompt, "a blue boat"], extract)
    assert others[1].text == prompt and not others[1].is_changed
    assert why in others[1].note
    assert others[0].is_changed and others[2].is_changed


def test_a_prompt_whose_caption_lost_something_is_sent_through_unchanged():
    result = checked("a red ball and a blue car", "a red ball and a green car in the city", extract)
    assert result.text == result.original == "a red ball and a blue car"
    assert result.note == 'The prompt was left as it is: "blue car" would have been lost.'
    assert checked("a ball", "", extract).note.endswith("nothing to say.")
    kept = checked("a red ball", "a red ball rising in the desert", extract)
    assert (kept.text, kept.note, kept.is_changed) == ("a red ball rising in the desert", "", True)


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        (" a red ball , rising", "a red ball, rising"),
        ('"A ball rolls."', "A ball rolls."),
        ("Caption: A ball rolls.\n\nI hope this helps!", "A ball rolls."),
        ("<think>It wants a ball.</think>\nA ball rolls.", "A ball rolls."),
        ("<think>It wants", ""),
        ("A ball rolls. It is red. Behind it a dog", "A ball rolls. It is red."),
        ("A ball rolls over a long", "A ball rolls over a long"),
    ],
)
def test_of_an_answer_the_caption_is_taken(answer, caption):
    assert cleaned(answer) == caption


class FakeTokenizer:
    def __init__(self, chat_template):
        self.chat_template = chat_template

    def apply_chat_template(self, messages, **options):
        assert options == {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        return f"[{messages[0]['content']}]"


def test_a_model_is_asked_in_its_own_manner():
    card = Manner(template="{prompt} <caption>")
    assert card.text_for("a {ball}", FakeTokenizer("x")) == "a {ball} <caption>"
    chat = Manner().text_for("a ball", FakeTokenizer("x"))
    assert chat.startswith("[") and chat.endswith("Request: a ball]")
    base = Manner().text_for("a ball", FakeTokenizer(None))
    assert base.endswith("Request: a ball\nCaption:") and EXAMPLES[0][1] in base


def test_what_makes_no_sense_is_said_before_any_work(enhancer):
    for arguments, words in (
        ({"prompts": ["a ball", " "]}, "Prompt 2 of 2 is empty"),
        ({"prompts": ["a ball"], "batch_size": 0}, "batch size is 0"),
        ({"prompts": ["a ball"], "lynx_dial": 2.0}, "dial is 2"),
    ):
        with pytest.raises(BadRequest, match=words):
            enhancer.enhance(**arguments, mentions_of=extract)
    assert enhancer.enhance([], extract) == []


def test_a_model_that_is_not_here_is_named_with_the_command_that_fetches_it(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    settings = Settings.from_environment({"CHAI_HOME": str(tmp_path)})
    with pytest.raises(MissingWeights, match=r"13\.8 GB.*hf download allenai/OLMoE-1B-7B-0924-Instruct"):
        find("olmoe", settings)
    with pytest.raises(MissingWeights, match="hf download someone/their-moe"):
        find("someone/their-moe", settings)
    with pytest.raises(BadRequest, match="choose one of demo, olmoe, qwen3-moe, mixtral"):
        find("gpt", settings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamagedCheckpoint, match=r"has no config\.json"):
        find(str(tmp_path / "empty"), settings)
    with pytest.raises(BadRequest, match="Unknown number format 'fp8'"):
        Enhancer.load(DEMO, dtype="fp8")


def test_a_model_found_in_the_hub_cache_is_asked_the_usual_way(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: str(tmp_path / name))
    settings = Settings.from_environment({"CHAI_HOME": str(tmp_path)})
    assert find("mixtral", settings) == (tmp_path, Manner())


def test_damaged_folders_are_told_in_one_sentence(tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(BUNDLED, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(DamagedCheckpoint, match="fetch"):
        Enhancer.load(str(folder))
    (folder / "chai.json").write_text(json.dumps({"template": "{promt}"}))
    with pytest.raises(DamagedCheckpoint, match=r"chai\.json is damaged"):
        read_manner(folder)


def test_one_call_loads_a_model_and_enhances(tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(BUNDLED, copy)
    assert enhance(["red balloon"], extract, model=str(copy), seed=2)[0].is_changed
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 15e6
