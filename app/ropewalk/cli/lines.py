"""`ropewalk lines`: does the model find one line of a long record?"""

from __future__ import annotations

from pathlib import Path

import click

from ropewalk.cli.evaluation_outputs import EvaluationOutputs, evaluation_outputs
from ropewalk.cli.methods_list import MethodsAsked, methods_list
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.planned_model import planned_model
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.retrieval_measuring import RetrievalTest, measure
from ropewalk.cli.retrieval_options import PromptsAsked, prompt_options
from ropewalk.evaluation.haystack_tasks import ROOM_FOR_MORE
from ropewalk.evaluation.lines import TEST, lines_tasks
from ropewalk.evaluation.passkey import require_digits
from ropewalk.evaluation.report_retrieval import RetrievalWords, retrieval_report
from ropewalk.sessions import context_for

_WORDS = RetrievalWords(
    "Line retrieval",
    "The model reads a long record of lines that all look alike, each with a name and a five-digit number. "
    "At the end it is asked for the number of one of them: if it answers with exactly that number, it can "
    "tell apart what it read that far back. Each cell of the maps says for one length and one place how "
    "often it could, out of how many tries.",
)


@click.command("lines")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@prompt_options(
    depth="Which line is asked for, from 0 (the first) to 1 (the last).",
    trials="Records per length and depth.",
)
@evaluation_outputs
@methods_list
@model_options
def lines_command(
    *,
    model: Path,
    prompts: PromptsAsked,
    outputs: EvaluationOutputs,
    methods: MethodsAsked,
    run: RunOptions,
) -> None:
    """Test whether a model finds one line of a long record.

    The line retrieval of LongEval (Li et al. 2023): lines such as "line torpid-kid: REGISTER_CONTENT is
    <24169>", and a question for the number of one. A prompt is at most as long as asked and short of it by
    less than one line; decoding is greedy; a hit is the exact number. All lengths and depths of a trial read
    the same record, which is computed once. `--seed` gives other records.
    """
    progress = ProgressReport()
    with planned_model(model, run, progress, methods) as planned:
        require_digits(planned.engine)
        tokenize = prompts.tokenizer(planned.engine)
        planned.require_room(context_for(max(prompts.lengths) + ROOM_FOR_MORE))
        with progress.step("counting the prompts' tokens", Measure()) as update:
            tasks = lines_tasks(
                tokenize,
                prompts.lengths,
                prompts.depths,
                prompts.trials,
                run.seed,
                chat=prompts.chat,
                on_progress=update,
            )
        test = RetrievalTest(TEST, tasks, prompts.settings(run), retrieval_report(_WORDS))
        measure(planned, test, outputs, progress)
