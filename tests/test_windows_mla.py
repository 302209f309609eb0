"""Windows and streaming with latent attention, whose cache holds latents beside one small rotated key.

Oracle: `reference_mla` with a mask of each layer's own, and, streaming, with the sinks' keys at the positions
that the rule gives them for each block (`streaming_transformer`). Bound: as in `test_windows_masks`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from library_logits import Mode
from reference_mla import ReferenceMla
from reference_transformer import Float64, Positions, plain_frequencies, plain_positions
from streaming_transformer import Stream
from tiny_mla import Form, TinyMla, write_tiny_mla
from windowed_contexts import (
    largest_difference,
    opened,
    random_tokens,
    streaming_plan,
    windows_plan,
    with_plan,
)

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
N_TOKENS = 700  # more than the smallest cache has cells
SINKS = 3
TOKENS = random_tokens(N_TOKENS, seed=7)


class WindowedMla(ReferenceMla):
    """Layer l sees the last `windows[l]` tokens (0: all) and the first `sinks`."""

    def __init__(self, model: TinyMla, windows: tuple[int, ...], sinks: int) -> None:
        super().__init__(model)
        self._windows, self._sinks = windows, sinks

    def _attention(
        self, layer: int, w: dict[str, Float64], x: Float64, positions: Positions, mask: Float64
    ) -> Float64:
        total = mask.shape[1]
        keys, queries = np.arange(total)[None, :], np.arange(total - len(x), total)[:, None]
        window = self._windows[layer] or total
        hidden = (queries - keys >= window) & (keys >= self._sinks)
        return super()._attention(layer, w, x, positions, np.where(hidden, -np.inf, mask))


@pytest.fixture(scope="module", params=["absorbed", "expanded", "minicpm3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyMla:
    form: Form = request.param
    return write_tiny_mla(Path(tmp_path_factory.mktemp("mla")) / f"{form}.gguf", form, seed=8)


@pytest.mark.parametrize("size", [1, 48, N_TOKENS])
def test_windows(model: TinyMla, size: int) -> None:
    windows = (16, *(0 for _ in range(model.n_layer - 1)))
    oracle = WindowedMla(model, windows, SINKS)
    want = oracle.decode(TOKENS, lambda m: plain_positions(model, len(m)))
    with opened(
        model.path, N_TOKENS, Mode(ubatch_size=size), with_plan(windows_plan(windows, SINKS))
    ) as context:
        got = context.decode(TOKENS)
    assert largest_difference(got, want) <= BOUND


@pytest.mark.parametrize("ubatch_size", [5, 512])
def test_streaming(model: TinyMla, ubatch_size: int) -> None:
    stream = Stream((32,) * model.n_layer, SINKS, (1.0,) * (model.rope_dim // 2))
    oracle = WindowedMla(model, stream.windows, SINKS)
    theta = plain_frequencies(model)

    def read(block: range) -> Float64:
        moved = stream.sinks_moved(block.start, 32)
        tokens = [TOKENS[i] for i in block]
        return oracle.decode(tokens, lambda m: Positions(np.outer(m + np.where(m < SINKS, moved, 0), theta)))

    blocks = [range(i, min(i + stream.block, N_TOKENS)) for i in range(0, N_TOKENS, stream.block)]
    want = np.concatenate([read(block) for block in blocks])
    with opened(model.path, 512, Mode(ubatch_size=ubatch_size), with_plan(streaming_plan(stream))) as context:
        got = np.concatenate([context.decode(TOKENS[:400]), context.decode(TOKENS[400:], 400)])
    assert largest_difference(got, want) <= BOUND
    standing = WindowedMla(model, stream.windows, SINKS)
    unmoved = standing.decode(TOKENS, lambda m: plain_positions(model, len(m)))
    assert largest_difference(unmoved, want) > 10 * BOUND, "sinks are seen"
