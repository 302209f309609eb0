"""Scoring: log-probabilities against a transformer in float64, and what it takes of a context."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from method_oracles import ORACLES, none
from reference_transformer import Positions, reference_logits
from ropewalk.backend.errors import StoppedError
from ropewalk.backend.log_probabilities import log_probabilities
from ropewalk.backend.needs import ContextNeeds
from ropewalk.engine import EngineOptions
from ropewalk.engine.context_options import context_params
from ropewalk.engine.worker import Worker
from ropewalk_plan import ContextPlan, GgufHeader, ScheduleStep, make_plan, rope_spec_from_gguf
from tiny_models import TinyModel, write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 2e-3
"""That of test_parity.py for a logit, twice: for the token's own and for all others'."""

TRAIN_LENGTH = 64
TARGET_LENGTH = 256
N_TOKENS = 300
OPTIONS = EngineOptions(n_ctx=512, threads=1, kv_type="f32", flash_attention="off", n_scored=64)


def nothing(*_told: object) -> None:
    """Progress nobody wants."""


class Stop:
    """What the worker asks whether to stop."""

    wished = False

    def __call__(self) -> bool:
        return self.wished


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("scoring") / "tiny.gguf"
    return write_tiny_model(path, arch="llama", train_length=TRAIN_LENGTH, seed=3)


@pytest.fixture(scope="module")
def stop() -> Stop:
    return Stop()


@pytest.fixture(scope="module")
def loaded(model: TinyModel, stop: Stop) -> Iterator[Worker]:
    worker = Worker(stop)
    worker.load(model.path, OPTIONS, nothing)
    yield worker
    worker._unload()


@pytest.fixture
def worker(loaded: Worker, stop: Stop) -> Worker:
    """Without a plan, and empty."""
    stop.wished = False
    loaded.use_plan(None, OPTIONS.n_ctx)
    return loaded


def random_tokens(count: int = N_TOKENS, seed: int = 5) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(3, 360, count)]


def expected(model: TinyModel, tokens: Sequence[int], positions: Positions) -> npt.NDArray[np.float64]:
    """By the reference's logits: log softmax, computed otherwise than the code under test does."""
    logits = reference_logits(model, tokens, positions)
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.asarray(np.log(share[np.arange(len(tokens) - 1), np.asarray(tokens[1:])]))


def score(worker: Worker, tokens: Sequence[int], *, first: int = 1, reserve: int = 0) -> tuple[float, ...]:
    return worker.score(tokens, nothing, first=first, sequence=0, reserve=reserve)


@pytest.mark.parametrize("method", sorted(ORACLES))
def test_it_is_what_the_methods_equations_give(worker: Worker, model: TinyModel, method: str) -> None:
    tokens, m = random_tokens(), np.arange(N_TOKENS, dtype=np.float64)
    spec = rope_spec_from_gguf(GgufHeader.read(model.path))
    worker.use_plan(make_plan(spec, method, TARGET_LENGTH), None)

    told = np.array(score(worker, tokens))

    oracle = expected(model, tokens, ORACLES[method](model, TARGET_LENGTH, m))
    assert told.shape == (N_TOKENS - 1,)
    assert float(np.abs(told - oracle).max()) <= BOUND
    assert float(oracle.std()) > 0.3  # else any number would do


def test_a_schedule_has_the_factors_of_the_whole_text_from_its_first_token_on(
    worker: Worker, model: TinyModel
) -> None:
    """And those of what is reserved, where that is longer."""
    growing = tuple(
        ScheduleStep(length, tuple(1.0 + i * k / 8 for i in range(model.rope_dim // 2)))
        for k, length in enumerate((64, 128, 256, 512))
    )
    worker.use_plan(ContextPlan("growing", TRAIN_LENGTH, 512, schedule=growing), None)
    tokens = random_tokens(100)
    theta = model.rope_base ** (-2.0 * np.arange(model.rope_dim // 2) / model.rope_dim)
    for reserve, step in ((0, growing[1]), (250, growing[2]), (512, growing[3])):
        told = np.array(score(worker, tokens, reserve=reserve))
        angles = np.outer(np.arange(100.0), theta / np.array(step.frequency_factors))
        assert float(np.abs(told - expected(model, tokens, Positions(angles))).max()) <= BOUND
        worker.drop_sequence(0)


@given(
    n_tokens=st.integers(2, 200),
    n_scored=st.sampled_from([0, 1, 7, 32, 999]),
    batch_size=st.sampled_from([1, 5, 32, 512]),
    data=st.data(),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_batches_and_what_is_held_change_nothing(
    model: TinyModel, n_tokens: int, n_scored: int, batch_size: int, data: st.DataObject
) -> None:
    tokens = random_tokens(n_tokens, seed=n_tokens)
    first = data.draw(st.integers(1, n_tokens - 1))
    held = tokens[: data.draw(st.integers(0, n_tokens))] + data.draw(st.sampled_from([[], [7, 7, 7]]))
    worker = Worker(lambda: False)
    worker.load(
        model.path,
        EngineOptions(
            n_ctx=512,
            threads=1,
            kv_type="f32",
            flash_attention="off",
            batch_size=batch_size,
            ubatch_size=batch_size,
            n_scored=n_scored,
        ),
        nothing,
    )
    try:
        if held:
            worker.prefill(held, nothing, 0)
        done = list[int]()
        told = np.array(
            worker.score(tokens, lambda now, total: done.append(now), first=first, sequence=0, reserve=0)
        )
        assert worker.reusable([*tokens, 9], 0) == n_tokens
    finally:
        worker._unload()

    plain = none(model, TRAIN_LENGTH, np.arange(n_tokens, dtype=np.float64))
    assert float(np.abs(told - expected(model, tokens, plain)[first - 1 :]).max()) <= BOUND
    kept = min(first - 1, next((i for i, (a, b) in enumerate(zip(held, tokens)) if a != b), len(held)))  # noqa: B905
    assert (done[0], done[-1]) == (min(kept, n_tokens - 1), n_tokens)
    assert max(later - now for now, later in itertools.pairwise(done)) <= batch_size


def test_stopped_it_keeps_what_was_read(worker: Worker, stop: Stop) -> None:
    tokens = random_tokens()
    whole = score(worker, tokens)
    worker.drop_sequence(0)
    seen: list[int] = []

    def stop_at(done: int, _total: int) -> None:
        seen.append(done)
        stop.wished = done >= 128

    with pytest.raises(StoppedError, match="scoring the text was stopped"):
        worker.score(tokens, stop_at, first=1, sequence=0, reserve=0)
    stop.wished = False

    assert seen == [0, 64, 128]  # not one micro-batch more
    assert worker.reusable(tokens, 0) == 128
    assert score(worker, tokens) == pytest.approx(whole, abs=BOUND)


@pytest.mark.parametrize("streaming", [False, True])
def test_windows_and_streams_score_as_one_pass_does(
    worker: Worker, model: TinyModel, streaming: bool
) -> None:
    schedule = (ScheduleStep(512, (1.0,) * (model.rope_dim // 2)),)
    windows = (64,) * model.n_layer
    plan = ContextPlan(
        "w", TRAIN_LENGTH, 512, schedule=schedule, windows=windows, sinks=4, streaming=streaming
    )
    worker.use_plan(plan, None)
    tokens = random_tokens(480)

    at_once = score(worker, tokens)
    worker.drop_sequence(0)
    worker.prefill(tokens[:200], nothing, 0)
    in_two = score(worker, tokens, first=201)
    worker.drop_sequence(0)
    held_too_far = worker.prefill(tokens[:400], nothing, 0)
    again = score(worker, tokens, first=100)

    assert not held_too_far.cancelled
    assert in_two == pytest.approx(at_once[200:], abs=BOUND)
    assert again == pytest.approx(at_once[99:], abs=BOUND)
    full = expected(model, tokens, none(model, TRAIN_LENGTH, np.arange(480.0)))
    assert np.abs(np.array(at_once[:60]) - full[:60]).max() <= BOUND  # nothing is out of sight yet
    assert np.abs(np.array(at_once[200:]) - full[200:]).max() > 0.1


def test_rows_of_logits_are_counted_beforehand(model: TinyModel) -> None:
    """What is needed rises by the rows that the library holds, and by those of the last product."""
    worker = Worker(lambda: False)
    worker.load(model.path, OPTIONS, nothing)
    loaded, _ = worker._loaded()
    needs = {}
    for n_scored in (16, 512):
        params = context_params(EngineOptions(n_ctx=512, threads=1, n_scored=n_scored))
        with ContextNeeds(loaded, params) as needed:
            needs[n_scored] = needed(512).devices[0].compute
    size = loaded.vocabulary.size
    worker._unload()

    assert needs[512] - needs[16] >= (512 - 16) * size * 4


def test_no_more_is_widened_than_a_few_rows() -> None:
    logits = np.random.default_rng(0).normal(size=(256, 20_000)).astype(np.float32)
    tokens = np.random.default_rng(1).integers(0, 20_000, 256)
    wide = logits.astype(np.float64)
    oracle = wide[np.arange(256), tokens] - np.log(np.exp(wide).sum(axis=1))
    del wide

    tracemalloc.start()
    told = log_probabilities(logits, tokens.tolist())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert float(np.abs(told - oracle).max()) < 1e-12
    assert peak < logits.nbytes / 8
    assert log_probabilities(logits[:0], []).shape == (0,)


def test_large_logits_do_not_overflow() -> None:
    rows = np.array([[3e4, -3e4, 0.0], [np.float32(3e38), np.float32(-3e38), 0.0]], dtype=np.float32)
    assert log_probabilities(rows, [1, 0]).tolist() == [-6e4, 0.0]


def test_a_file_is_scored_alike_wherever_its_tokens_are_split(worker: Worker, tmp_path: Path) -> None:
    """Sums of parts are the whole's: what a sliding window relies on."""
    tokens = random_tokens(200, seed=9)
    whole = sum(score(worker, tokens))
    worker.drop_sequence(0)
    parts = [score(worker, tokens[:end], first=start) for start, end in ((1, 70), (70, 150), (150, 200))]

    assert [len(part) for part in parts] == [69, 80, 50]
    assert sum(map(sum, parts)) == pytest.approx(whole, abs=1e-2)
