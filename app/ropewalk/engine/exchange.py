"""Requests and their answers: one at a time, each to its final event, with an eye on the process."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Generator
from contextlib import closing
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
    StateRefused,
)
from ropewalk.engine.messages import (
    UNSENT,
    Cancel,
    Event,
    Failed,
    FailureKind,
    Hello,
    Request,
    Shutdown,
)
from ropewalk.engine.patience import Patience, Watch
from ropewalk.engine.process import ModelProcess

_SETTLE_SECONDS = 60.0
"""Within which a cancelled request must end: a micro-batch on a slow machine."""

Answer = TypeVar("Answer", bound=Event)

_ERRORS: dict[FailureKind, type[EngineError]] = {
    "model": ModelLoadError,
    "not_patched": LibraryNotPatched,
    "prompt_too_long": PromptTooLong,
    "template": ChatTemplateError,
    "state": StateRefused,
    "cancelled": Cancelled,
    "request": EngineError,
    "internal": EngineError,
}


class Exchange:
    """What is said to a model process, and what it answers.

    Requests are made from one thread at a time; `cancel` and `close` may be called from any.
    """

    def __init__(self, process: ModelProcess, patience: Patience) -> None:
        """Begins to listen to a started process."""
        self._process = process
        self._patience = patience
        self._connection = Connection(
            process.requests, process.events, lambda why: process.kill(f"said what is no message: {why}")
        )
        self._ids = itertools.count(1)
        self._idle = threading.Lock()
        self._current: int | None = None
        self._closed = False

    def await_hello(self) -> None:
        """Waits until the process has come up.

        Raises:
            EngineDied: it ended at once.
            EngineTimeout: it did not come up.
        """
        try:
            event = self._connection.receive(self._patience.start_seconds)
        except TimeoutError:
            reason = f"did not come up within {self._patience.start_seconds:g} seconds and was ended"
            raise self._timed_out(reason) from None
        except ConnectionLost:
            raise self._process.death() from None
        if not isinstance(event, Hello):
            raise EngineError("the model process did not introduce itself: reinstall ropewalk")

    def ask(self, request: Request, answer: type[Answer]) -> Answer:
        """The final event of a request; others are passed over."""
        with closing(self.stream(request)) as events:
            for event in events:
                if isinstance(event, answer):
                    return event
        raise out_of_turn(request)

    def stream(self, request: Request) -> Generator[Event, None, None]:
        """Sends a request and yields its events to the final one; cancels it where the caller stops before.

        Args:
            request: `UNSENT`; it gets its number when it is sent, so that numbers rise in that order.

        Raises:
            EngineError: what the process reports, as the error it stands for.
        """
        if not self._idle.acquire(blocking=False):
            raise EngineBusy("the engine is at work: wait for the other request, or cancel it")
        number, thread, finished = next(self._ids), threading.get_ident(), False
        try:
            try:
                self._current = number
                self._connection.send(dataclasses.replace(request, id=number))
                while not finished:
                    thread = threading.get_ident()
                    event = self._next_event(number)
                    finished = event.final
                    if isinstance(event, Failed):
                        raise _error(event)
                    yield event
            except EngineDied:
                finished = True
                raise
            finally:
                if not finished:
                    self._settle(number, may_wait=threading.get_ident() == thread)
        finally:
            self._current = None
            self._idle.release()

    def cancel(self) -> None:
        """Tells the process to stop the request that is running, if any."""
        current = self._current
        if current is not None:
            self._connection.send(Cancel(current))

    def close(self) -> None:
        """Ends the process, whatever it does; harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._say_goodbye()
            self._process.close()

    def abandon(self) -> None:
        """Lets the process end by itself, without waiting for it: nobody wants it any more."""
        if not self._closed:
            self._closed = True
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._connection.send(Shutdown(UNSENT))
        self._connection.close()

    def _next_event(self, request_id: int) -> Event:
        """The next event of a request; what an abandoned one left behind is dropped."""
        watch = Watch(self._patience, self._connection.signs)
        while True:
            try:
                event = self._connection.receive(self._patience.slice_seconds)
            except TimeoutError:
                if reason := watch.waited(self._connection.signs):
                    raise self._timed_out(reason) from None
                continue
            except ConnectionLost:
                if self._closed:
                    raise EngineDied("was closed") from None
                raise self._process.death() from None
            if event.id == request_id:
                return event

    def _settle(self, request_id: int, *, may_wait: bool) -> None:
        """Cancels a request that nobody waits for any more, and waits until it has ended.

        Where garbage is collected in another thread, that may be one of those which carry the messages: it
        must not wait for them. The next request waits in the process then.
        """
        watch, waited = Watch(self._patience, self._connection.signs), 0.0
        try:
            self._connection.send(Cancel(request_id))
            while may_wait and not self._connection.wait_until_finished(
                request_id, self._patience.slice_seconds
            ):
                waited += self._patience.slice_seconds
                reason = watch.waited(self._connection.signs)
                if reason or waited >= _SETTLE_SECONDS:
                    self._process.kill(reason or "did not react to being cancelled")
                    return
        except BaseException:  # Ctrl-C a second time
            self._process.kill("was stopped in the middle of its work")
            raise

    def _timed_out(self, reason: str) -> EngineTimeout:
        self._process.kill(reason)
        died = self._process.death()
        return EngineTimeout(reason, died.log)


def out_of_turn(request: Request) -> EngineError:
    """The error of a request whose final event is of the wrong kind."""
    return EngineError(f"the model process gave no proper answer to {type(request).__name__}: restart it")


def _error(event: Failed) -> EngineError:
    if event.memory is not None:
        numbers = event.memory
        return DoesNotFitError(
            event.message, needed=numbers.needed, free=numbers.free, largest_n_ctx=numbers.largest_n_ctx
        )
    return _ERRORS[event.kind](event.message)
