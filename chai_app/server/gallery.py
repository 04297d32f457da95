"""Everything that was made: the output folder, read file by file, with the settings that each video carries."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadRequest, ChaiError
from ..files import whole_file
from ..media.pictures import small_moving_picture
from ..media.video import SUFFIXES, read_metadata, read_video
from ..models import find_model
from ..request import GenerationRequest, Report
from ..settings import Settings


@dataclass(frozen=True)
class Item:
    """One file. name is unique in the gallery; modified is seconds since 1970; request and report are None for a file
    that carries none of ours."""

    name: str
    path: Path
    modified: float
    size_bytes: int
    request: GenerationRequest | None
    report: Report | None


@dataclass(frozen=True)
class Restored:
    """Settings out of a file. notes are sentences about what cannot be restored here."""

    request: GenerationRequest
    report: Report | None
    notes: tuple[str, ...]


class Gallery:
    """The videos and pictures in `folder`; thumbnails are kept in another."""

    def __init__(self, folder: Path, thumbnails: Path) -> None:
        self.folder, self._thumbnails = folder.absolute(), thumbnails
        self._known: dict[tuple[str, int, int], Item] = {}
        self._lock = threading.Lock()

    def items(self, words: str = "") -> list[Item]:
        """Newest first; with words, those whose prompt, seed or name has all of them."""
        shown = list(self._files())
        with self._lock:
            known = {}
            for name, stat in shown:
                key = (name, stat.st_mtime_ns, stat.st_size)
                known[key] = self._known.get(key) or self._read(name, stat)
            self._known = known
        wanted = words.lower().split()
        found = [item for item in known.values() if all(word in _text_of(item) for word in wanted)]
        return sorted(found, key=lambda item: (-item.modified, item.name))

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """What is shown, as far as it is still there when its turn comes."""
        try:
            files = list(os.scandir(self.folder))
        except OSError:
            return
        for file in files:
            is_ours = Path(file.name).suffix.lower() in SUFFIXES and not file.name.startswith(".")
            with suppress(OSError, UnicodeError):
                if is_ours and file.is_file():
                    file.name.encode()  # a page could not show it otherwise
                    yield file.name, file.stat()

    def item(self, name: str) -> Item | None:
        """The file called `name`, if it is in the folder."""
        return next((item for item in self.items() if item.name == name), None)

    def _read(self, name: str, stat: os.stat_result) -> Item:
        path = self.folder / name
        request, report = None, None
        with suppress(ChaiError):  # a video of somebody else is shown all the same
            request, report = settings_in(path)
        return Item(name, path, stat.st_mtime, stat.st_size, request, report)

    def add_thumbnail(self, path: Path, make: Callable[[], bytes]) -> Path | None:
        """Keep the moving thumbnail of a file, made by `make` if it is not there yet. None if it cannot be made."""
        target = self.thumbnail_of(path)
        if not target.is_file():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                picture = make()
                with whole_file(target) as temporary:
                    temporary.write_bytes(picture)
            except (ChaiError, OSError):
                return None
        return target

    def thumbnail(self, item: Item) -> Path | None:
        """The moving thumbnail of an item; reads the whole video the first time. None if it cannot be read."""

        def make() -> bytes:
            clip = read_video(item.path)
            return small_moving_picture(clip.frames, clip.fps, longest_side=256, most_frames=12)

        return self.add_thumbnail(item.path, make)

    def thumbnail_of(self, path: Path) -> Path:
        """Where the thumbnail of a file lies: named by its place and by what it is now."""
        stat = path.stat()
        key = f"{path.absolute()}:{stat.st_mtime_ns}:{stat.st_size}"
        return self._thumbnails / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.webp"

    def remove(self, item: Item) -> bool:
        """Delete a file and its thumbnail. False if it was gone already."""
        try:
            self.thumbnail_of(item.path).unlink(missing_ok=True)
            item.path.unlink()
        except FileNotFoundError:
            return False
        return True


def restore(path: Path, settings: Settings) -> Restored:
    """The settings that a video or picture of ours carries, as far as they hold on this machine.

    Raises: BadMedia if it cannot be read, BadRequest if it carries none.
    """
    request, report = settings_in(path)
    if request is None:
        raise BadRequest(f"{path.name} carries no settings: choose a file that was made here and not changed since.")
    notes: list[str] = []
    lost: dict[str, None] = {}
    for name, words in (("image", "The picture it started from"), ("extend", "The video it went on from")):
        source = getattr(request, name)
        if source is not None and not Path(source).is_file():
            notes.append(f"{words} is not on this machine any more, so the video will begin anew: {source}")
            lost[name] = None
    try:
        model = find_model(request.model or "", settings)
        if report is not None and model.fingerprint(settings) != report.model_fingerprint:
            notes.append(f"The weights of {model.name} have changed since, so the video will not be quite the same.")
    except ChaiError as error:
        notes.append(f"Its model is not here, so the settings are for another: {error}")
        lost["model"] = None
    return Restored(GenerationRequest.from_json({**request.to_json(), **lost}), report, tuple(notes))


def settings_in(path: Path) -> tuple[GenerationRequest | None, Report | None]:
    """The request and the report that a file of ours carries; None for one of somebody else's.

    Raises: BadMedia, BadRequest for a file that cannot be read, or settings that make no sense.
    """
    ours = read_metadata(path).get("chai")
    if not isinstance(ours, dict) or "request" not in ours:
        return None, None
    request = GenerationRequest.from_json(ours["request"])
    return request, Report.from_json(ours["report"]) if "report" in ours else None


def _text_of(item: Item) -> str:
    prompt = "" if item.request is None else f"{item.request.prompt} seed {item.request.seed}"
    return f"{prompt} {item.name}".lower()
