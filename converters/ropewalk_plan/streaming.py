"""How a streaming plan's window moves: in blocks, so that nothing depends on how many tokens come at once.

Symbols: w the window, n the sinks, B the block, all in tokens. For a query at p in block b = p // B, sink j
is turned as if it stood at j + max(0, b B - w + 1 - n): just before the window, where that was when the
block began. So the window's distances reach w - 1, and the sinks' at most w + n + B - 2.
"""

from __future__ import annotations

from collections.abc import Sequence

_MOST = 256
_SHARE = 8


def stream_block(windows: Sequence[int]) -> int:
    """B: an eighth of the narrowest window, from 1 to 256 tokens; as the patched library has it."""
    return min(_MOST, max(1, min(windows) // _SHARE))


def widest_stream_window(length: int, sinks: int) -> int:
    """The largest w for which w + n + B is at most `length`; 0 where there is none."""
    room = length - sinks
    fitting = (w for w in range(room - 1, room - _MOST - 1, -1) if w > 0 and w + stream_block([w]) <= room)
    return next(fitting, 0)
