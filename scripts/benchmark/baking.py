"""What baking costs besides copying: its time against `cp`'s, its memory, and what a small file takes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from gguf import GGUFWriter

from benchmark.bench import Bench
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.ratios import Spread, spread
from benchmark.rounds import turns
from provision.failure import USAGE, ProvisionError
from provision.progress import Progress
from ropewalk.wording.quantities import size

COPY, COPY_AND_SYNC = "cp", "cp, then sync"
BAKE, UNBAKE, REPLACE, CHECK = "bake", "unbake", "bake --force, over a file", "bake --check"
BASES = {BAKE: COPY, UNBAKE: COPY, REPLACE: COPY_AND_SYNC, CHECK: COPY_AND_SYNC}
"""What each is compared with: the last two wait for the disk."""
TIMES_OF_COPY = 1.3
"""How much longer than `cp` baking may take."""
ANONYMOUS_BYTES = 300_000_000
"""Anonymous memory that it may take, for a file of any size."""

_BLOCK = 1 << 26  # bytes of a tensor
_TOKENS = 150_000  # a vocabulary of the size that models have
_SMALL = 1 << 20
_POLL_SECONDS = 0.005
PAUSE_SECONDS = 3.0
"""Before every run: a virtual machine gives freed memory back to its host after a moment, and who comes first
after that pays for fetching it again."""


@dataclasses.dataclass(frozen=True)
class Took:
    """One run: its wall time, and the largest anonymous memory that was seen, 0 where it was not asked."""

    seconds: float
    anonymous_bytes: int = 0


def measure_bake(bench: Bench, *, folder: Path, n_bytes: int, pairs: int) -> Outcome:
    """Bakes a large file and copies it with `cp`, in turns, on the disk of `folder`.

    Args:
        bench: says on which machine.
        folder: where the files are made, and removed at the end.
        n_bytes: size of the file.
        pairs: rounds.

    Raises:
        ProvisionError: no `cp` that can be told not to share blocks, no /proc, or no room.
    """
    if (
        not Path("/proc/self/status").exists()
        or subprocess.run(["cp", "--reflink=never", "--version"], capture_output=True, check=False).returncode
    ):
        raise ProvisionError("bake is measured with GNU cp and /proc: run it on Linux", USAGE)
    folder.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    with TemporaryDirectory(prefix="bake-", dir=folder) as name, Progress("Bake") as progress:
        work = Path(name)
        small = _write_model(work / "small.gguf", _SMALL)
        large = _write_model(work / "large.gguf", n_bytes)
        runs = _rounds(large, work, pairs, progress)
        start_up = [_run(_baking(small, work / "out.gguf"), work / "out.gguf") for _ in range(pairs)]
        written = large.stat().st_size
    return _outcome(bench, runs, start_up, written, load)


def _rounds(large: Path, work: Path, pairs: int, progress: Progress) -> Mapping[str, Sequence[Took]]:
    out, baked = work / "out.gguf", work / "baked.gguf"
    _run(_baking(large, baked))  # what unbake begins with
    commands: dict[str, Callable[[], list[list[str]]]] = {
        COPY: lambda: [_copying(large, out)],
        COPY_AND_SYNC: lambda: [_copying(large, out), ["sync", str(out)]],
        BAKE: lambda: [_baking(large, out)],
        UNBAKE: lambda: [_ropewalk("unbake", baked, out)],
        REPLACE: lambda: [_baking(large, out, "--force")],
        CHECK: lambda: [_baking(large, out, "--check")],
    }
    runs: dict[str, list[Took]] = {name: [] for name in commands}
    for number in range(pairs):
        for done, name in enumerate(turns(list(commands), number)):
            progress.detail = f"round {number + 1} of {pairs}: {name}"
            progress.update(number * len(commands) + done, pairs * len(commands))
            if name == REPLACE:
                out.touch()
            _read(baked if name == UNBAKE else large)
            steps = [_run(step) for step in commands[name]()]
            runs[name].append(
                Took(sum(step.seconds for step in steps), max(step.anonymous_bytes for step in steps))
            )
            out.unlink()
    return runs


def _read(path: Path) -> None:
    """Bring a file into memory, as far as there is room."""
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _run(command: list[str], remove: Path | None = None) -> Took:
    """Run a command on a quiet disk after a pause, and watch its memory.

    Raises:
        ProvisionError: it failed.
    """
    os.sync()
    time.sleep(PAUSE_SECONDS)
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    try:
        while process.poll() is None:
            peak = max(peak, _anonymous_bytes(process.pid))
            time.sleep(_POLL_SECONDS)
    finally:
        process.kill()
        _, errors = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode:
        raise ProvisionError(f"{command[0]} failed: {errors.strip() or process.returncode}")
    if remove is not None:
        remove.unlink()
    return Took(seconds, peak)


def _anonymous_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def _copying(source: Path, target: Path) -> list[str]:
    return ["cp", "--reflink=never", str(source), str(target)]


def _baking(source: Path, target: Path, *options: str) -> list[str]:
    return _ropewalk("bake", source, target, "--method", "dprope", "--target-length", "8192", *options)


def _ropewalk(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "ropewalk", *map(str, arguments)]


def _write_model(path: Path, n_bytes: int) -> Path:
    """A model of random weights, with a large vocabulary where it is large; no part of the file is sparse."""
    writer = GGUFWriter(str(path), "llama")
    writer.add_context_length(4096)
    writer.add_block_count(2)
    writer.add_embedding_length(4096)
    writer.add_head_count(32)
    writer.add_rope_dimension_count(128)
    writer.add_rope_freq_base(10000.0)
    if n_bytes > _BLOCK:
        writer.add_token_list([f"token {number}" for number in range(_TOKENS)])
    block = np.random.default_rng(1).integers(0, 2**32, size=min(_BLOCK, n_bytes) // 4, dtype=np.uint32)
    weights = block.view(np.float32)
    count = max(1, n_bytes // weights.nbytes)
    for number in range(count):
        writer.add_tensor_info(f"blk.{number}.weight", weights.shape, weights.dtype, weights.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for number in range(count):
        writer.write_tensor_data(np.roll(weights, number))
    writer.close()
    return path


def _outcome(
    bench: Bench, runs: Mapping[str, Sequence[Took]], start_up: Sequence[Took], n_bytes: int, load: float
) -> Outcome:
    rows = []
    for name, took in runs.items():
        middle = spread([run.seconds for run in took]).median
        base = BASES.get(name)
        ratio = "" if base is None else f"{_ratio(runs, name, base).text} of {base}"
        held = "" if base is None else size(max(run.anonymous_bytes for run in took))
        rows.append([name, f"{middle:.2f}", f"{n_bytes / middle / 1e9:.2f}", ratio, held])
    against = _ratio(runs, BAKE, COPY).median
    memory = max(run.anonymous_bytes for name in BASES for run in runs[name])
    text = (
        f"A file of {size(n_bytes)} on {bench.processor}, read from memory and written to a disk; medians "
        f"and quartiles of {len(start_up)} rounds, with a load of {load:.1f} when they began. Like `cp`, "
        "`bake` and `unbake` leave it to the system when a new file gets to the disk; they wait for it where "
        "they replace a file, or check the new one.\n\n"
        + table(["", "seconds", "GB/s", "ratio of times", "anonymous memory"], rows)
        + f"\n\nA file of {size(_SMALL)} takes {spread([run.seconds for run in start_up]).median:.2f} s."
    )
    record: dict[str, Any] = {
        "bytes": n_bytes,
        "load": load,
        "runs": {name: [dataclasses.asdict(run) for run in took] for name, took in runs.items()},
        "start_up": [dataclasses.asdict(run) for run in start_up],
    }
    failure = ""
    if against > TIMES_OF_COPY:
        failure = f"bake takes {against:.2f} times as long as cp, and should take at most {TIMES_OF_COPY}"
    if memory > ANONYMOUS_BYTES:
        failure = f"bake takes {size(memory)} of anonymous memory, and should take {size(ANONYMOUS_BYTES)}"
    return Outcome(text, record, failure=failure)


def _ratio(runs: Mapping[str, Sequence[Took]], name: str, base: str) -> Spread:
    pairs = zip(runs[name], runs[base], strict=True)
    return spread([run.seconds / other.seconds for run, other in pairs])
