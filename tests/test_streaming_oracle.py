"""The rule of streaming, held against the paper's own words before the library is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference_transformer import plain_positions, reference_logits
from streaming_transformer import Stream, literal_logits, streaming_logits
from tiny_models import Architecture, TinyModel, write_tiny_model
from windowed_memory import windowed_logits

N_TOKENS = 200
EXACT = 1e-9  # float64 sums in another order


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def single(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """One layer: its keys follow from the tokens in the cache alone."""
    arch: Architecture = request.param
    path: Path = tmp_path_factory.mktemp("oracle") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, n_layer=1, seed=15)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(token) for token in np.random.default_rng(16).integers(3, 360, N_TOKENS)]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("sinks", [0, 1, 4])
@pytest.mark.parametrize("window", [16, 33])
def test_where_a_block_begins_the_rule_is_the_paper(
    single: TinyModel, tokens: list[int], window: int, sinks: int
) -> None:
    factors = tuple(1.0 + 0.5 * i for i in range(8))
    stream = Stream((window,), sinks, factors, attention_factor=1.1)
    got = streaming_logits(single, tokens, stream)
    for last in range(0, N_TOKENS, stream.block):
        assert distance(got[last], literal_logits(single, tokens[: last + 1], stream)) <= EXACT, last


def test_within_a_block_sinks_lag_behind_by_less_than_a_block(single: TinyModel, tokens: list[int]) -> None:
    """The rule's own departure from the paper: seen, and small in tokens."""
    stream = Stream((32,), 4)
    assert stream.block == 4
    got = streaming_logits(single, tokens, stream)
    assert distance(got[103], literal_logits(single, tokens[:104], stream)) > 1e-4
    lags = [p - (stream.sinks_moved(p, 32) + 3) for p in range(60, 120)]
    assert set(lags) == {32, 33, 34, 35}  # distance of the last sink, w at the start of a block


def test_a_window_of_fewer_than_sixteen_moves_with_every_token(single: TinyModel, tokens: list[int]) -> None:
    stream = Stream((15,), 2)
    assert stream.block == 1
    got = streaming_logits(single, tokens, stream)
    for last in (0, 1, 14, 15, 16, 17, 18, 100, N_TOKENS - 1):
        assert distance(got[last], literal_logits(single, tokens[: last + 1], stream)) <= EXACT, last


def test_until_the_window_is_full_nothing_is_moved(tmp_path: Path, tokens: list[int]) -> None:
    model = write_tiny_model(tmp_path / "model.gguf", n_layer=3, seed=17)
    got = streaming_logits(model, tokens, Stream((32, 40, 48), 4))
    plain = reference_logits(model, tokens, plain_positions(model, N_TOKENS))
    assert distance(got[:36], plain[:36]) <= EXACT
    assert distance(got[36], plain[36]) > 1e-4


def test_without_sinks_streaming_is_windows(tmp_path: Path, tokens: list[int]) -> None:
    model = write_tiny_model(tmp_path / "model.gguf", n_layer=3, seed=17)
    got = streaming_logits(model, tokens, Stream((32, 16, 48), 0))
    assert distance(got, windowed_logits(model, tokens, (32, 16, 48))) <= EXACT
