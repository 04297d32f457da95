"""Which family a folder is of, and folders of every family saved and loaded as the hub has them."""

import json
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from families_kit import CASES, Case, noise, run

from chai_app.attention import Donor
from chai_app.errors import BadRequest, DamagedCheckpoint
from chai_app.families import FAMILIES, family_of, find_family
from chai_app.families.reuse import family_cache_attention

ROOT = Path(__file__).parents[2]


def index_of(family, pipeline):
    return {"_class_name": pipeline, "transformer": ["diffusers", family.transformer]}


def by_pipeline():
    return [(family, pipeline) for family in FAMILIES for pipeline in family.pipelines]


@pytest.mark.parametrize(("family", "pipeline"), by_pipeline(), ids=[pipeline for _, pipeline in by_pipeline()])
def test_classes_that_are_named_are_those_of_diffusers(family, pipeline):
    assert find_family(index_of(family, pipeline)) is family
    assert hasattr(diffusers, pipeline) and hasattr(diffusers, family.transformer)


@pytest.mark.parametrize("name", CASES)
def test_a_folder_as_the_hub_has_it_is_found_and_loaded_and_attends(name, tmp_path):
    case: Case = CASES[name]
    index = index_of(case.family, case.family.pipelines[0])
    if case.scheduler is not None:
        case.scheduler.save_pretrained(tmp_path / "scheduler")
        index["scheduler"] = ["diffusers", type(case.scheduler).__name__]
    made = case.transformer()
    made.save_pretrained(tmp_path / "transformer")
    (tmp_path / "model_index.json").write_text(json.dumps(index), "utf-8")
    assert find_family(tmp_path) is case.family
    loaded = diffusers.AutoModel.from_pretrained(str(tmp_path), subfolder="transformer").eval()
    assert family_of(loaded) is case.family
    scheduler = type(case.scheduler).from_pretrained(tmp_path, subfolder="scheduler") if case.scheduler else None
    found = []
    for model, schedule in ((made, case.scheduler), (loaded, scheduler)):
        with family_cache_attention(model, Donor(clean=noise(2)), scheduler=schedule) as reuse:
            found.append(run(case, model, noise(1)))
        assert reuse.steps_done == [2, 3, 4]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    "index",
    [
        {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]},
        {"_class_name": "WanVACEPipeline", "transformer": ["diffusers", "WanVACETransformer3DModel"]},
        {"_class_name": "WanVideoToVideoPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]},
        {"_class_name": "WanPipeline", "transformer": ["my_code", "WanTransformer3DModel"]},
        {"_class_name": "WanPipeline", "transformer": ["diffusers", "LTXVideoTransformer3DModel"]},
        {"_class_name": "WanPipeline", "transformer": "WanTransformer3DModel"},
        {
            "_class_name": "WanPipeline",
            "transformer": ["diffusers", "WanTransformer3DModel"],
            "transformer_2": ["my_code", "Expert"],
        },
        {"_class_name": ["WanPipeline"], "transformer": ["diffusers", ["WanTransformer3DModel"]]},
        {},
    ],
)
def test_other_folders_are_refused(index):
    with pytest.raises(BadRequest, match=r"which Cache Attention does not know: choose .* Latte or Allegro\."):
        find_family(index)


def test_the_experts_of_wan_may_both_be_there_or_one():
    wan = index_of(FAMILIES[0], "WanPipeline")
    for second in (["diffusers", "WanTransformer3DModel"], [None, None]):
        assert find_family(wan | {"transformer_2": second}).name == "Wan"


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, "\x00"])
def test_a_damaged_index_is_refused(text, tmp_path):
    (tmp_path / "model_index.json").write_text(text, "utf-8")
    with pytest.raises(DamagedCheckpoint, match=r"model_index\.json is (damaged|no index)"):
        find_family(tmp_path)


def test_a_folder_without_an_index_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadRequest, match=r"model_index\.json cannot be read .*diffusers' layout"):
            find_family(folder)


def test_finding_a_family_loads_no_library(tmp_path):
    code = "import sys, chai_app.families; assert not {'torch', 'diffusers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
