"""What a person should know about a prompt before the video is made: words never seen, and words that are cut off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import BadRequest, DamagedCheckpoint
from ..opensora.caption_cleaning import clean_caption
from ..opensora.prompt_format import split_loops, with_scores
from ..prompts import Mentions, extract
from .written import written_notes

if TYPE_CHECKING:
    from pathlib import Path

    from ..models import Model
    from ..request import GenerationRequest
    from .loading import LoadedModel

_WORD = re.compile(r"[^\W_]+")
_SEEN_SPEED = 0.05  # of a difference
_TOLD_CHARACTERS = 120  # of what is cut off


def prompt_notes(request: GenerationRequest, model: Model) -> tuple[str, ...]:
    """Sentences about the prompt of `request` for a model that is not loaded.

    The token limit is told where the model's folder holds a tokenizer.json; for the others `late_prompt_notes` tells
    it once the tokenizer is loaded.
    Raises: BadRequest if nothing of the prompt is left for the model to read.
    """
    notes: list[str | None] = []
    texts = model_texts(request)
    notes += written_notes(request, model)
    lost = [word for _, text in split_loops(request.prompt) for word in _words_lost(text)]
    if lost:
        notes.append(f"The model reads no such words, so these are left out: {', '.join(dict.fromkeys(lost))}.")
    if model.vocabulary is not None:
        notes += [_other_size(request, model), _other_speed(request, model)]
        notes.append(model.vocabulary.note(" ".join(text for _, text in split_loops(request.prompt)), model.name))
    if model.tokenizer_file is not None:
        limit = model.transformer_setting("model_max_length", 300)
        notes += [_cut_off(text, model.tokenizer_file, limit) for text in texts]
    return tuple(note for note in notes if note)


def late_prompt_notes(request: GenerationRequest, loaded: LoadedModel) -> tuple[str, ...]:
    """What `prompt_notes` could not tell without the tokenizer."""
    if loaded.model.tokenizer_file is not None:
        return ()
    scores = (request.aesthetic_score, request.motion_score, request.camera_motion)
    lost = loaded.pipeline.cut_text(request.prompt, *scores)
    return (f"The prompt has more tokens than the model reads, so this is cut off: {_short(lost)!r}.",) if lost else ()


def entities_of(prompt: str) -> Mentions:
    """What a video of the prompt shows and is filed under: of the words that the model is given, and no others."""
    lost = set(_words_lost(prompt))
    return extract(_WORD.sub(lambda match: "" if match[0] in lost else match[0], prompt) if lost else prompt)


def _words_lost(text: str) -> list[str]:
    """The words that cleaning takes away: serial numbers, sizes, Chinese."""
    left = set(_WORD.findall(clean_caption(text)))
    return [word for word in _WORD.findall(text) if word.lower() not in left]


def model_texts(request: GenerationRequest) -> list[str]:
    """What the text encoder is given, loop by loop: scores appended, then cleaned.

    Raises: BadRequest if cleaning leaves nothing of one of them.
    """
    texts = []
    for _, text in split_loops(request.prompt):
        if not clean_caption(text):
            raise BadRequest(
                f"Nothing of {text!r} is left that the model can read: describe the video in plain English words."
            )
        scored = with_scores(text, request.aesthetic_score, request.motion_score, request.camera_motion)
        texts.append(clean_caption(scored))
    return texts


def _other_size(request: GenerationRequest, model: Model) -> str | None:
    """A small model, which brings its vocabulary, knows no other size than its own."""
    own = model.defaults
    if (request.height, request.width) in ((None, None), (own.height, own.width)):
        return None
    return f"The model {model.name} learnt {own.width}x{own.height} alone: at another size things fall apart."


def _other_speed(request: GenerationRequest, model: Model) -> str | None:
    """Nor does it know another speed: its things move as far from frame to frame as they did when it learnt."""
    own = model.defaults.fps
    if request.num_frames == 1 or request.fps is None or abs(request.fps / own - 1) < _SEEN_SPEED:
        return None
    times = max(request.fps / own, own / request.fps)
    how = f"{times:.2g} times too {'fast' if request.fps > own else 'slow'}"
    return f"The model {model.name} learnt {own:g} frames a second: at {request.fps:g} things are {how}."


def _short(text: str) -> str:
    return text if len(text) <= _TOLD_CHARACTERS else f"{text[:_TOLD_CHARACTERS].rstrip()} …"


def _cut_off(text: str, tokenizer_file: Path, limit: int) -> str | None:
    """A sentence that tells what of a cleaned text lies behind `limit` tokens (the mark at the end is one of them)."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # the library raises nothing narrower
        raise DamagedCheckpoint(f"{tokenizer_file} is damaged ({error}): fetch the model again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode(text)
    if len(encoding.ids) <= limit:
        return None
    lost = text[encoding.offsets[limit - 1][0] :].strip()
    return (
        f"The prompt has {len(encoding.ids)} tokens and the model reads {limit}, so this is cut off: {_short(lost)!r}."
    )
