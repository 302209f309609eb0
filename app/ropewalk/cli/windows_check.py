"""The check of a set of windowed layers: by the clock, on fresh text, on fresh prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk.cli.evaluation_outputs import Recording
from ropewalk.cli.progress import Measure, ProgressReport, Tokens
from ropewalk.cli.retrieval_progress import run_with_progress
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.layer_windows_check import (
    HITS,
    TEXT,
    Compared,
    score_text,
    take_turn,
    turn_context,
    turns_left,
)
from ropewalk.evaluation.layer_windows_probes import TEXT_SCORED, text_tokens
from ropewalk.evaluation.results_retrieval import as_row
from ropewalk.evaluation.retrieval import RetrievalTask
from ropewalk.evaluation.retrieval_run import context_length
from ropewalk.sessions import context_for


@dataclass(frozen=True)
class CheckSize:
    """How much is checked.

    Attributes:
        lengths: of the fresh prompts, in tokens.
        depths: where their keys lie.
        trials: keys for each length and depth; 0 for no check.
        pairs: readings with and without windows, by the clock.
    """

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    trials: int
    pairs: int

    def fresh_text(self, engine: Engine, content: str, name: str, start: int) -> tuple[int, ...]:
        """Text that the calibration has not seen, as long as the longest prompt.

        Raises:
            CalibrationError: there is too little of it.
        """
        return (
            text_tokens(engine, content, name, start, max(self.lengths)) if self.trials or self.pairs else ()
        )

    def context(self, tasks: Sequence[RetrievalTask], fresh: Sequence[int]) -> int:
        """Tokens of context that the check needs."""
        return max([turn_context(len(fresh)), *([context_length(tasks)] if tasks else [])])


@dataclass(frozen=True)
class Check:
    """What is checked, and where its rows go.

    Attributes:
        engine: has the model loaded for one sequence.
        model: its file.
        options: with which it was loaded.
        size: how much is checked.
        tasks: fresh passkey prompts.
        fresh: tokens of fresh text.
        compared: the plans without and with windows.
        recording: takes the rows, and has those of an earlier run.
        progress: told of it.
    """

    engine: Engine
    model: Path
    options: EngineOptions
    size: CheckSize
    tasks: Sequence[RetrievalTask]
    fresh: Sequence[int]
    compared: Sequence[Compared]
    recording: Recording
    progress: ProgressReport

    def run(self) -> None:
        """Measure what is still missing, row by row: hits, then text, then times."""
        left = self._questions_left()
        if left:  # a second sequence, from which prompts go on that begin alike
            self._load(dataclasses.replace(self.options, n_sequences=2))
            for one, its in left:
                self.engine.use_plan(one.plan, context_for(context_length(its)))
                for result in run_with_progress(self.engine, its, self.progress, method=one.label):
                    self.recording.add({"part": HITS, **as_row(result)})
            self._load(self.options)
        n_ctx = context_for(turn_context(len(self.fresh)))
        self._score_text(n_ctx)
        for turn, one in turns_left(self.recording.results, self.compared, self.size.pairs):
            with self.progress.step(f"pair {turn + 1} of {self.size.pairs}, {one.label}", Tokens()) as update:
                self.recording.add(take_turn(self.engine, one, self.fresh, update, n_ctx=n_ctx, turn=turn))

    def _questions_left(self) -> list[tuple[Compared, list[RetrievalTask]]]:
        """What is to be asked under which plan.

        Both plans at each length before the next one, so that what is done at any time can be compared.
        """
        answered = {
            (row["method"], row["length"], row["depth"], row["trial"])
            for row in self.recording.results
            if row.get("part") == HITS
        }
        left = []
        for length in sorted(set(self.size.lengths)):
            for one in self.compared:
                its = [t for t in self.tasks if t.length == length and _name(one, t) not in answered]
                left += [(one, its)] if its else []
        return left

    def _score_text(self, n_ctx: int) -> None:
        scored = {row["plan"] for row in self.recording.results if row.get("part") == TEXT}
        n_scored = min(TEXT_SCORED, len(self.fresh) // 2)
        for one in self.compared if self.size.trials else ():
            if one.label not in scored:
                with self.progress.step(f"fresh text, {one.label}", Tokens()) as update:
                    row = score_text(self.engine, one, self.fresh, update, n_ctx=n_ctx, n_scored=n_scored)
                    self.recording.add(row)

    def _load(self, options: EngineOptions) -> None:
        with self.progress.step(f"loading {self.model.name}", Measure()) as update:
            self.engine.load(self.model, options, lambda done: update(done, 1.0))


def _name(compared: Compared, task: RetrievalTask) -> tuple[str, int, float, int]:
    """What tells an answer from the others of a check."""
    return compared.label, task.length, task.depth, task.trial
