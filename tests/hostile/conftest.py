"""Attacks, and what each must end in. Servers are real ones, in this process, on the tiny model.

| attack | ends in | test_ |
| --- | --- | --- |
| a foreign page posts acts, uploads, joins the queue, reads files, opens streams | 403, nothing changed | pages |
| a foreign page frames ours, or opens html that lies beside the videos | the browser is told not to | pages |
| passwords are guessed | 429 after ten | pages |
| uploads fill the disk | the oldest give way, what is too much is refused | pages |
| a foreign name points at this machine (DNS rebinding) | 403 | hosts |
| a program of this machine, a proxy with a path, a name that was allowed | is served | hosts |
| a model folder brings code, pickles, links that lead out | one sentence, nothing ran | model_folders |
| a media file names other files (playlists, lists, sessions) | one sentence, nothing was opened | playlists |
| somebody else looks for a private video; the program is killed with one | no trace | privacy |
| a video is passed on | it carries its own prompt alone | privacy |
"""

import shutil

import pytest
from attacks import Site

from chai_app.settings import BUNDLED_MODELS, Settings
from ui.server import Access, launch


@pytest.fixture(scope="session")
def open_site(tiny_model_folder, tmp_path_factory):
    """`open_site(**access)`: a server with folders of its own; all are closed in the end."""
    model = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("hostile-model") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", model / "embedder")
    opened = []

    def open_(**access) -> Site:
        base = tmp_path_factory.mktemp("hostile")
        settings = Settings(base / "home", base / "models", base / "videos")
        started = launch(settings, str(model), Access(**access))
        opened.append(started)
        return Site(started)

    yield open_
    for started in opened:
        started.close()


@pytest.fixture(scope="session")
def site(open_site):
    return open_site()


@pytest.fixture(scope="session")
def open_to_all(open_site):
    """As with --listen."""
    return open_site(host="0.0.0.0")


@pytest.fixture(params=["site", "open_to_all"])
def any_site(request):
    return request.getfixturevalue(request.param)
