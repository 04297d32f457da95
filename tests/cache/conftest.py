"""A cache of tiny entries, whose clock stands in for time."""

import pytest
from cache_kit import Clock, open_cache


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(home, clock):
    """Verified at the end of each test that uses it."""
    with open_cache(home, clock=clock) as cache:
        yield cache
        assert cache.verify() == []
