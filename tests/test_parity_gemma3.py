"""Gemma 3 in the patched library against float64: plans act on its full layers only, with their base.

Bound: 1e-3, as in `test_parity` (measured: 6.3e-4, of which 4e-4 is the table by which ggml computes GELU).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from growing_oracles import GROWING, first_mapped_pair, mirrored, step_end
from library_logits import LoadedContext, Mode, library_logits, loaded
from method_oracles import ORACLES, Oracle, none
from reference_gemma3 import ReferenceGemma3, sliding_frequencies
from reference_transformer import Float64, MakePositions, Positions, plain_frequencies
from ropewalk.backend import context_plan
from ropewalk_convert import bake
from ropewalk_plan import ContextPlan, PositionKind, PositionMap, ScheduleStep
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.metadata import read_plan
from tiny_gemma3 import TinyGemma3, write_tiny_gemma3
from tiny_models import TinyModel

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
TRAIN_LENGTH = 64
TARGET_LENGTH = 256
N_TOKENS = 300  # past the target length too
DEEP_TRAIN_LENGTH = 1950
METHODS = ("pi", "yarn", "dprope", "extra-mpe", "logn", "yarn+logn", "extra-pe+logn")
"""One of each kind and what they make together."""
ONE_BATCH = Mode(threads=1)
EVICTING = Mode(ubatch_size=48, swa_full=False, threads=1)
"""Sliding layers keep 256 cells, and lose the first ones before the text ends."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyGemma3:
    path = tmp_path_factory.mktemp("gemma3") / "gemma3.gguf"
    return write_tiny_gemma3(path, train_length=TRAIN_LENGTH, seed=3)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(token) for token in np.random.default_rng(5).integers(3, 360, N_TOKENS)]


def baked(model: TinyGemma3, method: str, folder: Path, target: int = TARGET_LENGTH) -> Path:
    path = folder / f"{method}.gguf"
    bake(model.path, path, method=method, target_length=target)
    return path


def expected(
    model: TinyGemma3, tokens: Sequence[int], oracle: Oracle, target: int = TARGET_LENGTH, start: int = 0
) -> Float64:
    return ReferenceGemma3(model, start).decode(tokens, partial(oracle, model, target))


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def interpolated(linear_factor: float) -> Oracle:
    """A model's own linear scaling and, beyond it, Chen et al. 2023: positions divided by both."""

    def positions(model: TinyModel, target: int, m: Float64) -> Positions:
        s = linear_factor * target / model.train_length
        return Positions(np.outer(m / s, plain_frequencies(model)))

    return positions


@pytest.mark.parametrize("linear_factor", [1.0, 8.0])
def test_without_a_plan(tokens: list[int], linear_factor: float, tmp_path: Path) -> None:
    model = write_tiny_gemma3(tmp_path / "plain.gguf", linear_factor=linear_factor, seed=4)
    reference = expected(model, tokens, interpolated(linear_factor), TRAIN_LENGTH)
    assert largest_difference(library_logits(model.path, tokens, EVICTING), reference) <= BOUND


@pytest.mark.parametrize("method", METHODS)
def test_method(model: TinyGemma3, tokens: list[int], method: str, tmp_path: Path) -> None:
    reference = expected(model, tokens, ORACLES[method])
    assert (
        largest_difference(library_logits(baked(model, method, tmp_path), tokens, ONE_BATCH), reference)
        <= BOUND
    )
    assert largest_difference(library_logits(model.path, tokens, ONE_BATCH), reference) > 100 * BOUND


@pytest.mark.parametrize("method", METHODS)
def test_method_token_by_token_and_in_small_batches(
    model: TinyGemma3, tokens: list[int], method: str, tmp_path: Path
) -> None:
    with loaded(baked(model, method, tmp_path), N_TOKENS, EVICTING) as context:
        parts = [context.decode(tokens[:250])]
        parts += [context.decode([token], start=i) for i, token in enumerate(tokens[250:], start=250)]
    assert largest_difference(np.concatenate(parts), expected(model, tokens, ORACLES[method])) <= BOUND


@pytest.mark.parametrize("method", ["yarn+logn", "extra-mpe"])
def test_method_at_positions_up_to_eight_thousand(tokens: list[int], method: str, tmp_path: Path) -> None:
    deep = write_tiny_gemma3(
        tmp_path / "deep.gguf", train_length=DEEP_TRAIN_LENGTH, query_deviation=1.0, seed=3
    )
    start, target = 8000 - N_TOKENS, 4 * DEEP_TRAIN_LENGTH
    reference = expected(deep, tokens, ORACLES[method], target, start)
    got = library_logits(baked(deep, method, tmp_path, target), tokens, ONE_BATCH, start)
    assert largest_difference(got, reference) <= BOUND
    assert largest_difference(expected(deep, tokens, none, target, start), reference) > 100 * BOUND


@pytest.mark.parametrize("method", ["extra-mpe", "logn", "dynamic-ntk"])
def test_no_bit_changes_below_the_train_length(
    model: TinyGemma3, tokens: list[int], method: str, tmp_path: Path
) -> None:
    below = tokens[:TRAIN_LENGTH]
    got = library_logits(baked(model, method, tmp_path), below, EVICTING)
    assert np.array_equal(got, library_logits(model.path, below, EVICTING))


def test_a_plan_replaces_the_models_own_scaling(tokens: list[int], tmp_path: Path) -> None:
    model = write_tiny_gemma3(tmp_path / "scaled.gguf", linear_factor=8.0, seed=4)
    reference = expected(model, tokens, interpolated(8.0))
    assert (
        largest_difference(library_logits(baked(model, "pi", tmp_path), tokens, ONE_BATCH), reference)
        <= BOUND
    )
    assert largest_difference(library_logits(model.path, tokens, ONE_BATCH), reference) > 100 * BOUND


def test_sliding_layers_that_a_plan_names_are_turned_with_their_own_base(
    model: TinyGemma3, tokens: list[int]
) -> None:
    factors = 4.0 ** (np.arange(model.rope_dim // 2) / 7)
    step = ScheduleStep(TARGET_LENGTH, tuple(factors), 1.1)
    plan = ContextPlan("test", TRAIN_LENGTH, TARGET_LENGTH, schedule=(step,), rope_layers=(0, 1, 2, 3))

    def under(theta: Float64) -> MakePositions:
        return lambda m: Positions(np.outer(m, theta / factors), 1.1)

    reference = ReferenceGemma3(model).decode(
        tokens, under(plain_frequencies(model)), under(sliding_frequencies(model))
    )
    with loaded(
        model.path, N_TOKENS, EVICTING, prepare=lambda handle: context_plan.set_plan(handle, plan)
    ) as context:
        assert largest_difference(context.decode(tokens), reference) <= BOUND


@pytest.mark.parametrize("batches", [[200], [60, 10, 70, 60], [60, *[1] * 70]], ids=["one", "four", "single"])
@pytest.mark.parametrize("method", GROWING)
def test_keys_of_the_full_layers_are_turned_as_the_text_grows(
    model: TinyGemma3, tokens: list[int], method: str, batches: list[int], tmp_path: Path
) -> None:
    with loaded(baked(model, method, tmp_path), N_TOKENS, EVICTING) as context:
        assert replay(context, model, tokens, batches, GROWING[method]) <= BOUND


def test_keys_are_turned_by_mirrored_positions_too(
    model: TinyGemma3, tokens: list[int], tmp_path: Path
) -> None:
    stored = read_plan(GgufHeader.read(baked(model, "dynamic-yarn+logn", tmp_path)))
    assert stored is not None
    with_map = PositionMap(PositionKind.MIRRORED, 2 * TRAIN_LENGTH, first_mapped_pair(model))
    plan = dataclasses.replace(stored.plan, position_map=with_map)
    oracle = mirrored(GROWING["dynamic-yarn+logn"])
    with loaded(
        model.path, N_TOKENS, EVICTING, prepare=lambda handle: context_plan.set_plan(handle, plan)
    ) as context:
        assert replay(context, model, tokens, [60, 10, 70, 60, 100], oracle) <= BOUND


def replay(
    context: LoadedContext, model: TinyGemma3, tokens: list[int], batches: list[int], oracle: Oracle
) -> float:
    """The largest logit difference when library and reference read the tokens in these batches."""
    reference, worst, start = ReferenceGemma3(model), 0.0, 0
    for size in batches:
        part = tokens[start : start + size]
        end = step_end(TRAIN_LENGTH, TARGET_LENGTH, start + size)
        wanted = reference.decode(part, partial(oracle, model, end))
        worst = max(worst, largest_difference(context.decode(part, start), wanted))
        start += size
    return worst
