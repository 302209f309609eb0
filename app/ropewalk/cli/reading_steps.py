"""Reading a prompt, shown as steps of a progress report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ropewalk.cli.progress import Measure, ProgressReport, Tokens, Update
from ropewalk.sessions import ReadProgress
from ropewalk.wording.terminal import without_control

_RESTORING, _READING, _KEEPING = "restoring", "reading", "keeping a snapshot of"


@contextmanager
def reading_steps(progress: ProgressReport, name: str) -> Iterator[ReadProgress]:
    """What to give a reader, so that each thing it does is a step while the block runs.

    Args:
        progress: shows them.
        name: what is read.
    """
    with ExitStack() as stack:
        steps = _Steps(progress, name, stack)
        yield ReadProgress(steps.tokens, steps.restoring, steps.keeping)


class _Steps:
    def __init__(self, progress: ProgressReport, name: str, stack: ExitStack) -> None:
        self._progress, self._name, self._stack = progress, without_control(name), stack
        self._current: tuple[str, Update] | None = None

    def tokens(self, done: int, total: int) -> None:
        """Tokens read, and all of them."""
        self._at(_READING, Tokens())(done, total)

    def restoring(self, share: float) -> None:
        """The share of a snapshot that is back."""
        self._at(_RESTORING, Measure())(share, 1.0)

    def keeping(self, share: float) -> None:
        """The share of a snapshot that is on disk."""
        self._at(_KEEPING, Measure())(share, 1.0)

    def _at(self, what: str, measure: Measure) -> Update:
        """The step of this kind, begun where it is not the one that runs."""
        if self._current is None or self._current[0] != what:
            self._stack.close()
            step = self._progress.step(f"{what} {self._name}", measure)
            self._current = what, self._stack.enter_context(step)
        return self._current[1]
