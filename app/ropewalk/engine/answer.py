"""An answer as it comes."""

from __future__ import annotations

from collections.abc import Generator

from ropewalk.engine.errors import EngineError
from ropewalk.engine.messages import Event, Generated, PieceMade
from ropewalk.engine.results import GenerationResult, Piece


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
