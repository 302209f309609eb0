"""A GPU's results: run in child processes with the library that was built for it, and told as Markdown.

Parity has no bound in digits that holds on every card and at every depth: CUDA's kernels are compiled with
fast mathematics, and its products of F32 matrices may round to TF32. So the bound is the device's own error:
against the float64 transformer, a method's root-mean-square error of the logits is at most twice that of no
plan on the same device, in the same mode, at the same depth, times what the method multiplies attention
scores by (YaRN's attention factor squared, LogN), because errors of scores are multiplied too; or so small
that it is rounding.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checks import report
from provision.failure import ProvisionError
from provision.progress import Progress

_ROOT = Path(__file__).resolve().parents[2]
_SOURCES = tuple(str(_ROOT / name) for name in ("scripts", "app", "converters", "tests", "python"))

BOUND = 2.0
"""How many times the error of no plan a method's may be."""

ROUNDING = 1e-4
"""An error that needs no excuse: on the CPU in F32, the largest difference may be ten times this."""

ALL_LAYERS = 999

UNPATCHED, NO_PLAN = "unpatched", "no plan"
PLANS = ("yarn", "extra-pe", "yarn+logn")
"""A static plan, a position map (two rotations for one), and LogN (one node more per layer)."""


@dataclass(frozen=True)
class Libraries:
    """The folders of the two libraries, built for the same backend with the same options."""

    patched: Path
    unpatched: Path


@dataclass
class Speeds:
    """Tokens per second of every run of one variant at one depth."""

    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)


def devices(library: Path) -> list[dict[str, Any]]:
    """What ggml computes on, as `ropewalk.backend.library` describes it."""
    program = (
        "import dataclasses, json; from ropewalk.backend import library;"
        "print(json.dumps([dataclasses.asdict(device) for device in library.devices()]))"
    )
    found: list[dict[str, Any]] = json.loads(_child(["-c", program], library))
    return found


def parity(library: Path, depths: Sequence[int], gpu_layers: int) -> dict[str, Any]:
    """What `gpu_parity` measures.

    Raises:
        ProvisionError: it could not.
    """
    arguments = ["--depths", ",".join(map(str, depths)), "--gpu-layers", str(gpu_layers)]
    found: dict[str, Any] = json.loads(_child(["-m", "checks.gpu_parity", *arguments], library))
    return found


def speeds(
    libraries: Libraries, model: Path, depths: Sequence[int], *, decode: int, rounds: int, gpu_layers: int
) -> dict[int, dict[str, Speeds]]:
    """Every variant at every depth, in turns: round by round, so that a clock that changes changes all.

    Raises:
        ProvisionError: a run failed.
    """
    found = {depth: {name: Speeds() for name in (UNPATCHED, NO_PLAN, *PLANS)} for depth in depths}
    total, done = rounds * sum(depths) * (len(PLANS) + 2), 0
    with Progress("Measuring speed") as progress:
        for depth in depths:
            for _ in range(rounds):
                for name, runs in found[depth].items():
                    arguments = [str(model), "--depth", str(depth), "--decode", str(decode)]
                    arguments += ["--gpu-layers", str(gpu_layers)]
                    arguments += ["--method", name] if name in PLANS else []
                    library = libraries.unpatched if name == UNPATCHED else libraries.patched
                    run = json.loads(_child(["-m", "checks.gpu_speed", *arguments], library))
                    runs.prefill.append(run["prefill"])
                    runs.decode.append(run["decode"])
                    done += depth
                    progress.update(done, total)
    return found


def parity_problems(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Methods that err too much, or whose plan could have been ignored unnoticed."""
    rows = list(rows)
    without = {_place(row): float(row["error"]) for row in rows if not row["method"]}
    found = []
    for row in rows:
        if not row["method"]:
            continue
        where = f"{row['method']} on {row['arch']}, {row['mode']}, up to {row['depth']:,} tokens"
        base = without[_place(row)]
        bound = max(BOUND * base * row["sharper"], ROUNDING)
        if row["error"] > bound:
            found.append(f"{where}: errs by {row['error']:.1e}, no plan by {base:.1e}")
        if row["ignored"] <= bound:
            found.append(f"{where}: ignoring the plan would err by {row['ignored']:.1e} only")
    return found


def parity_section(found: Mapping[str, Any], problems: Sequence[str]) -> str:
    """The table: for each mode and depth, the error of no plan and of the worst method."""
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        groups.setdefault(_place(row), []).append(row)
    lines = []
    for (arch, mode, depth), rows in groups.items():
        base = next(float(row["error"]) for row in rows if not row["method"])
        worst = max((row for row in rows if row["method"]), key=lambda row: float(row["error"]))
        lines.append(
            (
                *(arch, mode, f"{depth:,}", f"{base:.1e}", f"{worst['error']:.1e} ({worst['method']})"),
                *(
                    f"{worst['error'] / base:.2f}",
                    f"{min(row['ignored'] for row in rows if row['method']):.1e}",
                ),
            )
        )
    head = ("model", "mode", "up to", "no plan", "worst method", "ratio", "if ignored, at least")
    return "\n\n".join(
        [
            f"Root-mean-square error of the logits against float64; {len(found['rows'])} runs, "
            f"{found['offloaded'] or 'no'} layers offloaded.",
            report.table(head, lines),
            f"Above the bound: {'; '.join(problems) or 'nothing'}.",
        ]
    )


def speed_section(found: Mapping[int, Mapping[str, Speeds]], rounds: int, decode: int) -> str:
    """The table: medians, and medians of the ratios to no plan."""
    lines = []
    for depth, variants in found.items():
        for name, runs in variants.items():
            base = variants[NO_PLAN]
            lines.append(
                (
                    *(f"{depth:,}", name),
                    *(f"{statistics.median(runs.prefill):.1f}", _ratio(runs.prefill, base.prefill)),
                    *(f"{statistics.median(runs.decode):.1f}", _ratio(runs.decode, base.decode)),
                )
            )
    head = ("depth", "", "prefill, tokens/s", "to no plan", "decode, tokens/s", "to no plan")
    return (
        f"Medians of {rounds} rounds; {decode} tokens written at the depth; F16 cache, flash attention as "
        f"llama.cpp chooses.\n\n{report.table(head, lines)}"
    )


def _ratio(runs: Sequence[float], base: Sequence[float]) -> str:
    return f"{statistics.median(ours / theirs for ours, theirs in zip(runs, base, strict=True)):.3f}"


def _place(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return str(row["arch"]), str(row["mode"]), int(row["depth"])


def _child(arguments: Sequence[str], library: Path) -> str:
    """What a Python program prints that computes with a library; its complaints go to ours.

    Raises:
        ProvisionError: it fails.
    """
    search = [*_SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search), "LLAMA_CPP_LIB_PATH": str(library)}
    finished = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )
    if finished.returncode != 0:
        raise ProvisionError(
            f"{' '.join(arguments[:2])} failed with {finished.returncode}; its last lines say why."
        )
    return finished.stdout.strip().splitlines()[-1]
