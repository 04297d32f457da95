"""What the figures of a benchmark depend on, said above each of its tables."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..settings import PROGRAM

ROOT = Path(__file__).parents[2]
"""A clone, or the folder into which the program was installed."""
APP = ["app.py"] if (ROOT / "app.py").is_file() else ["-m", "chai_app.ui"]
"""What starts the program from there, after the name of the interpreter."""


def header(bench: str, arguments: Sequence[str], seed: int, libraries: Sequence[str]) -> dict[str, Any]:
    """The command, the commit, the seed, the machine and the versions, as plain values.

    Args:
        bench: the module in this package; libraries: distributions whose versions count.
    """
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
        ).stdout.strip()
    except OSError:
        commit = ""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    device = f"{platform.machine()}, {os.cpu_count()} cores{load}"
    if "torch" in libraries:
        import torch

        device += f", {torch.get_num_threads()} threads"
        device += f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return {
        "command": " ".join([f"{PROGRAM} bench {bench}", *arguments]),
        "commit": commit or "unknown",
        "seed": seed,
        "device": device,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
    }


def printed(told: dict[str, Any]) -> str:
    return "\n".join(f"{what}: {value}" for what, value in told.items())
