"""The special tokens that chat templates refer to, by transformers' names, as a GGUF file has them."""

from __future__ import annotations

from collections.abc import Callable

from ropewalk.backend.vocabulary import Vocabulary

# GGUF's own spelling of "separator" included
_KEYS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",
    "pad_token": "padding_token_id",
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}


def special_tokens(vocabulary: Vocabulary, meta: Callable[[str], object]) -> dict[str, str]:
    """Spellings by name; those that the file does not have are left out, so that templates find none.

    Args:
        vocabulary: of a model.
        meta: a value of its file's metadata by its key, None where there is none.
    """
    found: dict[str, str] = {}
    if meta("tokenizer.ggml.model") == "llama":  # others have no start and end unless they say so
        found = {"bos_token": vocabulary.bos_text, "eos_token": vocabulary.eos_text}
    for name, key in _KEYS.items():
        token = meta(f"tokenizer.ggml.{key}")
        if isinstance(token, int) and 0 <= token < vocabulary.size:
            found[name] = vocabulary.piece(token, special=True).decode("utf-8", "replace")
    return {name: text for name, text in found.items() if text}
