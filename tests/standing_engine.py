"""An engine that holds tokens and no model, for what is done with its saved states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import xxhash

from ropewalk.engine import Engine, SavedState, StateRefused
from ropewalk.sessions.snapshot_key import SnapshotKey

OnShare = Callable[[float], None]
BYTES_PER_TOKEN = 100
BLOCK = 1000


class StandingEngine:
    """Saves and restores as the real one does: to a file, with checksums of its blocks.

    Attributes:
        held: the tokens of its only sequence.
        fails_with: what saving ends with, after half of the file.
    """

    def __init__(self, held: Sequence[int] = ()) -> None:
        self.held = list(held)
        self.fails_with: Exception | None = None

    @property
    def as_engine(self) -> Engine:
        """Itself, to whoever wants an engine."""
        return cast(Engine, self)

    def save_state(self, path: Path, on_progress: OnShare | None = None, *, sequence: int = 0) -> SavedState:
        data = state_of(self.held)
        told = on_progress or (lambda _share: None)
        with path.open("xb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            told(0.5)
            if self.fails_with is not None:
                path.unlink()
                raise self.fails_with
            file.write(data[len(data) // 2 :])
        told(1.0)
        return SavedState(tuple(self.held), len(data), BLOCK, _checksums(data))

    def restore_state(
        self, path: Path, saved: SavedState, on_progress: OnShare | None = None, *, sequence: int = 0
    ) -> int:
        self.held = []
        with path.open("rb") as file:
            if on_progress is not None:
                on_progress(0.5)
            data = file.read()
        if len(data) != saved.n_bytes or _checksums(data) != saved.checksums:
            raise StateRefused(f"{path} is damaged")
        assert data == state_of(saved.tokens), "another text's state was taken for this one's"
        self.held = list(saved.tokens)
        return len(self.held)


def key(**changes: str | int) -> SnapshotKey:
    """A key, with changes."""
    values: dict[str, str | int] = {
        "model": "m" * 32,
        "plan": "none",
        "kv_type": "f16",
        "flash_attention": "auto",
        "step": 0,
        "library": "test",
        "model_name": "tiny.gguf",
    }
    return SnapshotKey(**(values | changes))  # type: ignore[arg-type]


def state_of(tokens: Sequence[int]) -> bytes:
    """What stands for a text's keys and values."""
    return np.random.default_rng(list(tokens)).bytes(BYTES_PER_TOKEN * len(tokens))


def _checksums(data: bytes) -> tuple[str, ...]:
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    return tuple(xxhash.xxh3_128_hexdigest(block) for block in blocks)
