"""Another plan on loaded weights: as if the model were loaded with it; failing, the old one is back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mode_plans
from ropewalk.backend.errors import (
    BackendError,
    ContextError,
    MemoryShortageError,
    ModelFileError,
    PlanRefusedError,
)
from ropewalk.backend.plan_choice import PlanChoice
from ropewalk.engine import EngineOptions, worker
from ropewalk.engine.sampling import GREEDY
from ropewalk.engine.worker import Worker
from ropewalk_convert import bake
from ropewalk_plan import ContextPlan
from test_engine_failed_contexts import fail_contexts, nothing

pytestmark = pytest.mark.usefixtures("patched_library")

OPTIONS = EngineOptions(n_ctx=512, threads=1, n_scored=64)
TOKENS = mode_plans.random_tokens(200, seed=2)
WINDOWED = ContextPlan("w", 64, 256, windows=(32, 0), sinks=4)
STREAMING = ContextPlan(
    "s", 64, 256, schedule=mode_plans.PLANS["factors"].schedule, windows=(32, 32), sinks=4, streaming=True
)
PLANS: tuple[ContextPlan | None, ...] = (None, *mode_plans.PLANS.values(), WINDOWED, STREAMING)
REFUSED = dataclasses.replace(mode_plans.PLANS["factors"], rope_layers=(7,))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mode_plans.write_model(tmp_path_factory.mktemp("plans") / "tiny.gguf", "llama").path


def loaded(path: Path, plan: ContextPlan | None = None, n_sequences: int = 1) -> Worker:
    made = Worker(lambda: False)
    made.load(path, dataclasses.replace(OPTIONS, plan=plan, n_sequences=n_sequences), nothing)
    return made


@pytest.fixture
def made(path: Path) -> Iterator[Worker]:
    made = loaded(path)
    yield made
    made._unload()


def score(made: Worker, tokens: Sequence[int] = TOKENS) -> tuple[float, ...]:
    made.drop_sequence(0)
    return made.score(tokens, nothing, first=1, sequence=0, reserve=0)


def answer(made: Worker) -> tuple[int, ...]:
    made.drop_sequence(0)
    made.prefill(TOKENS, nothing, 0)
    return made.generate(
        max_tokens=8, sampling=GREEDY, stop_at_eog=False, draft=0, sequence=0, on_piece=nothing
    ).token_ids


def behaviour(made: Worker) -> tuple[object, ...]:
    """All that may depend on the plan, bit for bit."""
    return made._loaded()[0].plan(), score(made), answer(made), made.memory().devices[0].cache


@pytest.fixture(scope="module")
def fresh(path: Path) -> dict[ContextPlan | None, tuple[object, ...]]:
    """What each plan does in a model that was loaded with it."""
    behaviours = {}
    for plan in PLANS:
        made = loaded(path, plan)
        behaviours[plan] = behaviour(made)
        made._unload()
    return behaviours


def test_the_plans_differ(fresh: dict[ContextPlan | None, tuple[object, ...]]) -> None:
    """Else nothing could be told apart below. (At 200 tokens the schedule's last step is `factors`.)"""
    assert len({scores for _, scores, *_ in fresh.values()}) == len(PLANS) - 1


@given(plans=st.lists(st.sampled_from([*PLANS, REFUSED]), min_size=2, max_size=5))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plan_is_executed_as_if_the_model_were_loaded_with_it(
    path: Path, fresh: dict[ContextPlan | None, tuple[object, ...]], plans: list[ContextPlan | None]
) -> None:
    """After any others, and after one that the library refuses."""
    made = loaded(path, plans[0] if plans[0] is not REFUSED else None)
    in_force = plans[0] if plans[0] is not REFUSED else None
    try:
        for plan in plans[1:]:
            made.prefill(TOKENS[:50], nothing, 0)
            if plan is REFUSED:
                with pytest.raises(PlanRefusedError, match="layer 7"):
                    made.use_plan(plan, None)
            else:
                described = made.use_plan(plan, None)
                in_force = plan
                assert described.plan == plan
                assert described.target_length == (256 if plan else 64)
            assert made.reusable(TOKENS, 0) == 0
            assert behaviour(made) == fresh[in_force]
    finally:
        made._unload()


def test_a_files_own_plan_is_left_out_and_comes_back(
    path: Path, fresh: dict[ContextPlan | None, tuple[object, ...]], tmp_path: Path
) -> None:
    baked = tmp_path / "baked.gguf"
    bake(path, baked, method="dprope+logn", target_length=256)
    made = loaded(baked)
    own = behaviour(made)
    plan = made._loaded()[0].plan()
    assert plan is not None

    described = made.use_plan(None, None)
    assert (described.plan, described.target_length) == (None, 64)
    assert behaviour(made) == fresh[None]
    with pytest.raises(PlanRefusedError):
        made.use_plan(REFUSED, None)
    assert behaviour(made) == fresh[None]
    made.use_plan(mode_plans.PLANS["logn"], None)
    assert behaviour(made) == fresh[mode_plans.PLANS["logn"]]
    made.use_plan(plan[0], None)
    assert behaviour(made)[1:] == own[1:]
    made._unload()


def test_a_native_file_refuses(path: Path, tmp_path: Path) -> None:
    native = tmp_path / "native.gguf"
    bake(path, native, method="pi", target_length=256)
    made = loaded(native)
    before = behaviour(made)
    for plan in (None, mode_plans.PLANS["logn"]):
        with pytest.raises(
            PlanRefusedError, match=r"native\.gguf is native, .* file that it was baked from$"
        ):
            made.use_plan(plan, None)
        assert behaviour(made) == before
    made._unload()


def test_streams_hold_one_text(path: Path) -> None:
    made = loaded(path, n_sequences=2)
    before = score(made)
    with pytest.raises(ContextError, match="2 sequences under a plan that streams"):
        made.use_plan(STREAMING, None)

    assert score(made) == before
    assert made._loaded()[0].plan() is None
    made._unload()


@pytest.mark.parametrize("n_ctx", [0, -5])
def test_a_context_of_no_tokens_is_refused(made: Worker, n_ctx: int) -> None:
    with pytest.raises(ContextError, match=f"context length is {n_ctx}"):
        made.use_plan(None, n_ctx)
    assert made.use_plan(WINDOWED, 300).n_ctx == 300


def test_what_does_not_fit_leaves_the_old_plan(
    made: Worker, fresh: dict[ContextPlan | None, tuple[object, ...]]
) -> None:
    made.use_plan(WINDOWED, None)
    with pytest.raises(MemoryShortageError) as caught:
        made.use_plan(None, 2**31 - 256)

    assert 0 < caught.value.largest_n_ctx < 2**31 - 256
    assert behaviour(made) == fresh[WINDOWED]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_context_that_cannot_be_made(
    made: Worker,
    fresh: dict[ContextPlan | None, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
) -> None:
    made.use_plan(WINDOWED, None)
    fail_contexts(monkeypatch, failures)
    with pytest.raises(ContextError, match="could be made"):
        made.use_plan(mode_plans.PLANS["logn"], 1024)

    if failures == 2:  # not even the old one
        with pytest.raises(BackendError, match="there is no context"):
            made.prefill(TOKENS, nothing, 0)
        made.use_plan(WINDOWED, None)
    assert behaviour(made) == fresh[WINDOWED]
    made.use_plan(None, None)
    assert behaviour(made) == fresh[None]


@pytest.mark.parametrize("fails", [False, True])
def test_where_fewer_layers_fit_the_weights_are_loaded_again_with_the_plan(
    made: Worker,
    fresh: dict[ContextPlan | None, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    fails: bool,
) -> None:
    """As on a GPU that has no room for all of them beside the new context."""
    made.use_plan(WINDOWED, None)
    model, _ = made._loaded()
    load, given_plans = worker._load_weights, list[PlanChoice]()

    def load_or_fail(
        path: Path, options: EngineOptions, plan: PlanChoice, gpu_layers: int, on_progress: object
    ) -> object:
        given_plans.append(plan)
        if fails and len(given_plans) == 1:
            raise ModelFileError("the file is gone")
        return load(path, options, plan, gpu_layers, lambda _share: True)

    @dataclasses.dataclass(frozen=True)
    class Elsewhere:
        target: object = model
        placed: object = dataclasses.replace(model.placed, gpu_layers=1)

        def __enter__(self) -> Elsewhere:
            return self

        def __exit__(self, *_error: object) -> None:
            return None

    monkeypatch.setattr(worker, "_load_weights", load_or_fail)
    monkeypatch.setattr(worker, "placed_for", lambda *_asked: Elsewhere())
    monkeypatch.setattr(worker, "check_memory", nothing)
    if fails:
        with pytest.raises(ModelFileError):
            made.use_plan(None, None)
    else:
        made.use_plan(None, None)

    assert len(given_plans) == 1 + fails
    assert behaviour(made) == fresh[WINDOWED if fails else None]
