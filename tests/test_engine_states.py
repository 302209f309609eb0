"""What was read, saved and restored goes on bit for bit; what cannot be restored leaves an empty text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from library_logits import Float32
from mode_plans import PLANS, random_tokens, write_model
from ropewalk.backend.errors import StoppedError
from ropewalk.engine import Cancelled, Engine, EngineError, EngineOptions, PromptTooLong, StateRefused
from ropewalk.engine.sampling import GREEDY
from ropewalk.engine.worker import Worker
from ropewalk_plan import ContextPlan, GgufHeader, make_plan, rope_spec_from_gguf

pytestmark = pytest.mark.usefixtures("patched_library")

OPTIONS = EngineOptions(n_ctx=600, threads=1, gpu_layers=0, batch_size=64, ubatch_size=64)
DOCUMENT, QUESTION = random_tokens(180, seed=80), random_tokens(11, seed=81)
LONG = random_tokens(430, seed=84)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of 64 numbers, which can be quantized."""
    return write_model(tmp_path_factory.mktemp("states") / "model.gguf", "llama").path


@pytest.fixture(scope="module")
def plans(model: Path) -> dict[str, ContextPlan | None]:
    spec = rope_spec_from_gguf(GgufHeader.read(model))
    return {
        "none": None,
        "dprope": make_plan(spec, "dprope", 256),
        "schedule": PLANS["schedule"],
        "periodic-logn": dataclasses.replace(PLANS["periodic"], logn_length=64),
        "mirrored": PLANS["mirrored"],
        "windows": make_plan(spec, "windows", 256, options={"windows": "100/0", "sinks": "4"}),
        "stream": make_plan(spec, "streaming", 256, options={"window": "64", "sinks": "4"}),
    }


PLAN_NAMES = ("none", "dprope", "schedule", "periodic-logn", "mirrored", "windows", "stream")


def nothing(*_told: object) -> None:
    """Is told, and does nothing."""


def last_logits(worker: Worker, tokens: list[int]) -> Float32:
    """After making the worker read a text; [vocabulary]."""
    assert not worker.prefill(tokens, nothing, 0, reserve=len(LONG) + len(QUESTION)).cancelled
    logits: Float32 = worker._sequences[0].context.logits()[-1]
    return logits


@pytest.mark.parametrize(
    "changes",
    [{"flash_attention": "on"}, {"flash_attention": "off"}, {"kv_type": "q8_0"}],
    ids=["f16-flash", "f16", "q8_0-flash"],
)
@pytest.mark.parametrize("name", PLAN_NAMES)
def test_a_restored_text_goes_on_bit_for_bit(
    model: Path, plans: dict[str, ContextPlan | None], name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    """As from the state that was saved: under windows that is what the context itself goes on from."""
    document = LONG if name in ("windows", "stream") else DOCUMENT  # past what their cells hold
    options = dataclasses.replace(OPTIONS, plan=plans[name], **changes)
    worker = Worker(lambda: False)
    worker.load(model, options, nothing)
    last_logits(worker, document)
    saved = worker.save_state(tmp_path / "state", 0, nothing)
    expected = last_logits(worker, [*document, *QUESTION])
    assert saved.tokens == tuple(document)

    worker.prefill(random_tokens(70, seed=82), nothing, 0)
    assert worker.restore_state(tmp_path / "state", saved, 0, nothing) == len(document)
    here = last_logits(worker, [*document, *QUESTION])
    worker.load(model, options, nothing)
    assert worker.restore_state(tmp_path / "state", saved, 0, nothing) == len(document)
    assert worker.reusable([*document, *QUESTION], 0) == len(document)
    elsewhere = last_logits(worker, [*document, *QUESTION])
    worker._unload()

    assert np.array_equal(here.view(np.uint32), elsewhere.view(np.uint32))
    assert np.array_equal(here.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("name", PLAN_NAMES[:-1])  # a stream is alone in its context
def test_a_restored_text_is_answered_as_a_fresh_one(
    model: Path, plans: dict[str, ContextPlan | None], name: str, tmp_path: Path
) -> None:
    worker = Worker(lambda: False)
    worker.load(model, dataclasses.replace(OPTIONS, plan=plans[name], n_sequences=2), nothing)

    def answer(sequence: int) -> tuple[int, ...]:
        worker.prefill([*DOCUMENT, *QUESTION], nothing, sequence)
        return worker.generate(
            max_tokens=20,
            sampling=GREEDY,
            stop_at_eog=False,
            draft=None,
            sequence=sequence,
            on_piece=nothing,
        ).token_ids

    fresh = answer(0)
    worker.drop_sequence(0)
    worker.prefill(DOCUMENT, nothing, 0, reserve=len(DOCUMENT) + len(QUESTION))
    saved = worker.save_state(tmp_path / "state", 0, nothing)
    assert worker.restore_state(tmp_path / "state", saved, 1, nothing) == len(DOCUMENT)
    assert answer(1) == fresh
    assert answer(0) == fresh
    worker._unload()


@pytest.fixture(scope="module")
def started() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture
def engine(started: Engine, model: Path) -> Engine:
    started.load(model, dataclasses.replace(OPTIONS, n_sequences=2))
    return started


def test_the_process_saves_and_restores(engine: Engine, tmp_path: Path) -> None:
    engine.prefill(DOCUMENT, sequence=1)
    shares: list[float] = []
    saved = engine.save_state(tmp_path / "state", shares.append, sequence=1)
    assert saved.tokens == tuple(DOCUMENT)
    assert saved.n_bytes == (tmp_path / "state").stat().st_size
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    engine.drop_sequence(1)

    restored: list[float] = []
    assert engine.restore_state(tmp_path / "state", saved, restored.append) == len(DOCUMENT)
    assert restored[-1] == 1.0
    assert engine.reusable([*DOCUMENT, 5]) == len(DOCUMENT)
    assert engine.reusable([*DOCUMENT, 5], sequence=1) == 0
    with pytest.raises(EngineError, match="read a prompt first"):  # its logits are not part of it
        list(engine.generate(5))
    assert engine.prefill(DOCUMENT).cached_tokens == len(DOCUMENT) - 1


def test_relative_paths_are_the_callers(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine.prefill(DOCUMENT)
    saved = engine.save_state(Path("state"))
    assert (tmp_path / "state").exists()
    assert engine.restore_state(Path("state"), saved) == len(DOCUMENT)


def test_what_cannot_be_restored_leaves_an_empty_text_and_a_usable_engine(
    engine: Engine, plans: dict[str, ContextPlan | None], model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    engine.prefill(DOCUMENT)
    saved = engine.save_state(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 4

    for content, why in ((bytes(damaged), "is damaged"), (whole[:-1], "is damaged"), (b"", "is damaged")):
        path.write_bytes(content)
        engine.prefill(DOCUMENT)
        with pytest.raises(StateRefused, match=why):
            engine.restore_state(path, saved)
        assert engine.reusable([*DOCUMENT, 5]) == 0
    path.unlink()
    with pytest.raises(StateRefused, match="state cannot be read"):
        engine.restore_state(path, saved)
    path.write_bytes(whole)
    wrong_tokens = dataclasses.replace(saved, tokens=saved.tokens[1:])
    with pytest.raises(StateRefused, match="does not hold the tokens"):
        engine.restore_state(path, wrong_tokens)
    with pytest.raises(EngineError, match="999999 is not a token"):
        engine.restore_state(path, dataclasses.replace(saved, tokens=(999_999,)))
    engine.prefill(random_tokens(500, seed=83), sequence=1)
    with pytest.raises(PromptTooLong, match="what was saved has 180 tokens and the context has room for 100"):
        engine.restore_state(path, saved)
    engine.drop_sequence(1)
    assert engine.restore_state(path, saved) == len(DOCUMENT)

    engine.load(model, dataclasses.replace(OPTIONS, plan=plans["dprope"]))
    with pytest.raises(StateRefused, match="the library does not take"):
        engine.restore_state(path, saved)
    assert engine.reusable(DOCUMENT) == 0
    assert engine.prefill(DOCUMENT).cached_tokens == 0


def test_a_name_that_is_taken_is_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("mine")
    engine.prefill(DOCUMENT)

    with pytest.raises(StateRefused, match="state cannot be written"):
        engine.save_state(tmp_path / "state")
    assert (tmp_path / "state").read_text() == "mine"
    assert engine.reusable([*DOCUMENT, 5]) == len(DOCUMENT)


@pytest.mark.parametrize("stopped_at", [0.0, 0.6])
def test_saving_under_windows_is_stopped_without_losing_what_was_read(
    model: Path, plans: dict[str, ContextPlan | None], tmp_path: Path, stopped_at: float
) -> None:
    """From where the text is read back from the file on, saving goes to its end."""
    stopping = [False]
    worker = Worker(lambda: stopping[0])
    worker.load(model, dataclasses.replace(OPTIONS, plan=plans["windows"]), nothing)
    worker.prefill(DOCUMENT, nothing, 0)

    def stop(share: float) -> None:
        stopping[0] = stopping[0] or share >= stopped_at

    if stopped_at > 0.5:
        assert worker.save_state(tmp_path / "state", 0, stop).tokens == tuple(DOCUMENT)
    else:
        with pytest.raises(StoppedError, match="was stopped"):
            worker.save_state(tmp_path / "state", 0, stop)
        assert list(tmp_path.iterdir()) == []
    assert stopping == [True]
    stopping[0] = False
    assert worker.reusable([*DOCUMENT, 5], 0) == len(DOCUMENT)
    assert not worker.prefill([*DOCUMENT, 5], nothing, 0).cancelled
    worker._unload()


def test_saving_and_restoring_are_stopped_between_blocks(model: Path, tmp_path: Path) -> None:
    stopping = [False]
    worker = Worker(lambda: stopping[0])
    worker.load(model, OPTIONS, nothing)
    worker.prefill(DOCUMENT, nothing, 0)
    saved = worker.save_state(tmp_path / "whole", 0, nothing)

    def stop(_share: float) -> None:
        stopping[0] = True

    with pytest.raises(StoppedError, match="was stopped"):
        worker.save_state(tmp_path / "stopped", 0, stop)
    stopping[0] = False
    assert [file.name for file in tmp_path.iterdir()] == ["whole"]
    assert worker.reusable([*DOCUMENT, 5], 0) == len(DOCUMENT)
    with pytest.raises(StoppedError, match="was stopped"):
        worker.restore_state(tmp_path / "whole", saved, 0, stop)
    stopping[0] = False
    assert worker.reusable([*DOCUMENT, 5], 0) == 0
    assert worker.restore_state(tmp_path / "whole", saved, 0, nothing) == len(DOCUMENT)
    worker._unload()


def test_being_cancelled_is_told_as_such(engine: Engine, tmp_path: Path) -> None:
    engine.prefill(DOCUMENT)
    try:
        engine.save_state(tmp_path / "state", lambda _share: engine.cancel())
    except Cancelled:
        assert not (tmp_path / "state").exists()
    else:  # it was done before the word arrived
        assert (tmp_path / "state").exists()
    assert engine.reusable([*DOCUMENT, 5]) == len(DOCUMENT)
