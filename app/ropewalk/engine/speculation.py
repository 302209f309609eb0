"""Computing ahead: guessed tokens in one batch with the token that is sure, and forgetting the wrong ones.

Computing a token is a pass over all weights, and computing several at once takes less than each alone
(Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding"; here the draft is a copy
of the text). The caller chooses every token by the logits of the true text before it, and one at a time, so
answers are what they were.
"""

from __future__ import annotations

from collections import deque

from ropewalk.backend.context import DecodeStatus
from ropewalk.backend.errors import BackendError, DecodeError
from ropewalk.engine.drafter import PromptDrafter
from ropewalk.engine.sequence import TokenSequence

MAX_DRAFT = 15
"""Most tokens guessed at once: with the sure one a batch of 16, beyond which a token gets little cheaper."""

LAST_ROW = -1


class SpeculativeText:
    """A sequence, and guesses that are computed beyond it.

    Attributes:
        row: of the logits computed last, the one that chooses the token that comes next.
        drafted: tokens guessed so far.
        accepted: how many of them were right.
    """

    def __init__(self, sequence: TokenSequence, most: int | None = None) -> None:
        """Goes on from what a sequence holds; to be closed afterwards.

        Args:
            sequence: whose last logits are those of its last token.
            most: tokens guessed at once, at most `MAX_DRAFT`, which None stands for; 0 for none.

        Raises:
            BackendError: `most` is negative.
        """
        if most is not None and most < 0:
            raise BackendError(f"{most} tokens cannot be drafted: use 0 for none, or up to {MAX_DRAFT}")
        self.row = LAST_ROW
        self.drafted = 0
        self.accepted = 0
        self._sequence = sequence
        self._most = min(MAX_DRAFT if most is None else most, _most_at_once(sequence))
        self._steps = _schedule_lengths(sequence) if self._most > 0 else ()
        self._length = len(sequence.tokens)  # what it holds beyond that are guesses
        self._guesses: deque[int] = deque()
        self._right = 0
        self._drafter: PromptDrafter | None = None  # made where it is needed: a text may be long

    @property
    def is_full(self) -> bool:
        """Whether no further token can be computed."""
        return not self._guesses and self._sequence.is_full

    def append(self, token: int, wanted: int) -> DecodeStatus:
        """Goes on with a token, so that the next one can be chosen; when aborted, it may not be held.

        Args:
            token: chosen from `row`.
            wanted: tokens that are to follow it, at most.

        Raises:
            DecodeError: it could not be computed.
        """
        if self._drafter is not None:
            self._drafter.append(token)
        if self._guesses and self._guesses[0] == token:
            return self._accept()
        if self._drafter is not None:
            self._drafter.note(self._right)
        if self._settle() is DecodeStatus.ABORTED:
            return DecodeStatus.ABORTED
        draft = self._draft(token, wanted)
        if draft:
            try:
                return self._compute(token, draft)
            except DecodeError:
                self._most = 0  # alone it may still be computed
                if self._settle() is DecodeStatus.ABORTED:
                    return DecodeStatus.ABORTED
        return self._compute(token, ())

    def close(self) -> None:
        """Forgets guesses that were not followed; where the memory cannot, the sequence is empty."""
        self._guesses.clear()
        if len(self._sequence.tokens) > self._length:
            self._length = self._sequence.roll_back_to(self._length)

    def _accept(self) -> DecodeStatus:
        """The token was guessed: its logits are there."""
        self._guesses.popleft()
        self._length += 1
        self._right += 1
        self.accepted += 1
        self.row += 1
        return DecodeStatus.ABORTED if self._sequence.is_stopped else DecodeStatus.DONE

    def _compute(self, token: int, draft: tuple[int, ...]) -> DecodeStatus:
        status = self._sequence.append([token, *draft], all_logits=bool(draft))
        self._length = min(self._length + 1, len(self._sequence.tokens))
        if status is DecodeStatus.DONE:
            self._guesses = deque(draft)
            self._right = 0
            self.drafted += len(draft)
            self.row = 0 if draft else LAST_ROW
        return status

    def _settle(self) -> DecodeStatus:
        """Forgets wrong guesses; where the memory cannot, reads the text again and guesses no more."""
        text = self._sequence.tokens[: self._length]
        self.close()
        if self._length == len(text):
            return DecodeStatus.DONE
        self._most = 0
        read = self._sequence.read(text, lambda _done, _total: None)
        self._length = len(self._sequence.tokens)
        return DecodeStatus.ABORTED if read.cancelled else DecodeStatus.DONE

    def _draft(self, token: int, wanted: int) -> tuple[int, ...]:
        length = self._length + 1
        most = min(
            self._most,
            wanted - 1,  # the last row chooses one more
            self._sequence.context.room - 1,
            _until_next_step(self._steps, length),
        )
        if most <= 0:
            return ()
        if self._drafter is None:
            self._drafter = PromptDrafter([*self._sequence.tokens, token])
        return self._drafter.draft(most)


def _most_at_once(sequence: TokenSequence) -> int:
    """Tokens that can be computed beyond one and be forgotten again.

    None in a stream, whose sinks move with the text, or with a recurrent state, out of which nothing can be
    taken. Windows let a text be cut within the last micro-batch: what a cache has given up for its tokens was
    not seen by the first of them either.
    """
    context = sequence.context
    if not context.model.is_plain_transformer:
        return 0
    plan, _ = context.model.plan() or (None, False)
    if plan is not None and plan.streaming:
        return 0
    return min(context.n_outputs, context.n_ubatch, context.n_batch) - 1


def _schedule_lengths(sequence: TokenSequence) -> tuple[int, ...]:
    """Up to which lengths the steps of the plan's schedule are for, rising."""
    plan, _ = sequence.context.model.plan() or (None, False)
    return () if plan is None else tuple(step.up_to_length for step in plan.schedule[:-1])


def _until_next_step(steps: tuple[int, ...], length: int) -> int:
    """Tokens that may follow a text before the factors of another step would come into force.

    Keys are turned to a step's factors for good, and a guess must not do what the text does not.
    """
    ahead = [step - length for step in steps if step >= length]
    return min(ahead, default=MAX_DRAFT)
