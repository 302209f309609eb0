"""Real tokenizers through a conversion and the library: the same tokens as before it, and the same text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkpoint_cases import CASES
from multilingual_texts import MARKS, SCRIPTS, TEXTS
from rebuilt_tokenizers import NAMES, real_tokens, vocabulary_file, write_tokenizer
from ropewalk.backend.model import Model
from ropewalk.backend.vocabulary import Vocabulary
from ropewalk_plan.gguf_header import GgufHeader
from shared_conversions import SharedConversions
from transformers_oracle import oracle_module

COMPOSING = ("qwen2", "olmo2")
BYTE_PAIRS = (
    *COMPOSING,
    "granite",
    "with llama-bpe",
    "with gpt-2",
    "with falcon",
    "with deepseek-llm",
    "with deepseek-coder",
)
"""Cases of `checkpoint_cases` with a rebuilt tokenizer. The first compose characters (NFC)."""

NOT_IN_FALCON = "\x0b"
"""The one byte that falcon's vocabulary has no token for; both libraries leave it out."""


@dataclass(frozen=True)
class Converted:
    """A converted vocabulary in the library, and the tokenizer that it was converted from.

    Attributes:
        case: its name among the cases.
        vocabulary: the library's.
        original: a `tokenizers.Tokenizer`.
    """

    case: str
    vocabulary: Vocabulary
    original: Any


@pytest.fixture(scope="module", params=BYTE_PAIRS)
def converted(request: pytest.FixtureRequest, shared_conversions: SharedConversions) -> Iterator[Converted]:
    """Each byte-pair tokenizer in turn."""
    case = request.param
    model = Model.load(shared_conversions.converted(case), without_weights=True)
    yield Converted(case, model.vocabulary, original(shared_conversions.checkpoint(case)))
    model.close()


def original(folder: Path) -> Any:  # noqa: ANN401  # the library has no types
    """The tokenizer of a folder, in Hugging Face's library."""
    return oracle_module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))


def ids(tokenizer: Any, text: str, *, add_special: bool = False) -> list[int]:  # noqa: ANN401
    """Tokens of a text by Hugging Face's library."""
    return list(tokenizer.encode(text, add_special_tokens=add_special).ids)


@pytest.mark.parametrize("name", NAMES)
def test_rebuilt_tokenizers_are_the_real_ones(name: str, tmp_path: Path) -> None:
    """The ids that llama.cpp's authors had from the real tokenizers, for their own texts."""
    rebuilt = original(write_tokenizer(tmp_path, name))
    beside = str(vocabulary_file(name))
    with Path(beside + ".inp").open(encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    lines = Path(beside + ".out").read_text(encoding="utf-8").split("\n")[: len(texts)]

    assert len(texts) == len(lines) == 47
    for text, line in zip(texts, lines, strict=True):
        assert ids(rebuilt, text) == [int(number) for number in line.split()], text
    for number, token in enumerate(real_tokens(name)):
        assert rebuilt.id_to_token(number) == (None if token == f"[PAD{number}]" else token)


def test_upstream_recognizes_them(converted: Converted, shared_conversions: SharedConversions) -> None:
    """By the ids of its own text; of two names for the same ids it takes the later one."""
    pre = GgufHeader.read(shared_conversions.converted(converted.case)).value("tokenizer.ggml.pre")
    name = CASES[converted.case].tokenizer
    assert pre == {"mpt": "olmo"}.get(name, name)


def test_byte_pairs_are_the_same_tokens_after_conversion(converted: Converted) -> None:
    composing = converted.case in COMPOSING
    for name, text in TEXTS.items():
        if not (composing and name in MARKS):
            tokens = converted.vocabulary.tokenize(text, add_special=False)
            assert tokens == ids(converted.original, text), name


def test_texts_come_back_from_byte_pairs(converted: Converted) -> None:
    falcon = converted.case == "with falcon"
    assert (converted.original.token_to_id("ċ") is None) is falcon  # that byte's token in such a vocabulary
    for name, text in TEXTS.items():
        expected = text.replace(NOT_IN_FALCON, "") if falcon else text
        tokens = converted.vocabulary.tokenize(text, add_special=False)
        assert converted.vocabulary.detokenize(tokens) == expected, name


def test_start_tokens_are_added_where_the_tokenizer_adds_them(converted: Converted) -> None:
    text = SCRIPTS["latin"]
    assert converted.vocabulary.tokenize(text) == ids(converted.original, text, add_special=True)


def test_special_tokens_are_read_as_such_only_when_asked_for(converted: Converted) -> None:
    added = converted.original.get_added_tokens_decoder()
    special = [token.content for token in added.values() if token.special]
    text = "".join(f"{token} between" for token in special)
    assert special

    assert converted.vocabulary.tokenize(text, add_special=False, parse_special=True) == ids(
        converted.original, text
    )
    assert not set(converted.vocabulary.tokenize(text, add_special=False)) & {
        number for number, token in added.items() if token.special
    }


@pytest.mark.parametrize("case", COMPOSING)
def test_llama_cpp_composes_no_characters(case: str, shared_conversions: SharedConversions) -> None:
    """A known difference: llama.cpp has no NFC, so that decomposed texts come back as they are."""
    model = Model.load(shared_conversions.converted(case), without_weights=True)
    composing = original(shared_conversions.checkpoint(case))
    not_composing = original(shared_conversions.checkpoint(case))
    not_composing.normalizer = None
    try:
        for name, text in MARKS.items():
            tokens = model.vocabulary.tokenize(text, add_special=False)
            assert tokens != ids(composing, text), (
                f"{name}: no difference any more; compare it as the others are"
            )
            assert tokens == ids(not_composing, text), name
    finally:
        model.close()


def test_sentencepiece_gives_the_same_tokens_after_conversion(shared_conversions: SharedConversions) -> None:
    processor = oracle_module("sentencepiece").SentencePieceProcessor(
        model_file=str(shared_conversions.checkpoint("llama") / "tokenizer.model")
    )
    rewritten = oracle_module("transformers").AutoTokenizer.from_pretrained(
        shared_conversions.checkpoint("llama")
    )
    model = Model.load(shared_conversions.converted("llama"), without_weights=True)
    try:
        for name, text in TEXTS.items():
            tokens = model.vocabulary.tokenize(text, add_special=False)
            assert tokens == processor.encode(text), name
            assert model.vocabulary.tokenize(text) == [processor.bos_id(), *tokens], name
            # sentencepiece puts a space before a text, and writes spaces as U+2581, which it takes for one
            back = model.vocabulary.detokenize(tokens)
            assert back == (" " + text.replace("▁", " ") if text else ""), name
            assert processor.decode(tokens) == text.replace("▁", " "), name
            if name != "markup":  # whose "<s>" is a special token for transformers
                assert rewritten.encode(text) == [processor.bos_id(), *tokens], name
    finally:
        model.close()
