"""`ropewalk perplexity`: how well a model foresees a text, by the length of the context."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ropewalk.cli import number_lists
from ropewalk.cli.document_options import read_sources, selection_options
from ropewalk.cli.evaluation_outputs import EvaluationOutputs, evaluation_outputs
from ropewalk.cli.methods_list import MethodsAsked, methods_list
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.planned_model import PlannedModel, planned_model
from ropewalk.cli.progress import Measure, ProgressReport, Tokens, TokensOfTexts, Update
from ropewalk.cli.window_count import WindowCount
from ropewalk.documents import Document, Selection
from ropewalk.engine import Engine
from ropewalk.evaluation.labelled_plan import LabelledPlan
from ropewalk.evaluation.perplexity import (
    PerplexityResult,
    first_scored,
    sliding,
    start_tokens,
    truncated_steps,
    truncated_work,
)
from ropewalk.evaluation.perplexity_record import measured, row_of
from ropewalk.evaluation.perplexity_report import perplexity_report
from ropewalk.evaluation.perplexity_windows import (
    DEFAULT_SLIDING,
    DEFAULT_TRUNCATED,
    Stretch,
    sliding_stretches,
    truncated_stretches,
)
from ropewalk.evaluation.results_file import RecordedPlan
from ropewalk.evaluation.shipped_text import NAME, shipped_text
from ropewalk.wording.plans import plan_json

_SCORED_AT_ONCE = 256
_SHORTEST = 2
_TEXT_OPTIONS_WITHOUT_TEXT = "--pages and --lines choose from a TEXT: name one"


@dataclass(frozen=True)
class _Wanted:
    """What was asked for.

    Attributes:
        lengths: tokens of context, rising.
        stride: tokens scored in each window where it slides; None for truncated.
        windows: how many; None for all there are.
        score_from: share of a truncated window from which on tokens count.
    """

    lengths: tuple[int, ...]
    stride: int | None
    windows: int | None
    score_from: float


@dataclass(frozen=True)
class _Text:
    """A text in a model's tokens.

    Attributes:
        name: what to call it.
        digest: of its characters.
        start: tokens that each window begins with.
        tokens: all of it, without them.
        stretches: what is measured.
    """

    name: str
    digest: str
    start: list[int]
    tokens: list[int]
    stretches: tuple[Stretch, ...]


@click.command("perplexity")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("sources", metavar="[TEXT]...", nargs=-1)
@click.option(
    "--lengths",
    callback=number_lists.lengths,
    metavar="N,N,...",
    required=True,
    help="Lengths of the context in the model's tokens.",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    help="Slide the window and score the last so many tokens of each, 256 in the papers "
    "[default: one pass over each length, all tokens scored].",
)
@click.option(
    "--windows",
    type=WindowCount(),
    metavar="N|all",
    help=f"Windows, evenly spread over the text [default: {DEFAULT_TRUNCATED}, or {DEFAULT_SLIDING} "
    "with --stride].",
)
@click.option(
    "--score-from",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Count tokens from this share of the length on; llama.cpp's own tool does so from 0.5 on.",
)
@evaluation_outputs
@selection_options
@methods_list
@model_options
def perplexity_command(
    *,
    model: Path,
    sources: tuple[str, ...],
    lengths: tuple[int, ...],
    stride: int | None,
    windows: int | None,
    score_from: float,
    outputs: EvaluationOutputs,
    selection: Selection | None,
    methods: MethodsAsked,
    run: RunOptions,
) -> None:
    """Measure how well a model foresees a text, by the length of the context.

    MODEL is a GGUF file, TEXT any document that `ask` reads; without one, a novel that comes with ropewalk.
    A text is cut to each length and read in one pass, or with --stride a window slides over it. Every window
    begins with the model's start token, where it has one, which counts as one of its tokens.
    """
    wanted = _wanted(lengths, stride, windows, score_from)
    progress = ProgressReport()
    document = _document(sources, selection, progress)
    with planned_model(model, run, progress, methods, texts=1, n_scored=_SCORED_AT_ONCE) as planned:
        with progress.step(f"counting the tokens of {document.name}", Measure()):
            text = _tokenized(planned.engine, document, wanted)
        settings = _settings(planned, wanted, text, run)
        planned.require_room(wanted.lengths[-1])
        with outputs.recording(
            test="perplexity",
            model=model,
            settings=settings,
            plans=[_recorded(planned, plan) for plan in planned.plans],
            report=perplexity_report(),
            total=len(planned.plans) * len(wanted.lengths) * len(text.stretches),
        ) as recording:
            done = measured(recording.results)
            measurer = _Measurer(planned.engine, wanted, text, progress)
            for plan in planned.plans:
                missing = _missing(wanted, text, plan.label, done)
                if not missing:
                    continue
                planned.use(plan)
                for result, stretch in measurer.results(plan.label, missing):
                    recording.add(row_of(result, stretch))


def _wanted(lengths: Sequence[int], stride: int | None, windows: int | None, score_from: float) -> _Wanted:
    context = click.get_current_context()
    rising = tuple(sorted(set(lengths)))
    if rising[0] < _SHORTEST:
        raise click.BadParameter(
            f"{rising[0]} leaves no token to score; use {_SHORTEST} or more",
            context,
            param_hint="'--lengths'",
        )
    if stride is not None and score_from:
        raise click.UsageError(
            "--score-from goes without --stride, which says itself what is scored: leave one out", context
        )
    if stride is not None and stride >= rising[0]:
        raise click.BadParameter(
            f"{stride:,} tokens cannot be scored in a window of {rising[0]:,}: use a shorter one",
            context,
            param_hint="'--stride'",
        )
    if first_scored(rising[0], score_from) >= rising[0]:
        raise click.BadParameter(
            f"from {score_from:g} on, {rising[0]:,} tokens leave none to score: use less",
            context,
            param_hint="'--score-from'",
        )
    if windows is None:
        windows = DEFAULT_TRUNCATED if stride is None else DEFAULT_SLIDING
    return _Wanted(rising, stride, None if windows == WindowCount.ALL else windows, score_from)


def _document(sources: Sequence[str], selection: Selection | None, progress: ProgressReport) -> Document:
    if sources:
        return read_sources(sources, selection, progress)
    if selection is not None:
        raise click.UsageError(_TEXT_OPTIONS_WITHOUT_TEXT, click.get_current_context())
    return Document.of_text(NAME, shipped_text())


def _tokenized(engine: Engine, document: Document, wanted: _Wanted) -> _Text:
    """The text in the model's tokens, and where it is measured.

    Raises:
        TextTooShortError: it has too few.
    """
    start = start_tokens(engine)
    tokens = engine.tokenize(document.text, add_special=False)
    longest = wanted.lengths[-1]
    stretches = (
        truncated_stretches(len(tokens), longest, len(start), wanted.windows)
        if wanted.stride is None
        else sliding_stretches(len(tokens), longest, wanted.stride, len(start), wanted.windows)
    )
    digest = hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest()
    return _Text(document.name, digest, start, tokens, stretches)


def _settings(planned: PlannedModel, wanted: _Wanted, text: _Text, run: RunOptions) -> dict[str, Any]:
    described = planned.engine.model
    assert described is not None
    return {
        "lengths": list(wanted.lengths),
        "stride": wanted.stride,
        "windows": len(text.stretches),
        "score_from": wanted.score_from,
        "text": text.name,
        "text_digest": text.digest,
        "text_tokens": len(text.tokens),
        "start_tokens": len(text.start),
        "train_length": described.train_length,
        "kv_type": run.kv_type,
        "flash_attention": run.flash_attn,
    }


def _recorded(planned: PlannedModel, plan: LabelledPlan) -> RecordedPlan:
    described = planned.engine.model
    native = described is not None and described.native
    return RecordedPlan(plan.label, None if plan.plan is None else plan_json(plan.plan, native))


def _missing(
    wanted: _Wanted, text: _Text, label: str, done: set[tuple[str, int, int]]
) -> list[tuple[Stretch, list[int]]]:
    """Stretches with the lengths that a plan was not measured at yet."""
    lengths = [
        (stretch, [n for n in wanted.lengths if (label, n, stretch.index) not in done])
        for stretch in text.stretches
    ]
    return [(stretch, some) for stretch, some in lengths if some]


@dataclass(frozen=True)
class _Measurer:
    """Measures a plan that is in force."""

    engine: Engine
    wanted: _Wanted
    text: _Text
    progress: ProgressReport

    def results(
        self, label: str, missing: Sequence[tuple[Stretch, list[int]]]
    ) -> Iterator[tuple[PerplexityResult, Stretch]]:
        """What is missing of a plan's results, each as soon as it is there."""
        work = [self._work(lengths) for _, lengths in missing]
        with self.progress.step(f"{label}, perplexity", TokensOfTexts()) as overall:
            for number, (stretch, lengths) in enumerate(missing):
                tell = _part_of(overall, sum(work[:number]), sum(work))
                with self._shown(stretch, tell) as tell_both:
                    for result in self._window(label, stretch, lengths, tell_both):
                        yield result, stretch

    @contextmanager
    def _shown(self, stretch: Stretch, overall: Update) -> Iterator[Update]:
        """A step for a window, beside that of all, where there are several."""
        if len(self.text.stretches) == 1:
            yield overall
            return
        name = f"window {stretch.index + 1} of {len(self.text.stretches)}"
        with self.progress.step(name, Tokens()) as update:
            yield _both(overall, update)

    def _work(self, lengths: Sequence[int]) -> int:
        assert self.engine.model is not None
        return truncated_work(lengths, self.engine.model) if self.wanted.stride is None else sum(lengths)

    def _window(
        self, label: str, stretch: Stretch, lengths: Sequence[int], tell: Update
    ) -> Iterator[PerplexityResult]:
        text, stride = self.text, self.wanted.stride
        if stride is None:
            read = [*text.start, *text.tokens[stretch.start : stretch.end]]
            score_from = self.wanted.score_from
            yield from truncated_steps(
                self.engine, read, lengths, method=label, on_progress=tell, score_from=score_from
            )
            return
        before = 0
        for length in lengths:
            yield sliding(
                self.engine,
                text.tokens,
                length,
                stride,
                method=label,
                on_progress=_part_of(tell, before, sum(lengths)),
                ends=[stretch.end],
                start=text.start,
            )
            before += length


def _part_of(update: Update, before: int, total: int) -> Update:
    """Tells of a part, behind which `before` lies of the `total`."""
    return lambda done, _total: update(before + done, total)


def _both(first: Update, second: Update) -> Update:
    def tell(done: float, total: float) -> None:
        first(done, total)
        second(done, total)

    return tell
