"""What a model's file says without its weights: tokenizer, chat template, metadata."""

from __future__ import annotations

import math
from pathlib import Path

from llama_cpp import llama_cpp as capi

from ropewalk.backend import library, native_log
from ropewalk.backend.errors import ModelFileError, PlanRefusedError
from ropewalk.backend.vocabulary import Vocabulary
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import read_plan
from ropewalk_plan.plan import ContextPlan, PlanError


class VocabularyModel:
    """A model of which only the vocabulary is loaded: it makes no contexts."""

    def __init__(self, header: GgufHeader, handle: int) -> None:
        """Wraps a `llama_model *`; use `load`."""
        self.path = header.path
        self.header = header
        self.handle: int | None = handle
        self.vocabulary = Vocabulary(capi.llama_model_get_vocab(handle))

    @classmethod
    def load(cls, path: Path) -> VocabularyModel:
        """Loads the vocabulary of a GGUF file.

        Args:
            path: the file (of a split model, the first part).

        Raises:
            ModelFileError: the file is missing, unreadable, not GGUF, cut short or of an unknown kind.
        """
        library.initialize()
        try:
            header = GgufHeader.read(path)
        except GgufError as error:
            raise ModelFileError(str(error)) from error
        params = capi.llama_model_default_params()
        params.vocab_only = True
        with native_log.fresh() as log:
            handle = capi.llama_model_load_from_file(str(path).encode(errors="surrogateescape"), params)
            if not handle:
                errors = log.errors()
                why = errors[0] if errors else "the library gave no reason"
                raise ModelFileError(f"{path} cannot be loaded: {why}")
        return cls(header, handle)

    def close(self) -> None:
        """Frees the vocabulary; harmless when repeated."""
        if self.handle:
            capi.llama_model_free(self.handle)
            self.handle = None

    def meta(self, key: str) -> object | None:
        """A value of the file's metadata (arrays as lists); None where it has no such key."""
        return self.header.value(key)

    @property
    def architecture(self) -> str:
        """GGUF's `general.architecture`."""
        return str(self.header.value("general.architecture") or "")

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return self._number("block_count")

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return sum(math.prod(t.shape) for file in self.header.files for t in file.tensors.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights."""
        return sum(t.n_bytes or 0 for file in self.header.files for t in file.tensors.values())

    @property
    def context_length(self) -> int:
        """The longest context the file says it is for."""
        return self._number("context_length")

    @property
    def original_context_length(self) -> int | None:
        """The train length of a file that llama.cpp's own keys extend; None where they do not say."""
        return self._number("rope.scaling.original_context_length") or None

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the file's chat template."""
        text = capi.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", "replace") if text else None

    def plan(self) -> tuple[ContextPlan, bool] | None:
        """The file's plan as it stands there, and whether it is native.

        Raises:
            PlanRefusedError: it cannot be read.
        """
        try:
            stored = read_plan(self.header)
        except PlanError as error:
            raise PlanRefusedError(f"{self.path}: {error}") from error
        return None if stored is None else (stored.plan, stored.native)

    def _number(self, key: str) -> int:
        value = self.header.value(f"{self.architecture}.{key}")
        return value if isinstance(value, int) else 0
