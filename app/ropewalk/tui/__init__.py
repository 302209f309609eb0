"""The full-screen terminal application."""

from ropewalk.tui.app import ChatApp
from ropewalk.tui.opening import Opening

__all__ = ["ChatApp", "Opening"]
