"""A browser UI on the tiny model, and a real browser to look at it.

The model has the demo's text-image model beside it, so that prompts find each other. Where there is no Chromium the
tests are skipped and say so; where the environment variable CI is set they fail instead.
"""

import os
import shutil
from pathlib import Path

import pytest

from chai_app.settings import BUNDLED_MODELS, Settings
from ui.server import Access, launch

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
PATIENCE_MS = 120_000  # a limit, not a wait: it is reached on a machine that has much else to do


@pytest.fixture(scope="session")
def model_folder(tiny_model_folder, tmp_path_factory) -> Path:
    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("ui-model") / "tiny")
    shutil.copytree(BUNDLED_MODELS / "demo" / "embedder", folder / "embedder")
    return folder


@pytest.fixture(scope="module")
def site(model_folder, tmp_path_factory):
    """A server with folders of its own, for all tests of a module."""
    base = tmp_path_factory.mktemp("ui")
    settings = Settings(base / "home", base / "models", base / "videos")
    started = launch(settings, str(model_folder), Access())
    yield started
    started.close()


@pytest.fixture(scope="session")
def chromium():
    if not CHROMIUM and not os.environ.get("CI"):
        pytest.skip("there is no Chromium here: apt-get install chromium")
    assert CHROMIUM, "CI is set, so a Chromium is needed"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def open_page(context, site):
    """`open_page()`: a new tab, ready. Whatever a test does, the page's script raises nothing."""
    problems = []

    def open_(url=None):
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(url or site.url, wait_until="domcontentloaded")
        page.wait_for_selector("body[data-ready=yes]")
        page.wait_for_selector("#part-queue h2")
        return page

    yield open_
    assert problems == []


@pytest.fixture
def page(open_page):
    return open_page()
