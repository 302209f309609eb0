"""`Engine`: a model in a process of its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ropewalk.engine.answer import Generation
from ropewalk.engine.exchange import Exchange, out_of_turn
from ropewalk.engine.messages import (
    UNSENT,
    ApplyTemplate,
    CheckIdentity,
    CopySequence,
    CountReusable,
    Detokenize,
    DropSequence,
    Event,
    Generate,
    IdentityChecked,
    Load,
    Loaded,
    LoadProgress,
    MeasureMemory,
    MemoryMeasured,
    Prefill,
    Prefilled,
    PrefillProgress,
    Request,
    Resize,
    RestoreState,
    SaveState,
    Score,
    Scored,
    StateProgress,
    StateSaved,
    Templated,
    Text,
    Tokenize,
    Tokens,
    TokensHeld,
    UsePlan,
)
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.patience import DEFAULT_PATIENCE, Patience
from ropewalk.engine.process import ModelProcess
from ropewalk.engine.results import IdentityResult, MemoryUse, ModelDescription, PrefillResult, SavedState
from ropewalk.engine.sampling import GREEDY, SamplingOptions
from ropewalk_plan.plan import ContextPlan

Answer = TypeVar("Answer", bound=Event)
ShareProgress = Callable[[float], None]
TokenProgress = Callable[[int, int], None]


class Engine:
    """One model process with at most one loaded model; a context manager.

    The context holds `EngineOptions.n_sequences` texts, numbered from 0. Requests are made from one thread at
    a time (others get `EngineBusy`); `cancel` and `close` may be called from any. Where the process dies,
    whoever waits gets `EngineDied`, and so does every later call; where it hangs, `EngineTimeout`. Ctrl-C
    during a request cancels it and is raised again, with the engine still usable. An engine that is dropped
    without being closed takes its process with it.
    """

    def __init__(self, process: ModelProcess, exchange: Exchange) -> None:
        """Wraps a started process; use `start`."""
        self._process = process
        self._exchange = exchange
        self._model: ModelDescription | None = None
        self._n_sequences = 1
        weakref.finalize(self, exchange.abandon).atexit = False  # at its own end, closed pipes say the same

    @classmethod
    def start(cls, patience: Patience = DEFAULT_PATIENCE) -> Engine:
        """Starts the process.

        Args:
            patience: how long to wait for signs of it.

        Raises:
            EngineDied: it ended at once.
            EngineTimeout: it did not come up.
        """
        process = ModelProcess()
        exchange: Exchange | None = None
        try:
            exchange = Exchange(process, patience)
            exchange.await_hello()
        except BaseException:
            process.kill("was not needed any more")
            (exchange or process).close()
            raise
        return cls(process, exchange)

    @property
    def model(self) -> ModelDescription | None:
        """The loaded model."""
        return self._model

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def load(
        self, model: Path, options: EngineOptions, on_progress: ShareProgress | None = None
    ) -> ModelDescription:
        """Loads a model, in place of any other, and makes its context.

        Args:
            model: a GGUF file.
            options: how.
            on_progress: told the share loaded, 0 to 1.

        Raises:
            ModelLoadError: the file cannot be loaded, or its plan is refused.
            LibraryNotPatched: its plan needs the patched library.
            DoesNotFitError: not enough memory.
            Cancelled: by `cancel`.
            EngineError: options that do not go together.
        """
        self._model = None
        self._process.rpc_servers = options.rpc_servers
        self._n_sequences = options.n_sequences
        request = Load(UNSENT, model.absolute(), options)
        self._model = self._follow(request, Loaded, on_progress).model
        return self._model

    def resize(self, n_ctx: int) -> ModelDescription:
        """Makes the context again for `n_ctx` tokens; the weights stay, and what was read, where it fits.

        Raises:
            DoesNotFitError: not enough memory; the context is as it was.
        """
        self._model = self._exchange.ask(Resize(UNSENT, n_ctx), Loaded).model
        return self._model

    def use_plan(self, plan: ContextPlan | None, n_ctx: int | None = None) -> ModelDescription:
        """Executes another plan on the loaded weights: the context is made again, and empty.

        Args:
            plan: any for this model; None for none, so that a file with a plan runs as the plain model.
            n_ctx: tokens the new context must hold; None for as many as the old one.

        Raises:
            ModelLoadError: the library refuses the plan, or the file's own plan is native, so that its RoPE
                keys are changed already. Then, and with the errors below, the old plan and context stay, and
                the context is empty.
            LibraryNotPatched: plans need the patched library.
            DoesNotFitError: not enough memory.
            EngineError: it does not go with the other options.
        """
        self._model = self._exchange.ask(UsePlan(UNSENT, plan, n_ctx), Loaded).model
        return self._model

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Tokens of a text.

        Args:
            text: anything.
            add_special: put the start (and end) token where the model wants one.
            parse_special: read `<|im_end|>` and the like as the control tokens they spell.
        """
        request = Tokenize(UNSENT, text, add_special, parse_special)
        return list(self._exchange.ask(request, Tokens).tokens)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens left out; bytes that make no character become U+FFFD.

        Raises:
            EngineError: one is no token of the model.
        """
        return self._exchange.ask(Detokenize(UNSENT, tuple(tokens)), Text).text

    def apply_template(self, messages: Sequence[tuple[str, str]], today: date | None = None) -> str | None:
        """The prompt that the model's chat template makes of (role, content) messages.

        It ends with the assistant's opening and is to be tokenized with `parse_special`. Some templates
        write the start token, which `tokenize` then must not add a second time.

        Args:
            messages: roles and contents.
            today: the day that the template is told; the present one where None.

        Returns:
            None where the model has no chat template.

        Raises:
            ChatTemplateError: the template does not accept the messages, or takes too much.
            Cancelled: by `cancel`.
        """
        given = tuple((role, content) for role, content in messages)
        return self._exchange.ask(ApplyTemplate(UNSENT, given, today), Templated).text

    def reusable(self, tokens: Sequence[int], *, sequence: int = 0) -> int:
        """How many of these tokens a `prefill` would keep, by what the sequence holds and can go back to.

        The last token never counts: its logits are needed. Under windows of several sizes it may keep more.
        """
        request = CountReusable(UNSENT, tuple(tokens), sequence)
        return self._exchange.ask(request, TokensHeld).count

    def prefill(
        self,
        tokens: Sequence[int],
        on_progress: TokenProgress | None = None,
        *,
        sequence: int = 0,
        reserve: int = 0,
    ) -> PrefillResult:
        """Makes a sequence hold exactly these tokens, going on from the longest prefix it holds already.

        Args:
            tokens: the whole prompt.
            on_progress: told the tokens held and all tokens, at the beginning and after each batch.
            sequence: which one.
            reserve: tokens that the text is to have in the end. Where frequencies depend on the length (a
                schedule), those for so many are used from the first token on, as they would be if all of it
                were read at once.

        Returns:
            With `cancelled` set where `cancel` stopped it; what was read is kept, and a later call goes on.

        Raises:
            PromptTooLong: they do not fit into the context, beside the other sequences.
            EngineError: there are none, or one is no token of the model.
        """
        request = Prefill(UNSENT, tuple(tokens), sequence, reserve)
        return self._read(request, Prefilled, on_progress).result

    def score(
        self,
        tokens: Sequence[int],
        on_progress: TokenProgress | None = None,
        *,
        first: int = 1,
        sequence: int = 0,
        reserve: int = 0,
    ) -> tuple[float, ...]:
        """How likely each token of a text is, given all before it.

        The sequence goes on from the longest prefix it holds that ends before `first`, and holds all tokens
        afterwards. `EngineOptions.n_scored` says how many are computed at once.

        Args:
            tokens: the text.
            on_progress: told the tokens held and all tokens, at the beginning and after each batch.
            first: index of the first token that is wanted; 1 or more, as nothing stands before the first.
            sequence: which one.
            reserve: see `prefill`.

        Returns:
            Natural log-probabilities (a log-softmax in float64) of `tokens[first:]`.

        Raises:
            PromptTooLong: they do not fit into the context, beside the other sequences.
            Cancelled: by `cancel`; what was read is kept.
            EngineError: there is none to score, or one is no token of the model.
        """
        request = Score(UNSENT, tuple(tokens), first, sequence, reserve)
        return self._read(request, Scored, on_progress).log_probabilities

    def generate(
        self,
        max_tokens: int,
        sampling: SamplingOptions = GREEDY,
        stop_at_eog: bool = True,
        *,
        sequence: int = 0,
        draft: int | None = None,
    ) -> Generation:
        """Answers the prompt read last; nothing is computed before the first piece is asked for.

        Args:
            max_tokens: the longest answer.
            sampling: how tokens are chosen.
            stop_at_eog: end at the model's own end tokens.
            sequence: whose prompt.
            draft: most tokens computed ahead at once, copied from the text; 0 for none, None for the default.
        """
        request = Generate(UNSENT, max_tokens, sampling, stop_at_eog, draft=draft, sequence=sequence)
        return Generation(self._events_of(request))

    def copy_sequence(self, source: int, target: int) -> int:
        """Makes a sequence hold what another one does; what it held before is forgotten.

        The copy takes no room in the context until one of the two goes on.

        Returns:
            The tokens that the target holds then.
        """
        return self._exchange.ask(CopySequence(UNSENT, source, target), TokensHeld).count

    def drop_sequence(self, sequence: int) -> None:
        """Forgets what a sequence holds."""
        self._exchange.ask(DropSequence(UNSENT, sequence), TokensHeld)

    def drop_all_sequences(self) -> None:
        """Forgets what every sequence holds."""
        for sequence in range(self._n_sequences):
            self.drop_sequence(sequence)

    def save_state(
        self, path: Path, on_progress: ShareProgress | None = None, *, sequence: int = 0
    ) -> SavedState:
        """Has the process write the keys and values of a sequence to a file, which must not exist.

        Under windows a context's only sequence goes on from the file itself, bit for bit as what is restored
        from it; it can go back no further than its end then.

        Args:
            path: the file.
            on_progress: told the share done, 0 to 1.
            sequence: which one.

        Returns:
            What is needed to read it back.

        Raises:
            StateRefused: it cannot be written; nothing is left of it.
            Cancelled: by `cancel`; likewise.
            EngineError: the sequence is empty.
        """
        request = SaveState(UNSENT, path.absolute(), sequence)
        return self._follow(request, StateSaved, on_progress).saved

    def restore_state(
        self, path: Path, saved: SavedState, on_progress: ShareProgress | None = None, *, sequence: int = 0
    ) -> int:
        """Makes a sequence hold what a file says, in place of what it held.

        Args:
            path: the file.
            saved: what `save_state` said of it.
            on_progress: told the share done, 0 to 1.
            sequence: which one.

        Returns:
            The tokens that it holds then.

        Raises:
            StateRefused: the file is damaged, or the library does not take it; the sequence is then empty.
            PromptTooLong: the context has no room for it; likewise.
            Cancelled: by `cancel`; likewise.
        """
        request = RestoreState(UNSENT, path.absolute(), saved, sequence)
        return self._follow(request, TokensHeld, on_progress).count

    def memory(self) -> MemoryUse:
        """What the process takes, by device."""
        return self._exchange.ask(MeasureMemory(UNSENT), MemoryMeasured).use

    def check_identity(self, tokens: Sequence[int]) -> IdentityResult:
        """Compares all logits of a text under the file's plan with those under none; empties the context.

        Raises:
            LibraryNotPatched: this needs the patched library.
            Cancelled: by `cancel`.
            EngineError: the model has no plan, or a native one.
        """
        request = CheckIdentity(UNSENT, tuple(tokens))
        return self._exchange.ask(request, IdentityChecked).result

    def cancel(self) -> None:
        """Stops the request that is running, if any, within a micro-batch."""
        self._exchange.cancel()

    def close(self) -> None:
        """Ends the process, whatever it does; harmless when repeated."""
        self._exchange.close()

    def __enter__(self) -> Engine:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def _events_of(self, request: Request) -> Generator[Event, None, None]:
        """The events of a request; who holds these holds the engine."""
        yield from self._exchange.stream(request)

    def _read(self, request: Request, answer: type[Answer], on_progress: TokenProgress | None) -> Answer:
        """The final event of a request that tells how many tokens of a text are held."""
        with closing(self._exchange.stream(request)) as events:
            for event in events:
                if isinstance(event, PrefillProgress) and on_progress is not None:
                    on_progress(event.done, event.total)
                if isinstance(event, answer):
                    return event
        raise out_of_turn(request)

    def _follow(self, request: Request, answer: type[Answer], on_progress: ShareProgress | None) -> Answer:
        """The final event of a request that tells which share of it is done."""
        with closing(self._exchange.stream(request)) as events:
            for event in events:
                if isinstance(event, (LoadProgress, StateProgress)) and on_progress is not None:
                    on_progress(event.share)
                if isinstance(event, answer):
                    return event
        raise out_of_turn(request)
