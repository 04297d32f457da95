"""Named tensors as the bytes of a safetensors file, and back to fp32.

fp16 is what entries are stored in: half of fp32, and no difference that a decoded video shows (docs/cache.md has the
figures). int8, with a scale for every channel, is a quarter and does show; it is for sizes where the disk is the limit.
bf16 takes as much as fp16 and keeps an eighth of its precision, so it is not offered. Nor is compression: latents are
noise to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

Storage = Literal["fp32", "fp16", "int8"]

_FORMAT = "chai-latents-1"
_SCALE = "scale of "
_LARGEST_FP16 = 65504.0
_MOST_HEADER_BYTES = 1_000_000


def encode(tensors: Mapping[str, NDArray[np.floating[Any]]], storage: Storage = "fp16") -> bytes:
    """The whole file. A tensor with values beyond the range of fp16 is stored in fp32, whatever was asked.

    Raises: ValueError for values that are not finite, which would spoil every video that reuses them.
    """
    stored: dict[str, NDArray[Any]] = {}
    tags: dict[str, Storage] = {}
    for name, tensor in tensors.items():
        values = np.ascontiguousarray(tensor, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"the tensor {name} holds values that are not finite")
        tags[name] = storage if np.abs(values).max(initial=0) <= _LARGEST_FP16 else "fp32"
        if tags[name] == "fp32":
            stored[name] = values
        elif tags[name] == "fp16":
            stored[name] = values.astype(np.float16)
        else:
            stored[name], stored[_SCALE + name] = _to_int8(values)
    return save(stored, metadata={"format": _FORMAT, "storage": json.dumps(tags)})


def decode(content: bytes) -> dict[str, NDArray[np.float32]]:
    """What `encode` was given, in fp32.

    Raises: ValueError if the bytes are not a file of ours; nothing is trusted but their length.
    """
    tags = _tags(content)
    try:
        stored = load(content)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"no safetensors file: {error}") from error
    tensors = {}
    for name, storage in tags.items():
        if name not in stored:
            raise ValueError(f"the tensor {name} is missing")
        values = stored.pop(name)
        wanted = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}.get(str(storage))
        if wanted is None or values.dtype != wanted:
            raise ValueError(f"the tensor {name} is {values.dtype}, which is not {storage}")
        tensors[name] = _from_int8(name, values, stored) if storage == "int8" else values.astype(np.float32)
        if not np.isfinite(tensors[name]).all():
            raise ValueError(f"the tensor {name} holds values that are not finite")
    if stored or not tensors:
        raise ValueError(f"unexpected tensors: {', '.join(sorted(stored)) or 'none at all'}")
    return tensors


def _tags(content: bytes) -> dict[str, str]:
    header_bytes = int.from_bytes(content[:8], "little")
    if not 2 <= header_bytes <= min(_MOST_HEADER_BYTES, len(content) - 8):
        raise ValueError("no safetensors file: the header is missing")
    try:
        metadata = json.loads(content[8 : 8 + header_bytes])["__metadata__"]
        tags = json.loads(metadata["storage"])
        if metadata["format"] != _FORMAT or not isinstance(tags, dict):
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no latents file of ours: {error}") from error
    return tags


def _to_int8(values: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(C, ...) as (C, ...) whole numbers from -127 to 127 and (C,) scales."""
    channels = values.reshape(len(values), -1)
    scale = np.abs(channels).max(axis=1, initial=0) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    return np.rint(channels / scale[:, None]).astype(np.int8).reshape(values.shape), scale


def _from_int8(name: str, values: NDArray[np.int8], stored: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    scale = stored.pop(_SCALE + name, None)
    if scale is None or scale.dtype != np.float32 or scale.shape != values.shape[:1]:
        raise ValueError(f"the tensor {name} has no scales")
    return values.astype(np.float32) * scale.reshape(-1, *[1] * (values.ndim - 1))
