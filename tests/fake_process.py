"""A model process that is none: the real server of the real messages, in a thread, over real pipes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from fake_worker import FakeRules, FakeWorker
from ropewalk.backend import errors as backend
from ropewalk.engine import errors
from ropewalk.engine.child import Server
from ropewalk.engine.process import ModelProcess

if TYPE_CHECKING:  # it loads the native library
    from ropewalk.engine.worker import Worker

_JOIN_SECONDS = 5.0

_AS_RAISED_BY_THE_WORKER: tuple[tuple[type[Exception], type[backend.BackendError]], ...] = (
    (errors.ModelLoadError, backend.ModelFileError),
    (errors.LibraryNotPatched, backend.LibraryNotPatchedError),
    (errors.PromptTooLong, backend.PromptTooLongError),
    (errors.ChatTemplateError, backend.TemplateError),
    (errors.StateRefused, backend.StateFileError),
    (errors.Cancelled, backend.StoppedError),
)


class _Outgoing:
    """A pipe's writing end that can be closed while another thread writes."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._lock = threading.Lock()

    def write(self, data: memoryview) -> int:
        with self._lock:
            if self._file.closed:
                raise BrokenPipeError
            return self._file.write(data)

    def close(self) -> None:
        with self._lock:
            self._file.close()


class FakeProcess(ModelProcess):
    """Looks like a process from outside: pipes, an end, a reason for it."""

    def __init__(self, rules: FakeRules) -> None:
        """Starts the thread."""
        self.rpc_servers = ()
        incoming, requests = os.pipe()
        events, outgoing = os.pipe()
        self._requests: IO[bytes] = os.fdopen(requests, "wb", buffering=0)
        self._events: IO[bytes] = os.fdopen(events, "rb", buffering=0)
        self._outgoing = _Outgoing(outgoing)
        self._killed = threading.Event()
        self._death: errors.EngineDied | None = None
        self._rules = rules
        # closed by the server's thread that reads it, once the owner has closed its end
        self._incoming = os.fdopen(incoming, "rb")
        self._server = Server(
            self._incoming, cast(BinaryIO, self._outgoing), self._make_worker, lambda code: self._leave()
        )
        self._thread = threading.Thread(target=self._serve, name="fake model process", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def requests(self) -> IO[bytes]:
        return self._requests

    @property
    def events(self) -> IO[bytes]:
        return self._events

    def kill(self, because: str) -> None:
        self._die(errors.EngineDied(because))

    def death(self) -> errors.EngineDied:
        return self._death or errors.EngineDied("ended with exit code 0")

    def close(self) -> None:
        self._thread.join(_JOIN_SECONDS)
        assert not self._thread.is_alive(), "the fake process does not end"

    def _serve(self) -> None:
        try:
            self._server.run()
        finally:
            self._end()

    def _leave(self) -> None:
        """What a thread of the server does last; the one that reads the requests closes what it reads."""
        self._end()
        if threading.current_thread().name == "requests":
            self._incoming.close()

    def _end(self) -> None:
        self._killed.set()
        self._outgoing.close()

    def _die(self, death: errors.EngineDied) -> None:
        if self._thread.is_alive():
            self._death = self._death or death
            self._end()

    def _make_worker(self, should_stop: Callable[[], bool]) -> Worker:
        worker = FakeWorker(self._rules, lambda: should_stop() or self._killed.is_set(), self._fail)
        return cast("Worker", worker)

    def _fail(self, error: Exception) -> None:
        """Raises what the worker would have raised where the owner gets `error`."""
        if isinstance(error, errors.EngineDied):
            self._die(error)
            raise backend.BackendError("nobody hears this any more")
        if isinstance(error, errors.DoesNotFitError):
            raise backend.MemoryShortageError(
                str(error), needed=error.needed, free=error.free, largest_n_ctx=error.largest_n_ctx
            )
        for theirs, ours in _AS_RAISED_BY_THE_WORKER:
            if isinstance(error, theirs):
                raise ours(str(error))
        if isinstance(error, errors.EngineError):
            raise backend.BackendError(str(error))
        raise error
