"""Tiny random GGUF models with known weights, for tests that compute with the same numbers.

The weights are scaled so that attention is far from uniform (score deviations of about 2) and logits
are of the order of a few units: whatever happens to a position is visible in the logits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter, RopeScalingType, TokenType

Array = npt.NDArray[np.float32]
Architecture = Literal["llama", "qwen2", "qwen3"]
"""What `write_tiny_model` writes; the others have modules of their own (`tiny_gemma3` and so on)."""

RMS_EPS = 1e-5
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template whose markers are control tokens of every tiny model."""

_MERGED_PIECES = ("th", "he", "the", "▁t", "▁th", "▁the", "in", "ing", "an", "and", "▁a")


@dataclass(frozen=True)
class TinyModel:
    """What was written: the configuration and every tensor under its GGUF name.

    Attributes:
        arch: GGUF's name of the architecture. `llama` rotates interleaved pairs (2i, 2i+1), `qwen2` and
            `qwen3` halves (i, i + rope_dim/2).
        tensors: float32 arrays, shaped [rows = outputs, columns = inputs] like the weights of `y = W x`.
        pieces: the vocabulary; token t is `pieces[t]`.
    """

    path: Path
    arch: Architecture | Literal["gemma3", "phi3", "deepseek2", "minicpm3"]
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_dim: int
    n_ff: int
    train_length: int
    rope_base: float
    rope_dim: int
    rms_eps: float
    tensors: dict[str, Array]
    pieces: tuple[str, ...]

    @property
    def n_vocab(self) -> int:
        """Number of tokens."""
        return len(self.pieces)


def write_tiny_model(
    path: Path,
    *,
    arch: Architecture = "llama",
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    n_head_kv: int = 2,
    head_dim: int = 16,
    n_ff: int = 96,
    train_length: int = 64,
    rope_base: float = 10000.0,
    rope_dim: int | None = None,
    seed: int = 0,
    query_deviation: float = 1.5,
    chat_template: str | None = None,
    extra_keys: Callable[[GGUFWriter], None] | None = None,
    change_tensors: Callable[[dict[str, Array]], None] | None = None,
) -> TinyModel:
    """Writes a random F32 model of `arch` with an SPM tokenizer to `path`.

    `extra_keys` may write further keys, and `change_tensors` replace weights in place.

    A `rope_dim` other than `head_dim` makes a file for metadata tests only: llama.cpp refuses it for
    `llama` and asserts (aborts) in the graphs of the other two. `query_deviation` is that of q and k:
    attention scores deviate by about its square.

    Raises:
        ValueError: a qwen2 model whose heads do not make up `n_embd` (the architecture cannot say it).
    """
    if arch == "qwen2" and n_head * head_dim != n_embd:
        raise ValueError(f"qwen2 needs n_head * head_dim == n_embd, not {n_head} * {head_dim} == {n_embd}")
    model = TinyModel(
        path=path,
        arch=arch,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head_dim=head_dim,
        n_ff=n_ff,
        train_length=train_length,
        rope_base=rope_base,
        rope_dim=head_dim if rope_dim is None else rope_dim,
        rms_eps=RMS_EPS,
        tensors={},
        pieces=PIECES,
    )
    model.tensors.update(_random_tensors(model, query_deviation, np.random.default_rng(seed)))
    if change_tensors is not None:
        change_tensors(model.tensors)

    def add_keys(writer: GGUFWriter) -> None:
        add_hyperparameters(writer, model)
        if chat_template is not None:
            writer.add_chat_template(chat_template)
        if extra_keys is not None:
            extra_keys(writer)

    write_gguf(model, add_keys)
    return model


def write_gguf(model: TinyModel, add_keys: Callable[[GGUFWriter], None]) -> None:
    """Writes `model` to its path: the keys of its architecture by `add_keys`, the tokenizer, the tensors."""
    write_gguf_of(model.arch, model.path, model.tensors, add_keys)


def write_gguf_of(
    arch: str,
    path: Path,
    tensors: dict[str, Array],
    add_keys: Callable[[GGUFWriter], None],
    *,
    tensors_per_part: int = 0,
    metadata_first: bool = False,
) -> None:
    """The same of an architecture that no `TinyModel` describes, or split into parts of so many tensors.

    The `gguf` package names the parts; `metadata_first` leaves the first one without tensors.
    """
    writer = GGUFWriter(str(path), arch, split_max_tensors=tensors_per_part, small_first_shard=metadata_first)
    writer.add_name("tiny random model")  # with "phi3" in it, llama.cpp asks for Phi-3's vocabulary
    writer.add_file_type(0)
    _add_tokenizer(writer, _vocabulary())
    add_keys(writer)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_chain_model(path: Path, chain: Sequence[int]) -> TinyModel:
    """A model that continues each token of `chain` (all different) with the next one, whatever was before.

    Attention and feed-forward add nothing; the embedding of a token of the chain is a direction of its own,
    and so the output matrix can look its successor up.
    """

    def follow(tensors: dict[str, Array]) -> None:
        for name, values in tensors.items():
            if (
                name.endswith(("attn_output.weight", "ffn_down.weight", "token_embd.weight"))
                or name == "output.weight"
            ):
                values[:] = 0.0
            if name == "output_norm.weight":
                values[:] = 1.0
        for direction, (token, successor) in enumerate(itertools.pairwise(chain)):
            tensors["token_embd.weight"][token, direction] = 1.0
            tensors["output.weight"][successor, direction] = 1.0

    return write_tiny_model(path, change_tensors=follow)


def add_yarn_keys(writer: GGUFWriter, *, factor: float, train_length: int) -> None:
    """llama.cpp's own keys for YaRN: what a file that is extended natively carries (for `extra_keys`)."""
    writer.add_rope_scaling_type(RopeScalingType.YARN)
    writer.add_rope_scaling_factor(factor)
    writer.add_rope_scaling_orig_ctx_len(train_length)


def add_hyperparameters(writer: GGUFWriter, model: TinyModel, *, value_length: int | None = None) -> None:
    """The keys of common decoder-only architectures; a head's values are as long as its keys by default."""
    writer.add_context_length(model.train_length)
    writer.add_embedding_length(model.n_embd)
    writer.add_block_count(model.n_layer)
    writer.add_feed_forward_length(model.n_ff)
    writer.add_head_count(model.n_head)
    writer.add_head_count_kv(model.n_head_kv)
    writer.add_key_length(model.head_dim)
    writer.add_value_length(model.head_dim if value_length is None else value_length)
    writer.add_rope_dimension_count(model.rope_dim)
    writer.add_rope_freq_base(model.rope_base)
    writer.add_layer_norm_rms_eps(model.rms_eps)


def _vocabulary() -> list[tuple[str, float, TokenType]]:
    """(piece, score, type) of every token: any text tokenizes, by characters, merges or bytes."""
    special = [
        ("<unk>", 0.0, TokenType.UNKNOWN),
        ("<s>", 0.0, TokenType.CONTROL),
        ("</s>", 0.0, TokenType.CONTROL),
    ]
    single_bytes = [(f"<0x{byte:02X}>", 0.0, TokenType.BYTE) for byte in range(256)]
    characters = ["▁", *(chr(code) for code in range(0x21, 0x7F))]
    merged = [(piece, -1.0 - i, TokenType.NORMAL) for i, piece in enumerate(_MERGED_PIECES)]
    plain = [(piece, -100.0 - i, TokenType.NORMAL) for i, piece in enumerate(characters)]
    chat = [(marker, 0.0, TokenType.CONTROL) for marker in ("<|im_start|>", "<|im_end|>")]
    return [*special, *single_bytes, *merged, *plain, *chat]


PIECES = tuple(piece for piece, _, _ in _vocabulary())
"""The vocabulary of every tiny model."""


def _add_tokenizer(writer: GGUFWriter, vocabulary: list[tuple[str, float, TokenType]]) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _, _ in vocabulary])
    writer.add_token_scores([score for _, score, _ in vocabulary])
    writer.add_token_types([kind for _, _, kind in vocabulary])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


@dataclass(frozen=True)
class RandomTensors:
    """Float32 weights from one generator."""

    rng: np.random.Generator

    def matrix(self, rows: int, columns: int, output_deviation: float) -> Array:
        """Outputs of about `output_deviation` for inputs of unit variance."""
        return self.rng.normal(0.0, output_deviation / np.sqrt(columns), (rows, columns)).astype(np.float32)

    def around_one(self, size: int) -> Array:
        """A norm's weights."""
        return self.rng.normal(1.0, 0.1, size).astype(np.float32)

    def bias(self, size: int) -> Array:
        """Added to an output."""
        return self.rng.normal(0.0, 0.3, size).astype(np.float32)


def _random_tensors(model: TinyModel, query_deviation: float, rng: np.random.Generator) -> dict[str, Array]:
    q_width = model.n_head * model.head_dim
    kv_width = model.n_head_kv * model.head_dim
    random = RandomTensors(rng)
    matrix, around_one, bias = random.matrix, random.around_one, random.bias

    tensors: dict[str, Array] = {
        "token_embd.weight": rng.normal(0.0, 1.0, (model.n_vocab, model.n_embd)).astype(np.float32)
    }
    for layer in range(model.n_layer):
        block = {
            "attn_norm.weight": around_one(model.n_embd),
            "attn_q.weight": matrix(q_width, model.n_embd, query_deviation),
            "attn_k.weight": matrix(kv_width, model.n_embd, query_deviation),
            "attn_v.weight": matrix(kv_width, model.n_embd, 1.0),
            "attn_output.weight": matrix(model.n_embd, q_width, 1.0),
            "ffn_norm.weight": around_one(model.n_embd),
            "ffn_gate.weight": matrix(model.n_ff, model.n_embd, 1.0),
            "ffn_up.weight": matrix(model.n_ff, model.n_embd, 1.0),
            "ffn_down.weight": matrix(model.n_embd, model.n_ff, 1.0),
        }
        if model.arch == "qwen2":
            block |= {
                "attn_q.bias": bias(q_width),
                "attn_k.bias": bias(kv_width),
                "attn_v.bias": bias(kv_width),
            }
        if model.arch == "qwen3":
            block |= {
                "attn_q_norm.weight": 1.5 * around_one(model.head_dim),
                "attn_k_norm.weight": 1.5 * around_one(model.head_dim),
            }
        tensors |= {f"blk.{layer}.{name}": values for name, values in block.items()}
    tensors["output_norm.weight"] = around_one(model.n_embd)
    tensors["output.weight"] = matrix(model.n_vocab, model.n_embd, 3.0)
    return tensors
