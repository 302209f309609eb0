"""What an engine and its model process say to each other: one JSON object a line.

The engine sends requests with rising ids; the process answers each with any number of events and one
that is `final`. `Cancel` and `Shutdown` are seen while a request runs and have no answer of their own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar, Literal

from ropewalk.engine.codec import CodecError, from_plain, to_plain
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.results import (
    GenerationResult,
    IdentityResult,
    MemoryUse,
    ModelDescription,
    Piece,
    PrefillResult,
    SavedState,
)
from ropewalk.engine.sampling import SamplingOptions
from ropewalk_plan.plan import ContextPlan

PROTOCOL = 3
"""Raised whenever a message changes; both sides must agree."""

UNSENT = 0
"""The id of a request before it is sent."""

FailureKind = Literal[
    "model",
    "not_patched",
    "memory",
    "prompt_too_long",
    "template",
    "state",
    "cancelled",
    "request",
    "internal",
]


class MessageError(ValueError):
    """A line that is no message of this protocol."""


@dataclass(frozen=True)
class Request:
    """What the engine asks; `id` is 1 and up."""

    id: int


@dataclass(frozen=True)
class Load(Request):
    """Load a model, replacing any other, and make a context."""

    path: Path
    options: EngineOptions


@dataclass(frozen=True)
class Resize(Request):
    """Make the context again for `n_ctx` tokens, with what was read where it fits."""

    n_ctx: int


@dataclass(frozen=True)
class UsePlan(Request):
    """Execute another plan, or none, in a context made again and empty; `n_ctx` None: as long as it was."""

    plan: ContextPlan | None
    n_ctx: int | None = None


@dataclass(frozen=True)
class Tokenize(Request):
    """Turn a text into tokens."""

    text: str
    add_special: bool
    parse_special: bool


@dataclass(frozen=True)
class ApplyTemplate(Request):
    """Render (role, content) messages with the model's chat template, as if on that day."""

    messages: tuple[tuple[str, str], ...]
    today: date | None = None


@dataclass(frozen=True)
class Detokenize(Request):
    """Turn tokens into text."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class CountReusable(Request):
    """Say how much of a prompt a `Prefill` would not have to read."""

    tokens: tuple[int, ...]
    sequence: int = 0


@dataclass(frozen=True)
class Prefill(Request):
    """Read a prompt, from the longest prefix that is held; `reserve`: tokens the text is to have."""

    tokens: tuple[int, ...]
    sequence: int = 0
    reserve: int = 0


@dataclass(frozen=True)
class Score(Request):
    """Say how likely each of the tokens from the `first` on is, given those before it."""

    tokens: tuple[int, ...]
    first: int = 1
    sequence: int = 0
    reserve: int = 0


@dataclass(frozen=True)
class Generate(Request):
    """Go on from what was read last."""

    max_tokens: int
    sampling: SamplingOptions
    stop_at_eog: bool
    draft: int | None = None
    sequence: int = 0


@dataclass(frozen=True)
class CopySequence(Request):
    """Make a sequence hold what another one does."""

    source: int
    target: int


@dataclass(frozen=True)
class DropSequence(Request):
    """Forget what a sequence holds."""

    sequence: int


@dataclass(frozen=True)
class SaveState(Request):
    """Write the keys and values of a sequence to a file."""

    path: Path
    sequence: int = 0


@dataclass(frozen=True)
class RestoreState(Request):
    """Make a sequence hold what a file says."""

    path: Path
    saved: SavedState
    sequence: int = 0


@dataclass(frozen=True)
class MeasureMemory(Request):
    """Say what the process takes."""


@dataclass(frozen=True)
class CheckIdentity(Request):
    """Compare the logits of the plan with those of none."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Cancel(Request):
    """Stop the request with this id; nothing happens where it is done already."""


@dataclass(frozen=True)
class Shutdown(Request):
    """Stop whatever runs and end the process."""


@dataclass(frozen=True)
class Event:
    """What the process answers to request `id` (0: to none)."""

    final: ClassVar[bool] = True
    id: int


@dataclass(frozen=True)
class Hello(Event):
    """The process is ready."""

    process_id: int


@dataclass(frozen=True)
class Heartbeat(Event):
    """The process lives and is at work; `count` rises as long as the work goes on."""

    final: ClassVar[bool] = False
    count: int


@dataclass(frozen=True)
class LoadProgress(Event):
    """The share of the weights that is loaded, 0 to 1."""

    final: ClassVar[bool] = False
    share: float


@dataclass(frozen=True)
class Loaded(Event):
    """The answer to `Load`, `Resize` and `UsePlan`."""

    model: ModelDescription


@dataclass(frozen=True)
class Tokens(Event):
    """The answer to `Tokenize`."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Text(Event):
    """The answer to `Detokenize`."""

    text: str


@dataclass(frozen=True)
class TokensHeld(Event):
    """The answer to `CountReusable`, `CopySequence`, `DropSequence` and `RestoreState`: how many."""

    count: int


@dataclass(frozen=True)
class StateProgress(Event):
    """The share of a saved state that is written or read, 0 to 1."""

    final: ClassVar[bool] = False
    share: float


@dataclass(frozen=True)
class StateSaved(Event):
    """The answer to `SaveState`."""

    saved: SavedState


@dataclass(frozen=True)
class MemoryMeasured(Event):
    """The answer to `MeasureMemory`."""

    use: MemoryUse


@dataclass(frozen=True)
class Templated(Event):
    """The answer to `ApplyTemplate`; None where the model has no template."""

    text: str | None


@dataclass(frozen=True)
class PrefillProgress(Event):
    """Tokens of the text that the context holds by now, and all of them."""

    final: ClassVar[bool] = False
    done: int
    total: int


@dataclass(frozen=True)
class Prefilled(Event):
    """The answer to `Prefill`."""

    result: PrefillResult


@dataclass(frozen=True)
class Scored(Event):
    """The answer to `Score`: natural log-probabilities."""

    log_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class PieceMade(Event):
    """A piece of the answer to `Generate`."""

    final: ClassVar[bool] = False
    piece: Piece


@dataclass(frozen=True)
class Generated(Event):
    """The end of the answer to `Generate`."""

    result: GenerationResult


@dataclass(frozen=True)
class IdentityChecked(Event):
    """The answer to `CheckIdentity`."""

    result: IdentityResult


@dataclass(frozen=True)
class MemoryNumbers:
    """What a `memory` failure is about: bytes, and the longest context that would fit."""

    needed: int
    free: int
    largest_n_ctx: int


@dataclass(frozen=True)
class Failed(Event):
    """The answer to any request that could not be done; `message` is for people."""

    kind: FailureKind
    message: str
    memory: MemoryNumbers | None = None


Message = Request | Event

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (
        *(Load, Resize, UsePlan, Tokenize, Detokenize, ApplyTemplate),
        *(CountReusable, Prefill, Score, Generate, CopySequence, DropSequence),
        *(SaveState, RestoreState, MeasureMemory, CheckIdentity),
        *(Cancel, Shutdown),
        *(Hello, Heartbeat, LoadProgress, Loaded, Tokens, Text, Templated, TokensHeld),
        *(PrefillProgress, Prefilled, Scored, PieceMade, Generated),
        *(StateProgress, StateSaved, MemoryMeasured),
        *(IdentityChecked, Failed),
    )
}


def encode(message: Message) -> bytes:
    """A message as one line of ASCII, line break included."""
    line = {"protocol": PROTOCOL, "kind": type(message).__name__, "fields": to_plain(message)}
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """The message that a line is.

    Raises:
        MessageError: it is none, or one of another protocol.
    """
    try:
        data: Any = json.loads(line)
    except ValueError as error:
        raise MessageError(f"not JSON: {line[:80]!r}") from error
    if not isinstance(data, dict) or set(data) != {"protocol", "kind", "fields"}:
        raise MessageError(f"not a message: {line[:80]!r}")
    if data["protocol"] != PROTOCOL:
        raise MessageError(
            f"protocol {data['protocol']} where {PROTOCOL} is spoken: the installation is mixed"
        )
    kind = _KINDS.get(data["kind"]) if isinstance(data["kind"], str) else None
    if kind is None:
        raise MessageError(f"unknown message {data['kind']!r}")
    try:
        message: Message = from_plain(kind, data["fields"])
    except CodecError as error:
        raise MessageError(f"bad {data['kind']}: {error}") from error
    return message
