"""Whether weights files are whole, found out from their headers without loading them."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import DamagedCheckpoint, MissingWeights

_LONGEST_HEADER_BYTES = 100_000_000  # what the safetensors library itself accepts


def check_weights(folder: Path) -> None:
    """Look for the weights of one part of a model in `folder`, and whether each file is as long as it says.

    Raises: MissingWeights if there are none or a shard is not there, DamagedCheckpoint if a file is cut short.
    """
    files = {path for index in folder.glob("*.index.json") for path in _shards(index)}
    files |= {path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)}
    missing = sorted(path.name for path in files if not path.is_file())
    if missing or not files:
        what = ", ".join(missing) or "model.safetensors"
        raise MissingWeights(f"Weights are missing in {folder}: {what} is not there, so fetch the model again.")
    for path in sorted(files):
        if path.suffix == ".safetensors":
            _check_safetensors(path)
        elif path.stat().st_size == 0:
            raise DamagedCheckpoint(f"The weights file {path} is empty: fetch the model again.")


def _shards(index: Path) -> set[Path]:
    try:
        return {index.parent / name for name in json.loads(index.read_text())["weight_map"].values()}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedCheckpoint(f"The list of weights files {index} is damaged: fetch the model again.") from error


def _check_safetensors(path: Path) -> None:
    """Header length (8 bytes, little endian), header (JSON), then exactly the bytes that the header speaks of."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        try:
            if not 2 <= header_bytes <= min(_LONGEST_HEADER_BYTES, size_bytes - 8):
                raise ValueError("no header")
            header = json.loads(file.read(header_bytes))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise DamagedCheckpoint(f"The weights file {path} is damaged: fetch the model again.") from error
    whole_bytes = 8 + header_bytes + max(ends, default=0)
    if size_bytes != whole_bytes:
        raise DamagedCheckpoint(
            f"The weights file {path} has {size_bytes:,} bytes of {whole_bytes:,}, so it is damaged: "
            f"fetch the model again."
        )
