"""Every architecture that upstream can make a random model of, under every kind of plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from checks import report
from checks.architecture_plans import CASES, N_TOKENS, PlanCase
from checks.builds import Build, compile_targets
from provision.commands import run_logged
from provision.failure import ProvisionError
from provision.progress import Progress

_SEED = "1"
_WRITER = "test-llama-archs"
_NAMED = 24  # models that are named with a sentence; more are counted, and stand in the other table
_SOURCES = tuple(str(Path(__file__).resolve().parents[2] / name) for name in ("scripts", "app", "converters"))

Trial = Mapping[str, Any]
"""What `architecture_trial` printed of one file, and `stock`: whether the unpatched library agrees."""


def write_models(build: Build, jobs: int | None) -> list[Path]:
    """The random models, written by upstream's own program; the same ones at every run.

    Raises:
        ProvisionError: it cannot be compiled, or fails.
    """
    compile_targets(build, [_WRITER], "the program that writes the models", jobs)
    folder = build.tree.folder / "models"
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.gguf"):
        path.unlink()
    with Progress("Writing a random model of every architecture", expected_seconds=10):
        command: list[str | Path] = [build.programs / _WRITER, "-s", _SEED, "-o", folder]
        run_logged(command, build.tree.log, "Writing the random models")
    models = sorted(folder.glob("*.gguf"))
    if not models:
        raise ProvisionError(f"{_WRITER} wrote no model; see {build.tree.log}.")
    return models


def try_models(models: Sequence[Path], patched: Path, unpatched: Path | None) -> dict[str, Trial]:
    """Each model's trial, by the file's name without its ending.

    Args:
        models: the files.
        patched: the folder of the patched library.
        unpatched: that of the unpatched one; None: not compared with.

    Raises:
        ProvisionError: the patched library is not what this version of the application calls.
    """
    fits = _run(
        patched, ["-c", "from ropewalk.backend import library; library.require_patched('This check')"]
    )
    if fits.returncode != 0:
        raise ProvisionError(f"the built library does not fit this checkout: {_last_line(fits.stderr)}.")
    trials: dict[str, Trial] = {}
    with Progress(f"Trying {len(models)} models with {len(CASES)} plans each") as progress:
        for done, path in enumerate(models):
            progress.detail = path.stem
            trial = _try(path, patched)
            if unpatched is not None and "plain" in trial:
                stock = _try(path, unpatched, "--plain")
                trial["stock"] = stock.get("plain") == trial["plain"]
            trials[path.stem] = trial
            progress.update(done + 1, len(models))
    return trials


def problems(trial: Trial) -> list[str]:
    """What is not as it must be with one model."""
    if "failed" in trial:
        return [str(trial["failed"])]
    found = []
    if trial.get("stock") is False:
        found.append("without a plan: not what the unpatched library computes")
    if "refused" in trial:
        return found
    if not trial["restored"]:
        found.append("the plan removed again: not what it was before")
    for case in CASES:
        found += _problems_of_case(case, trial)
    return found


def outcome(case: PlanCase, trial: Trial) -> str:
    """What one plan did to one model, in a word or two."""
    done = trial["cases"][case.name]
    if "refused" in done:
        return "refused"
    if done["first"] is None:
        return "no bit changed"
    return f"from {done['first']}" if trial["causal"] else "executed"


def section(trials: Mapping[str, Trial]) -> str:
    """The report: counts, models grouped by what happened to them, sentences, problems."""
    wrong = {name: found for name, trial in trials.items() if (found := problems(trial))}
    compared = [trial for trial in trials.values() if "stock" in trial]
    same = sum(bool(trial["stock"]) for trial in compared)
    parts = [
        f"{len(trials)} models. Without a plan, bit-identical to the unpatched library: "
        + (f"{same} of {len(compared)}." if compared else "not compared in this run."),
        "\n".join(f"* `{case.name}`: {case.says}." for case in CASES),
        report.table(
            ("plan", "executed", "of these no bit changed", "refused", "not as expected"), _counts(trials)
        ),
        "What each plan did to each model (*from n*: position n is the first with another bit):",
        report.table(("models", *(case.name for case in CASES)), _groups(trials)),
        "The sentences of the refusals:",
        report.table(("sentence", "plans", "models"), _sentences(trials)),
        "Not as expected: " + ("nothing." if not wrong else ""),
        "\n".join(f"* {name}: {'; '.join(found)}" for name, found in wrong.items()),
    ]
    return "\n\n".join(part for part in parts if part)


def _problems_of_case(case: PlanCase, trial: Trial) -> list[str]:
    done = trial["cases"][case.name]
    if "refused" in done:
        return [] if done["refused"] else [f"{case.name}: refused without a sentence"]
    first = done["first"]
    replaced = case.replaces_scaling and bool(trial["scaling"])
    if case.first is None:
        return [] if first is None or replaced else [f"{case.name}: changes position {first}"]
    found = []
    if first is None:
        found.append(f"{case.name}: changes nothing")
    elif first < case.first and trial["causal"] and not replaced:
        found.append(f"{case.name}: changes position {first}, before {case.first}")
    twin = trial["cases"].get(case.same_as, {})
    if "digest" in twin and twin["digest"] != done["digest"]:
        found.append(f"{case.name}: not equal to {case.same_as}")
    return found


def _counts(trials: Mapping[str, Trial]) -> Iterable[Sequence[str]]:
    for case in CASES:
        tried = [trial for trial in trials.values() if "failed" not in trial]
        done = [trial["cases"][case.name] for trial in tried if "cases" in trial]
        executed = [one for one in done if "refused" not in one]
        unchanged = sum(one["first"] is None for one in executed)
        wrong = sum(bool(_problems_of_case(case, trial)) for trial in tried if "cases" in trial)
        yield (
            *(f"`{case.name}`", str(len(executed)), str(unchanged)),
            *(str(len(tried) - len(executed)), str(wrong)),
        )


def _groups(trials: Mapping[str, Trial]) -> Iterable[Sequence[str]]:
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, trial in trials.items():
        if "failed" in trial:
            groups[("failed",) * len(CASES)].append(name)
        elif "refused" in trial:
            groups[("refused",) * len(CASES)].append(name)
        else:
            marked = f"{name}*" if trial["scaling"] else name
            marked += "" if trial["causal"] else "†"
            groups[tuple(outcome(case, trial) for case in CASES)].append(marked)
    for outcomes, names in sorted(groups.items(), key=lambda group: -len(group[1])):
        yield (f"{len(names)}: {', '.join(names)}", *outcomes)


def _sentences(trials: Mapping[str, Trial]) -> Iterable[Sequence[str]]:
    said: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, trial in trials.items():
        if "refused" in trial:
            said[_general(trial["refused"], name)]["every plan"].add(name)
        for case, done in trial.get("cases", {}).items():
            if "refused" in done:
                said[_general(done["refused"], name)][case].add(name)
    for sentence, cases in sorted(said.items()):
        names = sorted({name for models in cases.values() for name in models})
        shown = f": {', '.join(names)}" if len(names) <= _NAMED else ""
        yield sentence, ", ".join(cases), f"{len(names)}{shown}"


def _general(sentence: str, model: str) -> str:
    """A sentence with the architecture's name replaced, so that models refused alike stand together."""
    architecture = model.rpartition("-")[0]
    return " ".join("ARCH" if word.rstrip(",:") == architecture else word for word in sentence.split(" "))


def _try(path: Path, library: Path, *arguments: str) -> dict[str, Any]:
    """One file in a process of its own: what upstream asserts ends only that."""
    finished = _run(library, ["-m", "checks.architecture_trial", str(path), *arguments])
    if finished.returncode != 0:
        return {"failed": f"ended with {finished.returncode}: {_last_line(finished.stderr)}"}
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def _run(library: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(_SOURCES),
        "LLAMA_CPP_LIB_PATH": str(library),
        "GGML_NO_BACKTRACE": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


NOTE = (
    f"{N_TOKENS} random tokens in one batch, F32 cache, one thread. `*`: the model has rope factors of its "
    "own, which a plan replaces, so that any position may change. `†`: the model is not causal."
)
