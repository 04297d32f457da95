"""Which family a model is of, by the names of its classes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadRequest, DamagedCheckpoint
from .base import Family
from .known import FAMILIES


def find_family(model: Path | Mapping[str, Any]) -> Family:
    """The family of a folder in diffusers' layout, or of what its `model_index.json` says.

    No code runs, and no weights are read.

    Raises: BadRequest for a folder of none, DamagedCheckpoint for an index that cannot be read.
    """
    index = model if isinstance(model, Mapping) else _index(model)
    where = "This model" if isinstance(model, Mapping) else str(model)
    pipeline, transformer, expert = index.get("_class_name"), _part(index, "transformer"), _part(index, "transformer_2")
    for family in FAMILIES:
        if pipeline in family.pipelines and transformer == family.transformer and expert in (None, transformer):
            return family
    raise BadRequest(
        f"{where} holds {pipeline or 'no pipeline'} with {transformer or 'no transformer'}, which Cache Attention does "
        f"not know: choose a text-to-video or image-to-video folder of {_names()}."
    )


def family_of(transformer: Any) -> Family:
    """The family of a transformer that is loaded.

    Raises: BadRequest for one of none.
    """
    name = type(getattr(transformer, "_orig_mod", transformer)).__name__  # compiled as a whole: refused for that later
    for family in FAMILIES:
        if name == family.transformer:
            return family
    raise BadRequest(f"{name} is no transformer that Cache Attention knows: choose a model of {_names()}.")


def _names() -> str:
    *names, last = (family.name for family in FAMILIES)
    return f"{', '.join(names)} or {last}"


def _part(index: Mapping[str, Any], name: str) -> str | None:
    """A part's class: its bare name if it is one of diffusers' own, None if the model has no such part."""
    said = index.get(name)
    if said in (None, [None, None]):
        return None
    is_plain = isinstance(said, list) and len(said) == 2 and said[0] == "diffusers"
    return str(said[1]) if is_plain else repr(said)


def _index(folder: Path) -> Mapping[str, Any]:
    path = folder / "model_index.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read ({error.strerror}): name a model's folder in diffusers' layout."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is damaged ({type(error).__name__}): fetch the model again.") from error
    if not isinstance(index, dict):
        raise DamagedCheckpoint(f"{path} is no index of a model: fetch the model again.")
    return index
