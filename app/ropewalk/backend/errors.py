"""What can go wrong at the native library, each with a message for people: one sentence, with the remedy."""

from __future__ import annotations


class BackendError(RuntimeError):
    """Base of the errors of this package; its text may be shown as it is."""


class ModelFileError(BackendError):
    """A file that is missing, unreadable, cut short, not GGUF, or of a kind that llama.cpp does not run."""


class PlanRefusedError(BackendError):
    """A context plan that the patched library does not execute for this model."""


class LibraryNotPatchedError(BackendError):
    """What was asked needs the patched llama.cpp, and the one loaded is a stock build or an older one."""


class RpcServerError(BackendError):
    """An RPC server that does not answer, is not one, or cannot be used with the others."""


class ContextError(BackendError):
    """A context that cannot be made with these options."""


class DecodeError(BackendError):
    """llama.cpp refused or failed to compute a batch."""


class ContextFullError(DecodeError):
    """No cell of the context is free for a batch."""


class TemplateError(BackendError):
    """A chat template that cannot be rendered."""


class StoppedError(BackendError):
    """What was asked was given up because its caller wished so."""


class PromptTooLongError(BackendError):
    """More tokens than the context has room for."""


class StateFileError(BackendError):
    """A file of saved keys and values that cannot be written, is damaged, or is not for this context."""


class MemoryShortageError(BackendError):
    """Weights, KV cache and working memory exceed what is free.

    Attributes:
        needed: bytes that the model and the context asked for take.
        free: bytes there are.
        largest_n_ctx: tokens of context that would fit; 0 where not even the weights do.
    """

    def __init__(self, message: str, *, needed: int, free: int, largest_n_ctx: int) -> None:
        """An error with its numbers."""
        super().__init__(message)
        self.needed = needed
        self.free = free
        self.largest_n_ctx = largest_n_ctx
