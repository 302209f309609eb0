"""Windows under random operations on sequences: right by the oracle, or refused where something may be gone.

After each batch the logits of every sequence equal those of the float64 memory, which never evicts; an
operation is refused only where the plain model of `sequence_ledger` says that a cell is needed which a window
may have let go.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library_logits import Mode
from tiny_models import TinyModel, write_tiny_model
from windowed_contexts import TRAIN_LENGTH, opened, windows_plan, with_plan
from windowed_operations import (
    EVER,
    N_CTX,
    N_SEQUENCES,
    SINKS,
    Abort,
    Copy,
    CutBack,
    Decode,
    Discard,
    Keep,
    Operation,
    Overfill,
    Restore,
    Trio,
)

pytestmark = pytest.mark.usefixtures("patched_library")

SEQUENCE = st.integers(0, N_SEQUENCES - 1)
SIZE = st.sampled_from([33, 90, 7, 1, 0])
BACK = st.sampled_from([1, 3, 15, 16, 40, 120, EVER])
SEED = st.integers(0, 99)

OPERATIONS = st.lists(
    st.one_of(
        st.builds(Decode, st.tuples(SIZE, SIZE, SIZE), SEED),
        st.builds(Decode, st.tuples(SIZE, SIZE, SIZE), SEED),
        st.builds(CutBack, SEQUENCE, BACK),
        st.builds(Discard, SEQUENCE, st.floats(0, 1), BACK, st.booleans()),
        st.builds(Copy, SEQUENCE, SEQUENCE, st.sampled_from([0, 0, 0, 1, 20, 150])),
        st.builds(Keep, SEQUENCE),
        st.builds(Abort, st.tuples(SIZE, SIZE, SIZE), SEED, st.integers(0, 600)),
        st.builds(Overfill, SEQUENCE),
        st.builds(Restore, SEQUENCE, SEQUENCE),
    ),
    min_size=8,
    max_size=14,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("properties") / "model.gguf"
    return write_tiny_model(
        path, n_layer=3, n_embd=32, n_head=2, n_head_kv=1, n_ff=32, train_length=TRAIN_LENGTH, seed=41
    )


@pytest.mark.parametrize("unified", [True, False], ids=["unified", "streams"])
@pytest.mark.parametrize("windows", [(16, 0, 5), (16, 5, 5)], ids=["one-dense", "all-windowed"])
def test_right_or_refused_for_a_reason(model: TinyModel, windows: tuple[int, ...], unified: bool) -> None:
    mode = Mode(ubatch_size=32, n_seq_max=N_SEQUENCES, kv_unified=unified)
    prepare = with_plan(windows_plan(windows, SINKS))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(OPERATIONS)
    def run(operations: list[Operation]) -> None:
        with opened(model.path, N_CTX, mode, prepare=prepare) as context:
            trio = Trio(context, model, windows, unified)
            trio.apply(Decode((290, 0, 0), seed=1))  # past one cache of 256 cells
            for operation in operations:
                trio.apply(operation)
            trio.apply(Decode((1, 1, 1), seed=2))

    run()
