"""A model folder is data: nothing in it runs, and nothing outside of it is opened in its name.

The libraries that read model folders can be told by them to import code, fetch some, or unpickle. Each loading call
says no to that; this gate finds it before anything is loaded, and tells the person.
"""

from __future__ import annotations

import json
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import DamagedCheckpoint

_MOST_CONFIG_BYTES = 10_000_000
_MOST_PICKLE_BYTES = 100_000_000  # of names and shapes; the numbers lie beside it
_CONFIG = re.compile(r".*config.*\.json|model_index\.json", re.IGNORECASE)
# What makes a library run or fetch something. Tokenizers' vocabularies may have any of these as words: they are no
# configs, and not asked.
_RUNS = {
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "tokenizer_kwargs",
    "quantization_config",
    "base_model_name_or_path",
    "_target_",
}
_RUNS_BY_PREFIX = ("hf_", "timm_")  # of open_clip: models of other libraries, from wherever they are
_IMPLEMENTATION = "implementation"  # of attention and the like: one with a slash is a repository of kernels
# Released configs that name code of theirs: we read the values and have classes of our own.
_READ_BY_US = ("STDiT3", "VideoAutoencoderPipeline")
_CLASSES = {
    "transformer": ("OpenSoraTransformer3DModel", "STDiT3"),
    "vae": ("AutoencoderKLOpenSora", "VideoAutoencoderPipeline"),
    "scheduler": ("FlowMatchEulerDiscreteScheduler",),
}
_LIBRARIES = re.compile(r"diffusers|transformers|([\w-]+\.)*chai_app\.opensora\.\w+")
_TENSORS_ALONE = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch [A-Z]\w+Storage"
)


def check_only_data(folder: Path) -> None:
    """Look through a model's folder, or that of one of its parts, before anything in it is loaded.

    Raises: DamagedCheckpoint for what would run, or leads out of the folder.
    """
    root = folder.resolve()
    # The hub's cache keeps the files of a snapshot beside it, under the names of their checksums.
    homes = (root, *(parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots"))
    for path in _paths(folder):
        if not any(path.resolve().is_relative_to(home) for home in homes):
            raise _refused(path, "leads out of its folder")
        if path.suffix == ".bin" and path.is_file():
            _check_pickle(path)
        elif path.name.endswith(".index.json"):
            _check_index(path)
        elif _CONFIG.fullmatch(path.name) and path.is_file():
            _check_config(path)


def _paths(folder: Path) -> Iterator[Path]:
    """What a model consists of: its files and those of its parts. A link to a folder is not followed."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from sorted(path.iterdir())


def _check_config(path: Path) -> None:
    config = _read(path)
    if not isinstance(config, dict):
        raise DamagedCheckpoint(f"{path} is damaged (it holds no settings): fetch the model again.")
    if path.name == "adapter_config.json":
        raise _refused(path, "names another model to load")
    if path.name == "model_index.json":
        for part, named in config.items():
            words = named if isinstance(named, list) else []
            if (part == "_class_name" and words) or (words and words[0] and not _is_library(words[0])):
                raise _refused(path, f"names a module of its own for {part}")
    elif config.get("model_type") not in _READ_BY_US:
        for name, value in _settings(config):
            is_kernel = _IMPLEMENTATION in name and "/" in str(value)
            if value and (name in _RUNS or name.startswith(_RUNS_BY_PREFIX) or is_kernel):
                raise _refused(path, f"asks for code by {name!r}")
    known, class_name = _CLASSES.get(path.parent.name), config.get("_class_name")
    if known is not None and class_name is not None and class_name not in known:
        raise _refused(path, f"names the class {str(class_name)[:60]!r} instead of {known[0]}")


def _is_library(name: Any) -> bool:
    return isinstance(name, str) and _LIBRARIES.fullmatch(name) is not None


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """All names and values, however deep."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield from value.items()
            left += value.values()
        elif isinstance(value, list):
            left += value


def _check_index(path: Path) -> None:
    index = _read(path)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict):
        raise DamagedCheckpoint(f"The list of weights files {path} is damaged: fetch the model again.")
    for name in set(map(str, shards.values())):
        if Path(name).name != name or "\\" in name:
            raise _refused(path, f"names a file elsewhere, {name[:60]!r}")
        if not name.endswith((".safetensors", ".bin")):
            raise _refused(path, f"names {name[:60]!r}, which is no file of weights")


def _check_pickle(path: Path) -> None:
    """A .bin is a pickle: only one of tensors and nothing else is let through, without opening it as one."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".pkl"):
                    if member.file_size > _MOST_PICKLE_BYTES:
                        raise _refused(path, "is packed as bombs are")
                    for name in _globals(archive.read(member)):
                        if not _TENSORS_ALONE.fullmatch(name):
                            raise _refused(path, f"would run {name.replace(' ', '.')[:60]!r}")
    except (zipfile.BadZipFile, OSError, ValueError, IndexError, KeyError, RuntimeError) as error:
        raise DamagedCheckpoint(f"The weights file {path} is no file of tensors: fetch the model again.") from error


def _globals(pickle: bytes) -> Iterator[str]:
    """The names that a pickle would import, as "module name"."""
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif opcode.name == "STACK_GLOBAL":
            yield " ".join(texts[-2:])
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            yield "an extension"
        elif isinstance(argument, str):
            texts.append(argument)
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            texts.append("?")  # what was said before: no name of those that are let through


def _read(path: Path) -> Any:
    if path.stat().st_size > _MOST_CONFIG_BYTES:
        raise _refused(path, "is far larger than settings are")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is damaged ({type(error).__name__}): fetch the model again.") from error


def _refused(path: Path, why: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{path} {why}, and a model folder may hold nothing but data: take it from somebody you trust, without that."
    )
