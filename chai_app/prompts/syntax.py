"""What stands in a prompt beside its words: flags, weights, LoRA tags, scores, JSON, as other tools taught people.

None of it is language, so it comes off before anybody reads the rest: flags become options where there is such an
option, weights leave the words they weigh, and what means nothing here is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# What a flag, or a field of JSON, is called here; the first word is the name of the option.
_NAMES = (
    "seed",
    "steps num_inference_steps",
    "guidance gs cfg cfg_scale guidance_scale scale",
    "negative neg no negative_prompt",
    "fps",
    "frames num_frames",
    "duration",
    "loops loop num_loops",
    "motion motion_score",
    "aesthetic aesthetic_score",
    "camera camera_motion",
    "aspect ar aspect_ratio",
    "size",
    "resolution",
    "width w",
    "height h",
    "reference_path",
    "mask_strategy",
)
_OPTION = {name: names.split()[0] for names in _NAMES for name in names.split()}
_OF_SEVERAL_WORDS = ("negative", "camera")  # the others have one

_COMMAND = re.compile(r"^\s*/[a-z]+\b(?:\s+prompt\s*:)?\s*", re.IGNORECASE)
_TAG = re.compile(r"<[a-z]+:[^<>]{1,200}>", re.IGNORECASE)  # <lora:name:0.8>
_FLAG = re.compile(r"(?<!\S)(--?|[—–])([A-Za-z][\w-]{0,30})(?:=|(?=\s|$))")
_VALUE = re.compile(r"""\s*("[^"]*"|'[^']*'|\S+)""")
_SIGNED = re.compile(r"[-+]?\.?\d\S*|https?:\S+")  # what can only be the value of a flag
_SCORE = re.compile(
    r"\b(?:(aesthetic|motion) score:\s*(\d+(?:\.\d+)?)|(camera) motion:\s*([^.,]{1,60}))\s*[.,]?", re.IGNORECASE
)
_NEGATIVE = re.compile(r"(?:^|[\s.,])negative prompt:\s*(.*?)\s*(?=\bsteps:\s*\d|$)", re.IGNORECASE | re.DOTALL)
_PARAMETERS = re.compile(r"(?:^|\s)(steps:\s*\d+,.*)$", re.IGNORECASE | re.DOTALL)  # as images carry them

_PART_END = re.compile(r"::(-?\d*\.?\d+)?")  # knight::2 dragon::1
_BRACKET_WEIGHT = re.compile(r"(?<![(\[])[(\[]+([^()\[\]:]{1,200}):\s*\d*\.?\d+\s*[)\]]+")  # (red hair:1.2)
_WEIGHT_BEHIND = re.compile(r"\(([^()]{1,200})\)(?:\d+(?:\.\d+)?|\+{1,5}|-{1,5})(?!\w)")  # (red hair)1.2, (red hair)++
_MANY_BRACKETS = re.compile(r"(?<!\()\({2,}([^()]{1,200})\){2,}|(?<!\[)\[{2,}([^\[\]]{1,200})\]{2,}")
_SIGNS_BEHIND = re.compile(r"(?<=[^\W\d_])(?:\+{1,5}|-{2,5})(?=[\s,.;)]|$)")  # blue++
_WORD_WEIGHT = re.compile(r"(?<=[^\W\d_]):\d*\.\d+(?=[\s,.;)]|$)")  # knight:1.2
_JOINED = re.compile(r"(?<=[^\W_])_(?=[^\W_])")  # long_hair


@dataclass(frozen=True)
class Written:
    """A prompt, parted: `text` is what the video shows, in words; options are pairs of a name ("seed") and what was
    written for it; unused is what means nothing here, as it was written. Of a prompt of words alone `text` is the
    prompt itself, character for character."""

    text: str
    options: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    has_weights: bool = False


def read_syntax(prompt: str) -> Written:
    """Part a prompt into words, options, and what means nothing here."""
    reading = _Reading(prompt)
    reading.take_json()
    reading.take(_COMMAND, lambda match: None)
    reading.take(_TAG, lambda match: reading.unused.append(match[0]))
    reading.take(_PARAMETERS, lambda match: reading.add_parameters(match[1]))
    reading.take(_NEGATIVE, lambda match: reading.add("negative", match[1], match[0].strip()))
    reading.take_flags()
    reading.take(_SCORE, lambda match: reading.add((match[1] or match[3]).lower(), match[2] or match[4], match[0]))
    before = reading.text
    reading.take_weights()
    has_weights = reading.text != before
    if reading.text == prompt:
        return Written(prompt)
    text = re.sub(r"\s+", " ", reading.text)
    text = re.sub(r"\s+([,.;])", r"\1", re.sub(r"(?:[,;]\s*)+([,;])", r"\1", text)).strip(" ,;")
    return Written(text, tuple(reading.options), tuple(reading.unused), has_weights)


class _Reading:
    """What is left of a prompt while one kind of syntax after the other is taken off."""

    def __init__(self, prompt: str) -> None:
        self.text = prompt
        self.options: list[tuple[str, str]] = []
        self.unused: list[str] = []

    def take(self, pattern: re.Pattern[str], use: Callable[[re.Match[str]], None]) -> None:
        def replaced(match: re.Match[str]) -> str:
            use(match)
            return " "

        self.text = pattern.sub(replaced, self.text)

    def add(self, name: str, value: str, written: str) -> None:
        """An option if there is one of that name, and a value for it."""
        option, value = _OPTION.get(name.lower().replace("-", "_").replace(" ", "_")), value.strip(" \t\n\"',;")
        if option is not None and value:
            self.options.append((option, value))
        else:
            self.unused.append(" ".join(written.split()))

    def add_parameters(self, line: str) -> None:
        for part in line.split(","):
            name, _, value = part.partition(":")
            self.add(name.strip(), value, part)

    def take_json(self) -> None:
        """Open-Sora's own way: a prompt{"reference_path": "a.png", "mask_strategy": "0"}."""
        start = self.text.find('{"')
        while start >= 0:
            try:
                values, end = json.JSONDecoder().raw_decode(self.text, start)
            except (ValueError, RecursionError):
                return
            for name, value in values.items():
                self.add(name, "" if isinstance(value, dict | list) else str(value), json.dumps({name: value}))
            self.text = f"{self.text[:start]} {self.text[end:]}"
            start = self.text.find('{"', start)

    def take_flags(self) -> None:
        kept, end = [], 0
        for match, stop in _flags(self.text):
            if match.start() < end:
                continue
            name = match[2].lower().replace("-", "_")
            value = _value(self.text[match.end() : stop], name)
            if match[1] != "--" and name not in _OPTION and not _SIGNED.fullmatch(value.strip() or "x"):
                continue  # a dash and a word
            kept.append(self.text[end : match.start()])
            end = match.end() + len(value)
            self.add(name, value, match[0] + value)
        self.text = " ".join((*kept, self.text[end:]))

    def take_weights(self) -> None:
        text = self.text
        if "::" in text:
            pieces = [piece or "" for piece in _PART_END.split(text)]  # part, weight, part, weight, ..., rest
            parts = list(zip(pieces[::2], [*pieces[1::2], ""]))
            for i, (part, weight) in enumerate(parts):
                if weight.startswith("-"):  # of "a hen, geese::-1" the geese
                    kept, _, unwanted = part.rpartition(",")
                    self.options.append(("negative", unwanted.strip()))
                    parts[i] = kept, ""
            text = ", ".join(part.strip() for part, _ in parts)
        text = text.replace("\\(", "(").replace("\\)", ")")
        for pattern in (_BRACKET_WEIGHT, _WEIGHT_BEHIND, _MANY_BRACKETS):
            text = pattern.sub(lambda match: match[1] or match[2], text)
        text = _WORD_WEIGHT.sub("", _SIGNS_BEHIND.sub("", text))
        self.text = _JOINED.sub(" ", text)


def _flags(text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Every flag and where the next one begins."""
    matches = list(_FLAG.finditer(text))
    for match, following in zip(matches, [*matches[1:], None]):
        yield match, len(text) if following is None else following.start()


def _value(text: str, name: str) -> str:
    """What of `text`, which goes to the next flag, is the value of the flag `name`."""
    option = _OPTION.get(name)
    first = _VALUE.match(text)
    if first is None:
        return ""
    if option in _OF_SEVERAL_WORDS:
        return first[0] if first[1][0] in "\"'" else text
    is_sure = _SIGNED.fullmatch(first[1]) or len(text.split()) == 1
    return first[0] if is_sure else ""
