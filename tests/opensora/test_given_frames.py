"""Frames that are given: where they go, and when they join in."""

import pytest
import torch

from chai_app.errors import BadRequest
from chai_app.opensora import FrameCondition
from chai_app.opensora.given_frames import GivenFrames, nearest_start, place


def noise(frames: int = 15) -> torch.Tensor:
    return torch.full((2, 4, frames, 3, 3), 9.0)


def given(frames: int) -> torch.Tensor:
    """Latents whose value is the number of their frame."""
    return torch.arange(frames).float().view(1, 1, -1, 1, 1).expand(1, 4, frames, 3, 3)


def placed(condition: FrameCondition, frames: int = 15) -> list[float]:
    latents, _ = place(noise(frames), condition.frames, condition)
    assert latents.shape == (2, 4, frames, 3, 3)
    return latents[1, 2, :, 0, 0].tolist()


@pytest.mark.parametrize(
    ("start", "num_frames", "expected"),
    # As the original's `find_nearest_point(start, 5, num_frames)` answers.
    [
        (0, 15, 0),
        (2, 15, 0),
        (3, 15, 5),
        (7, 15, 5),
        (8, 15, 10),
        (14, 15, 10),
        (13, 15, 10),
        (7, 12, 5),
        (3, 5, 0),
        (2, 3, 0),
    ],
)
def test_starts_move_to_the_nearest_chunk_as_in_the_original(start, num_frames, expected):
    assert nearest_start(start, 5, num_frames) == expected


def test_a_picture_goes_to_the_beginning():
    assert placed(FrameCondition(given(1))) == [0] + [9] * 14


def test_the_end_of_a_clip_goes_to_the_beginning_of_the_next():
    assert placed(FrameCondition(given(15), source_start=-5)) == [10, 11, 12, 13, 14] + [9] * 10


def test_a_picture_at_the_end_goes_to_the_beginning_of_the_last_chunk():
    assert placed(FrameCondition(given(1), target_start=-1)) == [9] * 10 + [0] + [9] * 4


def test_starts_stay_where_they_are_without_alignment():
    condition = FrameCondition(given(6), target_start=3, source_start=2, length=2, align=1)
    assert placed(condition) == [9] * 3 + [2, 3] + [9] * 10
    assert placed(FrameCondition(given(1), target_start=-1, align=1)) == [9] * 14 + [0]


def test_what_does_not_fit_at_the_end_is_left_out():
    assert placed(FrameCondition(given(8), target_start=10)) == [9] * 10 + [0, 1, 2, 3, 4]
    assert placed(FrameCondition(given(2), length=7)) == [0, 1] + [9] * 13


def test_the_noise_itself_is_not_changed():
    latents = noise()
    place(latents, given(1), FrameCondition(given(1)))
    assert (latents == 9).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: placed(FrameCondition(given(1), target_start=15, align=1)),
        lambda: placed(FrameCondition(given(1), source_start=1, align=1)),
        lambda: placed(FrameCondition(given(1), target_start=-16, align=1)),
        lambda: placed(FrameCondition(given(1), length=0)),
        lambda: placed(FrameCondition(torch.zeros(1, 4, 1, 3, 4))),
        lambda: placed(FrameCondition(torch.zeros(3, 4, 1, 3, 3))),
        lambda: FrameCondition(torch.zeros(4, 1, 3, 3)),
        lambda: FrameCondition(given(1), edit_ratio=1.5),
        lambda: FrameCondition(given(1), align=0),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(make):
    with pytest.raises(BadRequest, match=r"^[^\n]+\.$"):
        make()


def test_frames_join_in_when_the_noise_has_come_down_to_their_ratio():
    latents, noise_of_run = torch.ones(1, 4, 3, 2, 2), torch.full((1, 4, 3, 2, 2), 5.0)
    run = GivenFrames([0.0, 0.4, 1.0], noise_of_run)
    masks, values = [], []
    for sigma in (1.0, 0.7, 0.4, 0.2):
        latents, generated = run.enter(latents, sigma)
        masks.append(generated[0].tolist())
        values.append(latents[0, 0, :, 0, 0].tolist())
    assert masks == [[False, False, True], [False, False, True], [False, True, True], [False, True, True]]
    joined = pytest.approx([1, 0.6 * 1 + 0.4 * 5, 1])  # noised once, to the noise of the step at which it joins
    assert values == [[1, 1, 1], [1, 1, 1], joined, joined]
