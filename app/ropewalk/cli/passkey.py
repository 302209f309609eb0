"""`ropewalk passkey`: does the model find five digits in a long text?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ropewalk.cli import number_lists
from ropewalk.cli.method_options import MethodChoice, optional_method
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.output import print_table
from ropewalk.cli.progress import ProgressReport, Tokens, Update
from ropewalk.cli.results_target import ResultsTarget, results_option
from ropewalk.cli.running import loaded_model
from ropewalk.engine import Engine
from ropewalk.evaluation.passkey import PasskeyResult, PasskeyTask, context_length, plan_tasks, run_task
from ropewalk.sessions import context_for
from ropewalk.wording.errors import one_line
from ropewalk.wording.plans import plan_json


@click.command("passkey")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option(
    "--lengths",
    callback=number_lists.lengths,
    metavar="N,N,...",
    required=True,
    help="Prompt lengths in the model's tokens.",
)
@click.option(
    "--depths",
    callback=number_lists.depths,
    metavar="D,D,...",
    default="0.1,0.5,0.9",
    show_default=True,
    help="Where the key lies, from 0 (start) to 1 (end).",
)
@click.option(
    "--trials", type=click.IntRange(1), default=1, show_default=True, help="Keys per length and depth."
)
@results_option
@optional_method
@model_options
def passkey_command(
    *,
    model: Path,
    lengths: tuple[int, ...],
    depths: tuple[float, ...],
    trials: int,
    results: ResultsTarget,
    choice: MethodChoice | None,
    run: RunOptions,
) -> None:
    """Test whether a model finds five digits in a long text.

    The prompt is that of Mohtashami and Jaggi (2023), at most as long as asked and short of it by less than
    one repetition of its filler; decoding is greedy; a hit is the exact key. What a prompt has in common with
    the one before it is not computed again. `--seed` gives other keys.
    """
    progress = ProgressReport()
    done: list[PasskeyResult] = []
    with loaded_model(model, run, progress, choice) as (engine, description):
        plan = None if description.plan is None else plan_json(description.plan, description.native)
        tasks = plan_tasks(engine, lengths, depths, trials, run.seed)

        def record(*, complete: bool) -> dict[str, Any]:
            rows = [dataclasses.asdict(result) for result in done]
            return {"model": str(model), "plan": plan, "complete": complete, "results": rows}

        try:
            engine.resize(context_for(context_length(tasks)))
            _run_all(engine, tasks, progress, done, lambda: results.save(record(complete=False)))
        except KeyboardInterrupt:
            results.finish(record(complete=False))
            _print_tables(done, results)
            kept = f", kept in {results.path}" if results.kept else ""
            raise KeyboardInterrupt(
                f"Interrupted with {len(done)} of {len(tasks)} cells done{kept}."
            ) from None
    results.finish(record(complete=True))
    _print_tables(done, results)
    results.require_kept()


def _run_all(
    engine: Engine,
    tasks: Sequence[PasskeyTask],
    progress: ProgressReport,
    done: list[PasskeyResult],
    save: Callable[[], None],
) -> None:
    total = sum(task.prompt.tokens for task in tasks)
    before = 0
    with progress.step(f"passkey, {len(tasks)} cells", Tokens()) as overall:
        for i, task in enumerate(tasks, start=1):
            label = f"cell {i}: {task.cell.length:,} at {task.cell.depth:g}"
            with progress.step(label, Tokens()) as cell:

                def update(read: int, of: int, before: int = before, cell: Update = cell) -> None:
                    cell(read, of)
                    overall(before + read, total)

                done.append(run_task(engine, task, update))
            before += task.prompt.tokens
            save()


def _print_tables(done: Sequence[PasskeyResult], results: ResultsTarget) -> None:
    """Show hits by length and depth, then every answer; on stderr where stdout is for the JSON object."""
    if not done:
        return
    lengths, depths = sorted({r.length for r in done}), sorted({r.depth for r in done})
    head = ("LENGTH", *(f"DEPTH {depth:g}" for depth in depths))
    rows = [(f"{length:,}", *(_hits(done, length, depth) for depth in depths)) for length in lengths]
    answers = [
        (
            f"{r.length:,}",
            f"{r.depth:g}",
            str(r.trial + 1),
            "hit" if r.hit else "miss",
            r.key,
            f"{r.prompt_tokens:,}",
            f"{r.seconds:.1f} s",
            one_line(r.answer),
        )
        for r in done
    ]
    answer_head = ("LENGTH", "DEPTH", "TRIAL", "", "KEY", "TOKENS", "TIME", "ANSWER")
    print_table(head, rows, err=results.takes_stdout)
    click.echo(err=results.takes_stdout)
    print_table(answer_head, answers, err=results.takes_stdout)


def _hits(done: Sequence[PasskeyResult], length: int, depth: float) -> str:
    cell = [r.hit for r in done if (r.length, r.depth) == (length, depth)]
    return f"{sum(cell)}/{len(cell)}" if cell else "-"
