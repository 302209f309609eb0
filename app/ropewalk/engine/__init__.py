"""One loaded model in a process of its own: read a prompt with progress, generate, cancel.

Importing this does not load the native library; the model process does.
"""

from ropewalk.backend.errors import LibraryNotPatchedError
from ropewalk.backend.rpc_server import RpcAddress
from ropewalk.engine.answer import Generation
from ropewalk.engine.client import Engine
from ropewalk.engine.errors import (
    Cancelled,
    ChatTemplateError,
    DoesNotFitError,
    EngineBusy,
    EngineDied,
    EngineError,
    EngineTimeout,
    LibraryNotPatched,
    ModelLoadError,
    PromptTooLong,
    StateRefused,
)
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.patience import Patience
from ropewalk.engine.results import (
    DeviceMemory,
    GenerationResult,
    IdentityResult,
    MemoryUse,
    ModelDescription,
    Piece,
    PrefillResult,
    SavedState,
)
from ropewalk.engine.sampling import GREEDY, SamplingOptions

__all__ = [
    "GREEDY",
    "Cancelled",
    "ChatTemplateError",
    "DeviceMemory",
    "DoesNotFitError",
    "Engine",
    "EngineBusy",
    "EngineDied",
    "EngineError",
    "EngineOptions",
    "EngineTimeout",
    "Generation",
    "GenerationResult",
    "IdentityResult",
    "LibraryNotPatched",
    "LibraryNotPatchedError",
    "MemoryUse",
    "ModelDescription",
    "ModelLoadError",
    "Patience",
    "Piece",
    "PrefillResult",
    "PromptTooLong",
    "RpcAddress",
    "SamplingOptions",
    "SavedState",
    "StateRefused",
]
