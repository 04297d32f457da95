"""The measuring of extraction: what counts as found, and what a person sees."""

import json

import pytest

from chai_app.errors import BadRequest
from chai_app.prompts.measure import main, measure, read_records

RECORDS = [
    {"prompt": "a red bicycle", "objects": ["bicycle"], "scene": None, "kind": "colour"},
    {"prompt": "a wolf in a valley", "objects": ["wolf", "sleigh", "valley"], "scene": None, "kind": "misses"},
    {"prompt": "two wolves and a bell", "objects": ["wolf"], "scene": "lighthouse", "kind": "misses"},
]


def test_an_entity_counts_for_the_expected_phrase_that_it_contains():
    score = measure(RECORDS[:1])["all"]
    assert (score.objects, score.objects_found, score.false_entities, score.misses) == (1, 1, 0, [])


def test_every_miss_is_told_with_its_prompt():
    score = measure(RECORDS)["misses"]
    assert (score.objects, score.objects_found, score.objects_called_scenes) == (4, 2, 1)
    assert (score.scenes, score.scenes_found, score.false_entities) == (1, 0, 1)
    assert score.misses == [
        ("a wolf in a valley", "object 'sleigh' not found"),
        ("a wolf in a valley", "object 'valley' called a scene"),
        ("two wolves and a bell", "scene 'lighthouse' not found"),
        ("two wolves and a bell", "false: 'bell'"),
    ]


def test_figures_come_for_each_kind_and_for_all():
    scores = measure(RECORDS)
    assert set(scores) == {"all", "colour", "misses"}
    assert scores["all"].figures()["objects found"] == "3/5 = 60.0 %"
    assert scores["colour"].figures()["scenes found"] == "-"


def test_the_command_prints_a_table_with_the_misses_and_writes_json(tmp_path, capsys):
    file, out = tmp_path / "prompts.jsonl", tmp_path / "out.json"
    file.write_text("\n".join(json.dumps(record) for record in RECORDS) + "\n")
    assert main([str(file), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert (
        "objects called scenes" in printed
        and "object 'sleigh' not found" in printed
        and "two wolves and a bell" in printed
    )
    assert json.loads(out.read_text())["all"]["objects_found"] == 3


@pytest.mark.parametrize("text", ["not json\n", '{"prompt": "a"}\n', '{"prompt": 1, "objects": []}\n', "[]\n"])
def test_a_file_of_another_form_is_refused_in_one_sentence(text, tmp_path, capsys):
    file = tmp_path / "prompts.jsonl"
    file.write_text(text)
    with pytest.raises(BadRequest, match=r"is not a file of prompts: .*\.$"):
        read_records(file)
    assert main([str(tmp_path / "missing.jsonl")]) == 2
    assert capsys.readouterr().err.startswith("Cannot read ")
