"""llama.cpp's quantizer in a child process: it may abort, and cannot be stopped in any other way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.errors import QuantizeError
from ropewalk_convert.quantization import Quantization
from ropewalk_convert.quantization_types import TENSOR_TYPES
from ropewalk_convert.reporting_child import ChildEnd, ReportingChild

_SCRIPT = Path(__file__).with_name("quantize_child.py")
_LEVEL_ERROR = 4  # ggml.h
_FUNCTION = re.compile(r"^[\w~:]+(\(\))?: ")
_FAILED = "failed to quantize: "

NewKey = tuple[str, str, int | str]
"""A key of the new file: its name, `u32` or `string`, and its value (a string of at most 127 bytes)."""


@dataclass(frozen=True)
class QuantizerRun:
    """What came of a call.

    Attributes:
        lines: llama.cpp's log.
        failure: why it refused or gave up, in its words; None where it did not.
    """

    lines: tuple[str, ...]
    failure: str | None


def run_quantizer(
    source: Path,
    out: Path,
    wanted: Quantization,
    keys: tuple[NewKey, ...],
    *,
    dry_run: bool,
    called: str,
    written: Callable[[int], None] | None = None,
) -> QuantizerRun:
    """Call the quantizer; a keyboard interrupt ends it.

    Args:
        source: a GGUF file, or the first part of a split one.
        out: the file to write; with `dry_run` it is left alone.
        wanted: the quantization.
        keys: what to set in the new file besides what the quantizer sets.
        dry_run: write nothing, only log what would become of each tensor.
        called: the source's name in messages.
        written: told the size of `out` as it grows; may raise to stop.

    Raises:
        QuantizeError: the quantizer crashed, or was killed.
    """
    lines: list[str] = []
    errors: list[str] = []
    status: int | None = None
    with ReportingChild(_SCRIPT, _request(source, out, wanted, keys, dry_run)) as child:
        for message in child.messages():
            if "log" in message:
                level, line = message["log"]
                lines.append(line)
                if level == _LEVEL_ERROR:
                    errors.append(_FUNCTION.sub("", line).strip())
            elif "written" in message and written is not None:
                written(message["written"])
            elif "status" in message:
                status = message["status"]
        end = child.end()
    if status is None:
        raise QuantizeError(_crashed(called, wanted, end))
    if status == 0:
        return QuantizerRun(tuple(lines), None)
    said = next((line for line in reversed(errors) if line), "it does not say why")
    return QuantizerRun(tuple(lines), said.rpartition(_FAILED)[2])


def _request(
    source: Path, out: Path, wanted: Quantization, keys: tuple[NewKey, ...], dry_run: bool
) -> dict[str, object]:
    def number(name: str | None) -> int | None:
        return None if name is None else TENSOR_TYPES[name].number

    return {
        "source": str(source),
        "out": str(out),
        "dry_run": dry_run,
        "file_type": wanted.file_type.number,
        "output_tensor_type": number(wanted.output_tensor_type),
        "token_embedding_type": number(wanted.token_embedding_type),
        "tensor_types": [[pattern, number(name)] for pattern, name in wanted.tensor_types],
        "pure": wanted.pure,
        "keep_output_tensor": wanted.keep_output_tensor,
        "allow_requantize": wanted.allow_requantize,
        "threads": wanted.threads,
        "imatrix": None if wanted.imatrix is None else str(wanted.imatrix),
        "keys": keys,
    }


def _crashed(called: str, wanted: Quantization, end: ChildEnd) -> str:
    if end.code in (-9, -15):  # from outside, so that its last words are about something else
        return (
            f"llama.cpp's quantizer {end} while it made {wanted.type} from {called}, perhaps because memory "
            "ran out; try again with fewer threads, or with more memory free"
        )
    words = f": {end.last_words}" if end.last_words else ""
    return (
        f"llama.cpp's quantizer {end} while it made {wanted.type} from {called}{words}; "
        "choose another type, or options that change less"
    )
