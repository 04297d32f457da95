"""Which models there are, whether their weights are on this machine, and how to get them. Loads no weights.

A model is either a folder in diffusers' layout (transformer/, vae/, text_encoder/, tokenizer/, scheduler/, and a
chai.json that tells its name, defaults and vocabulary) or the three published parts of Open-Sora 1.2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..checks import check_fields, check_text
from ..checks.only_data import check_only_data
from ..errors import BadRequest, CannotRead, ChaiError, DamagedCheckpoint, MissingWeights
from ..request import GenerationRequest, RequestDefaults
from ..settings import BUNDLED_MODELS, Settings
from .fingerprint import OnBytes, Stamp, fingerprint, stamp, unread_bytes
from .vocabulary import Vocabulary
from .weights import check_weights

DEMO = "demo"
RELEASED = "opensora-1.2"
_MEMORY = "fingerprints.json"
_FOLDER_PARTS = ("transformer", "vae", "text_encoder")


@dataclass(frozen=True)
class PublishedPart:
    """One repository of the Hugging Face hub, or one file of it; size_gb is 10^9 bytes to be fetched."""

    part: str
    repository: str
    size_gb: float
    file: str = ""

    @property
    def command(self) -> str:
        """What fetches it into the Hugging Face cache, where it will be found."""
        return f"hf download {self.repository} {self.file}".rstrip()


RELEASED_PARTS = (
    PublishedPart("transformer", "hpcai-tech/OpenSora-STDiT-v3", 4.8),
    PublishedPart("vae", "hpcai-tech/OpenSora-VAE-v1.2", 1.6),
    PublishedPart("text_encoder", "DeepFloyd/t5-v1_1-xxl", 19.1),
)
# What prompts are compared by (open_clip's ViT-L-14/openai). Videos are made without it, but none is reused.
RELEASED_EMBEDDER = PublishedPart(
    "embedder", "timm/vit_large_patch14_clip_224.openai", 1.7, "open_clip_model.safetensors"
)


@dataclass(frozen=True)
class Model:
    """A model whose weights are here. parts maps transformer, vae and text_encoder to their folders; folder is the
    one that holds them all in diffusers' layout, None for the published parts. mag_ratios are those that it brings for
    MagCache (`mag_ratios.ratios_of` has the last word)."""

    name: str
    about: str
    parts: Mapping[str, Path]
    folder: Path | None = None
    defaults: RequestDefaults = field(default_factory=RequestDefaults)
    vocabulary: Vocabulary | None = None
    mag_ratios: tuple[float, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files of all parts."""
        return sum(file.stat().st_size for folder in self.parts.values() for file in folder.iterdir() if file.is_file())

    @property
    def tokenizer_file(self) -> Path | None:
        """The file from which tokens can be counted without loading the model, if there is one."""
        file = None if self.folder is None else self.folder / "tokenizer" / "tokenizer.json"
        return file if file is not None and file.is_file() else None

    def transformer_setting(self, name: str, usual: int) -> int:
        """A whole number in the transformer's config.json, `usual` where it is left out.

        Raises: DamagedCheckpoint for what is none.
        """
        path = self.parts["transformer"] / "config.json"
        value = _read_json(path).get(name, usual)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DamagedCheckpoint(f"{path} is damaged ({name} is {str(value)[:40]!r}): fetch the model again.")
        return value

    @property
    def _folders(self) -> dict[str, Path]:
        """Everything that a video is made by, by its part."""
        extra = {} if self.folder is None else {name: self.folder / name for name in ("tokenizer", "scheduler")}
        return {**self.parts, **{name: path for name, path in extra.items() if path.is_dir()}}

    @property
    def embedder_folder(self) -> Path | None:
        """The text-image model by which phrases are compared, if the model brings one."""
        folder = None if self.folder is None else self.folder / "embedder"
        return folder if folder is not None and folder.is_dir() else None

    def fingerprint(self, settings: Settings, on_bytes: OnBytes | None = None) -> str:
        """16 hexadecimal digits made of the content of weights and settings, remembered in `settings.home`.

        Args:
            on_bytes: told as weights are read, which is done once.
        """
        return fingerprint(self._folders.items(), settings.home / _MEMORY, on_bytes)

    def unread_bytes(self, settings: Settings) -> int:
        """Bytes of weights that `fingerprint` has yet to read, which takes a second for each gigabyte or two."""
        return unread_bytes(self._folders.items(), settings.home / _MEMORY)

    def stamp(self) -> Stamp:
        """What changes when a file of the model does, its embedder's included; milliseconds."""
        embedder = [] if self.embedder_folder is None else [self.embedder_folder]
        return stamp([*self._folders.values(), *embedder])


@dataclass(frozen=True)
class ModelStatus:
    """One line of the list of models: `model` if it is ready, and `problem`, a sentence that says what is missing and
    what to do; of a model that is ready, for reuse alone."""

    name: str
    about: str
    model: Model | None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        values: dict[str, Any] = {"name": self.name, "about": self.about, "ready": self.model is not None}
        if self.model is None:
            return {**values, "problem": self.problem}
        values |= {} if self.problem is None else {"problem": self.problem}
        parts = {part: str(folder) for part, folder in self.model.parts.items()}
        return {**values, "parts": parts, "size_bytes": self.model.size_bytes}


def find_model(name: str, settings: Settings) -> Model:
    """The model called `name`: demo, opensora-1.2, a folder in `settings.models_folder`, or the path of a folder.

    Raises: BadRequest for a name that nothing has, MissingWeights for weights that are not here, DamagedCheckpoint
    for weights that are cut short or a folder that is no model.
    """
    if name == RELEASED:
        return _find_released(settings)
    if name == DEMO:
        folder = BUNDLED_MODELS / DEMO
        if not folder.is_dir():
            raise MissingWeights(f"The demo model is not at {folder}: install CHAI again, all of it.")
        return _read_folder(folder)
    for folder in (Path(name).expanduser(), settings.models_folder / name):
        if folder.is_dir():
            return _read_folder(folder)
    known = ", ".join(status.name for status in list_models(settings))
    raise BadRequest(f"There is no model {name!r}: choose one of {known}, or give the path of a model folder.")


def list_models(settings: Settings) -> list[ModelStatus]:
    """All models that can be named: the bundled one, the published one, and the folders in the models folder."""
    abouts = {
        DEMO: "small, bundled, for any CPU: a little world of drawn things",
        RELEASED: "the published Open-Sora 1.2 weights, for a GPU",
    }
    own = settings.models_folder
    names = sorted(p.parent.name for p in own.glob("*/chai.json")) if own.is_dir() else []
    return [_status(name, abouts.get(name, ""), settings) for name in (DEMO, RELEASED, *names)]


def _status(name: str, about: str, settings: Settings) -> ModelStatus:
    try:
        model = find_model(name, settings)
    except ChaiError as error:
        return ModelStatus(name, about, None, str(error))
    problem = None
    if name == RELEASED and _find_published(RELEASED_EMBEDDER, settings) is None:
        problem = f"No video is reused, for {_fetching([RELEASED_EMBEDDER])}"
    return ModelStatus(name, model.about or about, model, problem)


def _read_folder(folder: Path) -> Model:
    return _read_folder_as_of(folder, stamp([folder, *(part for part in folder.iterdir() if part.is_dir())]))


@lru_cache(maxsize=16)
def _read_folder_as_of(folder: Path, _stamp: Stamp) -> Model:
    """Asked for several times a video, so read again only when a file has changed."""
    parts = {part: folder / part for part in _FOLDER_PARTS}
    for part in parts.values():
        if not (part / "config.json").is_file():
            raise DamagedCheckpoint(
                f"{folder} is no model folder, because {part.name}/config.json is missing: name a folder in diffusers' "
                f"layout, with {', '.join(_FOLDER_PARTS)}, tokenizer and scheduler."
            )
    check_only_data(folder)
    for part in parts.values():
        check_weights(part)
        _read_json(part / "config.json")
    card_path = folder / "chai.json"
    card = _read_json(card_path) if card_path.is_file() else {}
    try:
        known = {f.name for f in fields(RequestDefaults)}
        own = {k: v for k, v in card.get("defaults", {}).items() if k in known}
        check_fields(RequestDefaults, own)
        defaults = RequestDefaults(**own)
        GenerationRequest("a request that leaves all open").resolved(defaults)
        vocabulary = Vocabulary.from_json(card["vocabulary"]) if "vocabulary" in card else None
        name, about = str(card.get("name", folder.resolve().name)), str(card.get("about", ""))
        mag_ratios = tuple(float(ratio) for ratio in card.get("mag_ratios", ()))
        check_text("name", name)
        check_text("about", about)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, BadRequest) as error:
        raise DamagedCheckpoint(f"{card_path} is damaged ({str(error).rstrip('.')}): fetch the model again.") from error
    return Model(name, about, parts, folder, defaults, vocabulary, mag_ratios)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a settings file of a model. Raises: DamagedCheckpoint; CannotRead if the system refuses."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("no object")
    except OSError as error:
        raise CannotRead(f"{path} cannot be read ({error.strerror}): see who may read it.") from error
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is no JSON ({error}): fetch the model again.") from error
    return values


def _find_released(settings: Settings) -> Model:
    found = {published.part: _find_published(published, settings) for published in RELEASED_PARTS}
    missing = [published for published in RELEASED_PARTS if found[published.part] is None]
    if missing:
        if _find_published(RELEASED_EMBEDDER, settings) is None:
            missing.append(RELEASED_EMBEDDER)
        raise MissingWeights(f"Of {RELEASED}, {_fetching(missing)}")
    parts = {part: folder for part, folder in found.items() if folder is not None}
    for folder in parts.values():
        _check_as_of(folder, stamp([folder]))
    return Model(RELEASED, "the published Open-Sora 1.2 weights, for a GPU", parts)


def _fetching(missing: Sequence[PublishedPart]) -> str:
    names = ", ".join(f"{p.repository} ({p.size_gb:g} GB)" for p in missing)
    return f"weights are missing here: {names}; fetch them with: {' && '.join(p.command for p in missing)}"


@lru_cache(maxsize=16)
def _check_as_of(folder: Path, _stamp: Stamp) -> None:
    check_only_data(folder)
    check_weights(folder)


def _find_published(published: PublishedPart, settings: Settings) -> Path | None:
    """A folder of that name in the models folder, else the newest whole snapshot in the Hugging Face cache."""
    from huggingface_hub import try_to_load_from_cache

    folder = settings.models_folder / published.repository.split("/")[1]
    if not published.file and (folder / "config.json").is_file():
        return folder
    config = try_to_load_from_cache(published.repository, published.file or "config.json")
    return Path(config).parent if isinstance(config, str) else None
