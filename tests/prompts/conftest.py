"""What the tests of the room share."""

import sys
from collections.abc import Callable

import pytest

from chai_app.prompts import extract


@pytest.fixture
def count_calls() -> Callable[[str], int]:
    """How many calls of Python functions an extraction makes: a measure of work that no busy machine disturbs."""

    def count(prompt: str) -> int:
        calls = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        extract(prompt)  # what loads on first use is not counted
        sys.setprofile(profile)
        try:
            extract(prompt)
        finally:
            sys.setprofile(None)
        return calls

    return count
