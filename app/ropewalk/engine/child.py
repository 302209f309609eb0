"""The model process: `python -m ropewalk.engine.child`, spoken to over its stdin and stdout.

Both are put aside at once and replaced, so that neither a stray print nor native code can get between
the messages. The process ends when its stdin does: it never outlives its owner.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO

from ropewalk.backend import errors
from ropewalk.engine.messages import (
    ApplyTemplate,
    Cancel,
    CheckIdentity,
    CopySequence,
    CountReusable,
    Detokenize,
    DropSequence,
    Event,
    Failed,
    FailureKind,
    Generate,
    Generated,
    Heartbeat,
    Hello,
    IdentityChecked,
    Load,
    Loaded,
    LoadProgress,
    MeasureMemory,
    MemoryMeasured,
    MemoryNumbers,
    MessageError,
    PieceMade,
    Prefill,
    Prefilled,
    PrefillProgress,
    Request,
    Resize,
    RestoreState,
    SaveState,
    Score,
    Scored,
    Shutdown,
    StateProgress,
    StateSaved,
    Templated,
    Text,
    Tokenize,
    Tokens,
    TokensHeld,
    UsePlan,
    decode,
    encode,
)
from ropewalk.engine.pulse import Pulse

if TYPE_CHECKING:
    from ropewalk.engine.worker import Worker

EXIT_BAD_MESSAGE = 70


class Cancellation:
    """Which requests are to be stopped. Ids rise, and one request runs at a time."""

    def __init__(self) -> None:
        """Nothing is cancelled."""
        self._cancelled_up_to = 0
        self._current = 0

    def begin(self, request_id: int) -> None:
        """A request is taken up."""
        self._current = request_id

    def cancel(self, request_id: int) -> None:
        """A request, and all before it, are to be stopped."""
        self._cancelled_up_to = max(self._cancelled_up_to, request_id)

    def cancel_all(self) -> None:
        """Whatever comes is to be stopped."""
        self._cancelled_up_to = sys.maxsize

    def requested(self) -> bool:
        """Whether the request in work is to be stopped."""
        return self._current <= self._cancelled_up_to


def main() -> None:
    """Serves requests until stdin ends or a `Shutdown` comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's business
    incoming, outgoing = _take_standard_streams()
    Server(incoming, outgoing, _make_worker, os._exit).run()


def _make_worker(should_stop: Callable[[], bool]) -> Worker:
    from ropewalk.backend import library, native_log  # noqa: PLC0415  # slow: after listening to stdin
    from ropewalk.engine.worker import Worker  # noqa: PLC0415

    library.initialize()
    native_log.LOG.echo_errors = True
    return Worker(should_stop)


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of stdin and stdout; what is left reads nothing and writes to stderr."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


class Server:
    """Answers requests, one at a time, as they come."""

    def __init__(
        self,
        incoming: BinaryIO,
        outgoing: BinaryIO,
        make_worker: Callable[[Callable[[], bool]], Worker],
        leave: Callable[[int], object],
    ) -> None:
        """A server that has not begun.

        Args:
            incoming: what requests are read from.
            outgoing: what events are written to; unbuffered.
            make_worker: makes what does the work, once requests are listened to; told what to ask whether the
                request in work is to be given up.
            leave: ends the process with an exit code, whatever is in work.
        """
        self._incoming = incoming
        self._outgoing = outgoing
        self._make_worker = make_worker
        self._leave = leave
        self._sending = threading.Lock()
        self._requests: SimpleQueue[Request] = SimpleQueue()
        self._cancellation = Cancellation()
        self._in_work: int | None = None
        self._pulse = Pulse(self._tell_pulse)

    def run(self) -> None:
        """Serves until a `Shutdown` comes."""
        threading.Thread(target=self._receive, name="requests", daemon=True).start()
        worker = self._make_worker(self._should_stop)
        self._send(Hello(0, os.getpid()))
        while not isinstance(request := self._requests.get(), Shutdown):
            self._cancellation.begin(request.id)
            self._in_work = request.id
            self._pulse.begin()
            self._send(self._answer(worker, request))
            self._pulse.end()
        self._pulse.close()

    def _should_stop(self) -> bool:
        """Asked wherever the work can be given up, which is a sign that it goes on."""
        self._pulse.beat()
        return self._cancellation.requested()

    def _receive(self) -> None:
        """Takes requests as they come, so that a cancellation is seen while one is in work."""
        try:
            for line in self._incoming:
                message = decode(line)
                if isinstance(message, Cancel):
                    self._cancellation.cancel(message.id)
                elif isinstance(message, Request):
                    if isinstance(message, Shutdown):
                        self._cancellation.cancel_all()
                    self._requests.put(message)
        except MessageError as error:
            print(f"bad request: {error}", file=sys.stderr, flush=True)
            self._leave(EXIT_BAD_MESSAGE)
        else:
            self._leave(0)  # the owner is gone: nobody waits for what may be running

    def _send(self, event: Event) -> None:
        line = encode(event)
        with self._sending:
            self._pulse.beat()
            if event.final:
                self._in_work = None  # no sign of life may follow
            self._write(line)

    def _tell_pulse(self, count: int) -> None:
        with self._sending:
            if self._in_work is not None:
                self._write(encode(Heartbeat(self._in_work, count)))

    def _write(self, line: bytes) -> None:
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._outgoing.write(rest) :]
        except OSError:
            self._leave(0)  # as above

    def _answer(self, worker: Worker, request: Request) -> Event:
        try:
            return self._perform(worker, request)
        except Exception as error:
            return _failure(request.id, error)

    def _perform(self, worker: Worker, request: Request) -> Event:
        number = request.id
        match request:
            case Load():
                return Loaded(
                    number,
                    worker.load(
                        request.path, request.options, lambda share: self._send(LoadProgress(number, share))
                    ),
                )
            case Resize():
                return Loaded(number, worker.resize(request.n_ctx))
            case UsePlan():
                return Loaded(number, worker.use_plan(request.plan, request.n_ctx))
            case Tokenize():
                tokens = worker.tokenize(
                    request.text, add_special=request.add_special, parse_special=request.parse_special
                )
                return Tokens(number, tuple(tokens))
            case ApplyTemplate():
                return Templated(number, worker.apply_template(request.messages, request.today))
            case Detokenize():
                return Text(number, worker.detokenize(request.tokens))
            case CountReusable():
                return TokensHeld(number, worker.reusable(request.tokens, request.sequence))
            case Prefill():
                return Prefilled(
                    number,
                    worker.prefill(
                        request.tokens,
                        lambda done, total: self._send(PrefillProgress(number, done, total)),
                        request.sequence,
                        request.reserve,
                    ),
                )
            case Score():
                return Scored(
                    number,
                    worker.score(
                        request.tokens,
                        lambda done, total: self._send(PrefillProgress(number, done, total)),
                        first=request.first,
                        sequence=request.sequence,
                        reserve=request.reserve,
                    ),
                )
            case Generate():
                return Generated(
                    number,
                    worker.generate(
                        max_tokens=request.max_tokens,
                        sampling=request.sampling,
                        stop_at_eog=request.stop_at_eog,
                        draft=request.draft,
                        sequence=request.sequence,
                        on_piece=lambda piece: self._send(PieceMade(number, piece)),
                    ),
                )
            case CopySequence():
                return TokensHeld(number, worker.copy_sequence(request.source, request.target))
            case DropSequence():
                return TokensHeld(number, worker.drop_sequence(request.sequence))
            case SaveState():
                return StateSaved(
                    number,
                    worker.save_state(
                        request.path,
                        request.sequence,
                        lambda share: self._send(StateProgress(number, share)),
                    ),
                )
            case RestoreState():
                return TokensHeld(
                    number,
                    worker.restore_state(
                        request.path,
                        request.saved,
                        request.sequence,
                        lambda share: self._send(StateProgress(number, share)),
                    ),
                )
            case MeasureMemory():
                return MemoryMeasured(number, worker.memory())
            case CheckIdentity():
                return IdentityChecked(number, worker.check_identity(request.tokens))
            case _:
                raise TypeError(f"no answer to {type(request).__name__}")


def _failure(number: int, error: Exception) -> Failed:
    """The event that reports an error; what is no error for people goes to stderr in full, too."""
    if isinstance(error, errors.MemoryShortageError):
        numbers = MemoryNumbers(error.needed, error.free, error.largest_n_ctx)
        return Failed(number, "memory", str(error), numbers)
    kinds: tuple[tuple[type[Exception], FailureKind], ...] = (
        (errors.LibraryNotPatchedError, "not_patched"),
        (errors.ModelFileError, "model"),
        (errors.PlanRefusedError, "model"),
        (errors.TemplateError, "template"),
        (errors.StateFileError, "state"),
        (errors.StoppedError, "cancelled"),
        (errors.PromptTooLongError, "prompt_too_long"),
        (errors.ContextFullError, "prompt_too_long"),
        (errors.BackendError, "request"),
    )
    for kind_of_error, kind in kinds:
        if isinstance(error, kind_of_error):
            return Failed(number, kind, str(error))
    traceback.print_exception(error)
    return Failed(number, "internal", f"internal error, please report it: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
