"""A llama.cpp context: the KV cache of one sequence or several, and the computation of their tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as capi

from ropewalk.backend import context_plan, library, native_log
from ropewalk.backend.batch import Batch
from ropewalk.backend.buffer_sizes import WANTED, read_buffers
from ropewalk.backend.cells import CellLedger
from ropewalk.backend.context_memory import check_memory, does_not_fit, fits
from ropewalk.backend.context_params import UNQUANTIZED, ContextParams, check_params, native_params
from ropewalk.backend.errors import (
    ContextError,
    ContextFullError,
    DecodeError,
    PlanRefusedError,
)
from ropewalk.backend.log_probabilities import log_probabilities
from ropewalk.backend.model import Model

__all__ = ["Context", "ContextParams", "DecodeStatus", "KeptState", "Logits", "check_memory", "fits"]

Logits: TypeAlias = npt.NDArray[np.float32]

_DECODED, _NO_SLOT, _ABORTED = 0, 1, 2


class DecodeStatus(Enum):
    """How a decode ended."""

    DONE = "done"
    ABORTED = "aborted"


@dataclass(frozen=True)
class KeptState:
    """Keys and values of a sequence in the library's own form, outside of any context."""

    data: Any
    size: int


class Context:
    """Sequences of tokens in a KV cache, each position by position from 0; they are numbered from 0.

    Attributes:
        model: whose context it is.
        n_batch: most tokens of one `decode`.
        n_ubatch: tokens computed at once.
        n_sequences: how many sequences there may be.
        n_outputs: most tokens of one `decode` with all logits.
        buffers: what it takes on each device.
        last_decoded: the sequence that the last logits are of; None while there are none.
    """

    def __init__(
        self, model: Model, params: ContextParams, should_abort: Callable[[], bool] | None = None
    ) -> None:
        """Makes a context; what the model's plan is now holds for it from then on.

        Args:
            model: must outlive the context.
            params: how.
            should_abort: asked between operations of a running decode, on the CPU only; once it says
                True the decode ends. Not asked where the model has a recurrent state, which would be left
                half computed.

        Raises:
            ContextError: options that do not go together, or that the library does not take.
            MemoryShortageError: the context does not fit into memory.
            PlanRefusedError: the library does not execute the model's plan in such a context.
        """
        check_params(params)
        self.model = model
        self._n_ctx = params.n_ctx
        self._quantized = params.kv_type not in UNQUANTIZED
        check_memory(model, params)
        native = native_params(model, params)
        self._forgets_in_part = model.is_plain_transformer
        if should_abort is not None and self._forgets_in_part:
            native.abort_callback = capi.ggml_abort_callback(lambda _data: should_abort())
        self._native_params = native  # keeps the callback alive
        with native_log.fresh() as log, log.collecting(WANTED) as buffers:
            self.handle = capi.llama_init_from_model(model.handle, native)
            if not self.handle:
                raise _refusal(model, params, log.errors())
        self.buffers = read_buffers(buffers, model.placed.gpus)
        model.hold(self.buffers)
        self.n_batch = int(capi.llama_n_batch(self.handle))
        self.n_ubatch = int(capi.llama_n_ubatch(self.handle))
        self.n_sequences = params.n_sequences
        self.n_outputs = int(native.n_outputs_max)
        self.last_decoded: int | None = None
        self._memory = capi.llama_get_memory(self.handle)
        plan, is_native = model.plan() or (None, False)
        # of windows of the model's own the library removes anything, also what a restored state lacks
        self._removal_is_checked = plan is not None and not is_native and any(plan.windows)
        self._window = int(capi.llama_model_n_swa(model.handle))
        self._cells = CellLedger(params.n_sequences)
        self._reserved = [0] * params.n_sequences
        self._batch = Batch(self.n_batch)
        self._rows = 0

    @property
    def n_ctx(self) -> int:
        """Tokens it holds of all sequences, as asked for (llama.cpp allocates a multiple of 256)."""
        return self._n_ctx

    @property
    def n_handed_over(self) -> int:
        """Tokens for one `decode` of a long text, so that it can be stopped within a micro-batch.

        On the CPU a running decode asks whether to stop. On a GPU, and with a recurrent state, it does not,
        and gets one micro-batch at a time.
        """
        return self.n_batch if self._forgets_in_part and not self.model.on_gpu else self.n_ubatch

    @property
    def length(self) -> int:
        """Tokens that the first sequence holds now."""
        return self.length_of(0)

    def length_of(self, sequence: int) -> int:
        """Tokens that a sequence holds now."""
        return int(capi.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    @property
    def room(self) -> int:
        """Tokens that can be added to any of the sequences."""
        self._count_cells()
        return max(0, self._n_ctx - self._cells.used())

    def room_after(self, sequence: int, length: int) -> int:
        """Tokens that could be added to a sequence if it were cut to `length` tokens first."""
        self._count_cells()
        return max(0, self._n_ctx - self._cells.used_with(sequence, length))

    def decode(self, tokens: Sequence[int], *, sequence: int = 0, all_logits: bool = False) -> DecodeStatus:
        """Computes tokens at the positions after those held, with logits of the last one, or of all.

        When aborted, the micro-batches that were finished remain: see `length_of`.

        Args:
            tokens: at most `n_batch`.
            sequence: that they go on.
            all_logits: keep the logits of every token: at most `n_outputs` of them.

        Raises:
            ContextFullError: no room; nothing has changed.
            DecodeError: llama.cpp failed; it then holds what it held before or part of these.
        """
        start = self.length_of(sequence)
        if not 0 < len(tokens) <= self.n_batch:
            raise DecodeError(f"a batch of {len(tokens)} tokens: it must have 1 to {self.n_batch}")
        if all_logits and len(tokens) > self.n_outputs:
            raise DecodeError(f"the logits of {len(tokens)} tokens: a batch keeps at most {self.n_outputs}")
        if len(tokens) > self.room:
            raise ContextFullError(self._full(start, len(tokens)))
        self.model.vocabulary.require_valid(tokens)
        self._rows = 0
        self.last_decoded = None
        self._batch.fill(tokens, start, sequence=sequence, all_logits=all_logits)
        with native_log.fresh() as log:
            status = capi.llama_decode(self.handle, self._batch.native)
            if status == _ABORTED:
                return DecodeStatus.ABORTED
            if status == _NO_SLOT:
                raise ContextFullError("the context is full: make a longer one")
            if status != _DECODED:
                if not self._forgets_in_part:
                    self.forget(sequence)  # a state that is half computed
                refused = context_plan.last_error() if library.is_patched() else ""
                raise DecodeError(refused or _decode_failure(status, log.errors()))
            capi.llama_synchronize(self.handle)
        self._rows = len(tokens) if all_logits else 1
        self.last_decoded = sequence
        return DecodeStatus.DONE

    def logits(self) -> Logits:
        """A copy of the logits of the last decode: [1 or number of its tokens, vocabulary]."""
        shape = (self._rows, self.model.vocabulary.size)
        return np.array(np.ctypeslib.as_array(capi.llama_get_logits(self.handle), shape), dtype=np.float32)

    def log_probabilities(self, tokens: Sequence[int]) -> npt.NDArray[np.float64]:
        """Natural log-probabilities of tokens by the first rows of the last decode, a row for each.

        Reads the rows where the library has them: no copy of all of them is made.
        """
        shape = (self._rows, self.model.vocabulary.size)
        rows = np.ctypeslib.as_array(capi.llama_get_logits(self.handle), shape)
        return log_probabilities(rows[: len(tokens)], tokens)

    def reserve(self, n_tokens: int, *, sequence: int = 0) -> bool:
        """Puts the plan's factors for so many tokens in force, where its factors change with the length.

        The longest of all sequences decides, and what was reserved for another one stays reserved. Keys that
        are held already are turned to the factors. False where they are quantized and cannot be: then nothing
        has changed. As they never can, quantized keys get the factors for a full context at once.
        """
        if not library.is_patched():
            return True
        others = max((n for i, n in enumerate(self._reserved) if i != sequence), default=0)
        try:
            context_plan.reserve(self.handle, self._n_ctx if self._quantized else max(n_tokens, others))
        except PlanRefusedError:
            return False
        self._reserved[sequence] = n_tokens
        return True

    def reserved(self, sequence: int) -> int:
        """Tokens that were reserved for a sequence last; 0 since it was forgotten."""
        return self._reserved[sequence]

    def remove_from(self, position: int, *, sequence: int = 0) -> bool:
        """Forgets the tokens from a position on; False where this model's memory cannot (nothing is done)."""
        if not self._removal_is_checked and not self.can_remove_from(position, sequence=sequence):
            return False
        removed = bool(capi.llama_memory_seq_rm(self._memory, sequence, position, -1))
        self._count_cells()
        return removed

    def can_remove_from(self, position: int, *, sequence: int = 0) -> bool:
        """Whether `remove_from` would do it; under windows of several sizes it may do a little more."""
        if position >= self.length_of(sequence) or position == 0:
            return True
        if not self._forgets_in_part:
            return False
        # the token that follows sees this far back, and the library has nothing missing from `first` on
        first = int(capi.llama_memory_seq_pos_min(self._memory, sequence))
        return first <= max(0, position - max(1, self._window) + 1)

    def copy(self, source: int, target: int) -> None:
        """Makes a sequence hold what another one does, in the same cells; what it held before is forgotten.

        Under windows the copy may lack what the next token would see, and decoding it is then refused.
        """
        if source == target:
            return
        self.forget(target)
        capi.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._cells.copy(source, target)
        self._reserved[target] = self._reserved[source]
        self._count_cells()

    def forget(self, sequence: int) -> None:
        """Forgets a sequence, and what was reserved for it."""
        if self.n_sequences == 1:
            capi.llama_memory_clear(self._memory, False)  # which cells are taken; their numbers may stay
        else:
            capi.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        self._reserved[sequence] = 0
        if self.last_decoded == sequence:
            self.last_decoded = None
        self._count_cells()

    def state_size(self, sequence: int = 0) -> int:
        """Bytes that a copy of what a sequence holds takes."""
        return int(capi.llama_state_seq_get_size(self.handle, sequence))

    def state(self, sequence: int = 0) -> KeptState:
        """A copy of what a sequence holds, for another context of the same model, plan and options."""
        size = self.state_size(sequence)
        data = (ctypes.c_uint8 * size)()
        written = int(capi.llama_state_seq_get_data(self.handle, data, size, sequence))
        return KeptState(data, written)

    def restore(self, state: KeptState, sequence: int = 0) -> bool:
        """Holds what another context held; where that cannot be, it holds nothing and the answer is False."""
        self.forget(sequence)
        with native_log.fresh():
            read = int(capi.llama_state_seq_set_data(self.handle, state.data, state.size, sequence))
        if read != state.size:
            self.forget(sequence)
        return read == state.size

    def close(self) -> None:
        """Frees the KV cache; harmless when repeated."""
        if self.handle:
            capi.llama_free(self.handle)
            self.handle = None
            self.model.release(self.buffers)

    def _count_cells(self) -> None:
        """Brings the ledger up to what the library holds now, whoever changed it."""
        for sequence in range(self.n_sequences):
            self._cells.set_length(sequence, self.length_of(sequence))

    def _full(self, start: int, more: int) -> str:
        others = self._n_ctx - self.room - start
        taken = f", of which other texts take {others:,}" if others > 0 else ""
        return f"{start + more:,} tokens do not fit into a context of {self._n_ctx:,}{taken}"


def _refusal(model: Model, params: ContextParams, errors: list[str]) -> Exception:
    """Why the library made no context."""
    reason = context_plan.last_error() if library.is_patched() else ""
    if reason:
        return PlanRefusedError(f"{model.path}: {reason}")
    if any("alloc" in line or "out of memory" in line for line in errors):
        return does_not_fit(model, params)
    why = errors[-1] if errors else "the library gave no reason"
    return ContextError(f"{model.path}: no context of {params.n_ctx:,} tokens could be made: {why}")


def _decode_failure(status: int, errors: list[str]) -> str:
    why = errors[-1] if errors else "no reason was given"
    return f"llama.cpp failed to compute (code {status}): {why}"
