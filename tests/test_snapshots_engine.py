"""Snapshots of a real model: answers are those of a fresh reading, whatever has happened to the files."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ropewalk.engine import Engine, EngineDied, EngineOptions
from ropewalk.sessions.fingerprint import ModelFingerprint, model_fingerprint
from ropewalk.sessions.snapshot_entry import MANIFEST, STATE, TOKENS
from ropewalk.sessions.snapshot_key import SnapshotKey, snapshot_key
from ropewalk.sessions.snapshot_shelf import BOUNDARY_TOKENS, SnapshotShelf
from ropewalk_plan import ContextPlan, ScheduleStep
from tiny_models import write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

DOCUMENT = [int(token) for token in np.random.default_rng(8).integers(3, 360, 150)]
QUESTION = [int(token) for token in np.random.default_rng(9).integers(3, 360, 30)]
HEAD = len(DOCUMENT) - BOUNDARY_TOKENS
PLANS = {
    "none": None,
    "schedule": ContextPlan(
        "test",
        64,
        512,
        schedule=tuple(ScheduleStep(n, tuple(np.linspace(1.0, n / 64, 16).tolist())) for n in (64, 160, 512)),
    ),
    "windows": ContextPlan("test", 64, 512, windows=(32, 0), sinks=4),
}
FILES = (MANIFEST, TOKENS, STATE)


def options(plan: ContextPlan | None, kv_type: str = "f16") -> EngineOptions:
    return EngineOptions(
        n_ctx=512, threads=1, batch_size=64, ubatch_size=64, plan=plan, gpu_layers=0, kv_type=kv_type
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models of the same shape."""
    folder = tmp_path_factory.mktemp("models")
    first, second = (
        write_tiny_model(folder / f"{seed}.gguf", head_dim=32, seed=seed).path for seed in (1, 2)
    )
    return first, second


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


def load(engine: Engine, model: Path, under: EngineOptions, prompt: int = 180) -> SnapshotKey:
    """Loads the model, which empties the context, and says what a prompt is read with."""
    fingerprint = ModelFingerprint(model_fingerprint(model, model.parent / "cache").digest, 0)
    return snapshot_key(engine.load(model, under), under, prompt, fingerprint)


def answer(engine: Engine, prompt: list[int]) -> tuple[tuple[int, ...], int]:
    """The greedy answer, and how many tokens of the prompt were held."""
    read = engine.prefill(prompt)
    stream = engine.generate(12, stop_at_eog=False)
    assert list(stream)
    return stream.result.token_ids, read.cached_tokens


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_reopened_document_is_answered_about_as_a_fresh_one(
    engine: Engine, models: tuple[Path, Path], plan: ContextPlan | None, kv_type: str, tmp_path: Path
) -> None:
    told: list[str] = []
    shelf = SnapshotShelf(tmp_path, 10**9, told.append)
    under = options(plan, kv_type)
    prompt = [*DOCUMENT, *QUESTION]
    load(engine, models[0], under)
    expected, _ = answer(engine, prompt)

    key = load(engine, models[0], under)
    assert shelf.best(key, prompt) is None
    engine.prefill(prompt[:HEAD], reserve=len(prompt))
    snapshot = shelf.put(engine, key, "a document")
    assert snapshot is not None
    assert snapshot.n_tokens == HEAD
    answer(engine, [*DOCUMENT, *QUESTION[::-1]])

    assert load(engine, models[0], under) == key
    found = shelf.best(key, prompt, n_ctx=512)
    assert found is not None
    assert shelf.restore(engine, found) == HEAD
    assert answer(engine, prompt) == (expected, HEAD)
    assert told == []


def test_a_document_that_grew_goes_on_where_it_was(
    engine: Engine, models: tuple[Path, Path], tmp_path: Path
) -> None:
    shelf = SnapshotShelf(tmp_path, 10**9)
    for plan in (None, PLANS["windows"]):
        under = options(plan)
        key = load(engine, models[0], under)
        engine.prefill(DOCUMENT[:80])
        assert shelf.put(engine, key, "the first half") is not None
        grown = [*DOCUMENT, *QUESTION]
        load(engine, models[0], under)
        expected, _ = answer(engine, grown)
        load(engine, models[0], under)
        found = shelf.best(key, grown)
        assert found is not None
        assert shelf.restore(engine, found) == 80
        engine.prefill(grown[:HEAD])
        assert shelf.put(engine, key, "the whole") is not None
        assert answer(engine, grown) == (expected, HEAD)
        assert [s.title for s in shelf.list() if s.key == key] == ["the whole"]


def test_an_edited_document_is_read_from_the_edit_on(
    engine: Engine, models: tuple[Path, Path], tmp_path: Path
) -> None:
    """Not under windows, which cannot go back: there it is read again."""
    shelf = SnapshotShelf(tmp_path, 10**9)
    edited = [*DOCUMENT[:100], 77, *DOCUMENT[101:], *QUESTION]
    for plan, of_use in ((None, 100), (PLANS["windows"], None)):
        under = options(plan)
        load(engine, models[0], under)
        expected, _ = answer(engine, edited)
        key = load(engine, models[0], under)
        engine.prefill(DOCUMENT[:HEAD])
        assert shelf.put(engine, key, "before the edit") is not None
        load(engine, models[0], under)
        found = shelf.best(key, edited)
        assert (None if found is None else found.common) == of_use
        if found is not None:
            assert shelf.restore(engine, found) == HEAD
            assert answer(engine, edited) == (expected, 100)


def test_a_document_is_reopened_beside_another_text(
    engine: Engine, models: tuple[Path, Path], tmp_path: Path
) -> None:
    shelf = SnapshotShelf(tmp_path, 10**9)
    under = options(None)
    prompt = [*DOCUMENT, *QUESTION]
    key = load(engine, models[0], under)
    engine.prefill(prompt[:HEAD])
    found = shelf.put(engine, key, "a document")
    assert found is not None
    expected, _ = answer(engine, prompt)
    engine.load(models[0], dataclasses.replace(under, n_sequences=2))
    others, _ = answer(engine, QUESTION)
    engine.load(models[0], dataclasses.replace(under, n_sequences=2))
    engine.prefill(QUESTION)
    assert shelf.restore(engine, found, sequence=1) == HEAD
    assert engine.prefill(prompt, sequence=1).cached_tokens == HEAD
    stream = engine.generate(12, stop_at_eog=False, sequence=1)
    assert list(stream)
    assert stream.result.token_ids == expected
    assert answer(engine, QUESTION) == (others, len(QUESTION) - 1)


def test_an_engine_that_is_killed_while_it_writes_leaves_nothing_half(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    shelf = SnapshotShelf(tmp_path, 10**9)
    with Engine.start() as engine:
        key = load(engine, models[0], options(None))
        engine.prefill(DOCUMENT)
        (child,) = (
            int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1:]
        )
        died = False
        try:
            shelf.put(engine, key, "a document", lambda _share: os.kill(child, signal.SIGKILL))
        except EngineDied as death:
            died = "SIGKILL" in death.reason
        assert died != bool(shelf.list())
        assert shelf.damaged() == ()
        assert not list(tmp_path.glob(".*"))


def test_a_context_without_room_is_told_and_the_snapshot_stays(
    engine: Engine, models: tuple[Path, Path], tmp_path: Path
) -> None:
    told: list[str] = []
    shelf = SnapshotShelf(tmp_path, 10**9, told.append)
    under = options(None)
    key = load(engine, models[0], under)
    engine.prefill((DOCUMENT * 3)[:400])
    assert shelf.put(engine, key, "a long text") is not None
    engine.load(models[0], EngineOptions(n_ctx=256, threads=1, gpu_layers=0))
    assert shelf.best(key, DOCUMENT * 3, n_ctx=256) is None
    found = shelf.best(key, DOCUMENT * 3)
    assert found is not None
    assert shelf.restore(engine, found) == 0
    assert len(told) == 1
    assert len(shelf.list()) == 1


@dataclass(frozen=True)
class Kept:
    """Snapshots of two models, of one text and of another, and the answers to what follows them."""

    folder: Path
    keys: tuple[SnapshotKey, SnapshotKey]
    answers: tuple[tuple[int, ...], tuple[int, ...]]


@pytest.fixture(scope="module")
def kept(engine: Engine, models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = tmp_path_factory.mktemp("kept")
    shelf = SnapshotShelf(folder, 10**9)
    keys, answers = [], []
    for model in models:
        key = load(engine, model, options(None))
        for text in (DOCUMENT, DOCUMENT[::-1]):
            engine.prefill(text[:HEAD])
            assert shelf.put(engine, key, "a document") is not None
        answers.append(answer(engine, [*DOCUMENT, *QUESTION])[0])
        keys.append(key)
    assert len(set(answers)) == 2
    return Kept(folder, (keys[0], keys[1]), (answers[0], answers[1]))


def folder_of(folder: Path, key: SnapshotKey, text: list[int] = DOCUMENT) -> Path:
    found = SnapshotShelf(folder, 10**9).best(key, text)
    assert found is not None
    return folder / found.id


def assert_never_wrong(
    engine: Engine, models: tuple[Path, Path], kept: Kept, damage: Callable[[Path], None]
) -> list[int]:
    """Damages a copy of everything and asks both models; returns the tokens that were restored for each."""
    restored = []
    with TemporaryDirectory() as copy:
        folder = Path(copy) / "snapshots"
        shutil.copytree(kept.folder, folder)
        damage(folder)
        told: list[str] = []
        shelf = SnapshotShelf(folder, 10**9, told.append)
        for model, key, expected in zip(models, kept.keys, kept.answers, strict=True):
            prompt = [*DOCUMENT, *QUESTION]
            load(engine, model, options(None))
            found = shelf.best(key, prompt)
            held = 0 if found is None else shelf.restore(engine, found)
            assert answer(engine, prompt)[0] == expected
            restored.append(held)
        assert all(sentence.endswith("read again.") and "\n" not in sentence for sentence in told)
        before = len(told)
        assert shelf.prune(10**9).damaged == 0, "what is damaged is gone already"
        assert len(told) == before
        assert bool(told) == (restored != [HEAD, HEAD])
    return restored


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_any_file_is_noticed(
    engine: Engine, models: tuple[Path, Path], kept: Kept, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(FILES))
    how = data.draw(st.sampled_from(["flip", "cut", "longer", "missing", "empty"]))

    def damage(folder: Path) -> None:
        path = folder_of(folder, kept.keys[0]) / name
        content = bytearray(path.read_bytes())
        path.unlink()
        if how == "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        elif how == "longer":
            content += data.draw(st.binary(min_size=1, max_size=8))
        if how != "missing":
            path.write_bytes(b"" if how == "empty" else content)

    restored = assert_never_wrong(engine, models, kept, damage)
    assert restored[1] == HEAD
    # blanks at its end change nothing of what a manifest says
    assert restored[0] == 0 or (name == MANIFEST and how == "longer")


@pytest.mark.parametrize("what", ["models", "texts"])
@pytest.mark.parametrize("names", [(STATE,), (TOKENS,), (MANIFEST,), (STATE, TOKENS), FILES])
def test_files_swapped_between_models_or_texts_are_noticed(
    engine: Engine, models: tuple[Path, Path], kept: Kept, what: str, names: tuple[str, ...]
) -> None:
    def swap(folder: Path) -> None:
        first = folder_of(folder, kept.keys[0])
        other_text = folder_of(folder, kept.keys[0], DOCUMENT[::-1])
        second = folder_of(folder, kept.keys[1]) if what == "models" else other_text
        for name in names:
            (first / name).rename(folder / "aside")
            (second / name).rename(first / name)
            (folder / "aside").rename(second / name)

    restored = assert_never_wrong(engine, models, kept, swap)
    same_tokens = what == "models" and names == (TOKENS,)  # the swap of equals
    assert restored == ([HEAD, HEAD] if same_tokens else [0, 0] if what == "models" else [0, HEAD])


def test_a_folder_under_anothers_name_is_noticed(
    engine: Engine, models: tuple[Path, Path], kept: Kept
) -> None:
    def rename(folder: Path) -> None:
        first = folder_of(folder, kept.keys[0])
        first.rename(folder / f"{'0' * 15}1")

    assert assert_never_wrong(engine, models, kept, rename) == [0, HEAD]
