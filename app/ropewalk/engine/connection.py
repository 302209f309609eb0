"""Messages to and from the model process, by a thread each.

Signals interrupt the main thread only, and at any moment: were it to read and write itself, Ctrl-C could
leave half a line in a pipe or lose one.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import IO, cast

from ropewalk.engine.messages import Event, Heartbeat, MessageError, Request, decode, encode
from ropewalk.engine.patience import Signs

_BUFFER_BYTES = 1 << 20


class ConnectionLost(Exception):
    """The other side is gone."""


class Connection:
    """Requests out, events in."""

    def __init__(self, requests: IO[bytes], events: IO[bytes], on_garbage: Callable[[str], None]) -> None:
        """Starts both threads.

        Args:
            requests: what requests are written to.
            events: what events are read from.
            on_garbage: told when something is read that is no event; nothing more is read then.
        """
        self._requests = requests
        self._events = events
        self._on_garbage = on_garbage
        self._outbox: SimpleQueue[Request | None] = SimpleQueue()
        self._inbox: SimpleQueue[Event | None] = SimpleQueue()
        self._finished_up_to = 0
        self._heard = self._moved = self._count = 0
        self._lost = False
        self._changed = threading.Condition()
        for target, name in ((self._write, "model requests"), (self._read, "model events")):
            threading.Thread(target=target, name=name, daemon=True).start()

    @property
    def signs(self) -> Signs:
        """What has come from the other side by now."""
        return Signs(self._heard, self._moved)

    def send(self, request: Request) -> None:
        """Queues a request; never waits, and may be called from any thread."""
        self._outbox.put(request)

    def receive(self, timeout: float | None = None) -> Event:
        """The next event.

        Raises:
            ConnectionLost: there will be none.
            TimeoutError: none came in time.
        """
        try:
            event = self._inbox.get(timeout=timeout)
        except Empty:
            raise TimeoutError from None
        if event is None:
            self._inbox.put(None)  # for whoever asks next
            raise ConnectionLost
        return event

    def wait_until_finished(self, request_id: int, timeout: float) -> bool:
        """Waits for a request's final event without taking it; whether it came, or the process is gone."""
        with self._changed:
            return self._changed.wait_for(lambda: self._lost or self._finished_up_to >= request_id, timeout)

    def close(self) -> None:
        """Lets the writing end go once all that is queued is written."""
        self._outbox.put(None)

    def _write(self) -> None:
        try:
            with self._requests:
                while (request := self._outbox.get()) is not None:
                    rest = memoryview(encode(request))
                    while rest:
                        rest = rest[self._requests.write(rest) :]
        except OSError:
            return  # the process is gone, which the reading thread finds out

    def _read(self) -> None:
        try:
            # an unbuffered pipe would be read byte by byte
            with io.BufferedReader(cast(io.RawIOBase, self._events), _BUFFER_BYTES) as lines:
                for line in lines:
                    self._take(decode(line))
        except (MessageError, OSError) as error:
            self._on_garbage(str(error))
        with self._changed:
            self._lost = True
            self._changed.notify_all()
        self._inbox.put(None)

    def _take(self, message: object) -> None:
        if not isinstance(message, Event):
            raise MessageError(f"a {type(message).__name__} is no event")
        self._heard += 1
        if isinstance(message, Heartbeat):
            self._moved += message.count != self._count
            self._count = message.count
            return
        self._moved += 1
        self._inbox.put(message)
        if message.final:
            with self._changed:
                self._finished_up_to = max(self._finished_up_to, message.id)
                self._changed.notify_all()
