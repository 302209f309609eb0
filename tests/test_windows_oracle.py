"""The oracle of windows, held against other readings of the same definition before the library is."""

from __future__ import annotations

import numpy as np
import pytest

from reference_transformer import plain_positions, reference_logits
from tiny_models import Architecture, TinyModel, write_tiny_model
from windowed_memory import WindowedMemory, windowed_logits

N_TOKENS = 90
EXACT = 1e-9  # float64 sums in another order


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    arch: Architecture = request.param
    return write_tiny_model(tmp_path_factory.mktemp("oracle") / f"{arch}.gguf", arch=arch, seed=11)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """One layer: its keys and values follow from the tokens alone."""
    return write_tiny_model(tmp_path_factory.mktemp("oracle") / "single.gguf", n_layer=1, seed=12)


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(token) for token in np.random.default_rng(13).integers(3, 360, N_TOKENS)]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("windows", [(0, 0), (N_TOKENS, N_TOKENS), (0, 1000)])
def test_windows_wider_than_the_text_are_none(
    model: TinyModel, tokens: list[int], windows: tuple[int, ...]
) -> None:
    plain = reference_logits(model, tokens, plain_positions(model, N_TOKENS))
    assert distance(windowed_logits(model, tokens, windows), plain) <= EXACT


def test_a_window_that_leaves_out_one_token_shows(model: TinyModel, tokens: list[int]) -> None:
    plain = reference_logits(model, tokens, plain_positions(model, N_TOKENS))
    narrow = windowed_logits(model, tokens, (N_TOKENS - 1, 0))
    assert distance(narrow[:-1], plain[:-1]) <= EXACT
    assert distance(narrow[-1:], plain[-1:]) > 1e-4


def test_in_one_layer_a_window_is_the_text_cut_off_before_it(single: TinyModel, tokens: list[int]) -> None:
    """RoPE is relative: the last 16 tokens by themselves, from position 0, are what the last token sees."""
    got = windowed_logits(single, tokens, (16,))
    for last in (15, 16, 40, N_TOKENS - 1):
        seen = tokens[max(0, last - 15) : last + 1]
        alone = reference_logits(single, seen, plain_positions(single, len(seen)))[-1]
        assert distance(got[last], alone) <= EXACT, last


def test_in_one_layer_sinks_are_tokens_left_standing_where_they_were(
    single: TinyModel, tokens: list[int]
) -> None:
    got = windowed_logits(single, tokens, (16,), sinks=3)[-1]
    memory = WindowedMemory(single, (0,))
    memory.decode(tokens[:-1])
    memory.remove(0, 3, N_TOKENS - 16)
    assert distance(got, memory.read(tokens[-1:], N_TOKENS - 1)[0]) <= EXACT


def test_two_layers_of_a_window_reach_back_two_windows_less_one_token(model: TinyModel) -> None:
    tokens = [int(token) for token in np.random.default_rng(14).integers(3, 360, 40)]
    got = windowed_logits(model, tokens, (8, 8))[-1]
    for changed, sees in ((40 - 15, True), (40 - 16, False)):
        other = [*tokens[:changed], (tokens[changed] + 1) % 300 + 3, *tokens[changed + 1 :]]
        assert (distance(windowed_logits(model, other, (8, 8))[-1], got) > EXACT) is sees


def test_batches_do_not_matter(model: TinyModel, tokens: list[int]) -> None:
    at_once = windowed_logits(model, tokens, (16, 7), sinks=2)
    memory = WindowedMemory(model, (16, 7), sinks=2)
    parts = [memory.read(tokens[start : start + 13], start) for start in range(0, N_TOKENS, 13)]
    assert distance(np.concatenate(parts), at_once) <= EXACT


def test_a_duplicate_goes_its_own_way(model: TinyModel, tokens: list[int]) -> None:
    """Cells of its own: moved ones stay where they are in the other."""
    memory = WindowedMemory(model, (16, 0), sinks=2)
    memory.decode(tokens[:60])
    memory.duplicate(0, 1)
    memory.shift(1, 30, 5)
    got = memory.read(tokens[60:], 60)
    assert distance(got, windowed_logits(model, tokens, (16, 0), sinks=2)[60:]) <= EXACT
