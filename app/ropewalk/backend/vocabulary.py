"""A model's tokenizer: text to tokens, tokens to bytes, and the special tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from llama_cpp import llama_cpp as capi

from ropewalk.backend.errors import BackendError

_PIECE_BYTES = 64


class Vocabulary:
    """The vocabulary of a loaded model, valid as long as the model is."""

    def __init__(self, handle: int) -> None:
        """Wraps a `llama_vocab *`."""
        self._handle = handle

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(capi.llama_vocab_n_tokens(self._handle))

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Tokens of a text.

        Args:
            text: anything; what is no valid Unicode becomes a question mark.
            add_special: put the start (and end) token where the model wants one.
            parse_special: read `<|im_end|>` and the like as the control tokens they spell.

        Raises:
            BackendError: the text is too long for one call of the tokenizer (2^31 tokens).
        """
        encoded = text.encode("utf-8", "replace")
        capacity = len(encoded) + 8
        for _ in range(2):
            tokens = (ctypes.c_int32 * capacity)()
            count = capi.llama_tokenize(
                self._handle, encoded, len(encoded), tokens, capacity, add_special, parse_special
            )
            if count >= 0:
                return list(tokens[:count])
            capacity = -count
            if capacity >= 2**31:
                break
        raise BackendError(f"a text of {len(text):,} characters is too long for the tokenizer: split it")

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes a token stands for, maybe part of a character; none for a control token unless `special`.

        Raises:
            BackendError: there is no such token (the native function would throw across C).
        """
        self.require_valid([token])
        size = _PIECE_BYTES
        for _ in range(2):
            buffer = ctypes.create_string_buffer(size)
            count = capi.llama_token_to_piece(self._handle, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count
        raise BackendError(f"token {token} cannot be turned into text")

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens; bytes that make no character become U+FFFD."""
        pieces = {token: self.piece(token, special=special) for token in set(tokens)}
        return b"".join(pieces[token] for token in tokens).decode("utf-8", "replace")

    def require_valid(self, tokens: Sequence[int]) -> None:
        """Raises an error unless all are tokens of this vocabulary.

        Raises:
            BackendError: names the first that is not.
        """
        size = self.size
        if tokens and not (min(tokens) >= 0 and max(tokens) < size):
            wrong = next(token for token in tokens if not 0 <= token < size)
            raise BackendError(f"{wrong} is not a token of this model, which has {size:,}")

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer (end of text, end of turn)."""
        return bool(capi.llama_vocab_is_eog(self._handle, token))

    @property
    def bos_text(self) -> str:
        """How the start token is spelt; "" if there is none."""
        return self._spelling(capi.llama_vocab_bos(self._handle))

    @property
    def eos_text(self) -> str:
        """How the end token is spelt; "" if there is none."""
        return self._spelling(capi.llama_vocab_eos(self._handle))

    def _spelling(self, token: int) -> str:
        return self.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""
