"""Phrases as directions, by the text tower of an open_clip model. Weights are never fetched unasked."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks.only_data import check_only_data
from ..errors import DamagedCheckpoint, MissingWeights
from ..process import loading_turn
from ..process.lean_import import lean_import

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOCAL = "local-dir:"
_CONFIG = "open_clip_config.json"
# In the order in which open_clip itself looks for them.
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_HUB_BLOB = re.compile(r"[0-9a-f]{64}")
_REMEMBERED_TEXTS = 4_096
_MOST_READ = 2_000  # characters; 77 tokens of English are fewer
_BATCH = 256


class OpenClipEmbedder:
    """The text tower of `model`, loaded when the first unknown text arrives; the texts seen last are remembered.

    Args:
        model: `local-dir:FOLDER` (open_clip_config.json and weights), or a name that open_clip knows, as ViT-L-14.
        pretrained: which weights of a named model; means nothing for a folder.
        device: of torch.
    Raises: MissingWeights if the weights are not on this machine.
    """

    def __init__(self, model: str, pretrained: str | None = None, device: str = "cpu") -> None:
        self._model, self._pretrained, self._device = model, pretrained, device
        self._remembered: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        if model.startswith(_LOCAL):
            folder = Path(model.removeprefix(_LOCAL)).expanduser()
            self.name = folder.parent.name if folder.name == "embedder" else folder.name
            self._weights = _weights_in(folder)
            check_only_data(folder)
            self._config_text = (folder / _CONFIG).read_text(encoding="utf-8")
            self._model = _LOCAL + str(folder)
        else:
            self.name = f"{model}/{pretrained}"
            self._weights = _weights_of(model, pretrained)
            self._config_text = self.name

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits made of the content of configuration and weights."""
        digest = hashlib.sha256(self._config_text.encode())
        blob = self._weights.resolve()
        if blob.parent.name == "blobs" and _HUB_BLOB.fullmatch(blob.name):  # named by its own checksum
            digest.update(blob.name.encode())
        else:
            with blob.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").hexdigest().encode())
        return digest.hexdigest()[:16]

    @cached_property
    def dim(self) -> int:
        """Width of an embedding."""
        if self._model.startswith(_LOCAL):
            config = json.loads(self._config_text)
            return int(config.get("model_cfg", config)["embed_dim"])
        return int(_open_clip().get_model_config(self._model)["embed_dim"])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D), each row of length 1. Case and blanks make no difference, nor does what lies beyond all that the
        model reads: its tokeniser takes time with the square of a word's length."""
        import numpy as np

        keys = [" ".join(text.split()).lower()[:_MOST_READ] for text in texts]
        with self._lock:
            new = [key for key in dict.fromkeys(keys) if key not in self._remembered]
            found = {key: self._remembered[key] for key in keys if key in self._remembered}
            for i in range(0, len(new), _BATCH):
                found.update(zip(new[i : i + _BATCH], self._encode(new[i : i + _BATCH])))
            for key in dict.fromkeys(keys):
                self._remembered[key] = found[key]
                self._remembered.move_to_end(key)
            while len(self._remembered) > _REMEMBERED_TEXTS:
                self._remembered.popitem(last=False)
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, self.dim), np.float32)

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        model, tokenizer = self._tower
        import torch

        with torch.inference_mode():
            embeddings = model.encode_text(tokenizer(texts).to(self._device), normalize=True)
        values: NDArray[np.float32] = embeddings.float().cpu().numpy()
        return values

    @cached_property
    def _tower(self) -> tuple[Any, Any]:
        with loading_turn():
            return self._loaded_tower()

    def _loaded_tower(self) -> tuple[Any, Any]:
        open_clip = _open_clip()
        pretrained = None if self._model.startswith(_LOCAL) else str(self._weights)
        # A tag carries this with it, the path of its file does not.
        tag = {} if pretrained is None else open_clip.get_pretrained_cfg(self._model, self._pretrained)
        try:
            model = open_clip.create_model(
                self._model,
                pretrained=pretrained,
                device=self._device,
                force_quick_gelu=bool(tag.get("quick_gelu")),
                weights_only=True,
            )
        except Exception as error:
            raise DamagedCheckpoint(
                f"The embedder's weights {self._weights} cannot be loaded ({type(error).__name__}): fetch them again."
            ) from error
        del model.visual  # half of the memory, and only texts are embedded
        return model.eval(), open_clip.get_tokenizer(self._model)


def _open_clip() -> Any:
    """The library, without what its picture towers, and text towers of other libraries, are made of: this embeds text
    by its own. (Of torchvision it takes the transforms of pictures, each a module that does without the rest.)"""

    def load() -> Any:
        import torch  # noqa: F401, I001 (the others look for it)
        import open_clip

        return open_clip

    return lean_import(load, aside=("timm", "transformers", "torchvision.ops"), bare=("torchvision",))


def _weights_in(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file() and (folder / _CONFIG).is_file():
            return folder / name
    missing = _WEIGHTS[0] if (folder / _CONFIG).is_file() else _CONFIG
    raise MissingWeights(f"The embedder's {missing} is not in {folder}: fetch the model again, or name another folder.")


def _weights_of(model: str, pretrained: str | None) -> Path:
    """The file in the Hugging Face cache that belongs to a named model."""
    open_clip = _open_clip()
    from huggingface_hub import try_to_load_from_cache

    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        known = f"choose one of its weights: {', '.join(tags)}" if tags else "open_clip knows no weights for it"
        raise MissingWeights(f"There is no embedder {model} with the weights {pretrained!r}: {known}.")
    repository, _, name = open_clip.get_pretrained_cfg(model, pretrained).get("hf_hub", "").rpartition("/")
    names = [name] if name else list(_WEIGHTS)
    for name in names:
        path = try_to_load_from_cache(repository, name) if repository else None
        if isinstance(path, str):
            return Path(path)
    raise MissingWeights(
        f"The weights of the embedder {model}/{pretrained} are not on this machine: fetch them with "
        f"hf download {repository} {names[0]}"
    )
