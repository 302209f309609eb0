"""One sentence about what went wrong, for any error a person can meet."""

from __future__ import annotations

_OURS = ("ropewalk", "ropewalk_plan", "ropewalk_convert")


def sentence(error: BaseException) -> str:
    """What to tell a person about an error: one line, no type name where the error is a known one.

    Errors of this project carry a sentence of their own. An `OSError` is put together from what the
    system says and the file it is about. Anything else is a defect of ours and is called one.
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror[0].lower()}{error.strerror[1:]}."
    if isinstance(error, MemoryError):
        return "The memory is used up: close other programs, or use a shorter text or a smaller model."
    if type(error).__module__.split(".")[0] in _OURS:
        return _ended(one_line(str(error)))
    return _ended(f"Internal error, please report it: {type(error).__name__}: {one_line(str(error))}")


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def one_line(text: str) -> str:
    """A message on one line, whatever line breaks it had."""
    return " ".join(text.split())
