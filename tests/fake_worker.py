"""The work of a model process without a model: what `ropewalk.engine.worker.Worker` does, by rule.

What it is told to do, and what it notes, stands in `FakeRules`; the messages around it are the real ones.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Literal, NoReturn

import xxhash

from fake_sequence import FakeContext, FakeSequence
from fake_words import SIZE, START, FakeWords
from ropewalk.backend.errors import (
    BackendError,
    PlanRefusedError,
    PromptTooLongError,
    StateFileError,
    StoppedError,
)
from ropewalk.engine.errors import EngineError
from ropewalk.engine.options import EngineOptions
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
from ropewalk.engine.sampling import SamplingOptions
from ropewalk_plan.plan import ContextPlan

_BATCH = 64
_BLOCK_BYTES = 256
_BYTES_A_CELL = 16


LogProbability = Callable[[Sequence[int], int, "ContextPlan | None"], float]


def _by_repetition(tokens: Sequence[int], at: int, _plan: ContextPlan | None) -> float:
    """A token that came before is likely, another one is not."""
    return -0.5 if tokens[at] in tokens[:at] else -4.0


class FakeRules:
    """What a fake engine is told, and what it notes.

    Attributes:
        plan, native, train_length, template: of the model.
        respond: what it answers to a prompt.
        read_up_to, answer_up_to: tokens after which it stands still until `go_on`.
        load_error, prefill_error, state_error: what goes wrong.
        plan_error, resize_error, score_error: likewise, of another plan, another context and of scoring.
        log_probability: of the token at an index of a text, under a plan; of `KeyboardInterrupt`, Ctrl-C is
            pressed.
        identity: what a comparison with no plan comes to.
        drafts: tokens drafted and accepted in each answer that may be computed ahead.
        can_roll_back: whether part of a text can be forgotten.
        prefills, reserves, contexts, samplings, drafted, days, options: what was asked of it.
        used_plans, scored: likewise; of a text that was scored, the tokens held already and all.
        tokenized_characters: how much text was turned into tokens.
        words: its tokenizer.
        context: what it holds, once a model is loaded.
    """

    def __init__(
        self,
        *,
        plan: ContextPlan | None,
        native: bool,
        train_length: int,
        template: bool,
        respond: Callable[[str], str],
        read_up_to: int | None,
        answer_up_to: int | None,
        load_error: Exception | None,
        prefill_error: Exception | None,
        state_error: Exception | None,
        identity: IdentityResult | None,
        drafts: tuple[int, int],
        can_roll_back: bool,
    ) -> None:
        """Rules, and nothing noted."""
        self.plan, self.native, self.train_length = plan, native, train_length
        self.template, self.respond = template, respond
        self.read_up_to, self.answer_up_to = read_up_to, answer_up_to
        self.go_on = threading.Event()
        self.load_error, self.prefill_error, self.state_error = load_error, prefill_error, state_error
        self.identity, self.drafts, self.can_roll_back = identity, drafts, can_roll_back
        self.plan_error: Exception | None = None
        self.resize_error: Exception | None = None
        self.score_error: Exception | None = None
        self.log_probability: LogProbability = _by_repetition
        self.used_plans: list[ContextPlan | None] = []
        self.scored: list[tuple[int, int]] = []
        self.prefills: list[PrefillResult] = []
        self.reserves: list[int] = []
        self.contexts: list[int] = []
        self.samplings: list[SamplingOptions] = []
        self.drafted: list[int | None] = []
        self.days: list[date | None] = []
        self.options: EngineOptions | None = None
        self.tokenized_characters = 0
        self.words = FakeWords()
        self.context: FakeContext | None = None

    @property
    def held(self) -> list[int]:
        """The tokens of the first sequence."""
        return self.context.sequences[0].tokens if self.context is not None else []

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens as they are spelt."""
        return self.words.text_of(tokens)

    def words_of(self, tokens: Sequence[int]) -> list[str]:
        """What tokens stand for; what is no control token begins with `literal:`."""
        return self.words.words_of(tokens)


class FakeWorker:
    """A fake of `Worker`; see the module."""

    def __init__(
        self, rules: FakeRules, should_stop: Callable[[], bool], fail: Callable[[Exception], None]
    ) -> None:
        """A worker without a model.

        Args:
            rules: what to do.
            should_stop: whether the request in work is to be given up.
            fail: raises what an engine's error is in the model process, or ends it.
        """
        self._rules, self._should_stop, self._fail = rules, should_stop, fail
        self._path = Path()
        self._vocabulary_only = False
        self._other_plan: tuple[ContextPlan | None] | None = None

    def load(
        self, path: Path, options: EngineOptions, on_progress: Callable[[float], None]
    ) -> ModelDescription:
        self._rules.context = None
        self._vocabulary_only = False
        self._other_plan = None
        if self._rules.load_error is not None:
            self._fail(self._rules.load_error)
        for share in (0.5, 1.0):
            on_progress(share)
            if self._should_stop():
                raise StoppedError("loading was stopped")
        self._rules.options = options
        self._path = path
        if options.vocabulary_only:
            self._vocabulary_only = True
            return self._description(0)
        self._make_context(options.n_ctx)
        return self._description(options.n_ctx)

    def resize(self, n_ctx: int) -> ModelDescription:
        before = self._context()
        if self._rules.resize_error is not None:
            self._fail(self._rules.resize_error)
        context = self._make_context(n_ctx)
        for old, new in zip(before.sequences, context.sequences, strict=True):
            if len(old.cells) <= context.room:
                context.hold(new, old.tokens)
        return self._description(n_ctx)

    def use_plan(self, plan: ContextPlan | None, n_ctx: int | None) -> ModelDescription:
        before = self._context()
        for sequence in before.sequences:
            sequence.cells, sequence.was_read = [], False
        if self._rules.native:
            raise PlanRefusedError(f"the plan of {self._path} is native: use the file it was baked from")
        self._rules.used_plans.append(plan)
        if self._rules.plan_error is not None:
            self._fail(self._rules.plan_error)
        n_ctx = before.n_ctx if n_ctx is None else n_ctx
        if n_ctx < 1:
            raise BackendError(f"the context length is {n_ctx}: it must be at least 1")
        self._other_plan = (plan,)
        self._make_context(n_ctx)
        return self._description(n_ctx)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        words = self._words()
        self._rules.tokenized_characters += len(text)
        return words.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int]) -> str:
        return self._words().detokenize(tokens)

    def apply_template(self, messages: Sequence[tuple[str, str]], today: date | None) -> str | None:
        self._words()
        if not self._rules.template:
            return None
        self._rules.days.append(today)
        turns = "".join(f"<|{role}|>\n{content.strip()}<|end|>\n" for role, content in messages)
        return f"{START}{turns}<|assistant|>\n"

    def reusable(self, tokens: Sequence[int], sequence: int) -> int:
        return self._context().reusable(self._sequence(sequence), tokens)

    def prefill(
        self,
        tokens: Sequence[int],
        on_progress: Callable[[int, int], None],
        sequence: int,
        reserve: int = 0,
    ) -> PrefillResult:
        if self._rules.prefill_error is not None:
            self._fail(self._rules.prefill_error)
        self._rules.reserves.append(reserve)
        start = time.perf_counter()
        context, held = self._context(), self._sequence(sequence)
        kept = context.reusable(held, tokens)
        self._require_readable(tokens, kept, context.room_from(held, kept))
        del held.cells[kept:]
        held.was_read = False
        on_progress(kept, len(tokens))
        while len(held.cells) < len(tokens) and not self._should_stop():
            done = len(held.cells)
            if self._rules.read_up_to is not None and done >= self._rules.read_up_to:
                self._stand_still()
                continue
            context.hold(held, tokens[done : done + self._batch])
            on_progress(len(held.cells), len(tokens))
        held.was_read = len(held.cells) == len(tokens)
        result = PrefillResult(len(tokens), kept, time.perf_counter() - start, not held.was_read)
        self._rules.prefills.append(result)
        return result

    def score(
        self,
        tokens: Sequence[int],
        on_progress: Callable[[int, int], None],
        *,
        first: int,
        sequence: int,
        reserve: int,
    ) -> tuple[float, ...]:
        """By the rule `log_probability`, batch by batch."""
        context, held = self._context(), self._sequence(sequence)
        if not 1 <= first < len(tokens):
            raise BackendError(f"a text of {len(tokens):,} tokens has nothing to score from token {first} on")
        kept = min(context.reusable(held, tokens), first - 1)
        if kept < len(held.cells) and not context.can_roll_back:
            kept = 0
        self._require_readable(tokens, kept, context.room_from(held, kept))
        if self._rules.score_error is not None:
            self._fail(self._rules.score_error)
        self._rules.reserves.append(reserve)
        self._rules.scored.append((kept, len(tokens)))
        del held.cells[kept:]
        held.was_read = False
        on_progress(kept, len(tokens))
        while len(held.cells) < len(tokens):
            done = len(held.cells)
            if self._rules.read_up_to is not None and done >= self._rules.read_up_to:
                self._stand_still()
            if self._should_stop():
                raise StoppedError("scoring the text was stopped")
            end = done + self._batch if done >= first - 1 else min(done + self._batch, first - 1)
            context.hold(held, tokens[done:end])
            on_progress(len(held.cells), len(tokens))
        held.was_read = True
        rule = self._rules.log_probability
        try:
            return tuple(rule(tokens, at, self._plan) for at in range(first, len(tokens)))
        except KeyboardInterrupt:
            self._press_control_c()

    def generate(
        self,
        *,
        max_tokens: int,
        sampling: SamplingOptions,
        stop_at_eog: bool,
        draft: int | None,
        sequence: int,
        on_piece: Callable[[Piece], None],
    ) -> GenerationResult:
        start = time.perf_counter()
        context, held = self._context(), self._sequence(sequence)
        if not held.was_read:
            raise BackendError("there is nothing to go on from: read a prompt first, to its end")
        held.was_read = False
        self._rules.samplings.append(sampling)
        self._rules.drafted.append(draft)
        answer = self._answer_to(self.words.text_of(held.tokens))
        made: list[int] = []
        reason: Literal["stop", "length", "cancelled"] = "length" if max_tokens == 0 else "stop"
        for token in answer if stop_at_eog else itertools.cycle(answer):
            made.append(token)
            on_piece(Piece(self.words.text_of([token]), len(made)))
            if len(made) == max_tokens or context.room == 0:
                reason = "length"
                break
            if len(made) == self._rules.answer_up_to:
                self._stand_still()
            if self._should_stop():
                reason = "cancelled"
                break
            context.hold(held, [token])
        drafted, accepted = (0, 0) if draft == 0 else self._rules.drafts
        return GenerationResult(
            self.words.text_of(made),
            len(made),
            time.perf_counter() - start,
            reason,
            tuple(made),
            drafted,
            accepted,
        )

    def copy_sequence(self, source: int, target: int) -> int:
        read, written = self._sequence(source), self._sequence(target)
        written.cells, written.was_read = list(read.cells), read.was_read
        return len(written.cells)

    def drop_sequence(self, sequence: int) -> int:
        held = self._sequence(sequence)
        held.cells, held.was_read = [], False
        return 0

    def save_state(self, path: Path, sequence: int, on_progress: Callable[[float], None]) -> SavedState:
        held = self._sequence(sequence)
        if not held.cells:
            raise BackendError("there is nothing to save: read a text first")
        if self._rules.state_error is not None:
            self._fail(self._rules.state_error)
        data = json.dumps({"texts": self.words.words_of(held.tokens)}).encode()
        try:
            with path.open("xb") as file:
                file.write(data)
        except OSError as error:
            raise StateFileError(f"{path} cannot be written ({error.strerror})") from error
        try:
            self._tell(on_progress, 1.0)
        except BaseException:
            path.unlink()
            raise
        return SavedState(tuple(held.tokens), len(data), _BLOCK_BYTES, _checksums(data))

    def restore_state(
        self, path: Path, saved: SavedState, sequence: int, on_progress: Callable[[float], None]
    ) -> int:
        held = self._sequence(sequence)
        self.drop_sequence(sequence)
        self.words.require_valid(saved.tokens)
        context = self._context()
        if len(saved.tokens) > context.room:
            raise PromptTooLongError(
                f"what was saved has {len(saved.tokens):,} tokens and the context has room for "
                f"{context.room:,}: drop another text, or use a longer context"
            )
        if self._rules.state_error is not None:
            self._fail(self._rules.state_error)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StateFileError(f"{path} cannot be read ({error.strerror})") from error
        if len(data) != saved.n_bytes or _checksums(data) != saved.checksums:
            raise StateFileError(f"{path} is damaged: it is not what was written")
        if json.loads(data)["texts"] != self.words.words_of(saved.tokens):
            raise StateFileError(f"{path} does not hold the tokens it is said to")
        self._tell(on_progress, 1.0)
        context.hold(held, saved.tokens)
        return len(held.cells)

    def memory(self) -> MemoryUse:
        n_ctx = self._context().n_ctx
        return MemoryUse((DeviceMemory("CPU", 4000, n_ctx * _BYTES_A_CELL, 1000, 1 << 40),), None)

    def check_identity(self, tokens: Sequence[int]) -> IdentityResult:
        for number in range(len(self._context().sequences)):
            self.drop_sequence(number)
        if self._rules.identity is None:
            raise BackendError("the model has no plan to compare with none: choose another file")
        identity = self._rules.identity
        return IdentityResult(identity.max_difference, identity.bit_identical, len(tokens))

    @property
    def words(self) -> FakeWords:
        return self._rules.words

    @property
    def _plan(self) -> ContextPlan | None:
        return self._rules.plan if self._other_plan is None else self._other_plan[0]

    @property
    def _batch(self) -> int:
        options = self._rules.options
        return min(_BATCH, options.batch_size) if options is not None else _BATCH

    def _answer_to(self, prompt: str) -> list[int]:
        """A rule may raise what the owner is to get; of `KeyboardInterrupt`, Ctrl-C itself is pressed."""
        answer = ""
        try:
            answer = self._rules.respond(prompt)
        except EngineError as error:
            self._fail(error)
        except KeyboardInterrupt:
            self._press_control_c()
        return self.words.tokenize(answer, add_special=False, parse_special=False)

    def _press_control_c(self) -> NoReturn:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        self._stand_still()
        raise StoppedError("the request was stopped") from None

    def _stand_still(self) -> None:
        """Stands still until told to go on, or stopped; not for ever, so that a failing test ends."""
        until = time.monotonic() + 10
        while not self._rules.go_on.is_set() and not self._should_stop() and time.monotonic() < until:
            time.sleep(0.002)
        self._rules.read_up_to = self._rules.answer_up_to = None

    def _tell(self, on_progress: Callable[[float], None], share: float) -> None:
        on_progress(share)
        if self._should_stop():
            raise StoppedError("saving or restoring what was read was stopped")

    def _make_context(self, n_ctx: int) -> FakeContext:
        options = self._rules.options
        assert options is not None
        self._rules.contexts.append(n_ctx)
        context = FakeContext(n_ctx, options.n_sequences, self._rules.can_roll_back)
        self._rules.context = context
        return context

    def _words(self) -> FakeWords:
        if not self._vocabulary_only:
            self._context()
        return self.words

    def _context(self) -> FakeContext:
        if self._vocabulary_only:
            raise BackendError("only the vocabulary was loaded: load the whole model first")
        if self._rules.context is None:
            raise BackendError("no model is loaded: load one first")
        return self._rules.context

    def _sequence(self, number: int) -> FakeSequence:
        sequences = self._context().sequences
        if not 0 <= number < len(sequences):
            raise BackendError(
                f"there is no sequence {number}: the context was made for {len(sequences)}, from 0 on"
            )
        return sequences[number]

    def _require_readable(self, tokens: Sequence[int], kept: int, room: int) -> None:
        if not tokens:
            raise BackendError("the prompt has no tokens: give a text that is not empty")
        n_ctx = self._context().n_ctx
        if len(tokens) > n_ctx:
            raise PromptTooLongError(
                f"the prompt has {len(tokens):,} tokens and the context has room for {n_ctx:,}: "
                "shorten it, or use a longer context"
            )
        if len(tokens) > kept + room:
            raise PromptTooLongError(
                f"the prompt has {len(tokens):,} tokens and beside the other texts the context has room for "
                f"{kept + room:,}: drop one of them, shorten it, or use a longer context"
            )
        self.words.require_valid(tokens)

    def _description(self, n_ctx: int) -> ModelDescription:
        rules, plan = self._rules, self._plan
        return ModelDescription(
            path=self._path,
            architecture="llama",
            n_layer=2,
            n_params=1000,
            size_bytes=4000,
            train_length=rules.train_length,
            target_length=plan.target_length if plan else rules.train_length,
            vocab_size=SIZE,
            has_chat_template=rules.template,
            plan=plan,
            native=rules.native,
            n_ctx=n_ctx,
        )


def _checksums(data: bytes) -> tuple[str, ...]:
    blocks = (data[start : start + _BLOCK_BYTES] for start in range(0, len(data), _BLOCK_BYTES))
    return tuple(xxhash.xxh3_128(block).hexdigest() for block in blocks)
