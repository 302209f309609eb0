"""The patched library against a float64 transformer, every method, both rotary layouts, past L.

Bound: with F32 weights, an F32 KV cache and flash attention off, at positions below 8k, the largest logit
difference is at most 1e-3 (measured: 6e-5 at positions below 300, 7e-4 just below 8,000). In other modes
the plan's error is at most twice that of no plan in the same mode.
"""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import Mode, library_logits, loaded
from method_oracles import ORACLES, none
from reference_transformer import reference_logits
from ropewalk_convert import bake
from tiny_models import Architecture, TinyModel, write_tiny_model

BOUND = 1e-3
TRAIN_LENGTH = 64
TARGET_LENGTH = 256
DEEP_TRAIN_LENGTH = 1950
N_TOKENS = 300  # past the target length too
METHODS = tuple(ORACLES)
IDENTICAL_BELOW_TRAIN_LENGTH = ("extra-pe", "extra-mpe", "logn", "extra-pe+logn")

pytestmark = pytest.mark.usefixtures("patched_library")


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def arch(request: pytest.FixtureRequest) -> Architecture:
    """`llama` rotates interleaved pairs, `qwen2` and `qwen3` halves; `qwen3` normalizes q and k first."""
    name: Architecture = request.param
    return name


@pytest.fixture(scope="module")
def model(arch: Architecture, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    path = tmp_path_factory.mktemp("parity") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, train_length=TRAIN_LENGTH, seed=3)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    """Random tokens without the special ones; the tiny models share their vocabulary."""
    return random_tokens(N_TOKENS, seed=5)


def random_tokens(count: int, seed: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(3, 360, count)]


def baked(model: TinyModel, method: str, folder: Path, target_length: int = TARGET_LENGTH) -> Path:
    target = folder / f"{model.arch}-{method}.gguf"
    bake(model.path, target, method=method, target_length=target_length)
    return target


def expected(model: TinyModel, method: str, tokens: list[int]) -> np.ndarray:
    m = np.arange(len(tokens), dtype=np.float64)
    return reference_logits(model, tokens, ORACLES[method](model, TARGET_LENGTH, m))


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def test_the_reference_and_the_library_agree_without_a_plan(model: TinyModel, tokens: list[int]) -> None:
    reference = reference_logits(
        model, tokens, none(model, TRAIN_LENGTH, np.arange(N_TOKENS, dtype=np.float64))
    )
    assert largest_difference(library_logits(model.path, tokens), reference) <= BOUND


@pytest.mark.parametrize("method", METHODS)
def test_method(model: TinyModel, tokens: list[int], method: str, tmp_path: Path) -> None:
    reference = expected(model, method, tokens)
    got = library_logits(baked(model, method, tmp_path), tokens)
    assert largest_difference(got, reference) <= BOUND
    # a plan that was ignored would be far off: what the plan does is hundreds of bounds large
    assert largest_difference(library_logits(model.path, tokens), reference) > 100 * BOUND


@pytest.mark.parametrize("method", METHODS)
def test_method_token_by_token_and_in_small_batches(
    model: TinyModel, tokens: list[int], method: str, tmp_path: Path
) -> None:
    reference = expected(model, method, tokens)
    path = baked(model, method, tmp_path)
    with loaded(path, n_ctx=N_TOKENS, mode=Mode(ubatch_size=48)) as context:
        parts = [context.decode(tokens[:250])]
        parts += [context.decode([token], start=i) for i, token in enumerate(tokens[250:], start=250)]
    assert largest_difference(np.concatenate(parts), reference) <= BOUND


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def deep_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Scores that deviate by about 1: F32 angles, the largest error at 8k, then leave room below the bound.

    (With scores that deviate by 2.25 the plain model without any plan errs by 1.5e-3 there.) The batch
    crosses the end of a period: within one, a periodic map changes no distance and hence no logit.
    """
    path = tmp_path_factory.mktemp("deep") / f"{request.param}.gguf"
    return write_tiny_model(
        path, arch=request.param, train_length=DEEP_TRAIN_LENGTH, query_deviation=1.0, seed=3
    )


@pytest.mark.parametrize("method", METHODS)
def test_method_at_positions_up_to_eight_thousand(
    deep_model: TinyModel, tokens: list[int], method: str, tmp_path: Path
) -> None:
    start, target = 8000 - N_TOKENS, 4 * DEEP_TRAIN_LENGTH
    m = np.arange(start, start + N_TOKENS, dtype=np.float64)
    reference = reference_logits(deep_model, tokens, ORACLES[method](deep_model, target, m))
    path = baked(deep_model, method, tmp_path, target)
    assert largest_difference(library_logits(path, tokens, start=start), reference) <= BOUND
    plain = library_logits(deep_model.path, tokens, start=start)
    assert largest_difference(plain, reference) > 100 * BOUND


@pytest.mark.parametrize("method", IDENTICAL_BELOW_TRAIN_LENGTH)
def test_position_maps_and_logn_change_no_bit_below_the_train_length(
    model: TinyModel, tokens: list[int], method: str, tmp_path: Path
) -> None:
    path = baked(model, method, tmp_path)
    below = tokens[:TRAIN_LENGTH]
    for mode in (Mode(), Mode(kv_type=llama_cpp.GGML_TYPE_F16), Mode(ubatch_size=7)):
        assert np.array_equal(library_logits(path, below, mode), library_logits(model.path, below, mode))


@pytest.mark.parametrize(
    "mode",
    [
        Mode(kv_type=llama_cpp.GGML_TYPE_F16),
        Mode(kv_type=llama_cpp.GGML_TYPE_F16, flash_attention=True),
        Mode(kv_type=llama_cpp.GGML_TYPE_Q8_0, flash_attention=True),
    ],
    ids=["f16", "f16-flash", "q8_0-flash"],
)
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_other_modes_err_at_most_twice_as_much_as_without_a_plan(
    arch: Architecture, mode: Mode, tokens: list[int], tmp_path: Path
) -> None:
    wide = write_tiny_model(
        tmp_path / "wide.gguf", arch=arch, head_dim=64, n_embd=128, n_head=2, n_head_kv=1, seed=3
    )
    plain = reference_logits(wide, tokens, none(wide, TARGET_LENGTH, np.arange(N_TOKENS, dtype=np.float64)))

    def error(path: Path, reference: np.ndarray) -> float:
        return float(np.sqrt(np.mean((library_logits(path, tokens, mode) - reference) ** 2)))

    without = error(wide.path, plain)
    assert without > 0.0
    for method in METHODS:
        assert error(baked(wide, method, tmp_path), expected(wide, method, tokens)) <= 2 * without, method


@pytest.mark.parametrize("method", ["dprope", "ntk", "extra-pe", "extra-mpe", "yarn+logn"])
def test_shifted_keys_equal_keys_computed_at_their_new_positions(
    arch: Architecture, method: str, tmp_path: Path
) -> None:
    """One layer: its keys and values depend on the tokens alone, so a shifted cache must equal a fresh one.

    The cut is twice, so that an attention factor that a shift multiplied in again would show twice.
    """
    single = write_tiny_model(
        tmp_path / "one-layer.gguf", arch=arch, n_layer=1, train_length=TRAIN_LENGTH, seed=4
    )
    tokens = random_tokens(200, seed=9)
    path = baked(single, method, tmp_path)
    with loaded(path, n_ctx=256) as context:
        context.decode(tokens[:-1])
        for cut in (70, 31):
            assert llama_cpp.llama_memory_seq_rm(context.memory, 0, 0, cut)
            llama_cpp.llama_memory_seq_add(context.memory, 0, cut, -1, -cut)
        got = context.decode(tokens[-1:], start=len(tokens) - 1 - 101)
    fresh = expected(single, method, tokens[101:])[-1:]
    assert largest_difference(got, fresh) <= BOUND


@pytest.mark.parametrize("method", METHODS)
def test_the_bindings_own_class_needs_no_further_call(
    model: TinyModel, tokens: list[int], method: str, tmp_path: Path
) -> None:
    """`llama_cpp.Llama(path)` passes context parameters of its own, YaRN's among them."""
    llama = llama_cpp.Llama(
        str(baked(model, method, tmp_path)),
        n_ctx=N_TOKENS,
        n_gpu_layers=0,
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )
    llama.eval(tokens)
    assert largest_difference(llama.scores[:N_TOKENS], expected(model, method, tokens)) <= BOUND
    llama.close()
