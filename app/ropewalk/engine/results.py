"""What an engine answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ropewalk_plan.plan import ContextPlan


@dataclass(frozen=True)
class ModelDescription:
    """A loaded model and its context.

    Attributes:
        path: the file.
        architecture: GGUF's `general.architecture`.
        n_layer: number of layers.
        n_params: number of weights.
        size_bytes: bytes of all weights.
        train_length: L, the tokens it was trained on.
        target_length: L', the tokens it is extended to; L where it is not.
        vocab_size: number of tokens in the vocabulary.
        has_chat_template: whether the file carries a chat template.
        plan: the context plan in force, if the file has one.
        native: whether llama.cpp's own keys say all of that plan.
        n_ctx: tokens the context holds.
    """

    path: Path
    architecture: str
    n_layer: int
    n_params: int
    size_bytes: int
    train_length: int
    target_length: int
    vocab_size: int
    has_chat_template: bool
    plan: ContextPlan | None
    native: bool
    n_ctx: int

    @property
    def streams(self) -> bool:
        """Whether texts may be of any length, as distances and memory stay as they are: L' is no limit."""
        return self.plan is not None and self.plan.streaming


@dataclass(frozen=True)
class PrefillResult:
    """How a prompt was read.

    Attributes:
        prompt_tokens: tokens of the prompt.
        cached_tokens: how many of them the context held already.
        seconds: from the tokens' arrival to the logits of the last one.
        cancelled: whether it was stopped; what had been read by then stays usable.
    """

    prompt_tokens: int
    cached_tokens: int
    seconds: float
    cancelled: bool = False


@dataclass(frozen=True)
class Piece:
    """A piece of an answer as it comes: whole characters.

    Attributes:
        text: never empty.
        tokens: tokens generated so far, this piece's included.
    """

    text: str
    tokens: int


@dataclass(frozen=True)
class GenerationResult:
    """A whole answer.

    Attributes:
        text: all pieces together.
        tokens: tokens generated, an end token not counted.
        seconds: from the request to the last token.
        reason: `stop` at an end token, `length` at the most tokens asked for or a full context, `cancelled`.
        token_ids: the tokens generated.
        drafted: tokens that were guessed by prompt lookup and computed together with those before them.
        accepted: how many of them the model chose itself, and so became the answer's.
    """

    text: str
    tokens: int
    seconds: float
    reason: Literal["stop", "length", "cancelled"]
    token_ids: tuple[int, ...] = ()
    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True)
class IdentityResult:
    """A model's logits with its plan against those without, over all tokens of a text.

    Attributes:
        max_difference: the largest absolute difference of any two logits.
        bit_identical: whether all are the same, bit for bit.
        n_tokens: tokens compared.
    """

    max_difference: float
    bit_identical: bool
    n_tokens: int


@dataclass(frozen=True)
class SavedState:
    """What a file with the keys and values of a sequence holds: needed to read it back.

    Attributes:
        tokens: those of the sequence, position by position.
        n_bytes: the file's size.
        block_bytes: size of the blocks that the checksums are of; the last may be shorter.
        checksums: of each block, XXH3-128 as hexadecimal digits.
    """

    tokens: tuple[int, ...]
    n_bytes: int
    block_bytes: int
    checksums: tuple[str, ...]


@dataclass(frozen=True)
class DeviceMemory:
    """What a loaded model takes on one device, in bytes.

    Attributes:
        device: ggml's name of it: `CPU`, `CUDA0`.
        weights: of the model.
        cache: keys and values, all that the context has room for.
        compute: working memory of the computation.
        free: what is free there now.
    """

    device: str
    weights: int
    cache: int
    compute: int
    free: int


@dataclass(frozen=True)
class MemoryUse:
    """What a model process takes.

    Attributes:
        devices: by device.
        resident: bytes of the process in this machine's memory; None where the system does not say.
    """

    devices: tuple[DeviceMemory, ...]
    resident: int | None
