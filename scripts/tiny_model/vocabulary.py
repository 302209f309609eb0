"""The tiny model's tokenizer: the passkey prompt's words, digits one by one, and pieces of natural text."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from ropewalk.evaluation.passkey_prompt import FILLER, INTRODUCTION, NEEDLE, QUESTION

N_PIECES = 1024
BOS, EOS = 1, 2
_REPEATED = 4000
"""How often the prompt's sentences stand among the paragraphs: enough for their words to be whole."""


def train_tokenizer(paragraphs: Sequence[str]) -> bytes:
    """A sentencepiece model of `N_PIECES` pieces, by byte-pair merges; what has no piece is spelt in bytes.

    The same text gives the same bytes.

    Args:
        paragraphs: natural text.
    """
    prompt = [INTRODUCTION, FILLER, NEEDLE.format(key=""), QUESTION] * _REPEATED
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*prompt, *paragraphs]),
        model_writer=written,
        model_type="bpe",
        vocab_size=N_PIECES,
        character_coverage=0.9999,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        max_sentence_length=20000,
        required_chars="0123456789",
        unk_id=0,
        bos_id=BOS,
        eos_id=EOS,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def write_tokenizer(folder: Path, model: bytes, train_length: int) -> None:
    """Write `tokenizer.model` and the config beside it, as checkpoints of Llama's have them."""
    (folder / "tokenizer.model").write_bytes(model)
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": True,
        "model_max_length": train_length,
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_tokenizer(folder: Path) -> sentencepiece.SentencePieceProcessor:
    """The tokenizer of a checkpoint's folder."""
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
