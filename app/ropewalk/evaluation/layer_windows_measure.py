"""Scoring probes under windows on a loaded model; nothing is measured twice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ropewalk.engine import Engine, EngineError
from ropewalk.evaluation.layer_windows import Layers, Probe
from ropewalk.evaluation.layer_windows_plans import WindowPlans
from ropewalk.evaluation.results_file import ResultsFileError
from ropewalk_plan import ContextPlan

CALIBRATION = "calibration"
"""What a row of a results file is of that holds one log-probability."""

MeasureProgress = Callable[[Layers, Probe, int, int], None]
"""Told the layers and the probe at work, its tokens done and in all."""


class NotMeasured(Exception):
    """A measurement that is not there; the search ends at it."""


class Measurements:
    """The log-probabilities that are known, by layers and probe."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """Those of a results file's rows; others are passed over.

        Raises:
            ResultsFileError: one of them is damaged.
        """
        self._known: dict[tuple[Layers, str], float] = {}
        for row in rows:
            if row.get("part") == CALIBRATION:
                try:
                    key = tuple(int(layer) for layer in row["layers"]), str(row["probe"])
                    self._known[key] = float(row["log_probability"])
                except (KeyError, TypeError, ValueError):
                    raise ResultsFileError(
                        "The results file is damaged: a calibration result lacks layers, probe or "
                        "log_probability; begin a new one with --json."
                    ) from None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def has(self, layers: Layers, probe: Probe) -> bool:
        """Whether it is known."""
        return (layers, probe.name) in self._known

    def known(self, layers: Layers, probe: Probe) -> float:
        """What a search measures that computes nothing.

        Raises:
            NotMeasured: it is not known.
        """
        try:
            return self._known[layers, probe.name]
        except KeyError:
            raise NotMeasured(probe.name) from None

    def keep(self, layers: Layers, probe: Probe, value: float) -> None:
        """Know one more."""
        self._known[layers, probe.name] = value


class Measurer:
    """What a search measures on an engine: looked up where it is known, else computed and recorded."""

    def __init__(
        self,
        engine: Engine,
        plans: WindowPlans,
        tokens: Mapping[str, tuple[int, ...]],
        measurements: Measurements,
        *,
        record: Callable[[Mapping[str, Any]], None],
        on_progress: MeasureProgress,
    ) -> None:
        """For one loaded model.

        Args:
            engine: its context has room for every probe.
            plans: by the layers that have a window.
            tokens: of each probe, by its name.
            measurements: those that are known; they become more.
            record: takes each new one as JSON values.
            on_progress: told of every batch.
        """
        self._engine, self._plans, self._tokens = engine, plans, tokens
        self._measurements, self._record, self._on_progress = measurements, record, on_progress
        self._in_force: tuple[ContextPlan | None] | None = None

    def __call__(self, layers: Layers, probe: Probe) -> float:
        """The log-probability of a probe's scored tokens, in nats.

        Raises:
            EngineError: it cannot be computed.
        """
        if self._measurements.has(layers, probe):
            return self._measurements.known(layers, probe)
        plan = self._plans.plan(layers)
        if self._in_force != (plan,):
            self._engine.use_plan(plan)
            self._in_force = (plan,)
        tokens = self._tokens[probe.name]
        start = time.perf_counter()
        scores = self._engine.score(
            tokens,
            lambda done, total: self._on_progress(layers, probe, done, total),
            first=len(tokens) - probe.n_scored,
        )
        value = math.fsum(scores)
        if not math.isfinite(value):
            raise EngineError(
                f"the model's probabilities are no numbers ({probe.name}): "
                "check the file with `ropewalk doctor`"
            )
        self._measurements.keep(layers, probe, value)
        self._record(
            {
                "part": CALIBRATION,
                "layers": list(layers),
                "probe": probe.name,
                "log_probability": value,
                "tokens": len(tokens),
                "scored": probe.n_scored,
                "seconds": time.perf_counter() - start,
            }
        )
        return value
