"""`ropewalk windows`: which layers of a model can do with a window, by measurement."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from ropewalk.cli import number_lists
from ropewalk.cli.document_options import read_sources
from ropewalk.cli.evaluation_outputs import EvaluationOutputs, Recording, evaluation_outputs
from ropewalk.cli.failures import InputFileError
from ropewalk.cli.method_options import add_method_options, by_name
from ropewalk.cli.model_file import ModelWords, read_model_words
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.running import FIRST_CONTEXT, require_file, started_engine
from ropewalk.cli.windows_check import Check, CheckSize
from ropewalk.cli.windows_progress import SearchProgress
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.layer_windows import Limits
from ropewalk.evaluation.layer_windows_findings import Question
from ropewalk.evaluation.layer_windows_measure import Measurements, Measurer
from ropewalk.evaluation.layer_windows_plans import ALL, FULL, WindowPlans
from ropewalk.evaluation.layer_windows_probes import NOTHING_ASKED, CalibrationTexts, calibration_texts
from ropewalk.evaluation.layer_windows_report import windows_report
from ropewalk.evaluation.passkey import ANSWER_TOKENS, passkey_tasks
from ropewalk.evaluation.results_file import RecordedPlan
from ropewalk.evaluation.shipped_text import NAME, shipped_text
from ropewalk.sessions import context_for
from ropewalk.wording.plans import plan_json
from ropewalk_plan.not_executed import not_executed

_SCORED_AT_ONCE = 128
_BEYOND = "dprope"


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What is measured, as it was asked for; 0 and () stand for what follows from the target length."""

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    keys: int
    check: CheckSize

    def at(self, target_length: int) -> _Wanted:
        """With lengths for a target: a quarter of it, a half, and all of it."""
        parts = (max(1, target_length // 4), max(1, target_length // 2))
        check_lengths = self.check.lengths or (*parts, max(1, target_length - ANSWER_TOKENS))
        return dataclasses.replace(
            self,
            lengths=self.lengths or (*parts, target_length),
            check=dataclasses.replace(self.check, lengths=check_lengths),
        )


_method_options = functools.partial(
    add_method_options,
    method=f"A method of frequencies beside the windows [default: {_BEYOND} beyond the train length].",
    target_length="Context length to reach [default: the train length].",
    train_length="Context length trained on [default: the file's].",
)


@click.command("windows")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option(
    "--window",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Tokens that a windowed layer sees.",
)
@click.option(
    "--sinks",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="First tokens that it goes on seeing.",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0),
    default=0.25,
    show_default=True,
    help="Most that the windows together may lose, in nats: a key and as much text, on average.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Most that any one key may lose, in nats.",
)
@click.option(
    "--rope-layers",
    type=click.Choice([FULL, ALL]),
    default=FULL,
    show_default=True,
    help="Layers that the method's frequencies are for: those without a window, or all.",
)
@click.option(
    "--lengths",
    callback=number_lists.lengths_or_none,
    metavar="N,N,...",
    help="Prompt lengths to calibrate on [default: a quarter, a half and all of the target length].",
)
@click.option(
    "--depths",
    callback=number_lists.depths,
    metavar="D,D,...",
    default="0.1,0.5",
    show_default=True,
    help="Where their keys lie.",
)
@click.option(
    "--keys", type=click.IntRange(1), default=1, show_default=True, help="Keys for each length and depth."
)
@click.option("--layers", metavar="N-N,N,...", help="Search nothing: check windows in these layers, from 0.")
@click.option("--text", metavar="FILE", help=f"Real text to calibrate on and to time with [default: {NAME}].")
@click.option(
    "--check-lengths",
    callback=number_lists.lengths_or_none,
    metavar="N,N,...",
    help="Lengths of the fresh prompts [default: as --lengths, with room for an answer].",
)
@click.option(
    "--check-depths",
    callback=number_lists.depths,
    metavar="D,D,...",
    default="0.1,0.3,0.5,0.7,0.9",
    show_default=True,
    help="Where their keys lie.",
)
@click.option(
    "--check-trials",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Fresh keys for each length and depth; 0 leaves the check out.",
)
@click.option(
    "--pairs",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Pairs of readings by the clock, with and without windows.",
)
@_method_options
@evaluation_outputs
@model_options
def windows_command(
    *,
    model: Path,
    window: int,
    sinks: int,
    max_loss: float,
    max_drop: float,
    rope_layers: str,
    lengths: tuple[int, ...],
    depths: tuple[float, ...],
    keys: int,
    layers: str | None,
    text: str | None,
    check_lengths: tuple[int, ...],
    check_depths: tuple[float, ...],
    check_trials: int,
    pairs: int,
    method: str | None,
    train_length: int | None,
    target_length: int | None,
    method_option: tuple[str, ...],
    outputs: EvaluationOutputs,
    run: RunOptions,
) -> None:
    """Find the layers of a model that can do with a window, by measurement.

    Each layer gets a window by itself, and what that costs a hidden key is measured: the log-probability of
    the right answer. Then layers get one together, the most tolerant first, as long as keys and real text
    lose no more than allowed. The set is checked on fresh prompts, with time and memory, and the command is
    shown that bakes it. Ctrl-C keeps what is done, and --resume goes on.
    """
    progress = ProgressReport()
    require_file(model)
    words = _plain_words(model)
    if method is None and (method_option or (train_length is not None and target_length is None)):
        raise click.UsageError("Missing option '--method'", click.get_current_context())
    trained = words.spec.train_length if train_length is None else train_length
    target = trained if target_length is None else target_length
    if method is None and target > trained:
        method = _BEYOND
    plans = WindowPlans(
        words.spec, method or "", by_name(method_option), target, trained, window, sinks, rope_layers
    )
    _require_executed(model, words, plans)
    wanted = _Wanted(lengths, depths, keys, CheckSize(check_lengths, check_depths, check_trials, pairs))
    wanted = wanted.at(target)
    given = () if layers is None else _layers(layers, words.spec.n_layer)
    if given and outputs.picture is not None:
        raise click.UsageError(
            "--png draws what each layer loses, which --layers does not measure: leave one of the two out",
            click.get_current_context(),
        )
    name, content = (NAME, shipped_text()) if text is None else _read_text(text, progress)
    options = dataclasses.replace(run.engine_options(FIRST_CONTEXT), n_scored=_SCORED_AT_ONCE)
    with started_engine() as engine:
        _load(engine, model, options, progress)
        with progress.step("making prompts", Measure()):
            texts = (
                NOTHING_ASKED
                if given
                else calibration_texts(
                    engine,
                    lengths=wanted.lengths,
                    depths=wanted.depths,
                    keys=wanted.keys,
                    seed=run.seed,
                    reach=window + sinks,
                    text=content,
                    text_name=name,
                )
            )
            fresh = wanted.check.fresh_text(engine, content, name, start=texts.longest)
            size = wanted.check
            tasks = (
                passkey_tasks(engine, size.lengths, size.depths, size.trials, run.seed) if size.trials else []
            )
        for left_out in texts.left_out:
            click.echo(f"ropewalk: left out, as the window reaches the key: {left_out}", err=True)
        question = Question(texts.calibration, Limits(max_loss, max_drop), plans, given)
        _require_room(engine, plans, max(texts.longest, size.context(tasks, fresh)))
        with outputs.recording(
            test="windows",
            model=model,
            settings=_settings(question, wanted, run, hashlib.sha256(content.encode()).hexdigest()),
            plans=[_recorded(plans)],
            report=windows_report(question, model),
        ) as recording:
            found = given or _search(engine, question, texts, recording, progress)
            if found:
                compared = question.compared(found)
                Check(engine, model, options, size, tasks, fresh, compared, recording, progress).run()


def _search(
    engine: Engine,
    question: Question,
    texts: CalibrationTexts,
    recording: Recording,
    progress: ProgressReport,
) -> tuple[int, ...]:
    """The layers that get a window."""
    engine.use_plan(question.plans.plan(()), context_for(texts.longest))
    measurements = Measurements(recording.results)
    search = question.search()
    with closing(SearchProgress(progress, search, measurements)) as steps:
        search.run(
            Measurer(
                engine,
                question.plans,
                texts.tokens,
                measurements,
                record=recording.add,
                on_progress=steps.update,
            )
        )
    return search.found.layers if search.found is not None else ()


def _layers(text: str, n_layer: int) -> tuple[int, ...]:
    """The layers of `0-5,7`, rising.

    Raises:
        BadParameter: it names none, or one that the model has not.
    """
    named: set[int] = set()
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        ends = [int(word) for word in (first, last if dash else first) if word.isdecimal()]
        if len(ends) != 2 or not ends[0] <= ends[1] < n_layer:
            raise click.BadParameter(
                f"'{text}' is not a list of layers such as 0-5,7, each from 0 to {n_layer - 1}",
                click.get_current_context(),
                param_hint="'--layers'",
            )
        named |= set(range(ends[0], ends[1] + 1))
    return tuple(sorted(named))


def _plain_words(model: Path) -> ModelWords:
    """What a file says of its rotation, if it carries no plan.

    Raises:
        InputFileError: it does, or says nothing.
    """
    words = read_model_words(model)
    if words.stored is not None:
        raise InputFileError(
            f"{model} carries a plan already ({words.stored.plan.method}); "
            "name the plain file it was baked from."
        )
    return words


def _require_executed(model: Path, words: ModelWords, plans: WindowPlans) -> None:
    """Refuse a model to which the library gives no windows, before it is loaded.

    Raises:
        InputFileError: so.
    """
    for layers in ((), (0,)):
        plan = plans.plan(layers)
        refused = None if plan is None else not_executed(plan, words.header)
        if refused is not None:
            raise InputFileError(f"{model}: {refused.reason}; {refused.remedy}.")


def _read_text(path: str, progress: ProgressReport) -> tuple[str, str]:
    """A text's name and content."""
    document = read_sources([path], None, progress)
    return document.name, document.text


def _load(engine: Engine, model: Path, options: EngineOptions, progress: ProgressReport) -> None:
    with progress.step(f"loading {model.name}", Measure()) as update:
        engine.load(model, options, lambda done: update(done, 1.0))


def _require_room(engine: Engine, plans: WindowPlans, n_tokens: int) -> None:
    """Refuse prompts that do not fit, and plans that the library refuses, before anything is computed.

    Raises:
        DoesNotFitError: so.
        EngineError: the library refuses one of the plans.
    """
    for layers in ((0,), ()):
        engine.use_plan(plans.plan(layers), context_for(n_tokens))


def _recorded(plans: WindowPlans) -> RecordedPlan:
    plan = plans.plan(())
    return RecordedPlan(plans.label_of(()), None if plan is None else plan_json(plan, native=False))


def _settings(question: Question, wanted: _Wanted, run: RunOptions, digest: str) -> dict[str, Any]:
    """All that the results depend on."""
    plans, limits = question.plans, question.limits
    return {
        "method": plans.method,
        "method_options": dict(plans.options),
        "train_length": plans.train_length,
        "target_length": plans.target_length,
        "window": plans.window,
        "sinks": plans.sinks,
        "rope_layers": plans.rope_layers,
        "max_loss": limits.max_loss,
        "max_drop": limits.max_drop,
        "lengths": list(wanted.lengths),
        "depths": list(wanted.depths),
        "keys": wanted.keys,
        "check": dataclasses.asdict(wanted.check),
        "text": digest,
        "probes": [dataclasses.asdict(probe) for probe in question.calibration.probes],
        "layers": list(question.given),
        "seed": run.seed,
        "kv_type": run.kv_type,
        "flash_attention": run.flash_attn,
    }
