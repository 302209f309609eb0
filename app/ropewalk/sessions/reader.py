"""Reading a prompt at the least cost: what the context holds, what a snapshot holds, and only then anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ropewalk.engine import Cancelled, Engine, EngineOptions, ModelDescription, PrefillResult
from ropewalk.sessions.room import context_for
from ropewalk.sessions.snapshot_key import SnapshotKey, snapshot_key
from ropewalk.sessions.snapshot_shelf import BOUNDARY_TOKENS, SnapshotShelf
from ropewalk_plan import GgufError

_SPARE_TOKENS = 2048
"""Room made for the conversation beyond what it needs now, so that the context is seldom made anew."""

_WORTH_RESTORING = 256
"""Tokens that a snapshot must spare."""

_WORTH_KEEPING = 1024
"""Tokens that must have been computed for a snapshot to be made of them."""


def _ignore(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class ReadProgress:
    """Who is told how reading goes.

    Attributes:
        tokens: tokens of the prompt that are read, and all of them.
        restoring: the share of a snapshot that is back in memory.
        keeping: the share of a snapshot that is on disk.
    """

    tokens: Callable[[int, int], None] = _ignore
    restoring: Callable[[float], None] = _ignore
    keeping: Callable[[float], None] = _ignore


@dataclass(frozen=True)
class ReadResult:
    """How a prompt was read.

    Attributes:
        prompt_tokens: tokens of the prompt.
        cached_tokens: how many of them were not computed: held already, or restored.
        restored_tokens: how many of these came from a snapshot.
        seconds: from the tokens' arrival to the logits of the last one, restoring included; keeping a
            snapshot is not.
        cancelled: whether it was stopped; what had been read by then stays usable.
    """

    prompt_tokens: int
    cached_tokens: int
    restored_tokens: int
    seconds: float
    cancelled: bool = False

    @property
    def computed_tokens(self) -> int:
        """Tokens that were computed; all the rest, where reading was stopped."""
        return self.prompt_tokens - self.cached_tokens


class Reader:
    """Reads prompts into sequence 0 of an engine with a loaded model.

    `cancel` may come from another thread and ends `read` early; so does one that came since `begin`.
    """

    def __init__(
        self,
        engine: Engine,
        model: ModelDescription,
        options: EngineOptions,
        shelf: SnapshotShelf | None = None,
    ) -> None:
        """A reader.

        Args:
            engine: has the model loaded, with these options.
            model: what it is.
            options: how it was loaded.
            shelf: where snapshots are; None to take and make none.
        """
        self._engine = engine
        self._model = model
        self._options = options
        self._shelf = shelf
        self._cancelled = False

    def begin(self) -> None:
        """Forget that something was cancelled: something new begins."""
        self._cancelled = False

    def read(
        self,
        tokens: list[int],
        room: int,
        progress: ReadProgress,
        *,
        document_tokens: int = 0,
        title: str = "",
    ) -> ReadResult:
        """Read a prompt, so that an answer can follow.

        Args:
            tokens: all of it.
            room: tokens that may follow.
            progress: told how it goes.
            document_tokens: how many tokens, from the first, every question on the document begins with: a
                snapshot is made a few tokens before these end; 0 for none.
            title: what to call the snapshot.

        Raises:
            EngineError: the engine fails; the memory does not suffice, for one.
        """
        self._make_room(len(tokens) + room)
        start = time.perf_counter()
        cached, restored = self._begin_with(tokens, len(tokens) + room, progress)
        boundary = document_tokens - BOUNDARY_TOKENS
        keeping = 0.0
        if self._shelf is not None and boundary - cached >= _WORTH_KEEPING and not self._cancelled:
            self._prefill(tokens[:boundary], len(tokens) + room, progress, total=len(tokens))
            if not self._cancelled:
                keeping = self._keep(tokens[:boundary], title, len(tokens) + room, progress)
        if self._cancelled:
            return ReadResult(len(tokens), cached, restored, time.perf_counter() - start - keeping, True)
        read = self._prefill(tokens, len(tokens) + room, progress, total=len(tokens))
        seconds = time.perf_counter() - start - keeping
        return ReadResult(len(tokens), cached, restored, seconds, read.cancelled)

    def cancel(self) -> None:
        """End reading; safe from any thread."""
        self._cancelled = True
        self._engine.cancel()

    def _make_room(self, needed: int) -> None:
        if context_for(needed) > self._model.n_ctx:
            spare = context_for(needed + _SPARE_TOKENS)
            if not self._model.streams:
                spare = min(spare, context_for(self._model.target_length))
            self._model = self._engine.resize(max(context_for(needed), spare))

    def _prefill(
        self, tokens: list[int], length: int, progress: ReadProgress, *, total: int
    ) -> PrefillResult:
        """Compute tokens, with the factors for a text of so many in all."""
        result = self._engine.prefill(tokens, lambda done, _: progress.tokens(done, total), reserve=length)
        self._cancelled = self._cancelled or result.cancelled
        return result

    def _begin_with(self, tokens: list[int], length: int, progress: ReadProgress) -> tuple[int, int]:
        """Take a snapshot where it spares enough; returns tokens known, and how many of them by it."""
        held = self._engine.reusable(tokens)
        if self._shelf is None or len(tokens) - held < _WORTH_RESTORING:
            return held, 0
        key = self._key(length)
        snapshot = None if key is None else self._shelf.best(key, tokens, n_ctx=self._model.n_ctx)
        if snapshot is None or snapshot.common - held < _WORTH_RESTORING or self._cancelled:
            return held, 0
        try:
            restored = self._shelf.restore(self._engine, snapshot, progress.restoring)
        except Cancelled:
            self._cancelled = True
            return 0, 0
        known = self._engine.reusable(tokens)
        return known, known if restored else 0

    def _keep(self, tokens: list[int], title: str, length: int, progress: ReadProgress) -> float:
        """Make a snapshot of what is held; returns the seconds it took."""
        assert self._shelf is not None
        start = time.perf_counter()
        key = self._key(length)
        if key is not None:
            try:
                self._shelf.put(self._engine, key, title, progress.keeping, tokens=tokens)
            except Cancelled:
                self._cancelled = True
        return time.perf_counter() - start

    def _key(self, length: int) -> SnapshotKey | None:
        """What snapshots must have been made with; None where the model's file is not there any more."""
        try:
            return snapshot_key(self._model, self._options, length)
        except (GgufError, OSError):
            return None
