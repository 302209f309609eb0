"""What can go wrong with an engine, each with a message for people: one sentence, with the remedy.

Nothing here imports the native library.
"""

from __future__ import annotations

from ropewalk.backend.errors import LibraryNotPatchedError


class EngineError(RuntimeError):
    """Base of the engine's errors; its text may be shown as it is."""


class ModelLoadError(EngineError):
    """The file cannot be loaded: missing, not GGUF, cut short, of an unknown kind, its plan refused."""


class LibraryNotPatched(EngineError, LibraryNotPatchedError):
    """The file's plan, or what was asked, needs the patched library, and a stock build is installed."""


class DoesNotFitError(EngineError):
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


class PromptTooLong(EngineError):
    """The tokens do not fit into the context; `Engine.resize` makes another one."""


class ChatTemplateError(EngineError):
    """The model's chat template cannot be rendered with these messages."""


class Cancelled(EngineError):
    """`Engine.cancel` stopped a request that has no result when it is stopped: loading, saving and so on."""


class StateRefused(EngineError):
    """A file of keys and values that cannot be read back: damaged, or of another model, plan or library."""


class EngineBusy(EngineError):
    """Another request is running, or a generation has been neither read to its end nor closed."""


class EngineDied(EngineError):
    """The model process has ended; a new `Engine` may be started.

    Attributes:
        reason: how it ended, e.g. `was killed by SIGKILL`.
        log: the last lines it wrote to its stderr.
    """

    def __init__(self, reason: str, log: tuple[str, ...] = (), last_words: str = "") -> None:
        """An error from a process's end, and what it said of it, if anything."""
        said = f" ({last_words})" if last_words else ""
        super().__init__(f"the model process {reason}{said}: start it again")
        self.reason = reason
        self.log = log


class EngineTimeout(EngineDied):
    """The model process did not come up, or hung, and has been ended; a new `Engine` may be started."""
