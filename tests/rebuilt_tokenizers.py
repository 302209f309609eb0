"""Real byte-pair tokenizers in Hugging Face's form, rebuilt from the vocabularies in llama.cpp's source.

Upstream's converter knows a tokenizer by the ids it makes of one text, and refuses one that it does not know.
So tests of it need real ones. llama.cpp's source has the tokens, their types and the merges of some; what is
not in those files is how text is cut before merging, and that is stated here for each.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from ropewalk_plan.gguf_header import GgufHeader
from upstream_archive import upstream_folder

Json = dict[str, Any]

_GPT2_WORDS: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_BYTES_ONLY: Json = {**_GPT2_WORDS, "use_regex": False}
_SINGLE_DIGITS: Json = {"type": "Digits", "individual_digits": True}
_DIGIT_RUNS: Json = {"type": "Digits", "individual_digits": False}
_PUNCTUATION: Json = {"type": "Punctuation", "behavior": "Contiguous"}


def _split(pattern: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _words(digits: str) -> Json:
    """The pattern that GPT-4's descendants share, but for how they group digits."""
    return _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        r"|[^\r\n\p{L}\p{N}]?\p{L}+"
        rf"|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_DEEPSEEK_SCRIPTS = _split("[一-龥ࠀ-一가-퟿]+")


@dataclass(frozen=True)
class _Cutting:
    """How a tokenizer treats text before merging.

    Attributes:
        steps: pre-tokenizers of the `tokenizers` library, in turn.
        composes: characters are composed first (NFC).
        whole_words: a word that is a token is not merged from its parts.
        starts: the start token comes before every text.
    """

    steps: tuple[Json, ...]
    composes: bool = False
    whole_words: bool = False
    starts: bool = False


_CUTTING = {
    "llama-bpe": _Cutting((_words(r"\p{N}{1,3}"), _BYTES_ONLY), whole_words=True, starts=True),
    "qwen2": _Cutting((_words(r"\p{N}"), _BYTES_ONLY), composes=True),
    "gpt-2": _Cutting((_GPT2_WORDS,)),
    "mpt": _Cutting((_GPT2_WORDS,), composes=True),
    "starcoder": _Cutting((_SINGLE_DIGITS, _GPT2_WORDS)),
    "refact": _Cutting((_SINGLE_DIGITS, _GPT2_WORDS)),
    "command-r": _Cutting((_SINGLE_DIGITS, _GPT2_WORDS), composes=True, starts=True),
    "falcon": _Cutting((_PUNCTUATION, _GPT2_WORDS, _DIGIT_RUNS, _split("[0-9][0-9][0-9]"))),
    "deepseek-llm": _Cutting(
        (
            _split(r"[\r\n]"),
            _split(r"\s?[\p{Lu}\p{Ll}\p{Lt}]+"),
            _split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
            _split(r"\s+$"),
            _DEEPSEEK_SCRIPTS,
            _SINGLE_DIGITS,
            _BYTES_ONLY,
        ),
        starts=True,
    ),
    "deepseek-coder": _Cutting(
        (
            _split(r"[\r\n]"),
            _split(r"\s?\p{L}+"),
            _split(r"\s?\p{P}+"),
            _DEEPSEEK_SCRIPTS,
            _SINGLE_DIGITS,
            _BYTES_ONLY,
        ),
        starts=True,
    ),
}

NAMES = tuple(_CUTTING)
"""The tokenizers that can be rebuilt, by their name in llama.cpp (`tokenizer.ggml.pre`)."""


def vocabulary_file(name: str) -> Path:
    """A vocabulary in llama.cpp's source; beside it lie texts (`.inp`) and the real one's ids (`.out`)."""
    return upstream_folder() / "models" / f"ggml-vocab-{name}.gguf"


def real_tokens(name: str) -> list[str]:
    """The tokens by id, as llama.cpp has them; `[PAD17]` stands for an id that the tokenizer does not use."""
    return list(_read(name)["tokens"])


def write_tokenizer(folder: Path, name: str) -> Path:
    """Write `tokenizer.json` and `tokenizer_config.json` of a real tokenizer.

    Args:
        folder: made where it is missing.
        name: one of `NAMES`.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    read, cutting = _read(name), _CUTTING[name]
    tokens, types = read["tokens"], read["token_type"]
    added = [
        {
            "id": number,
            "content": tokens[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": kind == gguf.TokenType.USER_DEFINED,
            "special": kind == gguf.TokenType.CONTROL,
        }
        for number, kind in enumerate(types)
        if kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED)
        and tokens[number] != f"[PAD{number}]"
    ]
    # the library numbers added tokens after the vocabulary, in turn, but for those that are in it
    last = max(number for number, kind in enumerate(types) if kind == gguf.TokenType.NORMAL)
    vocabulary = {token: number for number, token in enumerate(tokens[: last + 1])}
    start, end = tokens[read["bos_token_id"]], tokens[read["eos_token_id"]]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if cutting.composes else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(cutting.steps)},
        "post_processor": _start_before(start, read["bos_token_id"]) if cutting.starts else _BYTES_ONLY,
        "decoder": _BYTES_ONLY,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": cutting.whole_words,
            "vocab": vocabulary,
            "merges": [merge.split(" ") for merge in read["merges"]],
        },
    }
    config = {
        "bos_token": start,
        "eos_token": end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for file, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", config)):
        (folder / file).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def _start_before(token: str, number: int) -> Json:
    start = {"SpecialToken": {"id": token, "type_id": 0}}
    first, second = ({"Sequence": {"id": which, "type_id": kind}} for which, kind in (("A", 0), ("B", 1)))
    again = {"SpecialToken": {"id": token, "type_id": 1}}
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, again, second],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


@functools.cache
def _read(name: str) -> Json:
    header = GgufHeader.read(vocabulary_file(name))
    prefix = "tokenizer.ggml."
    return {key.removeprefix(prefix): header.value(key) for key in header.keys if key.startswith(prefix)}
