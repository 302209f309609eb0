"""The tiny models: they load in the library, compute finite logits, and position matters in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from library_logits import last_logits
from tiny_models import Architecture, write_tiny_model


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_loads_and_computes(tmp_path: Path, arch: Architecture) -> None:
    written = write_tiny_model(tmp_path / "tiny.gguf", arch=arch)
    tokens = [1, *range(260, 299)]

    logits = last_logits(written.path, tokens)

    assert logits.shape == (written.n_vocab,)
    assert np.isfinite(logits).all()
    assert 1.0 < logits.std() < 10.0
    turned = write_tiny_model(tmp_path / "turned.gguf", arch=arch, rope_base=500.0)
    assert np.abs(last_logits(turned.path, tokens) - logits).max() > 0.5, "another rotation must be visible"


def test_heads_may_be_wider_than_the_embedding(tmp_path: Path) -> None:
    written = write_tiny_model(tmp_path / "tiny.gguf", arch="llama", head_dim=64, n_head=2, n_head_kv=1)

    assert np.isfinite(last_logits(written.path, [1, 300])).all()
    assert written.tensors["blk.0.attn_q.weight"].shape == (128, 64)


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    first, second, other = (
        write_tiny_model(tmp_path / f"{i}.gguf", seed=seed) for i, seed in enumerate((0, 0, 1))
    )

    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.path.read_bytes() != other.path.read_bytes()


def test_qwen2_cannot_have_free_heads(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="qwen2 needs"):
        write_tiny_model(tmp_path / "tiny.gguf", arch="qwen2", head_dim=32)
