"""The tiny models: they load in the library, compute finite logits, and position matters in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from tiny_models import Architecture, write_tiny_model


def _logits(path: Path, tokens: list[int]) -> np.ndarray[Any, Any]:
    """Logits of the last token by the bare C API, with nothing of this project's."""
    model_params = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
    assert model, f"{path} does not load"
    context_params = llama_cpp.llama_context_default_params()
    context_params.n_ctx = 256
    context_params.n_threads = context_params.n_threads_batch = 1
    context = llama_cpp.llama_init_from_model(model, context_params)
    assert context
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i] = token, i
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        batch.logits[i] = i == len(tokens) - 1
    try:
        assert llama_cpp.llama_decode(context, batch) == 0
        n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        return np.array(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), (n_vocab,)))
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_loads_and_computes(tmp_path: Path, arch: Architecture) -> None:
    written = write_tiny_model(tmp_path / "tiny.gguf", arch=arch)
    tokens = [1, *range(260, 299)]

    logits = _logits(written.path, tokens)

    assert logits.shape == (written.n_vocab,)
    assert np.isfinite(logits).all()
    assert 1.0 < logits.std() < 10.0
    turned = write_tiny_model(tmp_path / "turned.gguf", arch=arch, rope_base=500.0)
    assert np.abs(_logits(turned.path, tokens) - logits).max() > 0.5, "another rotation must be visible"


def test_heads_may_be_wider_than_the_embedding(tmp_path: Path) -> None:
    written = write_tiny_model(tmp_path / "tiny.gguf", arch="llama", head_dim=64, n_head=2, n_head_kv=1)

    assert np.isfinite(_logits(written.path, [1, 300])).all()
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
