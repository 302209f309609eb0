"""The tokens a sequence holds, and the shortest way from there to another text. Runs in the model process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk.backend import state_file
from ropewalk.backend.context import Context, DecodeStatus, KeptState
from ropewalk.backend.errors import (
    BackendError,
    ContextFullError,
    DecodeError,
    PromptTooLongError,
    StateFileError,
)
from ropewalk.backend.state_file import WrittenState
from ropewalk.engine.results import PrefillResult

ReadProgress = Callable[[int, int], None]

_COMPARED_AT_ONCE = 4096


@dataclass(frozen=True)
class HeldTokens:
    """Tokens with their keys and values, between two contexts."""

    tokens: tuple[int, ...]
    state: KeptState


class TokenSequence:
    """One sequence of a context.

    Attributes:
        context: that it is in.
        number: of the sequence in the context.
        tokens: what it holds, position by position.
    """

    def __init__(self, context: Context, should_stop: Callable[[], bool], number: int = 0) -> None:
        """An empty sequence.

        Args:
            context: holds nothing of it.
            should_stop: asked between batches; the context's own abort callback stops within one.
            number: of the sequence.
        """
        self.context = context
        self.number = number
        self.tokens: list[int] = []
        self._was_read = False
        self._should_stop = should_stop

    @property
    def has_logits(self) -> bool:
        """Whether the last logits computed are those of the last token held."""
        return self._was_read and self.context.last_decoded == self.number

    @has_logits.setter
    def has_logits(self, has: bool) -> None:
        self._was_read = has

    @property
    def is_full(self) -> bool:
        """Whether no further token can be computed."""
        return self.context.room == 0

    @property
    def is_stopped(self) -> bool:
        """Whether the request in work is to be given up."""
        return self._should_stop()

    def read(self, prompt: Sequence[int], on_progress: ReadProgress, reserve: int = 0) -> PrefillResult:
        """Makes the sequence hold exactly `prompt`, with the logits of its last token.

        Whatever prefix it holds already is kept, but for the last token, whose logits are needed. Where the
        plan's factors depend on the length, those for `reserve` tokens, or the prompt's, are put in force.

        Raises:
            BackendError: the prompt is empty, or has a token that the model has not.
            PromptTooLongError: it does not fit into the context; nothing has changed.
        """
        start = time.perf_counter()
        kept = self.prepare(prompt, len(prompt) - 1, reserve)
        on_progress(kept, len(prompt))
        try:
            status = self._read_on(prompt, on_progress)
        except ContextFullError:
            raise
        except DecodeError:
            if kept == 0:
                raise
            kept = self.roll_back_to(0)  # what is held cannot be gone on from (a copy under windows)
            on_progress(kept, len(prompt))
            status = self._read_on(prompt, on_progress)
        return PrefillResult(
            prompt_tokens=len(prompt),
            cached_tokens=kept,
            seconds=time.perf_counter() - start,
            cancelled=status is DecodeStatus.ABORTED,
        )

    def prepare(self, prompt: Sequence[int], most: int, reserve: int) -> int:
        """Forgets all but a prefix of `prompt`, and puts the factors in force that it is to be read with.

        Args:
            prompt: the tokens that are to be held.
            most: of the prefix.
            reserve: see `read`.

        Returns:
            Tokens that are left.

        Raises:
            BackendError: see `read`.
            PromptTooLongError: see `read`.
        """
        common = min(self._common_with(prompt), most)
        self._require_readable(prompt, common)
        kept = self.roll_back_to(common)
        length = max(len(prompt), reserve)
        if not self.context.reserve(length, sequence=self.number):
            kept = self.roll_back_to(0)
            self.context.reserve(length, sequence=self.number)
        return kept

    def reusable(self, prompt: Sequence[int]) -> int:
        """Tokens that `read` would keep of what is held (under windows of several sizes maybe a few more)."""
        common = self._common_with(prompt)
        return common if self.context.can_remove_from(common, sequence=self.number) else 0

    def recover_logits(self) -> bool:
        """Computes the last token again, where another sequence was computed since; False where stopped."""
        if not self._was_read or self.has_logits or not self.tokens:
            return True
        reserved = self.context.reserved(self.number)
        return not self.read(list(self.tokens), lambda _done, _total: None, reserved).cancelled

    def copy_to(self, target: TokenSequence) -> int:
        """Makes another sequence of the context hold what this one does; returns how many tokens that is."""
        if target is not self:
            self.context.copy(self.number, target.number)
            target.tokens = list(self.tokens)
            target.has_logits = self._was_read
        return len(target.tokens)

    def drop(self) -> None:
        """Forgets everything."""
        self.context.forget(self.number)
        self.tokens = []
        self.has_logits = False

    def take_out(self) -> HeldTokens:
        """A copy of what is held, for another context."""
        return HeldTokens(tuple(self.tokens), self.context.state(self.number))

    def put_in(self, held: HeldTokens) -> None:
        """Holds what another sequence held, or nothing where the library does not take it."""
        self.tokens = list(held.tokens) if self.context.restore(held.state, self.number) else []
        self.has_logits = False

    @property
    def state_size(self) -> int:
        """Bytes that a copy of what is held takes."""
        return self.context.state_size(self.number)

    def put_in_file(
        self,
        path: Path,
        tokens: Sequence[int],
        written: WrittenState,
        on_progress: Callable[[float], None],
    ) -> None:
        """Holds what a file says, in place of its own; where that fails, nothing.

        Raises:
            StateFileError: the file, or the library, does not allow it.
            PromptTooLongError: the context has no room for it.
        """
        self.drop()
        self.context.model.vocabulary.require_valid(tokens)
        room = self.context.room
        if len(tokens) > room:
            raise PromptTooLongError(
                f"what was saved has {len(tokens):,} tokens and the context has room for {room:,}: "
                "drop another text, or use a longer context"
            )
        try:
            state_file.read_state(self.context, self.number, path, written, on_progress)
        except BaseException:
            self.drop()
            raise
        if self.context.length_of(self.number) != len(tokens):
            self.drop()
            raise StateFileError(
                f"{path} does not hold the tokens it is said to: the text has to be read again"
            )
        self.tokens = list(tokens)

    def append(self, tokens: Sequence[int], *, all_logits: bool = False) -> DecodeStatus:
        """Computes further tokens, at most a batch; when stopped, those that were finished remain held.

        Args:
            tokens: those that follow.
            all_logits: keep the logits of each, not only of the last.
        """
        self.has_logits = False
        if self._should_stop():
            return DecodeStatus.ABORTED
        before = len(self.tokens)
        try:
            status = self.context.decode(tokens, sequence=self.number, all_logits=all_logits)
        finally:  # after an abort or a failure, part of them may be there
            held = self.context.length_of(self.number)
            self.tokens += tokens[: max(0, held - before)]
            del self.tokens[held:]
        self.has_logits = status is DecodeStatus.DONE
        return status

    def roll_back_to(self, length: int) -> int:
        """Forgets what lies beyond `length`, or all where the model's memory cannot; returns what is left."""
        if length < len(self.tokens):
            if not self.context.remove_from(length, sequence=self.number):
                self.context.forget(self.number)
                length = 0
            self.has_logits = False
            del self.tokens[length:]
        return len(self.tokens)

    def _common_with(self, prompt: Sequence[int]) -> int:
        """Tokens held that a prompt begins with, but for its last one."""
        return min(common_prefix(self.tokens, prompt), max(0, len(prompt) - 1))

    def _read_on(self, prompt: Sequence[int], on_progress: ReadProgress) -> DecodeStatus:
        step = self.context.n_handed_over
        status = DecodeStatus.DONE
        while len(self.tokens) < len(prompt) and status is DecodeStatus.DONE:
            at = len(self.tokens)
            status = self.append(prompt[at : at + step])
            on_progress(len(self.tokens), len(prompt))
        return status

    def _require_readable(self, prompt: Sequence[int], common: int) -> None:
        if not prompt:
            raise BackendError("the prompt has no tokens: give a text that is not empty")
        n_ctx = self.context.n_ctx
        if len(prompt) > n_ctx:
            raise PromptTooLongError(
                f"the prompt has {len(prompt):,} tokens and the context has room for {n_ctx:,}: "
                "shorten it, or use a longer context"
            )
        room = common + self.context.room_after(self.number, common)
        if len(prompt) > room:
            raise PromptTooLongError(
                f"the prompt has {len(prompt):,} tokens and beside the other texts the context has room for "
                f"{room:,}: drop one of them, shorten it, or use a longer context"
            )
        self.context.model.vocabulary.require_valid(prompt)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common; a million of them in some ten milliseconds."""
    first, second = list(first), list(second)
    shorter = min(len(first), len(second))
    at = 0
    while at < shorter:
        end = min(at + _COMPARED_AT_ONCE, shorter)
        if first[at:end] != second[at:end]:
            return next(i for i in range(at, end) if first[i] != second[i])
        at = end
    return shorter
