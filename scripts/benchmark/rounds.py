"""Measuring several variants in turns, so that what a machine does by itself falls on all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from benchmark.child import Libraries
from benchmark.jobs import Speed, SpeedJob
from benchmark.speed import work_of
from provision.failure import ProvisionError
from provision.progress import Progress


@dataclass(frozen=True)
class Variant:
    """One thing that is compared.

    Attributes:
        name: in tables.
        library: `OURS` or `STOCK`.
        job: what is run.
    """

    name: str
    library: str
    job: SpeedJob


@dataclass(frozen=True)
class Rounds:
    """Runs by variant: in each round every variant was measured once, the i-th of each belong together.

    Attributes:
        runs: by the variant's name, as many as rounds were finished.
        planned: rounds that were asked for; fewer were finished where somebody interrupted.
    """

    runs: Mapping[str, Sequence[Speed]]
    planned: int

    @property
    def finished(self) -> int:
        """Rounds that are whole."""
        return min(map(len, self.runs.values()))

    @property
    def complete(self) -> bool:
        """Whether all were measured."""
        return self.finished == self.planned

    def to_json(self) -> dict[str, Any]:
        """Every number that was measured."""
        runs = {name: [asdict(run) for run in runs] for name, runs in self.runs.items()}
        return {"planned_rounds": self.planned, "finished_rounds": self.finished, "runs": runs}


def turns(names: Sequence[str], round_number: int) -> list[str]:
    """The order of one round.

    Every second round goes backwards, so that a drift (a processor growing warm) cancels, and every two
    rounds somebody else begins: A B, B A, B A, A B for two.
    """
    first = round_number // 2 % len(names)
    order = [*names[first:], *names[:first]]
    return order if round_number % 2 == 0 else order[::-1]


def run_rounds(
    variants: Sequence[Variant],
    count: int,
    measure: Callable[[Variant, Callable[[float], None]], Speed],
    progress: Progress,
) -> Rounds:
    """Measures each variant once in each round.

    An interruption ends it and keeps the rounds that are whole.

    Args:
        variants: all with different names.
        count: rounds.
        measure: one run; it reports the work done.
        progress: told the work of all runs.
    """
    by_name = {variant.name: variant for variant in variants}
    runs: dict[str, list[Speed]] = {name: [] for name in by_name}
    total = count * sum(work_of(variant.job) for variant in variants)
    done = 0.0
    progress.update(0.0, total)
    try:
        for number in range(count):
            fresh: dict[str, Speed] = {}
            for name in turns(list(by_name), number):
                progress.detail = f"round {number + 1} of {count}: {name}"
                fresh[name] = measure(by_name[name], partial(_report, progress, total, done))
                done += work_of(by_name[name].job)
                progress.update(done, total)
            for name, run in fresh.items():
                runs[name].append(run)
    except KeyboardInterrupt:
        if not all(runs.values()):
            raise
    return Rounds(runs, count)


def _report(progress: Progress, total: float, before: float, work: float) -> None:
    progress.update(before + work, total)


def measure_in_turns(libraries: Libraries, variants: Sequence[Variant], count: int, label: str) -> Rounds:
    """Measures each variant in a process of its own, once in each round, with progress on stderr."""

    def measure(variant: Variant, on_work: Callable[[float], None]) -> Speed:
        return Speed.from_json(libraries.run(variant.library, variant.job, on_work))

    if count < 1:
        raise ProvisionError(f"--pairs is {count}; it must be at least 1", 2)
    with Progress(label) as progress:
        return run_rounds(variants, count, measure, progress)
