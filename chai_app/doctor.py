"""Examines this machine and says, check by check, whether videos can be made here."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from . import __version__
from .errors import ChaiError
from .media.video import read_video, write_video
from .models import DEMO, list_models
from .settings import Settings

_OLDEST_PYTHON = (3, 11)
# import name: distribution name
_NEEDED = {
    "torch": "torch",
    "diffusers": "diffusers",
    "transformers": "transformers",
    "accelerate": "accelerate",
    "safetensors": "safetensors",
    "av": "av",
    "PIL": "pillow",
}
_ENOUGH_FREE_BYTES = 2_000_000_000
_LEAST_FREE_BYTES = 50_000_000


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: ok, note (works, but worth knowing) or problem (videos cannot be made)."""

    name: str
    status: Literal["ok", "note", "problem"]
    detail: str

    def to_json(self) -> dict[str, str]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def examine(settings: Settings) -> list[Check]:
    """Look at everything; takes as long as importing the libraries. Never raises: what goes wrong is a problem."""
    looks: list[Callable[[], Iterator[Check]]] = [
        _python,
        _packages,
        _device,
        _attention,
        _video,
        lambda: _models(settings),
        lambda: _folders(settings),
    ]
    checks: list[Check] = []
    for look in looks:
        try:
            checks.extend(look())
        except Exception as error:  # a broken library can raise anything, and saying so is what this is for
            name = getattr(look, "__name__", "check").strip("_")
            checks.append(Check(name, "problem", f"{type(error).__name__}: {error}"))
    return checks


def is_healthy(checks: list[Check]) -> bool:
    """Whether videos can be made: no check found a problem."""
    return all(check.status != "problem" for check in checks)


def _python() -> Iterator[Check]:
    detail = f"chai {__version__}, Python {platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        yield Check("python", "problem", f"{detail}: Python 3.11 or later is needed")
    else:
        yield Check("python", "ok", detail)


def _packages() -> Iterator[Check]:
    for module, distribution in _NEEDED.items():
        try:
            import_module(module)
            yield Check(distribution, "ok", version(distribution))
        except Exception as error:  # not only ImportError: a mismatched build raises what it likes
            detail = f"cannot be imported ({type(error).__name__}: {error}): pip install -r requirements.txt"
            yield Check(distribution, "problem", detail)


def _device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(i)
            name = f"{torch.cuda.get_device_name(i)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
            yield Check(f"cuda:{i}", "ok", name + (", bf16" if bf16 else ", no bf16: fp32 is used"))
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = f", {_main_memory_bytes() / 1e9:.0f} GB memory" if _main_memory_bytes() else ""
    detail = f"{cores} cores{memory}; no CUDA GPU, so the published weights would take hours"
    yield Check("cpu", "ok", detail)


def _attention() -> Iterator[Check]:
    import torch

    from .opensora.attention import attention_kernel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    kernel = attention_kernel(device, torch.bfloat16 if device == "cuda" else torch.float32, 64).value
    name = {"xformers": "xformers memory-efficient attention", "native": "torch SDPA"}.get(kernel, kernel)
    try:
        xformers = f"xformers {version('xformers')}"
    except PackageNotFoundError:
        xformers = "xformers is not installed"
    if device == "cuda" and kernel != "xformers":
        yield Check("attention", "note", f"{name} on {device}; {xformers} has no kernel for this torch and GPU")
    else:
        reason = "" if device == "cuda" else f"; {xformers}, which has no kernel for the CPU"
        yield Check("attention", "ok", f"{name} on {device}{reason}")


def _video() -> Iterator[Check]:
    import numpy as np

    frames = np.full((3, 16, 16, 3), 128, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in ((".mp4", "H.264"), (".webm", "VP9")):
            try:
                path = write_video(Path(folder) / f"clip{suffix}", frames, 8).path
                whole = len(read_video(path).frames) == len(frames)
                yield Check(suffix[1:], "ok" if whole else "problem", f"{codec} written and read back")
            except ChaiError as error:
                yield Check(suffix[1:], "problem" if suffix == ".mp4" else "note", str(error))


def _models(settings: Settings) -> Iterator[Check]:
    for status in list_models(settings):
        name = f"model {status.name}"
        if status.model is not None:
            where = status.model.folder or ", ".join(str(folder) for folder in status.model.parts.values())
            yield Check(name, "ok", f"fingerprint {status.model.fingerprint(settings)}, at {where}")
            if status.problem is not None:
                yield Check(name, "note", status.problem)
        else:
            yield Check(name, "problem" if status.name == DEMO else "note", status.problem or "")


def _folders(settings: Settings) -> Iterator[Check]:
    places = {"CHAI_HOME": settings.home, "CHAI_MODELS": settings.models_folder, "CHAI_OUTPUT": settings.output_folder}
    for name, folder in places.items():
        there = folder.absolute()
        while not there.exists():  # a folder is made when it is first needed, within the nearest that is there
            there = there.parent
        shown = str(folder) if there == folder.absolute() else f"{folder} (not there yet)"
        if not there.is_dir() or not os.access(there, os.W_OK):
            is_needed = name != "CHAI_MODELS"
            yield Check(
                name, "problem" if is_needed else "note", f"{shown} is not writable: set {name} to another folder"
            )
            continue
        free = shutil.disk_usage(there).free
        detail = f"{shown}, {free / 1e9:.1f} GB free"
        if free < _LEAST_FREE_BYTES:
            yield Check(name, "problem", f"{detail}: free some space, or set {name} to another folder")
        else:
            yield Check(name, "ok" if free >= _ENOUGH_FREE_BYTES else "note", detail)


def _main_memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
