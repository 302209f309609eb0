"""Reading a prompt at the least cost: what the context holds, what a snapshot holds, and only then anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ropewalk.engine import (
    Cancelled,
    DoesNotFitError,
    Engine,
    EngineOptions,
    ModelDescription,
    PrefillResult,
)
from ropewalk.sessions.fingerprint import ModelFingerprint, model_fingerprint
from ropewalk.sessions.room import context_for
from ropewalk.sessions.snapshot_key import SnapshotKey, snapshot_key
from ropewalk.sessions.snapshot_shelf import BOUNDARY_TOKENS, SnapshotShelf
from ropewalk_plan import GgufError

_SPARE_TOKENS = 2048
"""Room made for the conversation beyond what it needs now, so that the context is seldom made anew."""

_WORTH_RESTORING = 256
"""Tokens that a snapshot must spare."""

_WORTH_KEEPING = 1024
"""Tokens that a snapshot must spare beyond those that another one does."""

_UNKNOWN = ModelFingerprint("", 0)
"""Of a model whose snapshots are not asked for."""


def _ignore(*_: object) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class ReadProgress:
    """Who is told how reading goes.

    Attributes:
        tokens: tokens of the prompt that are read, and all of them.
        restoring: the share of a snapshot that is back in memory.
        keeping: the share of a snapshot that is on disk.
        noticed: told in a sentence what could not be kept or used, where a session tells of it.
    """

    tokens: Callable[[int, int], None] = _ignore
    restoring: Callable[[float], None] = _ignore
    keeping: Callable[[float], None] = _ignore
    noticed: Callable[[str], None] = _ignore


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

    Factors that depend on the length (a schedule) are those of a fresh reading: what was read with those of a
    longer text is read again for a shorter one. Where a conversation outgrows its factors, what was read is
    turned to the next ones, which is not quite what reading it anew would give; no snapshot is made of that.

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
            engine: has just loaded the model, with these options.
            model: what it is.
            options: how it was loaded.
            shelf: where snapshots are; None to take and make none.
        """
        self._engine = engine
        self._model = model
        self._options = options
        # once: another file may be there by the time the next text is read
        self._fingerprint = _fingerprint(model.path)
        self._shelf = None if self._fingerprint is None else shelf
        # the library turns keys to another step of a plan, but not to a file's own long factors
        self._can_turn = model.plan is not None and not model.native
        self._in_force = 0  # the step whose factors what is held was read with
        self._turned = False
        self._cancelled = False

    @classmethod
    def load(
        cls,
        engine: Engine,
        model: Path,
        options: EngineOptions,
        on_progress: Callable[[float], None],
        shelf: SnapshotShelf | None = None,
    ) -> Reader:
        """Load a model and make its reader; of a file that changes meanwhile there are no snapshots.

        Args:
            engine: loads it.
            model: a GGUF file.
            options: how.
            on_progress: told the share loaded, 0 to 1.
            shelf: where snapshots are; None to take and make none.

        Raises:
            EngineError: it cannot be loaded.
        """
        before = _fingerprint(model)
        reader = cls(engine, engine.load(model, options, on_progress), options, shelf)
        if reader._fingerprint != before:
            reader._shelf = None
        return reader

    @property
    def model(self) -> ModelDescription:
        """What is loaded, in the context there is."""
        return self._model

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called since `begin`."""
        return self._cancelled

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
        reserve: int = 0,
    ) -> ReadResult:
        """Read a prompt, so that an answer can follow.

        Args:
            tokens: all of it.
            room: tokens that may follow.
            progress: told how it goes.
            document_tokens: how many tokens, from the first, every question on the document begins with: a
                snapshot is made a few tokens before these end; 0 for none.
            title: what to call the snapshot.
            reserve: tokens that other prompts of the same document may need in all: each is then read with
                the factors for so many.

        Raises:
            EngineError: the engine fails; the memory does not suffice, for one.
        """
        needed = len(tokens) + room
        self._make_room(needed)
        length = max(needed, reserve)
        start = time.perf_counter()
        boundary = min(document_tokens, len(tokens)) - BOUNDARY_TOKENS
        begun = self._begin_with(tokens, length, boundary, progress)
        keeping = 0.0
        if self._is_worth_keeping(boundary, begun):
            # a windowed text that ends there already could not be gone back in, for its last token's logits
            if begun.known < boundary or self._key(length).rolls_back:
                read = self._prefill(tokens[:boundary], length, progress, total=len(tokens))
                begun = begun.computed_from(read)
            if not self._cancelled:
                keeping = self._keep(tokens[:boundary], title, length, progress)
        if not self._cancelled:
            read = self._prefill(tokens, length, progress, total=len(tokens))
            if not keeping:
                begun = begun.computed_from(read)
        seconds = time.perf_counter() - start - keeping
        return ReadResult(len(tokens), begun.known, begun.restored, seconds, self._cancelled)

    def cancel(self) -> None:
        """End reading; safe from any thread."""
        self._cancelled = True
        self._engine.cancel()

    def _make_room(self, needed: int) -> None:
        """Make the context longer where it is too short, with room to spare where there is memory for it."""
        if context_for(needed) <= self._model.n_ctx:
            return
        spare = context_for(needed + _SPARE_TOKENS)
        if not self._model.streams:
            spare = min(spare, context_for(self._model.target_length))
        spare = max(context_for(needed), spare)
        try:
            self._model = self._engine.resize(spare)
        except DoesNotFitError:
            if spare == context_for(needed):
                raise
            self._model = self._engine.resize(context_for(needed))

    def _prefill(
        self, tokens: list[int], length: int, progress: ReadProgress, *, total: int
    ) -> PrefillResult:
        """Compute tokens, with the factors for a text of so many in all."""

        def told(done: int, _: int) -> None:
            self._cancel_again()
            progress.tokens(done, total)

        result = self._engine.prefill(tokens, told, reserve=length)
        self._cancelled = self._cancelled or result.cancelled
        if result.cached_tokens == 0:
            self._turned = False
        return result

    def _begin_with(self, tokens: list[int], length: int, boundary: int, progress: ReadProgress) -> _Begun:
        """Take a snapshot where it spares enough."""
        step = self._key(length).step
        if step < self._in_force or (step > self._in_force and not self._can_turn):
            self._engine.drop_sequence(0)
            self._in_force, self._turned = step, False
        held = self._engine.reusable(tokens)
        rises = held > 0 and step > self._in_force
        worth = 0 if rises else held  # what is held would have to be turned
        snapshot = None
        if self._shelf is not None and (len(tokens) - worth >= _WORTH_RESTORING or held <= boundary):
            snapshot = self._shelf.best(self._key(length), tokens, n_ctx=self._model.n_ctx)
        kept = 0 if snapshot is None else snapshot.common
        if self._shelf is None or snapshot is None or kept - worth < _WORTH_RESTORING or self._cancelled:
            self._in_force, self._turned = step, held > 0 and (self._turned or rises)
            return _Begun(held, 0, kept)
        try:
            restored = self._shelf.restore(self._engine, snapshot, self._share(progress.restoring))
        except Cancelled:
            self._cancelled = True
            restored = 0
        known = self._engine.reusable(tokens)
        self._in_force, self._turned = step, known > 0 and not restored and (self._turned or rises)
        return _Begun(known, known, kept) if restored else _Begun(known, 0, 0)

    def _is_worth_keeping(self, boundary: int, begun: _Begun) -> bool:
        """Whether a snapshot is to be made on the way: not where reading is past its end already."""
        return (
            self._shelf is not None
            and begun.known <= boundary
            and boundary - begun.kept >= _WORTH_KEEPING
            and not self._turned
            and not self._cancelled
        )

    def _keep(self, tokens: list[int], title: str, length: int, progress: ReadProgress) -> float:
        """Make a snapshot of what is held; returns the seconds it took."""
        assert self._shelf is not None
        start = time.perf_counter()
        try:
            share = self._share(progress.keeping)
            self._shelf.put(self._engine, self._key(length), title, share, tokens=tokens)
        except Cancelled:
            self._cancelled = True
        return time.perf_counter() - start

    def _share(self, told: Callable[[float], None]) -> Callable[[float], None]:
        def tell(share: float) -> None:
            self._cancel_again()
            told(share)

        return tell

    def _cancel_again(self) -> None:
        """For a `cancel` that came before the engine's request."""
        if self._cancelled:
            self._engine.cancel()

    def _key(self, length: int) -> SnapshotKey:
        """What a text of this length is read with."""
        return snapshot_key(self._model, self._options, length, self._fingerprint or _UNKNOWN)


@dataclass(frozen=True)
class _Begun:
    """Where reading begins.

    Attributes:
        known: tokens that need not be computed.
        restored: how many of them came from a snapshot.
        kept: tokens that a snapshot has.
    """

    known: int
    restored: int
    kept: int

    def computed_from(self, read: PrefillResult) -> _Begun:
        """The same, where less could be used after all."""
        known = min(self.known, read.cached_tokens)
        return _Begun(known, min(self.restored, known), self.kept)


def _fingerprint(model: Path) -> ModelFingerprint | None:
    """What model it is; None where the file is not there any more."""
    try:
        return model_fingerprint(model)
    except (GgufError, OSError):
        return None
