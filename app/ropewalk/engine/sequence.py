"""The tokens a context holds, and the shortest way from there to another text. Runs in the model process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ropewalk.backend.context import Context, DecodeStatus, KeptState
from ropewalk.backend.errors import BackendError, PromptTooLongError
from ropewalk.engine.results import PrefillResult

ReadProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeldTokens:
    """Tokens with their keys and values, between two contexts."""

    tokens: tuple[int, ...]
    state: KeptState


class TokenSequence:
    """The one sequence of a context.

    Attributes:
        tokens: what the context holds, position by position.
        has_logits: whether the last logits computed are those of the last token held.
    """

    def __init__(self, context: Context, should_stop: Callable[[], bool]) -> None:
        """An empty sequence.

        Args:
            context: empty.
            should_stop: asked between batches; the context's own abort callback stops within one.
        """
        self.context = context
        self.tokens: list[int] = []
        self.has_logits = False
        self._should_stop = should_stop

    @property
    def is_full(self) -> bool:
        """Whether no further token can be computed."""
        return len(self.tokens) >= self.context.n_ctx

    def read(self, prompt: Sequence[int], on_progress: ReadProgress) -> PrefillResult:
        """Makes the context hold exactly `prompt`, with the logits of its last token.

        Whatever prefix it holds already is kept, but for the last token, whose logits are needed.

        Raises:
            BackendError: the prompt is empty, or has a token that the model has not.
            PromptTooLongError: it does not fit into the context.
        """
        start = time.perf_counter()
        self._require_readable(prompt)
        kept = self.roll_back_to(min(common_prefix(self.tokens, prompt), len(prompt) - 1))
        if not self.context.reserve(len(prompt)):
            kept = self.roll_back_to(0)
            self.context.reserve(len(prompt))
        on_progress(kept, len(prompt))
        status = DecodeStatus.DONE
        while len(self.tokens) < len(prompt) and status is DecodeStatus.DONE:
            at = len(self.tokens)
            status = self.append(prompt[at : at + self.context.n_batch])
            on_progress(len(self.tokens), len(prompt))
        return PrefillResult(
            prompt_tokens=len(prompt),
            cached_tokens=kept,
            seconds=time.perf_counter() - start,
            cancelled=status is DecodeStatus.ABORTED,
        )

    def take_out(self) -> HeldTokens:
        """A copy of what is held, for another context."""
        return HeldTokens(tuple(self.tokens), self.context.state())

    def put_in(self, held: HeldTokens) -> None:
        """Holds what another sequence held, or nothing where the library does not take it."""
        self.tokens = list(held.tokens) if self.context.restore(held.state) else []
        self.has_logits = False

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
            status = self.context.decode(tokens, all_logits=all_logits)
        finally:  # after an abort or a failure, part of them may be there
            self.tokens += tokens[: self.context.length - before]
        self.has_logits = status is DecodeStatus.DONE
        return status

    def roll_back_to(self, length: int) -> int:
        """Forgets what lies beyond `length`, or all where the model's memory cannot; returns what is left."""
        if length < len(self.tokens) and not self.context.remove_from(length):
            self.context.clear()
            length = 0
        del self.tokens[length:]
        self.has_logits = False
        return length

    def _require_readable(self, prompt: Sequence[int]) -> None:
        if not prompt:
            raise BackendError("the prompt has no tokens: give a text that is not empty")
        if len(prompt) > self.context.n_ctx:
            raise PromptTooLongError(
                f"the prompt has {len(prompt):,} tokens and the context has room for {self.context.n_ctx:,}: "
                "shorten it, or use a longer context"
            )
        self.context.model.vocabulary.require_valid(prompt)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    shorter = min(len(first), len(second))
    for i in range(shorter):
        if first[i] != second[i]:
            return i
    return shorter
