"""Any history leaves a cache that verifies and, pinned entries aside, keeps its budget."""

import shutil
import tempfile
from pathlib import Path

import pytest
from cache_kit import (
    NAMES,
    TINY_ENTRY_BYTES,
    Clock,
    drop_shared,
    files_of,
    look,
    note_of,
    open_cache,
    phrase,
    tiny_entry,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chai_app.cache import CacheFull, Selection

ROOM = 4


class Histories(RuleBasedStateMachine):
    """A plain list of dictionaries says what the cache should hold, in order of last use."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.caches = []
        self.wanted = []

    @initialize()
    def open_twice(self):
        self.caches = [open_cache(self.folder, clock=self.clock) for _ in range(2)]
        self.caches[0].set_budget(ROOM * TINY_ENTRY_BYTES)

    def teardown(self):
        for cache in self.caches:
            cache.close()
        shutil.rmtree(self.folder)

    def pick(self, i):
        return self.wanted[i % len(self.wanted)]

    def entry_of(self, item, which):
        return self.caches[which].entry(item["id"])

    @rule(which=st.integers(0, 1), name=st.sampled_from(NAMES), seed=st.integers(0, 9))
    def insert(self, which, name, seed):
        cache = self.caches[which]
        new = tiny_entry(cache, name, phrase(name, "scene"), phrase("tiger"), seed=seed)
        pinned = sum(item["pinned"] for item in self.wanted)
        try:
            entry = cache.insert(new)
        except CacheFull:
            assert pinned == ROOM
            return
        while len(self.wanted) >= ROOM:
            self.wanted.remove(next(item for item in self.wanted if not item["pinned"]))
        self.wanted.append({"id": entry.id, "name": name, "pinned": False, "data": new.tensors["clean"]})

    @precondition(lambda self: self.wanted)
    @rule(which=st.integers(0, 1), i=st.integers(0, 9))
    def touch(self, which, i):
        item = self.pick(i)
        assert self.caches[which].touch(self.entry_of(item, which))
        self.wanted.remove(item)
        self.wanted.append(item)

    @precondition(lambda self: self.wanted)
    @rule(which=st.integers(0, 1), i=st.integers(0, 9), pinned=st.booleans())
    def pin(self, which, i, pinned):
        item, cache = self.pick(i), self.caches[which]
        assert (cache.pin if pinned else cache.unpin)(self.entry_of(item, which))
        item["pinned"] = pinned

    @precondition(lambda self: self.wanted)
    @rule(which=st.integers(0, 1), i=st.integers(0, 9))
    def remove(self, which, i):
        item = self.pick(i)
        assert self.caches[which].remove(self.entry_of(item, which))
        self.wanted.remove(item)

    @rule(which=st.integers(0, 1), name=st.sampled_from(NAMES))
    def purge(self, which, name):
        gone = self.caches[which].purge(Selection(entity=name))
        assert {entry.id for entry in gone} == {item["id"] for item in self.wanted if item["name"] == name}
        self.wanted = [item for item in self.wanted if item["name"] != name]

    @rule(which=st.integers(0, 1), name=st.sampled_from(NAMES))
    def find(self, which, name):
        cache = self.caches[which]
        decision = look(cache, phrase(name, "scene"))
        assert decision.is_hit == any(item["name"] == name for item in self.wanted)
        if decision.entry:
            item = next(item for item in self.wanted if item["id"] == decision.entry.id)
            assert item["name"] == name
            assert abs(cache.load(decision.entry).tensors["clean"] - item["data"]).max() < 0.01

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.caches[which].close()
        self.caches[which] = open_cache(self.folder, clock=self.clock)

    @rule(which=st.integers(0, 1))
    def rebuild(self, which):
        self.caches[which].rebuild()

    @invariant()
    def it_verifies_and_keeps_its_budget(self):
        for cache in self.caches:
            assert cache.verify() == []
            assert cache.stats().bytes <= ROOM * TINY_ENTRY_BYTES
        if self.caches:
            ids = {item["id"] for item in self.wanted}
            assert {entry.id for entry in self.caches[0].entries()} == ids == files_of(self.folder)


Histories.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase


class SharedHistories(Histories):
    """The same of a shared cache."""

    server = ""

    def __init__(self):
        super().__init__()
        self.folder = self.folder / "tests" / "home"
        self.folder.mkdir(parents=True)
        note_of(self.folder.parent).write_text(self.server)

    def teardown(self):
        super().teardown()
        drop_shared(self.server)
        shutil.rmtree(self.folder.parent.parent)


@pytest.fixture
def shared_histories(server):
    SharedHistories.server = server


SharedHistories.TestCase.settings = settings(Histories.TestCase.settings, max_examples=4)
TestSharedHistories = pytest.mark.usefixtures("shared_histories")(SharedHistories.TestCase)
