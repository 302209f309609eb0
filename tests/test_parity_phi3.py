"""Phi-3 in the patched library against float64: its own LongRoPE, and the plans that replace it.

Three quarters of a head are rotated: an attention factor must reach those alone. Bound: as in
`test_parity` (measured: 2.2e-5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import Mode, library_logits, loaded
from reference_transformer import Float64, MakePositions, Positions, ReferenceTransformer, plain_frequencies
from ropewalk.backend import context_plan
from ropewalk_convert import bake
from ropewalk_plan import ContextPlan, PositionKind, PositionMap, make_plan, rope_spec_from_gguf
from ropewalk_plan.gguf_header import GgufHeader
from tiny_phi3 import TinyPhi3, longrope_attention_factor, unfused, write_tiny_phi3

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
ORIGINAL_LENGTH = 64
TRAIN_LENGTH = 128
TARGET_LENGTH = 256
N_TOKENS = 300  # past four times the original length
FIRST_MAPPED = 2
ONE_BATCH, SMALL_BATCHES = Mode(threads=1), Mode(ubatch_size=48, threads=1)
GROWTH = [40, 24, 1, 35, *[1] * 30, 70, 100]
"""The original length is reached exactly, and passed by one token."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyPhi3:
    path = tmp_path_factory.mktemp("phi3") / "phi3.gguf"
    return write_tiny_phi3(path, original_length=ORIGINAL_LENGTH, train_length=TRAIN_LENGTH, seed=3)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(token) for token in np.random.default_rng(5).integers(3, 360, N_TOKENS)]


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def rotation(
    model: TinyPhi3,
    factors: tuple[float, ...],
    attention: float,
    *,
    mirrored: bool = False,
    logn: bool = False,
) -> MakePositions:
    """theta_i / f_i, and if asked for: mirrored positions for the later pairs, LogN, both beyond L."""
    theta = plain_frequencies(model) / np.asarray(factors)
    length = model.train_length

    def positions(m: Float64) -> Positions:
        angles = np.outer(m, theta)
        if mirrored:
            q = m % (2 * length)
            p = np.where(q < length, q, 2 * length - q)
            angles = np.where(np.arange(len(theta)) >= FIRST_MAPPED, np.outer(p, theta), angles)
        query = np.maximum(1.0, np.log(m + 1.0) / np.log(length)) if logn else None
        return Positions(angles, attention, query)

    return positions


def longrope(model: TinyPhi3, length: int, *, mirrored: bool = False, logn: bool = False) -> MakePositions:
    """LongRoPE at `TARGET_LENGTH` (Ding et al. 2024): which list is in force for a text of `length` tokens.

    The long list is for the train length; beyond, positions are interpolated once more.
    """
    attention = longrope_attention_factor(TARGET_LENGTH, model.original_length)
    again = TARGET_LENGTH / model.train_length
    long = tuple(again * f for f in model.long_factors)
    factors = model.short_factors if length <= model.original_length else long
    return rotation(model, factors, attention, mirrored=mirrored, logn=logn)


def planned(model: TinyPhi3, method: str) -> ContextPlan:
    return make_plan(rope_spec_from_gguf(GgufHeader.read(model.path)), method, TARGET_LENGTH)


def with_plan(plan: ContextPlan) -> Callable[[llama_cpp.llama_model_p], None]:
    return lambda handle: context_plan.set_plan(handle, plan)


def replay(
    model: TinyPhi3,
    plan: ContextPlan,
    tokens: list[int],
    batches: list[int],
    oracle: Callable[[int], MakePositions],
) -> float:
    """The largest logit difference when library and reference read the tokens in these batches."""
    reference, worst, start = ReferenceTransformer(unfused(model)), 0.0, 0
    with loaded(model.path, N_TOKENS, SMALL_BATCHES, prepare=with_plan(plan)) as context:
        for size in batches:
            part = tokens[start : start + size]
            got = context.decode(part, start)
            start += size
            worst = max(worst, largest_difference(got, reference.decode(part, oracle(start))))
    return worst


@pytest.mark.parametrize("n_ctx", [256, 512])
def test_its_own_longrope_without_a_plan(tokens: list[int], n_ctx: int, tmp_path: Path) -> None:
    """llama.cpp chooses the list by the length of the context."""
    model = write_tiny_phi3(tmp_path / "plain.gguf", original_length=256, train_length=512, seed=4)
    factors = model.short_factors if n_ctx <= 256 else model.long_factors
    in_force = rotation(model, factors, model.attention_factor)
    expected = ReferenceTransformer(unfused(model)).decode(tokens[:250], in_force)
    with loaded(model.path, n_ctx, ONE_BATCH) as context:
        assert largest_difference(context.decode(tokens[:250]), expected) <= BOUND


@pytest.mark.parametrize("batches", [[50], [300], GROWTH], ids=["short", "long", "growing"])
def test_longrope_by_the_length_of_the_text(model: TinyPhi3, tokens: list[int], batches: list[int]) -> None:
    plan = planned(model, "longrope")
    assert replay(model, plan, tokens, batches, lambda length: longrope(model, length)) <= BOUND
    at_once = longrope(model, sum(batches))
    expected = ReferenceTransformer(unfused(model)).decode(tokens[: sum(batches)], at_once)
    assert (
        largest_difference(library_logits(model.path, tokens[: sum(batches)], ONE_BATCH), expected)
        > 100 * BOUND
    )


def test_longrope_with_mirrored_positions_and_logn(model: TinyPhi3, tokens: list[int]) -> None:
    position_map = PositionMap(PositionKind.MIRRORED, 2 * TRAIN_LENGTH, FIRST_MAPPED)
    plan = dataclasses.replace(planned(model, "longrope+logn"), position_map=position_map)

    def oracle(length: int) -> MakePositions:
        return longrope(model, length, mirrored=True, logn=True)

    assert replay(model, plan, tokens, GROWTH, oracle) <= BOUND


@pytest.mark.parametrize("method", ["pi", "logn", "pi+logn"])
def test_another_method_goes_on_from_its_own_factors(
    model: TinyPhi3, tokens: list[int], method: str, tmp_path: Path
) -> None:
    """Factors of a plan replace those of the file's tensors: they hold them already."""
    scale = TARGET_LENGTH / TRAIN_LENGTH if "pi" in method else 1.0
    factors = tuple(scale * f for f in model.long_factors)
    in_force = rotation(model, factors, model.attention_factor, logn="logn" in method)
    expected = ReferenceTransformer(unfused(model)).decode(tokens, in_force)
    path = tmp_path / "baked.gguf"
    bake(model.path, path, method=method, target_length=TARGET_LENGTH)
    assert largest_difference(library_logits(path, tokens, ONE_BATCH), expected) <= BOUND
    assert largest_difference(library_logits(model.path, tokens, ONE_BATCH), expected) > 100 * BOUND
