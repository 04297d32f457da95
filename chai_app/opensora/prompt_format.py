"""What may stand in a prompt beside its words: scores at its end, and one text per loop.

Source: Open-Sora v1.2.0, opensora/utils/inference_utils.py.
"""

import re

from ..errors import BadRequest

_ANY_MARK = re.compile(r"\s*\|[^\s|]{1,20}\|")
_LOOP_MARK = re.compile(r"\|(\d+)\|")


def with_scores(
    text: str,
    aesthetic_score: float | None = None,
    motion_score: float | None = None,
    camera_motion: str | None = None,
) -> str:
    """Append the scores that the model was trained with; one that the text already names is left as it is.

    Args:
        aesthetic_score: about 4 to 7; 6.5 is a usual wish.
        motion_score: how much moves; 5 is usual.
        camera_motion: such as "pan right", "zoom in", "static".
    """
    if aesthetic_score is not None and "aesthetic score:" not in text.lower():
        text = f"{text} aesthetic score: {aesthetic_score:.1f}."
    if motion_score is not None and "motion score:" not in text.lower():
        text = f"{text} motion score: {motion_score:.1f}."
    if camera_motion is not None and "camera motion:" not in text.lower():
        text = f"{text} camera motion: {camera_motion}."
    return text


def split_loops(prompt: str) -> list[tuple[int, str]]:
    """The texts of `|0| a sunny day |2| a rainy day`, each with the loop it begins at: [(0, ...), (2, ...)].

    A prompt that does not begin with a mark is one text for all loops.
    Raises: BadRequest if the first mark is not `|0|`, or the loops do not go up.
    """
    first = _ANY_MARK.match(prompt)
    if first is None:
        return [(0, prompt)]
    if first[0].strip() != "|0|":
        raise BadRequest(f"The loops of a prompt begin with |0|, not {first[0].strip()}: write |0| ... |1| ....")
    parts = _LOOP_MARK.split(prompt)[1:]  # number, text, number, text, ...
    loops = [(int(number), text.strip()) for number, text in zip(parts[::2], parts[1::2], strict=True)]
    starts = [start for start, _ in loops]
    if starts != sorted(set(starts)):
        raise BadRequest(f"The loops of a prompt must go up, as in |0| ... |1| ..., but here they are {starts}.")
    return loops


def text_for_loop(prompt: str, loop: int) -> str:
    """The text that counts in a loop (from 0): the last one that has begun."""
    return [text for start, text in split_loops(prompt) if start <= loop][-1]
