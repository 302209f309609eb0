"""`ropewalk passkey`: does the model find five digits in a long text?"""

from __future__ import annotations

from pathlib import Path

import click

from ropewalk.cli import number_lists
from ropewalk.cli.evaluation_outputs import EvaluationOutputs, evaluation_outputs
from ropewalk.cli.methods_list import MethodsAsked, methods_list
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.planned_model import planned_model
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.retrieval_measuring import RetrievalTest, measure
from ropewalk.evaluation.passkey import ANSWER_TOKENS, TEST, passkey_tasks
from ropewalk.evaluation.report_retrieval import PASSKEY, retrieval_report
from ropewalk.sessions import context_for


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
@evaluation_outputs
@methods_list
@model_options
def passkey_command(
    *,
    model: Path,
    lengths: tuple[int, ...],
    depths: tuple[float, ...],
    trials: int,
    outputs: EvaluationOutputs,
    methods: MethodsAsked,
    run: RunOptions,
) -> None:
    """Test whether a model finds five digits in a long text.

    The prompt is that of Mohtashami and Jaggi (2023), at most as long as asked and short of it by less than
    one repetition of its filler; decoding is greedy; a hit is the exact key. What prompts have in common is
    computed once, for all depths, trials and lengths. `--seed` gives other keys.
    """
    progress = ProgressReport()
    with planned_model(model, run, progress, methods) as planned:
        planned.require_room(context_for(max(lengths) + ANSWER_TOKENS))
        with progress.step("counting the prompts' tokens", Measure()) as update:
            tasks = passkey_tasks(planned.engine, lengths, depths, trials, run.seed, on_progress=update)
        settings = {
            "lengths": sorted(lengths),
            "depths": sorted(depths),
            "trials": trials,
            "seed": run.seed,
            "kv_type": run.kv_type,
        }
        test = RetrievalTest(TEST, tasks, settings, retrieval_report(PASSKEY))
        measure(planned, test, outputs, progress)
