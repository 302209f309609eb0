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


def check(  # noqa: PLR0917  # the parts of one command
    engine: Engine,
    model: Path,
    options: EngineOptions,
    size: CheckSize,
    tasks: Sequence[RetrievalTask],
    fresh: Sequence[int],
    compared: Sequence[Compared],
    recording: Recording,
    progress: ProgressReport,
) -> None:
    """Measure what is still missing, row by row.

    Args:
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
    n_ctx = context_for(turn_context(len(fresh)))
    for turn, one in turns_left(recording.results, compared, size.pairs):
        label = f"pair {turn + 1} of {size.pairs}, {one.label}"
        with progress.step(label, Tokens()) as update:
            recording.add(take_turn(engine, one, fresh, update, n_ctx=n_ctx, turn=turn))
    scored = {row["plan"] for row in recording.results if row.get("part") == TEXT}
    n_scored = min(TEXT_SCORED, len(fresh) // 2)
    for one in compared if size.trials else ():
        if one.label not in scored:
            with progress.step(f"fresh text, {one.label}", Tokens()) as update:
                recording.add(score_text(engine, one, fresh, update, n_ctx=n_ctx, n_scored=n_scored))
    answered = {
        (row["method"], row["length"], row["depth"], row["trial"])
        for row in recording.results
        if row.get("part") == HITS
    }
    left = []
    for length in sorted(
        set(size.lengths)
    ):  # both plans at each, so that what is done by then can be compared
        for one in compared:
            its = [task for task in tasks if task.length == length and _name(one, task) not in answered]
            left += [(one, its)] if its else []
    if left:  # a second sequence, from which prompts go on that begin alike
        with progress.step(f"loading {model.name}", Measure()) as update:
            engine.load(model, dataclasses.replace(options, n_sequences=2), lambda done: update(done, 1.0))
    for one, its in left:
        engine.use_plan(one.plan, context_for(context_length(its)))
        for result in run_with_progress(engine, its, progress, method=one.label):
            recording.add({"part": HITS, **as_row(result)})


def _name(compared: Compared, task: RetrievalTask) -> tuple[str, int, float, int]:
    """What tells an answer from the others of a check."""
    return compared.label, task.length, task.depth, task.trial
