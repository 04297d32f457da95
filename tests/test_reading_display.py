"""What a person sees while weights are read."""

import io

import pytest
from rich.console import Console

from chai_app.cli import show


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [0.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_every_other_second_tells_how_far_it_is(clock, capsys):
    display = show.RunDisplay(Console(file=io.StringIO()), 1)
    for second in range(5):
        clock[0] = float(second)
        display.reading("loading", second * 10**9, 25 * 10**9)
        display.reading("checking", second * 10**9, 20 * 10**9)
    assert capsys.readouterr().err.splitlines() == [
        "weights: loading 2.0 GB of 25 GB, checking 1.0 GB of 20 GB",
        "weights: loading 4.0 GB of 25 GB, checking 3.0 GB of 20 GB",
    ]


def test_on_a_terminal_the_bar_fills(capsys):
    screen = io.StringIO()
    display = show.RunDisplay(Console(file=screen, force_terminal=True, width=160), 1)
    with display.shown():
        display.video(0, "a red ball")
        display.stage("load")
        display.reading("loading", 5 * 10**9, 25 * 10**9)
        display._progress.refresh()
    assert "loading 5.0 GB of 25 GB" in screen.getvalue()
    assert capsys.readouterr().err == ""
