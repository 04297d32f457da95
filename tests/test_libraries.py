"""Several threads may ask at once in a program that has just begun: one imports and loads, the others wait."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chai_app.cache.embedder import OpenClipEmbedder
from chai_app.engine import Engine
from chai_app.process import loading_turn
from chai_app.settings import BUNDLED_MODELS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("what", ["a model", "an embedder"])
def test_what_loads_by_heavy_libraries_waits_for_who_imports_them(what, tiny_model_folder):
    engine = Engine(str(tiny_model_folder), device="cpu")
    embedder = OpenClipEmbedder(f"local-dir:{BUNDLED_MODELS / 'demo' / 'embedder'}")
    load = engine.warm_up if what == "a model" else lambda: embedder.embed(["a ball"])
    thread = threading.Thread(target=load)
    with loading_turn():
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and engine.loaded is None and "_tower" not in vars(embedder)
    thread.join(120)
    assert engine.loaded is not None or "_tower" in vars(embedder)


def test_a_plan_and_a_run_may_begin_together_in_a_fresh_program(tiny_model_folder, tmp_path):
    """As on a server that starts with a waiting job and an open page."""
    script = f"""
import threading
from chai_app.cache.embedder import OpenClipEmbedder
from chai_app.engine import Engine
engine, other = (Engine({str(tiny_model_folder)!r}, device="cpu") for _ in range(2))
embedder = OpenClipEmbedder({f"local-dir:{BUNDLED_MODELS / 'demo' / 'embedder'}"!r})
together, done = threading.Barrier(4), []
def do(what):
    together.wait()
    what()
    done.append(what)
embeds = [lambda: embedder.embed(["a ball"]), lambda: OpenClipEmbedder(embedder._model).embed(["a boat"])]
asks = [engine.warm_up, other.warm_up, *embeds]
threads = [threading.Thread(target=do, args=[ask]) for ask in asks]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(done) == 4
import torch
assert torch.nn.Linear(1, 1).weight.device.type == "cpu" and torch.get_default_dtype() == torch.float32
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CHAI_HOME": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
