"""Which versions of what are installed."""

from __future__ import annotations

from importlib import metadata


def version_of(distribution: str) -> str:
    """The installed version of a distribution, or a word where it is not installed as one."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "(not installed)"
