"""What a command imports before it works: no more than it uses. The time of it is a benchmark's (`bench start`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEVER = {
    *("torch._dynamo", "torch._inductor", "torchvision", "torchvision.models", "torchao", "timm", "xformers"),
    *("bs4", "nltk", "scipy", "pandas", "sklearn", "matplotlib", "gradio", "spacy", "transformers.models"),
}
MODEL_LIBRARIES = {"torch", "diffusers", "transformers", "open_clip", "faiss", "av", "sympy", "accelerate"}
TELL = """
import atexit, json, sys
atexit.register(lambda: print("IMPORTED", json.dumps(sorted(sys.modules)), file=sys.stderr))
"""


def python(script: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CHAI_HOME": str(home), "CHAI_OUTPUT": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def imported_by(home: Path, *arguments: str) -> set[str]:
    """The modules that a command has imported by its end."""
    told = python(f"{TELL}\nimport runpy\nrunpy.run_path('app.py', run_name='__main__')", home, *arguments)
    words, _, names = told.stderr.rpartition("IMPORTED ")
    assert told.returncode == 0, words
    return set(json.loads(names))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def of_generate(home):
    """What the first video of a cache imports; it makes the cache that the others look into."""
    return imported_by(home, "generate", "a red ball on the moon", "--device", "cpu")


def test_generate_imports_nothing_that_no_video_is_made_by(of_generate):
    assert {"torch", "diffusers", "transformers", "open_clip"} <= of_generate
    assert not of_generate & NEVER


@pytest.mark.parametrize("command", [["--help"], ["generate", "--help"], ["cache", "ls"], ["cache", "stats"]])
def test_what_needs_no_model_imports_no_library_of_one(of_generate, home, command):
    assert not imported_by(home, *command) & (MODEL_LIBRARIES | NEVER)


def test_a_search_of_an_empty_cache_loads_no_embedder(tmp_path):
    assert not imported_by(tmp_path, "cache", "search", "ball") & (MODEL_LIBRARIES | NEVER)


def test_a_search_for_a_thing_that_videos_show_loads_no_embedder(of_generate, home):
    assert not imported_by(home, "cache", "search", "red ball") & (MODEL_LIBRARIES - {"faiss"} | NEVER)


def test_a_search_for_a_new_word_loads_one_text_tower_and_nothing_else(of_generate, home):
    imported = imported_by(home, "cache", "search", "boat")
    assert "open_clip" in imported and not imported & (NEVER | {"diffusers", "transformers", "sympy", "accelerate"})


def test_what_was_left_out_is_whole_for_whoever_needs_it_later(tmp_path):
    """Also where it was asked for, or stood for, while our libraries were imported."""
    told = python(
        """
import sys
from chai_app.cache.embedder import OpenClipEmbedder
from chai_app.engine.libraries import import_libraries
from chai_app.prompts import extract
from chai_app.settings import Settings
OpenClipEmbedder("local-dir:assets/demo/embedder").embed(["a ball"])
import_libraries(Settings.from_environment())
extract("a red ball")
import torch
left_out = {"torch._dynamo", "torchvision", "torchao", "timm", "nltk"}
assert not left_out & set(sys.modules)

compiled = torch.compile(lambda x: x + 1, backend="eager")
assert compiled(torch.ones(1)) == 2 and "torch._dynamo" in sys.modules
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.config.cache_size_limit > 0
from diffusers.utils.torch_utils import is_compiled_module
module = torch.nn.Linear(1, 1)
assert not is_compiled_module(module) and is_compiled_module(torch.compile(module, backend="eager"))

import torchvision
from diffusers.utils import import_utils
from importlib.metadata import packages_distributions
assert "torch" in import_utils._package_map and import_utils._package_map["PIL"] == packages_distributions()["PIL"]
assert torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5).tolist() == [0]
assert torchvision.ops.misc.FrozenBatchNorm2d and torchvision.models.resnet18
import open_clip.transform
assert open_clip.transform.InterpolationMode is torchvision.transforms.InterpolationMode
assert isinstance(open_clip.utils.FrozenBatchNorm2d(2), torchvision.ops.misc.FrozenBatchNorm2d)

import transformers.models
assert transformers.models.bert.BertModel and transformers.models.t5.T5EncoderModel is transformers.T5EncoderModel
import textblob
assert textblob.Word("boats").singularize() == "boat" and "nltk" in sys.modules
import timm
assert open_clip.timm_model.timm.create_model is timm.create_model
""",
        tmp_path,
    )
    assert told.returncode == 0, told.stderr


def test_embeddings_are_those_of_the_whole_library(tmp_path):
    told = python(
        """
import open_clip, torch
model, tokenizer = open_clip.create_model("local-dir:assets/demo/embedder"), open_clip.get_tokenizer(
    "local-dir:assets/demo/embedder"
)
with torch.inference_mode():
    whole = model.eval().encode_text(tokenizer(["a red ball"]), normalize=True)
print(whole.tolist())
""",
        tmp_path,
    )
    ours = python(
        """
from chai_app.cache.embedder import OpenClipEmbedder
print(OpenClipEmbedder("local-dir:assets/demo/embedder").embed(["a red ball"]).tolist())
""",
        tmp_path,
    )
    assert json.loads(ours.stdout) == json.loads(told.stdout), ours.stderr


def test_a_library_that_cannot_do_without_a_package_gets_it(tmp_path):
    """Where one of another version calls or inherits from what was left out, or fails without."""
    (tmp_path / "left.py").write_text("class Base: made = True\ndef double(x): return 2 * x\n")
    (tmp_path / "caller.py").write_text("from left import double\nfour = double(2)\n")
    (tmp_path / "heir.py").write_text("from left import Base\nclass Heir(Base): pass\n")
    (tmp_path / "picky.py").write_text("import sys, left\nassert left.__file__\n")
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from importlib import import_module
from chai_app.process.lean_import import lean_import
for name in ("caller", "heir", "picky"):
    sys.modules.pop("left", None)
    module = lean_import(lambda: import_module(name), aside=("left",))
    assert "left" in sys.modules, name
    assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_Finder"]
assert import_module("caller").four == 4 and import_module("heir").Heir.made
"""
    told = python(script, tmp_path)
    assert told.returncode == 0, told.stderr
