"""Writing at depth, with windows and without, in turns of a second: what a noisy machine does falls on both.

`windows` measures reading as well, in runs of minutes, between which the machine may change. Here both
processes have read the text and stay, and only one of them works at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.bench import NO_PLAN, UNPATCHED, Bench
from benchmark.jobs import OURS, STOCK, Setup
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.ratios import spread
from benchmark.rounds import turns
from benchmark.window_plan import WINDOWS, WindowPlan
from provision.failure import ProvisionError
from provision.progress import Progress
from ropewalk.wording.quantities import count

_SCRIPTS = Path(__file__).resolve().parents[1]
_PER_TURN = 16


class Writer:
    """A child process with a text in its context."""

    def __init__(self, stock: Path | None, setup: Setup, depth: int, on_work: Callable[[int], None]) -> None:
        """Starts it and waits until the text is read.

        Args:
            stock: the folder of the unpatched library; None for ours.
            setup: the context.
            depth: tokens to read.
            on_work: told how many were.

        Raises:
            ProvisionError: it could not.
        """
        paths = (str(_SCRIPTS), os.environ.get("PYTHONPATH", ""))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        if stock is not None:
            environment["LLAMA_CPP_LIB_PATH"] = str(stock)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.decode_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._send({"setup": asdict(setup), "prefill_tokens": depth})
        while "ready" not in (said := self._receive()):
            on_work(said["work"])

    def write(self, tokens: int) -> float:
        """Seconds that so many tokens took, one after the other."""
        self._send({"tokens": tokens})
        return float(self._receive()["seconds"])

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()

    def _send(self, value: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in said:
            raise ProvisionError(f"tokens could not be written at depth: {said['error']}")
        return said


def measure_decode(
    bench: Bench, *, pairs: int, tokens: int, flash_attention: bool, plan: WindowPlan
) -> Outcome:
    """Fills two contexts of `tokens`, and writes in each in turns until they are full, `pairs` times."""
    base = UNPATCHED if bench.against_stock else NO_PLAN
    depth = tokens - pairs * _PER_TURN
    target = max(bench.train_length, tokens)
    setups = {
        base: bench.setup(tokens, flash_attention=flash_attention),
        WINDOWS: bench.setup(tokens, WINDOWS, target, plan.options, flash_attention=flash_attention),
    }
    libraries = {base: STOCK if bench.against_stock else OURS, WINDOWS: OURS}
    writers: dict[str, Writer] = {}
    seconds: dict[str, list[float]] = {name: [] for name in setups}
    try:
        with Progress("Decode at depth") as progress:
            total = 2.0 * depth
            for name, setup in setups.items():
                before = len(writers) * depth
                stock = bench.libraries.stock if libraries[name] == STOCK else None
                writers[name] = Writer(
                    stock, setup, depth, partial(_report, progress, before=before, total=total)
                )
        for number in range(pairs):
            for name in turns(list(setups), number):
                seconds[name].append(writers[name].write(_PER_TURN))
    finally:
        for writer in writers.values():
            writer.close()
    ratio = spread([slow / fast for slow, fast in zip(seconds[base], seconds[WINDOWS], strict=True)])
    speeds = [f"{_PER_TURN / median(seconds[name]):.1f}" for name in setups]
    setting = "on" if flash_attention else "off"
    text = (
        f"{bench.where} {plan.sentence[0].upper()}{plan.sentence[1:]}; flash attention {setting}. "
        f"Both contexts hold {depth:,} tokens, and {count(_PER_TURN, 'token')} are written in each in turns, "
        f"{count(pairs, 'round')}.\n\n"
        + table(["", base, WINDOWS, "ratio"], [["decode, tokens/s", *speeds, ratio.text]])
    )
    return Outcome(text, {"depth": depth, "tokens_per_turn": _PER_TURN, "seconds": seconds})


def _report(progress: Progress, read: int, *, before: int, total: float) -> None:
    progress.update(before + read, total)
