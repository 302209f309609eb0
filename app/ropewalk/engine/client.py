"""`Engine`: a model in a process of its own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from ropewalk.engine.connection import Connection, ConnectionLost
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
)
from ropewalk.engine.messages import (
    ApplyTemplate,
    Cancel,
    CheckIdentity,
    Event,
    Failed,
    FailureKind,
    Generate,
    Generated,
    Hello,
    IdentityChecked,
    Load,
    Loaded,
    LoadProgress,
    PieceMade,
    Prefill,
    Prefilled,
    PrefillProgress,
    Request,
    Resize,
    Shutdown,
    Templated,
    Tokenize,
    Tokens,
)
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.process import ModelProcess
from ropewalk.engine.results import (
    GenerationResult,
    IdentityResult,
    ModelDescription,
    Piece,
    PrefillResult,
)
from ropewalk.engine.sampling import GREEDY, SamplingOptions

_START_SECONDS = 120.0
_SETTLE_SECONDS = 60.0
"""Within which a cancelled request must end: a micro-batch on a slow machine."""

Answer = TypeVar("Answer", bound=Event)

_ERRORS: dict[FailureKind, type[EngineError]] = {
    "model": ModelLoadError,
    "not_patched": LibraryNotPatched,
    "prompt_too_long": PromptTooLong,
    "template": ChatTemplateError,
    "cancelled": Cancelled,
    "request": EngineError,
    "internal": EngineError,
}


class Generation:
    """An answer as it comes: an iterator of pieces.

    When it is closed or dropped before its end, generation is cancelled; what was generated stays usable.
    """

    def __init__(self, events: Generator[Event, None, None]) -> None:
        """Wraps the events of a `Generate` request; `Engine.generate` makes these."""
        self._events = events
        self._result: GenerationResult | None = None

    def __iter__(self) -> Generation:
        """Itself."""
        return self

    def __next__(self) -> Piece:
        """The next piece, as soon as it is there."""
        for event in self._events:
            if isinstance(event, PieceMade):
                return event.piece
            if isinstance(event, Generated):
                self._result = event.result
        raise StopIteration

    @property
    def result(self) -> GenerationResult:
        """The whole answer, once all pieces were read.

        Raises:
            EngineError: they were not.
        """
        if self._result is None:
            raise EngineError("the answer is not at its end: read all of its pieces first")
        return self._result

    def close(self) -> None:
        """Cancels what is left; harmless at the end."""
        self._events.close()


class Engine:
    """One model process with at most one loaded model; a context manager.

    Requests are made from one thread at a time (others get `EngineBusy`); `cancel` and `close` may be
    called from any. Where the process dies, whoever waits gets `EngineDied`, and so does every later call.
    Ctrl-C during a request cancels it and is raised again, with the engine still usable.
    """

    def __init__(self, process: ModelProcess, connection: Connection) -> None:
        """Wraps a started process; use `start`."""
        self._process = process
        self._connection = connection
        self._ids = itertools.count(1)
        self._idle = threading.Lock()
        self._current: int | None = None
        self._closed = False
        self._model: ModelDescription | None = None

    @classmethod
    def start(cls) -> Engine:
        """Starts the process.

        Raises:
            EngineDied: it ended at once.
            EngineTimeout: it did not come up.
        """
        process = ModelProcess()
        try:
            connection = Connection(
                process.requests, process.events, lambda why: process.kill(f"said what is no message: {why}")
            )
            engine = cls(process, connection)
            engine._await_hello()
        except BaseException:
            process.kill("was not needed any more")
            process.close()
            raise
        return engine

    @property
    def model(self) -> ModelDescription | None:
        """The loaded model."""
        return self._model

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def load(
        self, model: Path, options: EngineOptions, on_progress: Callable[[float], None] | None = None
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
        request = Load(next(self._ids), model.absolute(), options)
        with closing(self._exchange(request)) as events:
            for event in events:
                if isinstance(event, LoadProgress) and on_progress is not None:
                    on_progress(event.share)
                if isinstance(event, Loaded):
                    self._model = event.model
        return self._described()

    def resize(self, n_ctx: int) -> ModelDescription:
        """Makes the context again for `n_ctx` tokens; the weights stay, and what was read, where it fits.

        Raises:
            DoesNotFitError: not enough memory; the context is as it was.
        """
        self._model = self._ask(Resize(next(self._ids), n_ctx), Loaded).model
        return self._described()

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Tokens of a text.

        Args:
            text: anything.
            add_special: put the start (and end) token where the model wants one.
            parse_special: read `<|im_end|>` and the like as the control tokens they spell.
        """
        request = Tokenize(next(self._ids), text, add_special, parse_special)
        return list(self._ask(request, Tokens).tokens)

    def apply_template(self, messages: Sequence[tuple[str, str]]) -> str | None:
        """The prompt that the model's chat template makes of (role, content) messages.

        It ends with the assistant's opening and is to be tokenized with `parse_special`. Some templates
        write the start token, which `tokenize` then must not add a second time.

        Returns:
            None where the model has no chat template.

        Raises:
            ChatTemplateError: the template does not accept the messages.
        """
        request = ApplyTemplate(next(self._ids), tuple((role, content) for role, content in messages))
        return self._ask(request, Templated).text

    def prefill(
        self, tokens: Sequence[int], on_progress: Callable[[int, int], None] | None = None
    ) -> PrefillResult:
        """Makes the context hold exactly these tokens, going on from the longest prefix it holds already.

        Args:
            tokens: the whole prompt.
            on_progress: told the tokens held and all tokens, at the beginning and after each batch.

        Returns:
            With `cancelled` set where `cancel` stopped it; what was read is kept, and a later call goes on.

        Raises:
            PromptTooLong: they do not fit into the context.
            EngineError: there are none, or one is no token of the model.
        """
        request = Prefill(next(self._ids), tuple(tokens))
        result: PrefillResult | None = None
        with closing(self._exchange(request)) as events:
            for event in events:
                if isinstance(event, PrefillProgress) and on_progress is not None:
                    on_progress(event.done, event.total)
                if isinstance(event, Prefilled):
                    result = event.result
        if result is None:
            raise self._out_of_turn(request)
        return result

    def generate(
        self, max_tokens: int, sampling: SamplingOptions = GREEDY, stop_at_eog: bool = True
    ) -> Generation:
        """Answers the prompt read last; nothing is computed before the first piece is asked for.

        Args:
            max_tokens: the longest answer.
            sampling: how tokens are chosen.
            stop_at_eog: end at the model's own end tokens.
        """
        request = Generate(next(self._ids), max_tokens, sampling, stop_at_eog)
        return Generation(self._exchange(request))

    def check_identity(self, tokens: Sequence[int]) -> IdentityResult:
        """Compares all logits of a text under the file's plan with those under none; empties the context.

        Raises:
            LibraryNotPatched: this needs the patched library.
            Cancelled: by `cancel`.
            EngineError: the model has no plan, or a native one.
        """
        return self._ask(CheckIdentity(next(self._ids), tuple(tokens)), IdentityChecked).result

    def cancel(self) -> None:
        """Stops the request that is running, if any, within a micro-batch (on a GPU: a batch)."""
        current = self._current
        if current is not None:
            self._connection.send(Cancel(current))

    def close(self) -> None:
        """Ends the process, whatever it does; harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._connection.send(Shutdown(next(self._ids)))
            self._connection.close()
            self._process.close()

    def __enter__(self) -> Engine:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()

    def _await_hello(self) -> None:
        try:
            event = self._connection.receive(_START_SECONDS)
        except TimeoutError:
            raise EngineTimeout(
                f"the model process did not come up within {_START_SECONDS:.0f} seconds: try again"
            ) from None
        except ConnectionLost:
            raise self._process.death() from None
        if not isinstance(event, Hello):
            raise EngineError("the model process did not introduce itself: reinstall ropewalk")

    def _ask(self, request: Request, answer: type[Answer]) -> Answer:
        """The final event of a request that has no others."""
        with closing(self._exchange(request)) as events:
            for event in events:
                if isinstance(event, answer):
                    return event
        raise self._out_of_turn(request)

    def _exchange(self, request: Request) -> Generator[Event, None, None]:
        """Sends a request and yields its events to the final one; cancels it where the caller stops before.

        Raises:
            EngineError: what the process reports, as the error it stands for.
        """
        if not self._idle.acquire(blocking=False):
            raise EngineBusy("the engine is at work: wait for the other request, or cancel it")
        try:
            self._current = request.id
            self._connection.send(request)
            finished = False
            try:
                while not finished:
                    event = self._next_event(request.id)
                    finished = event.final
                    if isinstance(event, Failed):
                        raise _error(event)
                    yield event
            except EngineDied:
                finished = True
                raise
            finally:
                if not finished:
                    self._settle(request.id)
        finally:
            self._current = None
            self._idle.release()

    def _next_event(self, request_id: int) -> Event:
        """The next event of a request; what an abandoned one left behind is dropped."""
        while True:
            try:
                event = self._connection.receive()
            except ConnectionLost:
                if self._closed:
                    raise EngineDied("was closed") from None
                raise self._process.death() from None
            if event.id == request_id:
                return event

    def _settle(self, request_id: int) -> None:
        """Cancels a request that nobody waits for any more, and waits until it has ended."""
        try:
            self._connection.send(Cancel(request_id))
            if not self._connection.wait_until_finished(request_id, _SETTLE_SECONDS):
                self._process.kill("did not react to being cancelled")
        except BaseException:  # Ctrl-C a second time
            self._process.kill("was stopped in the middle of its work")
            raise

    def _described(self) -> ModelDescription:
        if self._model is None:
            raise EngineError("no model is loaded: load one first")
        return self._model

    def _out_of_turn(self, request: Request) -> EngineError:
        return EngineError(f"the model process gave no proper answer to {type(request).__name__}: restart it")


def _error(event: Failed) -> EngineError:
    if event.memory is not None:
        numbers = event.memory
        return DoesNotFitError(
            event.message, needed=numbers.needed, free=numbers.free, largest_n_ctx=numbers.largest_n_ctx
        )
    return _ERRORS[event.kind](event.message)
