"""llama.cpp's flags against the plan they stand for: the plain file under flags, the baked file without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from library_logits import library_logits
from ropewalk_convert import bake
from ropewalk_plan import GgufHeader, make_plan, model_facts_from_gguf, rope_spec_from_gguf
from ropewalk_plan.export import llama_cpp_arguments
from tiny_models import write_tiny_model

TRAIN, TARGET, N_TOKENS = 64, 256, 200
SAME = 1e-3  # F32 weights and cache

pytestmark = pytest.mark.usefixtures("patched_library")


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(t) for t in np.random.default_rng(5).integers(3, 300, N_TOKENS)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flags") / "plain.gguf"
    return write_tiny_model(path, arch="llama", train_length=TRAIN, seed=3).path


def logits_under_flags(path: Path, flags: dict[str, str], tokens: Sequence[int]) -> np.ndarray:
    """What a llama.cpp program started with `flags` computes: its flags are these fields."""
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = 0
    overrides = (llama_cpp.llama_model_kv_override * 2)()
    if "--override-kv" in flags:
        key, _, value = flags["--override-kv"].partition("=float:")
        overrides[0].key = key.encode()
        overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_FLOAT
        overrides[0].value.val_f64 = float(value)
        parameters.kv_overrides = overrides
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = int(flags["--ctx-size"])
    settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
    settings.flash_attn_type = 0
    kinds = {
        "linear": llama_cpp.LLAMA_ROPE_SCALING_TYPE_LINEAR,
        "yarn": llama_cpp.LLAMA_ROPE_SCALING_TYPE_YARN,
    }
    if "--rope-scaling" in flags:
        settings.rope_scaling_type = kinds[flags["--rope-scaling"]]
    settings.rope_freq_scale = 1 / float(flags.get("--rope-scale", "1"))
    settings.rope_freq_base = float(flags.get("--rope-freq-base", "0"))
    settings.yarn_orig_ctx = int(flags.get("--yarn-orig-ctx", "0"))
    settings.yarn_beta_fast = float(flags.get("--yarn-beta-fast", "-1"))
    settings.yarn_beta_slow = float(flags.get("--yarn-beta-slow", "-1"))
    context = llama_cpp.llama_init_from_model(model, settings)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
            batch.seq_id[i][0] = 0
        assert llama_cpp.llama_decode(context, batch) == 0
        n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        values = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(len(tokens), n_vocab))
        return np.array(values, dtype=np.float32)
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("pi", {}),
        ("ntk", {}),
        ("yarn", {}),
        ("yarn", {"attention_factor": "1.3"}),
        ("yarn", {"beta_fast": "4", "beta_slow": "0.5", "attention_factor": "1.3"}),
        ("ntk-by-parts", {"beta_fast": "3"}),
    ],
)
def test_flags_do_what_the_plan_does(
    method: str, options: dict[str, str], model: Path, tokens: list[int], tmp_path: Path
) -> None:
    header = GgufHeader.read(model)
    spec, facts = rope_spec_from_gguf(header), model_facts_from_gguf(header)
    words = llama_cpp_arguments(make_plan(spec, method, TARGET, options=options), spec, facts).split()
    under_flags = logits_under_flags(model, dict(zip(words[::2], words[1::2], strict=True)), tokens)
    baked = tmp_path / "baked.gguf"
    bake(model, baked, method=method, target_length=TARGET, options=options)
    assert np.abs(under_flags - library_logits(baked, tokens)).max() < SAME
    assert np.abs(under_flags - library_logits(model, tokens)).max() > 0.1, "the plain model differs"
