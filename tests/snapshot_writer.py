"""A process that puts a text on a shelf, slowly enough to be met in the middle: `FOLDER TEXTS SECONDS`.

Prints a line when it begins, and the id of each text when it is kept. Each takes twice so many seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from ropewalk.engine import SavedState
from ropewalk.sessions.snapshot_shelf import SnapshotShelf
from standing_engine import StandingEngine, key

TEXTS = [list(range(start, start + 300)) for start in (0, 1000, 2000)]


class _Slow(StandingEngine):
    def save_state(
        self, path: Path, on_progress: Callable[[float], None] | None = None, *, sequence: int = 0
    ) -> SavedState:
        def told(share: float) -> None:
            time.sleep(float(sys.argv[3]))
            if on_progress is not None:
                on_progress(share)

        return super().save_state(path, told, sequence=sequence)


def main() -> None:
    """Puts the texts that are asked for, in an order of its own."""
    folder, texts = Path(sys.argv[1]), [TEXTS[int(number)] for number in sys.argv[2]]
    print("begun", flush=True)
    shelf = SnapshotShelf(folder, 10**9, lambda sentence: print(sentence, flush=True))
    for text in texts:
        snapshot = shelf.put(_Slow(text).as_engine, key(), "a text")
        print("None" if snapshot is None else snapshot.id, flush=True)


if __name__ == "__main__":
    main()
