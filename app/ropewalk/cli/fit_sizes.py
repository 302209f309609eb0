"""What fits: asked of the library in a process of its own, without weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ropewalk.backend.errors import LibraryNotPatchedError
from ropewalk.cli.failures import InputFileError
from ropewalk.cli.progress import Update
from ropewalk.engine import EngineError, EngineOptions
from ropewalk.engine import fit_report as report_module
from ropewalk.engine.codec import from_plain, to_plain
from ropewalk.engine.fit_report import FitReport
from ropewalk.wording.files import shortened
from ropewalk_convert.reporting_child import ReportingChild

_CHILD = Path(report_module.__file__).with_name("fit_child.py")


def measure_fit(
    path: Path, options: EngineOptions, n_ctx: int | None, kv_types: Sequence[str], update: Update
) -> FitReport:
    """Ask the library; whatever it does, this comes back.

    Args:
        path: the model.
        options: how it would be loaded; their length and KV type count for nothing.
        n_ctx: the context's length in tokens; None for the model's target length.
        kv_types: types of cached keys and values.
        update: told of the measuring.

    Raises:
        InputFileError: the model cannot be loaded.
        LibraryNotPatchedError: it needs the patched library, or one with RPC.
        EngineError: there is no answer.
    """
    request = {
        "path": str(path),
        "options": to_plain(options),
        "n_ctx": n_ctx,
        "kv_types": list(kv_types),
    }
    with ReportingChild(_CHILD, request) as child:
        for message in child.messages():
            if "fit" in message:
                return from_plain(FitReport, message["fit"])
            if "reason" in message:
                raise _error(str(message["reason"]), message["kind"])
            update(message["done"], message["of"])
        end = child.end()
    said = f" ({shortened(end.last_words)})" if end.last_words else ""
    raise EngineError(f"{path} could not be measured: the process that asks llama.cpp {end}{said}")


def _error(reason: str, kind: str) -> Exception:
    if kind == "patch":
        return LibraryNotPatchedError(reason)
    return InputFileError(reason) if kind == "file" else EngineError(reason)
