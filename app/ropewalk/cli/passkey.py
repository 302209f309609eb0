"""`ropewalk passkey`: does the model find five digits in a long text?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ropewalk.cli import number_lists
from ropewalk.cli.methods_list import MethodsAsked, methods_list
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.output import print_table
from ropewalk.cli.planned_model import planned_model
from ropewalk.cli.progress import ProgressReport
from ropewalk.cli.results_target import ResultsTarget, results_option
from ropewalk.cli.retrieval_progress import run_with_progress
from ropewalk.evaluation.passkey import passkey_tasks
from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk.evaluation.retrieval_run import context_length
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
@methods_list
@model_options
def passkey_command(
    *,
    model: Path,
    lengths: tuple[int, ...],
    depths: tuple[float, ...],
    trials: int,
    results: ResultsTarget,
    methods: MethodsAsked,
    run: RunOptions,
) -> None:
    """Test whether a model finds five digits in a long text.

    The prompt is that of Mohtashami and Jaggi (2023), at most as long as asked and short of it by less than
    one repetition of its filler; decoding is greedy; a hit is the exact key. What prompts have in common is
    computed once. `--seed` gives other keys.
    """
    progress = ProgressReport()
    done: list[RetrievalResult] = []
    with planned_model(model, run, progress, methods) as planned:
        tasks = passkey_tasks(planned.engine, lengths, depths, trials, run.seed)
        total = len(tasks) * len(planned.plans)
        description = planned.engine.model

        def record(*, complete: bool) -> dict[str, Any]:
            rows = [dataclasses.asdict(result) for result in done]
            plan = planned.plans[0].plan
            native = description is not None and description.native
            return {
                "model": str(model),
                "plan": None if plan is None else plan_json(plan, native),
                "complete": complete,
                "results": rows,
            }

        try:
            n_ctx = context_for(context_length(tasks))
            planned.require_room(n_ctx)
            for plan in planned.plans:
                planned.use(plan, n_ctx)
                for result in run_with_progress(planned.engine, tasks, progress, method=plan.label):
                    done.append(result)
                    results.save(record(complete=False))
        except KeyboardInterrupt:
            results.finish(record(complete=False))
            _print_tables(done, results)
            kept = f", kept in {results.path}" if results.kept else ""
            raise KeyboardInterrupt(f"Interrupted with {len(done)} of {total} cells done{kept}.") from None
    results.finish(record(complete=True))
    _print_tables(done, results)
    results.require_kept()


def _print_tables(done: Sequence[RetrievalResult], results: ResultsTarget) -> None:
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
            r.expected[0],
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


def _hits(done: Sequence[RetrievalResult], length: int, depth: float) -> str:
    cell = [r.hit for r in done if (r.length, r.depth) == (length, depth)]
    return f"{sum(cell)}/{len(cell)}" if cell else "-"
