"""Where everything that outlives a checkout is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """The user's cache directory for ropewalk.

    The same as `platformdirs.user_cache_dir("ropewalk")` on Linux and macOS (a test compares the two);
    platformdirs itself is not installed yet when set-up starts. A value of XDG_CACHE_HOME that is not an
    absolute path counts for nothing, as the XDG base directory specification says.
    """
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ropewalk"
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".cache"
    return base / "ropewalk"
