"""llama.cpp's quantizer, called once: what runs in the child that `quantizer` starts.

It reports `{"log": [level, line]}` for each line of llama.cpp's log, `{"written": bytes}` while the new file
grows, and last `{"status": what llama_model_quantize returned}`.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from llama_cpp import llama_cpp as capi

from ropewalk_convert.imatrix import ImportanceMatrix, read_imatrix
from ropewalk_convert.reporting_child import Message, Report

_LEVEL_CONTINUES = 5  # ggml.h: the text goes on with the line before
_SECONDS_BETWEEN_LOOKS = 0.1
_KEY_KINDS = {"u32": (0, "val_i64"), "string": (3, "val_str")}  # llama.h: llama_model_kv_override_type
_ROWS_IN_MEMORY = (
    256 << 20
)  # bytes; llama.cpp's own default is 8 GiB, and hides the progress in a large matrix

CArray: TypeAlias = Any  # of one of the C structures; ctypes' types are not checked


def main(request: Message, report: Report) -> None:
    """Quantize, or find out what would be made.

    Args:
        request: `source` and `out` (paths), `dry_run`, `file_type`, `output_tensor_type`,
            `token_embedding_type` (numbers, or None), `tensor_types` ([[pattern, number]]), `pure`,
            `keep_output_tensor`, `allow_requantize`, `threads`, `imatrix` (path, or None), `keys`
            ([[name, "u32" or "string", value]]: set in the new file;
            strings of at most 127 bytes).
        report: takes the messages.
    """
    log = capi.llama_log_callback(_Lines(report).write)
    capi.llama_log_set(log, ctypes.c_void_p(0))
    capi.llama_backend_init()
    matrix = None if request["imatrix"] is None else read_imatrix(Path(request["imatrix"]))
    parameters, _held = _parameters(request, matrix)
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(Path(request["out"]), done, report), daemon=True)
    if not request["dry_run"]:
        watcher.start()
    status = capi.llama_model_quantize(
        os.fsencode(request["source"]), os.fsencode(request["out"]), ctypes.byref(parameters)
    )
    done.set()
    capi.llama_log_set(capi.llama_log_callback(), ctypes.c_void_p(0))  # ours is about to be freed
    report({"status": int(status)})


class _Lines:
    """Puts llama.cpp's pieces of log together to lines, and reports them."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._level = 0
        self._begun = ""

    def write(self, level: int, text: bytes, _user_data: object) -> None:
        if level != _LEVEL_CONTINUES:
            self._level = level
        *whole, self._begun = (self._begun + text.decode("utf-8", "replace")).split("\n")
        for line in whole:
            self._report({"log": [self._level, line]})


def _watch(out: Path, done: threading.Event, report: Report) -> None:
    """Reports how far the new file has got, whenever it has grown."""
    last = 0
    while not done.wait(_SECONDS_BETWEEN_LOOKS):
        with suppress(OSError):
            size = out.stat().st_size
            if size != last:
                report({"written": size})
                last = size


def _parameters(request: Message, matrix: ImportanceMatrix | None) -> tuple[Any, list[Any]]:
    """The C structure, and what it points to, which has to outlive the call."""
    parameters = capi.llama_model_quantize_default_params()
    parameters.nthread = request["threads"]
    parameters.ftype = request["file_type"]
    for name in ("output_tensor_type", "token_embedding_type"):
        if request[name] is not None:
            setattr(parameters, name, request[name])
    parameters.allow_requantize = request["allow_requantize"]
    parameters.quantize_output_tensor = not request["keep_output_tensor"]
    parameters.pure = request["pure"]
    parameters.dry_run = request["dry_run"]
    parameters.max_buf_size = _ROWS_IN_MEMORY
    held: list[Any] = [matrix]
    if matrix is not None:
        parameters.imatrix = entries = _importance(matrix)
        held.append(entries)
    if request["keys"]:
        parameters.kv_overrides = keys = _keys(request["keys"])
        held.append(keys)
    if request["tensor_types"]:
        parameters.tt_overrides = types = _tensor_types(request["tensor_types"])
        held.append(types)
    return parameters, held


def _importance(matrix: ImportanceMatrix) -> CArray:
    array = (capi.llama_model_imatrix_data * (len(matrix.entries) + 1))()  # the last one stays empty
    for entry, (name, values) in zip(array, matrix.entries.items(), strict=False):
        entry.name = name.encode()
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.size = values.size
    return array


def _keys(wanted: list[tuple[str, str, Any]]) -> CArray:
    array = (capi.llama_model_kv_override * (len(wanted) + 1))()  # the last one stays empty
    for entry, (name, kind, value) in zip(array, wanted, strict=False):
        tag, member = _KEY_KINDS[kind]
        entry.key = name.encode()
        entry.tag = tag
        setattr(entry.value, member, value.encode() if kind == "string" else value)
    return array


def _tensor_types(wanted: list[tuple[str, int]]) -> CArray:
    array = (capi.llama_model_tensor_override * (len(wanted) + 1))()  # the last one's pattern stays null
    for entry, (pattern, number) in zip(array, wanted, strict=False):
        entry.pattern = pattern.encode()
        entry.type = number
    array[len(wanted)].type = capi.GGML_TYPE_COUNT
    return array
