"""A first Qwen model: its vocabulary without its own code, against what upstream made of its successor.

Qwen 1.5 took over the tokens of Qwen, in transformers' own form; upstream's vocabulary file is made of that.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from converter_cases import MARKER, bring_code
from ropewalk_convert.converter import convert_checkpoint
from ropewalk_plan import GgufHeader
from upstream_archive import upstream_folder

_RANKS = 151_643
_WIDTH, _INNER, _LAYERS, _VOCABULARY = 16, 24, 2, 151_936


@pytest.fixture(scope="module")
def published() -> GgufHeader:
    return GgufHeader.read(upstream_folder() / "models" / "ggml-vocab-qwen2.gguf")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, published: GgufHeader) -> Path:
    """Laid out as Qwen-7B is, code included."""
    folder = tmp_path_factory.mktemp("qwen")
    config = {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _INNER,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": 2,
        "kv_channels": _WIDTH // 2,
        "vocab_size": _VOCABULARY,
        "seq_length": 2048,
        "max_position_embeddings": 8192,
        "layer_norm_epsilon": 1e-6,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
    }
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    shapes = {
        "wte.weight": (_VOCABULARY, _WIDTH),
        "ln_f.weight": (_WIDTH,),
        **{
            f"h.{layer}.{name}": shape
            for layer in range(_LAYERS)
            for name, shape in {
                "ln_1.weight": (_WIDTH,),
                "ln_2.weight": (_WIDTH,),
                "attn.c_attn.weight": (3 * _WIDTH, _WIDTH),
                "attn.c_attn.bias": (3 * _WIDTH,),
                "attn.c_proj.weight": (_WIDTH, _WIDTH),
                "mlp.w1.weight": (_INNER, _WIDTH),
                "mlp.w2.weight": (_INNER, _WIDTH),
                "mlp.c_proj.weight": (_WIDTH, _INNER),
            }.items()
        },
    }
    weights = {
        f"transformer.{name}": rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()
    }
    weights["lm_head.weight"] = rng.standard_normal((_VOCABULARY, _WIDTH)).astype(np.float16)
    save_file(weights, folder / "model.safetensors")
    bring_code(folder, tokenizer_class="QWenTokenizer")
    byte_of = {letter: byte for byte, letter in _letters().items()}
    tokens = [bytes(byte_of[letter] for letter in token) for token in _strings(published, "tokens")[:_RANKS]]
    (folder / "qwen.tiktoken").write_bytes(
        b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
    )
    return folder


def _letters() -> dict[int, str]:
    """The letter that byte-level vocabularies write each byte as (GPT-2, Radford et al. 2019)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}


def _strings(header: GgufHeader, key: str) -> list[str]:
    value = header.value(f"tokenizer.ggml.{key}")
    assert isinstance(value, list)
    return value


def test_the_vocabulary_is_that_of_its_successor(
    checkpoint: Path, published: GgufHeader, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    convert_checkpoint(checkpoint, out, outtype="f16")
    assert not (checkpoint / MARKER).exists()

    header = GgufHeader.read(out)
    assert header.value("general.architecture") == "qwen"
    assert header.value("tokenizer.ggml.pre") == "qwen2"
    assert _strings(header, "merges") == _strings(published, "merges")
    tokens, types = _strings(header, "tokens"), _strings(header, "token_type")
    assert tokens[: _RANKS + 3] == _strings(published, "tokens")[: _RANKS + 3]
    assert tokens[_RANKS : _RANKS + 3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert tokens[_RANKS + 3 : _RANKS + 208] == [f"<|extra_{number}|>" for number in range(205)]
    assert tokens[_RANKS + 208 :] == [f"[PAD{number}]" for number in range(_RANKS + 208, _VOCABULARY)]
    assert set(types[:_RANKS]) == {gguf.TokenType.NORMAL}
    assert set(types[_RANKS : _RANKS + 208]) == {gguf.TokenType.CONTROL}
    assert header.value("tokenizer.ggml.eos_token_id") == _RANKS
