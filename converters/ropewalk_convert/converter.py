"""A checkpoint to a GGUF file, by llama.cpp's own converter in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from ropewalk_convert.converter_failures import FailureKind
from ropewalk_convert.errors import (
    BakeError,
    ConverterError,
    ExtraMissingError,
    SourceError,
    SpaceError,
    TargetError,
)
from ropewalk_convert.reporting_child import ChildEnd, ReportingChild
from ropewalk_convert.upstream_source import check_extra_installed, converter_folder

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0")
"""The types that upstream's converter writes; auto is the 16-bit type nearest to the checkpoint's own."""

_CHILD = Path(__file__).with_name("converter_child.py")

_LOG = logging.getLogger(__name__)

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

_ERRORS: dict[FailureKind, type[BakeError]] = {
    "source": SourceError,
    "space": SpaceError,
    "target": TargetError,
    "memory": SpaceError,
    "extra": ExtraMissingError,
    "converter": ConverterError,
}


def convert_checkpoint(
    folder: Path,
    out: Path,
    *,
    outtype: str = "auto",
    model_name: str | None = None,
    folder_name: str | None = None,
    called: str | None = None,
    weight_bytes: int = 0,
    progress: Callable[[int, int], None] | None = None,
    on_header: Callable[[], None] | None = None,
) -> None:
    """Write a checkpoint as the GGUF file that upstream's own command makes of it, key for key.

    That is what `convert_hf_to_gguf.py FOLDER --outfile OUT --outtype TYPE --model-name NAME` makes. Nothing
    from the checkpoint is executed, and the network is not used.

    Args:
        folder: the checkpoint: config.json, tokenizer, safetensors.
        out: where the file goes; one that is there is overwritten in place, and holds a part of it or
            nothing after an error.
        outtype: one of `OUTTYPES`.
        model_name: what `general.name` says; upstream's guess from the model card where None.
        folder_name: what upstream takes for the folder's name, by which it guesses basename, version, size
            and the like; the folder's own where None.
        called: the checkpoint's name in messages; its folder where None.
        weight_bytes: the size of the checkpoint's weights, for `progress`.
        progress: called a few times a second with bytes written and bytes in all; while the checkpoint is
            still being read that is 0 of `weight_bytes`. May raise to stop.
        on_header: called once `out` has all that stands before the tensors' data, which takes seconds where
            the data takes minutes. May raise to stop.

    Raises:
        SourceError: the checkpoint cannot be converted.
        ConverterError: upstream's converter is not there, or failed.
        ExtraMissingError: packages that it needs are not installed.
        SpaceError: the disk or the memory is too small.
        TargetError: `out` vanished.
    """
    if outtype not in OUTTYPES:
        raise ConverterError(
            f"{outtype} is no type that llama.cpp's converter writes; choose one of {', '.join(OUTTYPES)}"
        )
    shown = called or (str(folder) if folder.name else os.path.abspath(folder))  # noqa: PTH100
    request = {
        "converter": str(converter_folder().resolve()),
        "folder": os.path.abspath(folder),  # noqa: PTH100  # a link keeps its name, which may name the model
        "shown": shown,
        "out": os.path.abspath(out),  # noqa: PTH100
        "outtype": outtype,
        "model_name": model_name,
        "folder_name": folder_name,
    }
    check_extra_installed()
    with ReportingChild(_CHILD, request, environment=_environment()) as child:
        for message in child.messages():
            if "error" in message:
                _log(child.end())
                raise _ERRORS[message["error"]["kind"]](message["error"]["message"])
            if message.get("stage") == "done":
                return
            if message.get("stage") == "header":
                if on_header is not None:
                    on_header()
                continue
            if progress is not None:
                progress(message.get("done", 0), message.get("total", weight_bytes))
        end = child.end()
    _log(end)
    raise ConverterError(_unexplained(shown, end))


def _environment() -> dict[str, str]:
    """No variable that puts code of anybody's into the child, and none that lets it onto the network."""
    emptied = {name: "" for name in os.environ if name.startswith("PYTHON")}  # which counts as not set
    return {**emptied, **_OFFLINE, "PYTHONUTF8": "1", "NO_COLOR": "1"}


def _log(end: ChildEnd) -> None:
    for line in end.log:
        _LOG.debug("%s", line)


def _unexplained(shown: str, end: ChildEnd) -> str:
    """A sentence for a converter that ended without a word."""
    what = f"llama.cpp's converter {end} while it converted {shown}"
    if end.code == -signal.SIGKILL:
        return (
            f"{what}, most likely because the memory ran out; close other programs, or convert it on a "
            "machine with more memory"
        )
    if end.code == -getattr(signal, "SIGBUS", 0):
        return (
            f"{what}, most likely because its files changed or cannot be read from the disk; fetch them "
            "anew, and run the same command again"
        )
    said = f" ({end.last_words})" if end.code > 0 and end.last_words else ""
    return f"{what}{said}; run the same command again, and report it if this stays so"
