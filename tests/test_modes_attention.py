"""Flash attention on and off, and every n_ubatch, under every kind of plan, against the float64 oracle.

What was measured (x86 with AVX2) is said beside each bound. The last test holds on any machine: a plan
does not make the sizes differ where they do not without one.
"""

from __future__ import annotations

import llama_cpp
import numpy as np
import pytest

from library_logits import Float32, Mode, loaded
from mode_plans import PLANS, Reservation, in_force, random_tokens, write_model
from reference_memory import NO_ROUNDING, ReferenceMemory, Rounding
from reference_transformer import Float64
from ropewalk_plan import ContextPlan
from tiny_models import Architecture, TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

N_TOKENS = 180
SIZES = (1, 2, 3, 7, 16, 64, N_TOKENS)

BOUND = 3e-4
"""Flash attention off, F32 everywhere (measured: 6e-5)."""

AMONG_SIZES = 5e-5
"""Between sizes (measured: no bit from 2 up; 1e-5 between 1 and the others, which other kernels compute)."""

FLASH_WHOLE = 1e-2
"""Flash attention over batches of 64 and more, from an oracle whose keys and values are rounded to F16, as
llama.cpp casts them: it sums in F32 there (measured: 3e-3)."""

FLASH_SMALL = 5e-2
"""Over smaller ones, where it rounds q and sums values in F16 (measured: 2e-2)."""

SEEN = 0.5
"""What leaving a plan out changes: far more than any bound."""


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_model(tmp_path_factory.mktemp("attention") / f"{arch}.gguf", arch)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return random_tokens(N_TOKENS, seed=1)


@pytest.fixture(scope="module")
def without(model: TinyModel, tokens: list[int]) -> dict[tuple[int, bool], Float32]:
    """Logits of the plain model, by n_ubatch and flash attention."""
    return {
        (size, flash): logits(model, None, tokens, Mode(ubatch_size=size, flash_attention=flash, threads=1))
        for size in SIZES
        for flash in (False, True)
    }


def to_half(x: Float64) -> Float64:
    return np.asarray(x.astype(np.float16), dtype=np.float64)


HALF = Rounding(key=to_half, value=to_half)


def logits(
    model: TinyModel, plan: ContextPlan | None, tokens: list[int], mode: Mode, n_ctx: int = 256
) -> Float32:
    under = Reservation(plan, len(tokens))
    with loaded(model.path, n_ctx, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        return context.decode(tokens)


def oracle(
    model: TinyModel, plan: ContextPlan | None, tokens: list[int], rounding: Rounding = NO_ROUNDING
) -> Float64:
    memory = ReferenceMemory(model, in_force(model, plan, len(tokens)), rounding)
    return memory.logits(memory.decode(tokens))


def largest(a: Float64 | Float32, b: Float64 | Float32) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("name", PLANS)
def test_every_ubatch_size_equals_the_oracle_and_the_others(
    model: TinyModel, tokens: list[int], name: str, without: dict[tuple[int, bool], Float32]
) -> None:
    plan = PLANS[name]
    expected = oracle(model, plan, tokens)
    got = {size: logits(model, plan, tokens, Mode(ubatch_size=size, threads=1)) for size in SIZES}
    for size in SIZES:
        assert largest(got[size], expected) <= BOUND, size
        assert largest(got[size], got[N_TOKENS]) <= AMONG_SIZES, size
        if np.array_equal(without[size, False], without[N_TOKENS, False]):
            assert np.array_equal(got[size], got[N_TOKENS]), size
    assert largest(without[N_TOKENS, False], expected) > SEEN


@pytest.mark.parametrize("name", PLANS)
def test_flash_attention(
    model: TinyModel, tokens: list[int], name: str, without: dict[tuple[int, bool], Float32]
) -> None:
    plan = PLANS[name]
    exact, halved = oracle(model, plan, tokens), oracle(model, plan, tokens, HALF)
    plain = oracle(model, None, tokens)

    def error(got: Float32, expected: Float64) -> float:
        return float(np.sqrt(np.mean((got - expected) ** 2)))

    for size in (1, 16, N_TOKENS):
        got = logits(model, plan, tokens, Mode(ubatch_size=size, flash_attention=True, threads=1))
        assert largest(got, halved if size == N_TOKENS else exact) <= (
            FLASH_WHOLE if size == N_TOKENS else FLASH_SMALL
        )
        # LogN and the attention factor make scores larger, and their roundings with them
        assert error(got, exact) <= 2 * error(without[size, True], plain)
    assert largest(exact, plain) > SEEN


def test_flash_attention_of_single_tokens_over_many_cells(model: TinyModel) -> None:
    """From 512 cells on llama.cpp splits the cells of a single query among its threads."""
    plan, tokens = PLANS["all"], random_tokens(530, seed=2)
    under = Reservation(plan, len(tokens))
    mode = Mode(kv_type=llama_cpp.GGML_TYPE_F16, flash_attention=True)
    with loaded(model.path, 768, mode, prepare=under.on_model) as context:
        under.in_context(context.context)
        context.decode(tokens[:520])
        got = np.concatenate([context.decode([tokens[i]], i) for i in range(520, 530)])
    assert largest(got, oracle(model, plan, tokens)[520:]) <= FLASH_SMALL


def test_the_oracle_sees_each_part_of_each_plan(model: TinyModel, tokens: list[int]) -> None:
    """No two plans agree, so a part that was left out would fail the tests above."""
    results = {name: oracle(model, plan, tokens) for name, plan in PLANS.items()}
    names = list(results)
    for i, name in enumerate(names):
        for other in names[i + 1 :]:
            # at its last step the schedule has the static plan's numbers
            if {name, other} != {"factors", "schedule"}:
                assert largest(results[name], results[other]) > SEEN, (name, other)
