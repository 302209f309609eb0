"""Conversions that share one import of torch: run by `ReportingChild`, each in a fork of its own.

Each fork runs `converter_child.main`, the very function that a conversion's process runs; only are the
packages there already.
"""

from __future__ import annotations

import importlib
import os
import resource
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def main(request: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Run `request["jobs"]` one after the other, and report what they report, each with its number.

    Args:
        request: child, the path of `converter_child.py`; converter, upstream's folder; jobs, requests of
            conversions. Two more keys are for the tests: `file_limit`, bytes that a file may have, and
            `trusting`, which has transformers load the tokenizer as upstream does, with nothing in the way.
        report: sends a message.
    """
    sys.path[:0] = [request["converter"], str(Path(request["converter"]) / "gguf-py")]
    for name in (
        "convert_hf_to_gguf",
        "transformers.models.auto.tokenization_auto",
        "transformers.activations",
    ):
        importlib.import_module(name)
    for number, job in enumerate(request["jobs"]):
        pid = os.fork()
        if pid == 0:
            try:
                _run(job, request["child"], partial(_report_of, number, report))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        report({"job": number, "ended": True})


def _report_of(number: int, report: Callable[[dict[str, Any]], None], message: dict[str, Any]) -> None:
    report({"job": number, **message})


def _run(job: dict[str, Any], child: str, report: Callable[[dict[str, Any]], None]) -> None:
    if "file_limit" in job:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_limit"],) * 2)
    if job.get("trusting"):
        tokenizers = importlib.import_module("transformers").AutoTokenizer
        tokenizers.from_pretrained(job["folder"], trust_remote_code=True)
    else:
        runpy.run_path(child)["main"](job, report)
