"""Latent attention in the patched library against float64: DeepSeek-V2 in both forms, and MiniCPM3.

The absorbed form caches latents beside a small rotated key, and an attention factor is one of the whole
score there. The expanded ones rotate from an offset within the head (`ggml_rope_set_offset`), twice under
a position map. Bound: as in `test_parity` (measured: 6.6e-5).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from growing_oracles import GROWING, step_end
from library_logits import Mode, library_logits, loaded
from method_oracles import ORACLES, Oracle, none
from reference_mla import ReferenceMla
from ropewalk.backend import context_plan
from ropewalk_plan import make_plan, rope_spec_from_gguf
from ropewalk_plan.gguf_header import GgufHeader
from tiny_mla import Form, TinyMla, write_tiny_mla

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
TRAIN_LENGTH = 64
TARGET_LENGTH = 256
N_TOKENS = 300  # past the target length too
METHODS = ("dprope", "yarn", "extra-mpe", "logn", "yarn+logn", "extra-pe+logn")
SMALL_BATCHES = Mode(ubatch_size=48, threads=1)


@pytest.fixture(scope="module", params=["absorbed", "expanded", "minicpm3"])
def form(request: pytest.FixtureRequest) -> Form:
    name: Form = request.param
    return name


@pytest.fixture(scope="module")
def model(form: Form, tmp_path_factory: pytest.TempPathFactory) -> TinyMla:
    path = tmp_path_factory.mktemp("mla") / f"{form}.gguf"
    return write_tiny_mla(path, form, train_length=TRAIN_LENGTH, seed=3)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(token) for token in np.random.default_rng(5).integers(3, 360, N_TOKENS)]


def under(
    model: TinyMla, method: str, target: int = TARGET_LENGTH
) -> Callable[[llama_cpp.llama_model_p], None]:
    """Sets the method's plan on a model: `prepare` of `loaded`."""
    plan = make_plan(rope_spec_from_gguf(GgufHeader.read(model.path)), method, target)
    return lambda handle: context_plan.set_plan(handle, plan)


def expected(model: TinyMla, tokens: list[int], oracle: Oracle, start: int = 0) -> np.ndarray:
    target = 4 * model.train_length
    return ReferenceMla(model, start).decode(tokens, partial(oracle, model, target))


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def test_without_a_plan(model: TinyMla, tokens: list[int]) -> None:
    assert (
        largest_difference(library_logits(model.path, tokens, SMALL_BATCHES), expected(model, tokens, none))
        <= BOUND
    )


@pytest.mark.parametrize("method", METHODS)
def test_method(model: TinyMla, tokens: list[int], method: str) -> None:
    reference = expected(model, tokens, ORACLES[method])
    with loaded(model.path, N_TOKENS, SMALL_BATCHES, under(model, method)) as context:
        assert largest_difference(context.decode(tokens), reference) <= BOUND
        llama_cpp.llama_memory_clear(context.memory, True)
        parts = [context.decode(tokens[:250])]
        parts += [context.decode([token], start=i) for i, token in enumerate(tokens[250:], start=250)]
    assert largest_difference(np.concatenate(parts), reference) <= BOUND
    assert largest_difference(library_logits(model.path, tokens, SMALL_BATCHES), reference) > 100 * BOUND


@pytest.mark.parametrize("method", GROWING)
def test_keys_are_turned_as_the_text_grows(model: TinyMla, tokens: list[int], method: str) -> None:
    reference, start = ReferenceMla(model), 0
    with loaded(model.path, N_TOKENS, SMALL_BATCHES, under(model, method)) as context:
        for size in (60, 10, *[1] * 20, 60, 150):
            part = tokens[start : start + size]
            got = context.decode(part, start)
            start += size
            end = step_end(TRAIN_LENGTH, TARGET_LENGTH, start)
            wanted = reference.decode(part, partial(GROWING[method], model, end))
            assert largest_difference(got, wanted) <= BOUND


@pytest.mark.parametrize("method", ["dprope", "extra-mpe", "yarn"])
def test_shifted_keys_equal_keys_computed_at_their_new_positions(
    form: Form, tokens: list[int], method: str, tmp_path: Path
) -> None:
    """One layer, whose keys and values depend on the tokens alone; the cut is twice."""
    single = write_tiny_mla(tmp_path / "one-layer.gguf", form, n_layer=1, train_length=TRAIN_LENGTH, seed=4)
    with loaded(single.path, N_TOKENS, SMALL_BATCHES, under(single, method)) as context:
        context.decode(tokens[:199])
        for cut in (70, 31):
            assert llama_cpp.llama_memory_seq_rm(context.memory, 0, 0, cut)
            llama_cpp.llama_memory_seq_add(context.memory, 0, cut, -1, -cut)
        got = context.decode(tokens[199:200], start=199 - 101)
    fresh = expected(single, tokens[101:200], ORACLES[method])[-1:]
    assert largest_difference(got, fresh) <= BOUND


@pytest.mark.parametrize("method", ["dprope", "extra-mpe"])
def test_method_at_positions_up_to_eight_thousand(
    form: Form, tokens: list[int], method: str, tmp_path: Path
) -> None:
    deep = write_tiny_mla(tmp_path / "deep.gguf", form, train_length=1950, query_deviation=1.0, seed=3)
    start = 8000 - N_TOKENS
    reference = expected(deep, tokens, ORACLES[method], start)
    with loaded(deep.path, 8000, SMALL_BATCHES, under(deep, method, 4 * 1950)) as context:
        assert largest_difference(context.decode(tokens, start), reference) <= BOUND
    assert largest_difference(expected(deep, tokens, none, start), reference) > 100 * BOUND
