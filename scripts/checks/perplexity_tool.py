"""Upstream's `llama-perplexity` and `ropewalk perplexity` on the same tokens: what each says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checks.builds import Build, Kind, build_tools, compile_targets, configure
from checks.trees import ensure_tree
from provision.failure import ProvisionError

TOOL = "llama-perplexity"
ALIKE = 0.005
"""By how much of the tool's perplexity ours may differ from it."""

_BUILD = Kind(
    "perplexity",
    (
        *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_SERVER=OFF"),
        *("-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DGGML_METAL=OFF"),
    ),
)
_SAID = re.compile(r"Final estimate: PPL = ([0-9.]+)")
_CHUNKS = re.compile(r"(?:perplexity over|computing over) (\d+) chunks")
_SO_FAR = re.compile(r"\[(\d+)\]([0-9.]+)")
_BATCH = 512


@dataclass(frozen=True)
class Case:
    """One measurement that both can make.

    Attributes:
        context: tokens of a window.
        windows: how many.
        stride: tokens scored in each where it slides; None: the second half of each, as the tool does.
        method: of ropewalk, with its target as a multiple of the train length; none for the plain model.
        flags: the tool's for the same plan.
    """

    context: int
    windows: int
    stride: int | None = None
    method: tuple[str, int] | None = None
    flags: tuple[str, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Tokens of a text that has so many windows, and not one more."""
        if self.stride is None:
            return self.context * self.windows + self.context // 2
        return self.context + (self.windows - 1) * self.stride + self.stride // 2


@dataclass(frozen=True)
class Subject:
    """What is measured, and by how many threads.

    Attributes:
        model: a GGUF file.
        train_length: of it, in tokens.
        threads: on the CPU.
    """

    model: Path
    train_length: int
    threads: int


@dataclass(frozen=True)
class Compared:
    """What came of a case."""

    case: Case
    tool: float
    ours: float

    @property
    def difference(self) -> float:
        """Of ours from the tool's, as a share of that."""
        return self.ours / self.tool - 1


CASES = (
    Case(512, 4),
    Case(512, 3, stride=256),
    Case(512, 2, method=("pi", 2), flags=("--rope-scaling", "linear", "--rope-scale", "2")),
    Case(512, 2, method=("yarn", 2), flags=("--rope-scaling", "yarn", "--rope-scale", "2")),
    Case(1024, 2),
)
"""Each of at least two windows of text: of less, the tool makes nothing."""


def built_tool(patches: Path, jobs: int | None) -> Path:
    """The tool of the unpatched source, compiled where it is missing.

    Raises:
        ProvisionError: the source cannot be had, or a compiler fails.
    """
    tree = ensure_tree(patches, patched=False)
    build: Build = configure(tree, _BUILD, build_tools(tree))
    compile_targets(build, [TOOL], TOOL, jobs)
    return build.programs / TOOL


def by_tool(tool: Path, subject: Subject, text: Path, case: Case) -> float:
    """What the tool says of a text.

    Raises:
        ProvisionError: it fails, or reads another number of windows.
    """
    context = case.context if case.stride is None else case.context - case.stride // 2  # which it adds
    command = [str(tool), "-m", str(subject.model), "-f", str(text), "-c", str(context)]
    command += ["-t", str(subject.threads)]
    command += ["-b", str(min(_BATCH, context)), "-ub", str(min(_BATCH, context)), "-fa", "off"]
    command += ["--ppl-stride", str(case.stride)] if case.stride is not None else []
    command += case.flags
    command += ["--yarn-orig-ctx", str(subject.train_length)] if "yarn" in case.flags else []
    said = _run(command)
    chunks = _CHUNKS.search(said)
    if chunks is None or int(chunks[1]) != case.windows:
        found = "no windows" if chunks is None else f"{chunks[1]} windows"
        raise ProvisionError(f"{TOOL} read {found} where {case.windows} were meant; look at its output.")
    final = _SAID.search(said)
    if final is not None:
        return float(final[1])
    return float(dict(_SO_FAR.findall(said))[str(case.windows)])  # sliding, it says no last word


def by_ropewalk(subject: Subject, text: Path, case: Case) -> float:
    """What `ropewalk perplexity` says of the same windows.

    Raises:
        ProvisionError: it fails.
    """
    command = [sys.executable, "-m", "ropewalk", *our_arguments(subject, text, case)]
    command += ["--threads", str(subject.threads), "--flash-attn", "off", "--json", "-"]
    said: dict[str, Any] = json.loads(_run(command, both=False))
    (summary,) = said["summary"]
    if summary["windows"] != case.windows:
        raise ProvisionError(f"ropewalk read {summary['windows']} windows where {case.windows} were meant.")
    return float(summary["perplexity"])


def our_arguments(subject: Subject, text: Path, case: Case) -> list[str]:
    """The verb and what it is told of a case."""
    arguments = ["perplexity", str(subject.model), str(text)]
    arguments += ["--lengths", str(case.context), "--windows", "all"]
    arguments += ["--score-from", "0.5"] if case.stride is None else ["--stride", str(case.stride)]
    if case.method is not None:
        name, times = case.method
        arguments += ["--method", name, "--target-length", str(times * subject.train_length)]
    return arguments


def _run(command: Sequence[str], *, both: bool = True) -> str:
    finished = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if finished.returncode != 0:
        last = (finished.stdout if both else finished.stderr).strip().splitlines()[-1:]
        raise ProvisionError(f"{Path(command[0]).name} failed: {' '.join(last) or finished.returncode}")
    return finished.stdout
