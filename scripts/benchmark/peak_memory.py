"""How much memory this process has held at most."""

from __future__ import annotations

import resource
import sys


def peak_bytes() -> int:
    """The largest resident size until now, the model's pages included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, kilobytes elsewhere
