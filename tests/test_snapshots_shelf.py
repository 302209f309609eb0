"""The shelf of snapshots: what is found, what is kept, what goes, and what is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.engine import Cancelled, EngineDied, EngineError, StateRefused
from ropewalk.sessions.snapshot import UnknownSnapshot
from ropewalk.sessions.snapshot_budget import BudgetError, budget_for, parse_size
from ropewalk.sessions.snapshot_entry import MANIFEST, STATE, TOKENS
from ropewalk.sessions.snapshot_key import SnapshotKey
from ropewalk.sessions.snapshot_shelf import SnapshotShelf
from standing_engine import BYTES_PER_TOKEN, StandingEngine, key

TEXT = list(range(100, 180))
SIZE = BYTES_PER_TOKEN + 4  # bytes a token takes
WINDOWED = key(plan="windowed-abc")


class Shelf(SnapshotShelf):
    """A shelf that remembers what it told."""

    def __init__(self, folder: Path, budget: int | None = 10**9) -> None:
        self.told: list[str] = []
        super().__init__(folder, budget, self.told.append)

    @property
    def sentence(self) -> str:
        """The one thing it told."""
        assert len(self.told) == 1
        assert "\n" not in self.told[0]
        assert self.told[0].endswith(".")
        assert not self.told[0].endswith("..")
        return self.told[0]

    def keep(self, tokens: Sequence[int], under: SnapshotKey | None = None, title: str = "a text") -> str:
        """Puts a text and returns its id."""
        snapshot = self.put(StandingEngine(tokens).as_engine, under or key(), title)
        assert snapshot is not None
        return snapshot.id

    @property
    def ids(self) -> set[str]:
        """Of all that is there."""
        return {snapshot.id for snapshot in self.list()}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "caches" / "snapshots")


def names(shelf: Shelf) -> list[str]:
    """All that is in the folder."""
    return sorted(path.name for path in shelf.folder.iterdir())


def test_what_was_put_is_found_and_restored(shelf: Shelf) -> None:
    shares: list[float] = []
    assert shelf.best(key(), TEXT) is None
    engine = StandingEngine(TEXT)
    put = shelf.put(engine.as_engine, key(), "Moby Dick", shares.append)
    assert put is not None
    assert (put.title, put.n_tokens, put.n_bytes) == ("Moby Dick", 80, 80 * SIZE)
    assert put.key.model_name == "tiny.gguf"
    found = shelf.best(key(), [*TEXT, 5, 6])
    assert found is not None
    assert (found.id, found.common) == (put.id, 80)
    other = StandingEngine()
    assert shelf.restore(other.as_engine, found, shares.append) == 80
    assert other.held == TEXT
    assert shares == [0.5, 1.0, 0.5]
    assert [snapshot.id for snapshot in shelf.list()] == [put.id]
    assert shelf.told == []


def test_titles_are_for_terminals_and_files(shelf: Shelf) -> None:
    shelf.keep(TEXT, title="\udcff\x1b[31m red\r\n" + "long " * 500)
    (snapshot,) = shelf.list()
    assert snapshot.title.isprintable()
    assert snapshot.title.startswith("[31m red long long")
    assert len(snapshot.title) <= 300


@pytest.mark.parametrize("field", ["model", "plan", "kv_type", "flash_attention", "step", "library"])
def test_a_foreign_snapshot_is_not_found(shelf: Shelf, field: str) -> None:
    shelf.keep(TEXT)
    assert shelf.best(key(**{field: 7 if field == "step" else "other"}), TEXT) is None
    assert shelf.best(key(model_name="renamed.gguf"), TEXT) is not None
    assert shelf.told == []


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """One token after the other."""
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return length


token_lists = st.lists(st.integers(0, 2), min_size=1, max_size=20)


@settings(deadline=None, max_examples=80)
@given(
    kept=st.lists(st.tuples(token_lists, st.booleans()), max_size=6),
    wanted=token_lists,
    windowed=st.booleans(),
    room=st.integers(1, 20),
)
def test_the_longest_common_beginning_is_found(
    kept: list[tuple[list[int], bool]], wanted: list[int], windowed: bool, room: int
) -> None:
    """As by comparing with everything; texts that cannot be cut are of use as a whole or not at all."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _descriptor: None)  # which takes most of the time
        shelf = Shelf(Path(folder))
        there: dict[str, tuple[int, ...]] = {}
        for tokens, under_windows in kept:
            under = WINDOWED if under_windows else key()
            id_ = shelf.keep(tokens, under)
            if under_windows is windowed:
                there = {
                    old: text
                    for old, text in there.items()
                    if not (len(text) < len(tokens) and text == tuple(tokens[: len(text)]))
                }
                there[id_] = tuple(tokens)
        common = {id_: common_length(text, wanted) for id_, text in there.items() if len(text) <= room}
        if windowed:
            common = {id_: n for id_, n in common.items() if n == len(there[id_]) and n < len(wanted)}
        worth = {id_: n for id_, n in common.items() if n and 8 * n >= len(there[id_])}
        found = shelf.best(WINDOWED if windowed else key(), wanted, n_ctx=room)
        assert (0 if found is None else found.common) == max(worth.values(), default=0)
        if found is not None:
            assert worth[found.id] == found.common


def test_a_text_that_grew_replaces_its_beginning(shelf: Shelf) -> None:
    other_start = shelf.keep([9, *TEXT])
    elsewhere = shelf.keep(TEXT[:40], key(model="other"))
    shelf.keep(TEXT[:40])
    shelf.keep(TEXT[:60])
    grown = shelf.keep(TEXT)
    assert shelf.ids == {other_start, elsewhere, grown}
    assert len(names(shelf)) == 3


def test_the_same_text_is_kept_once_and_not_written_again_where_it_is_known(shelf: Shelf) -> None:
    first = shelf.keep(TEXT)
    assert shelf.keep(TEXT) == first
    engine = StandingEngine(TEXT)
    engine.fails_with = AssertionError("written again")
    again = shelf.put(engine.as_engine, key(), "a text", tokens=TEXT)
    assert again is not None
    assert again.id == first
    assert names(shelf) == [first]


def used_at(shelf: Shelf, id_: str, seconds: float) -> None:
    os.utime(shelf.folder / id_ / MANIFEST, (seconds, seconds))


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, budget=3 * 80 * SIZE)
    ids = [shelf.keep([i, *TEXT[1:]]) for i in range(3)]
    for age, id_ in enumerate(ids):
        used_at(shelf, id_, 1_000_000 + age)
    first = shelf.best(key(), [0, *TEXT[1:]])
    assert first is not None
    assert shelf.restore(StandingEngine().as_engine, first) == 80  # used now
    fourth = shelf.keep([3, *TEXT[1:]])
    assert shelf.ids == {ids[0], ids[2], fourth}
    assert [snapshot.id for snapshot in shelf.list()][-1] == ids[2]
    assert shelf.told == []


def test_more_than_the_budget_is_not_kept_and_stops_early(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, budget=80 * SIZE)
    small = shelf.keep(TEXT[:70])
    shares: list[float] = []
    assert shelf.put(StandingEngine(TEXT * 3).as_engine, key(), "a long text", shares.append) is None
    assert "a long text is not kept" in shelf.sentence
    assert "ROPEWALK_SNAPSHOT_BUDGET" in shelf.sentence
    assert shares == []
    assert names(shelf) == [small]


def test_a_budget_of_nothing_keeps_nothing_and_says_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "none", budget=0)
    assert shelf.put(StandingEngine(TEXT).as_engine, key(), "a text") is None
    assert shelf.told == []
    assert not shelf.folder.exists()


def test_the_budget_of_the_environment_and_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=10 * 10**9))
    monkeypatch.delenv("ROPEWALK_SNAPSHOT_BUDGET", raising=False)
    assert budget_for(tmp_path / "not" / "there", 0) == 2_500_000_000
    assert budget_for(tmp_path, 2 * 10**9) == 3 * 10**9, "what is kept counts as room"
    assert budget_for(tmp_path, 10**12) == 20 * 10**9
    monkeypatch.setenv("ROPEWALK_SNAPSHOT_BUDGET", "1.5 GB")
    assert budget_for(tmp_path, 0) == 1_500_000_000
    monkeypatch.setenv("ROPEWALK_SNAPSHOT_BUDGET", "much")
    with pytest.raises(BudgetError, match="ROPEWALK_SNAPSHOT_BUDGET: 'much' is no size"):
        SnapshotShelf(tmp_path)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("0", 0),
        ("20GB", 20 * 10**9),
        ("500 mb", 5 * 10**8),
        ("1.5g", 1_500_000_000),
        ("12 bytes", 12),
        (".5k", 500),
    ],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "5 PB", "1 2", "inf", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BudgetError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    "error",
    [StateRefused("no room: make some"), EngineError("refused"), OSError(28, "No space left on device")],
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(shelf: Shelf, error: Exception) -> None:
    kept = shelf.keep(TEXT[:10])
    engine = StandingEngine(TEXT)
    engine.fails_with = error
    assert shelf.put(engine.as_engine, key(), "a text") is None
    assert "a text is not kept" in shelf.sentence
    assert names(shelf) == [kept]


def test_a_folder_that_cannot_be_made_is_named(shelf: Shelf) -> None:
    shelf.folder.parent.mkdir()
    shelf.folder.write_text("a file in its place")

    assert shelf.put(StandingEngine(TEXT).as_engine, key(), "a text") is None
    assert f"a text is not kept: {shelf.folder} cannot be written to (" in shelf.sentence


@pytest.mark.parametrize(
    "error", [EngineDied("was killed by SIGKILL"), Cancelled("stopped"), KeyboardInterrupt()]
)
def test_the_engines_end_and_an_interruption_reach_the_caller(shelf: Shelf, error: BaseException) -> None:
    kept = shelf.keep(TEXT[:10])
    engine = StandingEngine(TEXT)

    def progress(_share: float) -> None:
        raise error

    with pytest.raises(type(error)):
        shelf.put(engine.as_engine, key(), "a text", progress)
    assert names(shelf) == [kept]
    assert shelf.told == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shelf = Shelf(tmp_path / "file" / "snapshots")
    assert shelf.put(StandingEngine(TEXT).as_engine, key(), "a text") is None
    assert "Not a directory" in shelf.sentence
    assert shelf.best(key(), TEXT) is None


def test_a_snapshot_that_another_process_removes_while_it_is_read_is_read_on(shelf: Shelf) -> None:
    id_ = shelf.keep(TEXT)
    found = shelf.best(key(), TEXT)
    assert found is not None
    engine = StandingEngine()

    def removed(_share: float) -> None:
        shelf.delete([id_])

    held = shelf.restore(engine.as_engine, found, removed)
    assert held == 80
    assert engine.held == TEXT
    assert names(shelf) == []
    assert shelf.restore(engine.as_engine, found) == 0, "and is no more then"
    assert shelf.told == []


@pytest.mark.parametrize("damaged", [True, False])
def test_a_snapshot_that_the_engine_died_of_goes_only_where_it_is_damaged(
    shelf: Shelf, damaged: bool
) -> None:
    id_ = shelf.keep(TEXT)
    found = shelf.best(key(), TEXT)
    assert found is not None

    def dies(_share: float) -> None:
        if damaged:
            os.truncate(shelf.folder / id_ / STATE, 10)
        raise EngineDied("was killed by SIGBUS")

    with pytest.raises(EngineDied):
        shelf.restore(StandingEngine().as_engine, found, dies)
    assert names(shelf) == ([] if damaged else [id_])
    assert bool(shelf.told) is damaged


def test_ids_may_be_shortened_and_name_one(shelf: Shelf) -> None:
    ids = sorted(shelf.keep([i, *TEXT]) for i in range(20))
    beginnings = {id_[0] for id_ in ids}
    crowded = next(c for c in beginnings if sum(id_.startswith(c) for id_ in ids) > 1)
    for wrong in (crowded, "", "zzzz", "../x"):
        with pytest.raises(UnknownSnapshot, match="snapshots list"):
            shelf.delete([ids[0], wrong])
    assert shelf.ids == set(ids)
    assert shelf.delete([ids[0][:12].upper(), ids[0], ids[1]]) == tuple(ids[:2])
    assert shelf.ids == set(ids[2:])


def test_pruning(shelf: Shelf) -> None:
    ids = [shelf.keep([i, *TEXT[1:]]) for i in range(4)]
    for age, id_ in enumerate(ids):
        used_at(shelf, id_, 1_000_000 + age)
    (shelf.folder / ids[3] / TOKENS).unlink()
    (shelf.folder / ids[2] / MANIFEST).write_bytes(b"{}")
    left = shelf.folder / ".0123abcd.part"
    left.mkdir()
    (left / STATE).write_bytes(b"half")
    (shelf.folder / "somebody's file").touch()
    assert set(shelf.damaged()) == set(ids[2:])
    pruned = shelf.prune(80 * SIZE)
    assert (pruned.damaged, pruned.leftovers, pruned.budget) == (2, 1, 80 * SIZE)
    assert [snapshot.id for snapshot in pruned.dropped] == [ids[0]]
    assert names(shelf) == sorted([ids[1], "somebody's file"])
    assert len(shelf.prune(0).dropped) == 1
    assert names(shelf) == ["somebody's file"]
