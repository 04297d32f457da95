"""What MagCache has to know of a model: measured, remembered, asked for before a run."""

import json

import pytest
import torch
from torch import nn

from chai_app.bench.runner import run
from chai_app.engine import Engine
from chai_app.errors import BadRequest
from chai_app.models import find_model
from chai_app.models.mag_ratios import FILE, measuring, ratios_of, save_ratios
from chai_app.request import GenerationRequest
from chai_app.settings import Settings

PROMPT = "a red ball"


class Adds(nn.Module):
    """A block that adds what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.amount = 0.0

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states + self.amount


def test_the_ratios_are_those_of_what_all_blocks_add_from_step_to_step():
    blocks = [Adds(), Adds()]
    with measuring(blocks) as ratios:
        for first, last in ((1.0, 1.0), (2.0, 1.0), (0.5, 1.0)):
            blocks[0].amount, blocks[1].amount = first, last
            blocks[1](blocks[0](hidden_states=torch.randn(2, 3, 5, 8)))
    assert ratios == pytest.approx([1, 1.5, 0.5])
    blocks[1](blocks[0](torch.zeros(1)))
    assert len(ratios) == 3  # nothing is left behind


def test_what_was_measured_here_counts_more_than_what_the_model_brings(tiny_model_folder, tmp_path):
    settings = Settings.from_environment()
    model = find_model(str(tiny_model_folder), settings)
    assert model.mag_ratios == ratios_of(model, settings) == ()
    save_ratios(model, settings, [1.0, 0.9])
    assert ratios_of(model, settings) == (1.0, 0.9)
    (settings.home / FILE).write_text(json.dumps({model.fingerprint(settings): ["much"]}))
    assert ratios_of(model, settings) == ()
    (settings.home / FILE).write_text("{")
    assert ratios_of(model, settings) == ()


def test_the_demo_brings_its_own():
    settings = Settings.from_environment()
    model = find_model("demo", settings)
    assert len(ratios_of(model, settings)) == model.defaults.num_inference_steps


def test_a_model_that_was_not_measured_is_refused_and_once_measured_runs(tiny_model_folder, capsys):
    name = str(tiny_model_folder)
    request = GenerationRequest(PROMPT, seed=1, acceleration="magcache", num_inference_steps=8, is_private=True)
    with pytest.raises(BadRequest, match=r"bench magcache --model .*tiny --save, or choose first-block"):
        Engine(name).plan(request)
    run("magcache", ["--model", name, "--prompts", "2", "--save"])
    told = capsys.readouterr().out
    assert "| 1 | 1.000 | 0.000 |" in told and FILE in told
    engine = Engine(name)
    assert engine.generate(request).report.acceleration == "magcache"


def test_the_published_weights_have_no_folder_to_write_into(monkeypatch, tiny_model_folder):
    model = find_model(str(tiny_model_folder), Settings.from_environment())
    monkeypatch.setattr("chai_app.bench.magcache.find_model", lambda *_: type(model)("opensora-1.2", "", model.parts))
    with pytest.raises(BadRequest, match=r"opensora-1\.2 has no folder with a chai\.json to write into: use --save"):
        run("magcache", ["--model", "opensora-1.2", "--ship"])
