"""The side panel's doors: what they give, and what they refuse, by method, size, type and path."""

import asyncio

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from chai_app.cache import LatentCache, NewEntry, Schedule, Shape
from chai_app.settings import Settings

SHAPE = Shape((4, 1, 2, 2), 1, 16, 16, 8.0)
WEBP = b"RIFF\x00\x00\x00\x00WEBP"


class Unit:
    """An embedder that is never asked."""

    name = fingerprint = "unit"
    width = 4


@pytest.fixture
def entry():
    """One entry in the usual cache."""
    with LatentCache(Settings.from_environment().home, Unit()) as cache:
        new = NewEntry(
            "model", SHAPE, "<b>a red ball</b>", 1, Schedule(3, 4.0), [], {"clean": np.zeros((4, 1, 2, 2), "f4")}, 1.0,
            preview=WEBP,
        )  # fmt: skip
        return cache.insert(new)


@pytest.fixture
def ask(pack):
    """`ask(method, path, **options)`: status and body of an answer of the pack's own routes."""

    def ask(method, path, **options):
        async def answer():
            app = web.Application()
            app.add_routes(pack.host_routes())
            async with TestClient(TestServer(app)) as client, client.request(method, path, **options) as response:
                is_json = response.content_type == "application/json"
                return response.status, await response.json() if is_json else await response.read()

        return asyncio.run(answer())

    return ask


def kept():
    with LatentCache(Settings.from_environment().home, read_only=True) as cache:
        return cache.entries()


def test_entries_come_with_figures_and_without_places(ask, entry):
    status, body = ask("GET", "/chai/entries")
    assert status == 200 and body["total"] == 1 and body["stats"]["entries"] == 1
    (told,) = body["entries"]
    assert told["prompt"] == "<b>a red ball</b>" and told["has_preview"]
    assert str(Settings.from_environment().home) not in str(body)


def test_a_preview_is_a_picture_and_nothing_else(ask, entry):
    assert ask("GET", f"/chai/entries/{entry.id}/preview") == (200, WEBP)
    assert ask("GET", f"/chai/entries/{'0' * 16}/preview")[0] == 404


def test_pin_budget_and_delete(ask, entry, pack):
    assert ask("POST", f"/chai/entries/{entry.id}/pin", json={"pinned": True})[0] == 200
    assert kept()[0].is_pinned
    assert ask("POST", "/chai/budget", json={"budget_bytes": 10**9, "policy": "lfu"}) == (200, {"left": []})
    assert ask("GET", "/chai/entries")[1]["stats"]["policy"] == "lfu"
    assert ask("DELETE", f"/chai/entries/{entry.id}")[0] == 200
    assert kept() == []
    assert ask("DELETE", f"/chai/entries/{entry.id}")[0] == 404
    assert [event for event, _ in pack.host.events] == ["chai.cache"] * 3


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/chai/entries/ID/pin", {}, 405),
        ("POST", "/chai/entries/ID", {}, 405),
        ("GET", "/chai/budget", {}, 405),
        ("POST", "/chai/entries", {}, 405),
        ("GET", "/chai/entries/..%2F..%2Fetc%2Fpasswd/preview", {}, 400),
        ("DELETE", "/chai/entries/..%2Fx", {}, 400),
        ("GET", "/chai/entries/ID/preview?cache=../../etc", {}, 400),
        ("GET", "/chai/entries?cache=0123456789ab", {}, 404),
        ("GET", "/chai/entries?limit=100000", {}, 400),
        ("GET", "/chai/entries?offset=-1", {}, 400),
        ("GET", f"/chai/entries?search={'x' * 400}", {}, 400),
        ("POST", "/chai/entries/ID/pin", {"json": {"pinned": "yes"}}, 400),
        ("POST", "/chai/entries/ID/pin", {"json": {"pinned": True, "more": 1}}, 400),
        ("POST", "/chai/entries/ID/pin", {"json": {}}, 400),
        ("POST", "/chai/entries/ID/pin", {"json": ["pinned"]}, 400),
        ("POST", "/chai/entries/ID/pin", {"data": "pinned=true"}, 415),
        ("POST", "/chai/entries/ID/pin", {"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ("POST", "/chai/entries/ID/pin", {"json": {"pinned": True, "x": "y" * 5000}}, 413),
        ("POST", "/chai/budget", {"json": {"budget_bytes": -1}}, 400),
        ("POST", "/chai/budget", {"json": {"budget_bytes": True}}, 400),
        ("POST", "/chai/budget", {"json": {"budget_bytes": 1, "policy": "none"}}, 400),
        ("DELETE", "/chai/entries/ID", {"json": {"all": True}}, 400),
    ],
)
def test_what_does_not_belong_is_refused_and_changes_nothing(ask, entry, method, path, options, status):
    answer, _ = ask(method, path.replace("ID", entry.id), **options)
    assert answer == status
    assert [(each.id, each.is_pinned) for each in kept()] == [(entry.id, False)]


def test_a_cache_that_a_node_has_opened_is_known_by_its_key(ask, pack, tmp_path):
    pack.run("CHAI_OpenCache", folder=str(tmp_path / "other"))
    _, body = ask("GET", "/chai/caches")
    assert str(tmp_path) not in str(body)
    keys = {each["key"] for each in body["caches"] if not each["is_default"]}
    assert any(ask("GET", f"/chai/entries?cache={key}")[0] == 200 for key in keys)


def test_a_writing_process_beside_changes_what_the_doors_show(ask, entry):
    with LatentCache(Settings.from_environment().home, Unit()) as cache:
        cache.clear()
    assert ask("GET", "/chai/entries")[1]["total"] == 0
