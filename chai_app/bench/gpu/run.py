"""A quarter of an hour on a large GPU, used well: is it right there, how fast is it, and train for the rest.

On a machine that holds no more than torch, transformers, accelerate, safetensors and triton, and reaches no network:

    python -m chai_app.bench.gpu.pack kit.tar.xz                       # here, with a network; prints the size
    mkdir /tmp/kit && tar xf kit.tar.xz -C /tmp/kit && cd /tmp/kit && \\
        PYTHONPATH=site python3 -m chai_app.bench.gpu --out "$OUT" --minutes 9      # there
    python app.py bench gpu --small --device cpu --out /tmp/gpu        # here, to try it

Results are written after every step, to PART.json. What the machine lacks is passed over with a line, and what fails or
takes too long does not stop the rest: each part is a process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..header import ROOT, header, printed
from ..step import SEED
from .kit import Kit

PARTS = {"right": 3.0, "fast": 6.5, "train": 60.0}
"""The parts, and the most minutes that each may take of all."""
LATE_S = 20.0  # a part that is stuck where Python cannot stop it is ended so much later
PACKAGES = ("torch", "transformers", "diffusers", "accelerate", "safetensors", "triton", "xformers", "torchao", "av")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="bench gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=12.0, help="for all parts; training has what the others leave")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder for PART.json, samples and weights")
    parser.add_argument("--device", help="cuda if there is one")
    parser.add_argument(
        "--latents", type=Path, help="folder of stores to train from, as demo.learn.latents writes them"
    )
    parser.add_argument("--small", action="store_true", help="small models, to try the kit without a large GPU")
    options = parser.parse_args(arguments)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(options.parts) > 1:
        in_processes(options, given)
        return
    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cpu" and not options.small:
        parser.error("in their full size the models need a GPU: --small tries the kit without one")
    told = header("gpu", given, SEED, ("torch",))
    told["versions"] |= _versions()
    if device.startswith("cuda"):
        told["card"] = torch.cuda.get_device_name(device)
    print(printed(told), flush=True)
    (part,) = options.parts
    kit = Kit(device, options.out / f"{part}.json", options.minutes, options.small, told)
    for name, budget_s, work in _steps(part, options.latents):
        kit.step(name, budget_s, work)
    print("\n".join(as_text(part, kit.found["steps"])), flush=True)


def in_processes(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Every part by itself: an error of CUDA spoils all that its process still has to do."""
    end = time.monotonic() + 60 * options.minutes
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    # Libraries that look for a network wait long for none.
    environment = {"HF_HUB_OFFLINE": "1", **os.environ, "PYTHONPATH": path}
    for part in options.parts:
        minutes = min(PARTS[part], (end - time.monotonic()) / 60)
        command = [sys.executable, "-m", __package__, *arguments, "--parts", part, "--minutes", f"{minutes:.2f}"]
        try:
            limit_s = max(0.0, 60 * minutes) + LATE_S
            code = subprocess.run(command, check=False, timeout=limit_s, env=environment).returncode
            outcome = "" if code == 0 else f"{part} ended with code {code}; what it found until then is written."
        except subprocess.TimeoutExpired:
            outcome = f"{part} was stuck and ended; what it found until then is written."
        if outcome:
            print(outcome, flush=True)


def _steps(part: str, latents: Path | None) -> list[tuple[str, float, Any]]:
    """The steps of a part; where its modules cannot even be imported, one that says so."""
    try:
        if part == "right":
            from . import right

            return right.steps()
        if part == "fast":
            from . import fast

            return fast.steps()
        from . import learn

        return learn.steps(latents)
    except ImportError as error:
        lack = error

        def tell(_kit: Kit) -> dict[str, Any]:
            raise lack

        return [(part, 60, tell)]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not here"
    return found


def as_text(part: str, found: dict[str, Any]) -> Iterator[str]:
    """The tables of a part, from the results of its steps."""
    if part == "right":
        from . import right

        yield from ("| step | outcome | worst |", "| --- | --- | --- |", *right.rows(found))
    elif part == "fast":
        from . import fast

        yield from fast.rows(found)
    else:
        from . import learn

        yield from ("| training | steps | ms a step | loss |", "| --- | --- | --- | --- |", *learn.rows(found))
    yield from (f"{name}: {result['ended']}." for name, result in found.items() if result["ended"] != "done")
