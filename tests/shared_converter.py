"""Upstream's converter for many tests: its packages are imported once, and each conversion runs in a fork.

Each fork runs `converter_child.main`, the very function that a conversion's own process runs. This file is
the script of two children: of one that imports and forks, and of those that stand where a conversion's
process stands and pass its messages on.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_ADDRESS = "ROPEWALK_TESTS_CONVERTER"
_IMPORTED = ("convert_hf_to_gguf", "transformers.models.auto.tokenization_auto", "transformers.activations")

Report = Callable[[dict[str, Any]], None]


def share_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have conversions that are started here, and in processes of this environment, run in such forks."""
    from ropewalk_convert import converter  # the children have no use for it

    monkeypatch.setenv(_ADDRESS, _serving())
    monkeypatch.setattr(converter, "_CHILD", Path(__file__))


@cache
def _serving() -> str:
    """The address of the process that forks, which ends with this one."""
    from ropewalk_convert import converter_child
    from ropewalk_convert.reporting_child import ReportingChild
    from ropewalk_convert.upstream_source import converter_folder

    folder = tempfile.TemporaryDirectory()
    request = {
        "address": str(Path(folder.name) / "socket"),
        "child": converter_child.__file__,
        "converter": str(converter_folder()),
    }
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    server = ReportingChild(Path(__file__), request, environment=offline)
    atexit.register(folder.cleanup)
    atexit.register(server.__exit__, None, None, None)
    assert next(server.messages()) == {"ready": True}
    return str(request["address"])


def main(request: dict[str, Any], report: Report) -> None:
    """What a child does: fork for whoever asks, or ask for a conversion and pass on what it reports."""
    if "address" in request:
        _serve(request, report)
    else:
        _ask(request, report)


def _serve(request: dict[str, Any], report: Report) -> None:
    sys.path[:0] = [request["converter"], str(Path(request["converter"]) / "gguf-py")]
    for name in _IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(request["address"])
        listening.listen()
        report({"ready": True})
        while True:
            connection, _ = listening.accept()
            with connection:
                if os.fork() == 0:
                    _convert(connection, request["child"])


def _convert(connection: socket.socket, child: str) -> None:
    """Run one conversion, and end."""
    try:
        with connection.makefile("rwb") as stream:

            def report(message: dict[str, Any]) -> None:
                stream.write(json.dumps(message).encode() + b"\n")
                stream.flush()

            runpy.run_path(child)["main"](json.loads(stream.readline()), report)
    finally:
        os._exit(0)


def _ask(request: dict[str, Any], report: Report) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[_ADDRESS])
        with connection.makefile("rwb") as stream:
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            for line in stream:
                report(json.loads(line))
