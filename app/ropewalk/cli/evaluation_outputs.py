"""`--json`, `--png`, `--html`, `--resume`: where a verb that measures puts results, and goes on from them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ropewalk.cli import command_line
from ropewalk.cli.failures import MeasuringStoppedError
from ropewalk.cli.results_target import ResultsTarget, require_writable
from ropewalk.engine import EngineError
from ropewalk.evaluation.provenance import machine, now, ropewalk_version
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.results import write_whole
from ropewalk.evaluation.results_file import (
    ModelIdentity,
    RecordedPlan,
    ResultsRecord,
    check_resumable,
    read_results,
)
from ropewalk.sessions.fingerprint import model_fingerprint
from ropewalk.wording.errors import sentence
from ropewalk.wording.quantities import count
from ropewalk_plan import PlanError

Verb = Callable[..., None]

_PICTURES = (".png", ".svg")
_PAGES = (".html", ".htm")


class PlottingMissingError(Exception):
    """matplotlib is not installed; the message says what to do."""


@dataclass
class Recording:
    """Results as they come.

    Attributes:
        record: what there is so far; begins with the results of the file that `--resume` names.
        total: results there will be in all, for what an interruption says; None where that is not known.
    """

    record: ResultsRecord
    total: int | None
    _save: Callable[[ResultsRecord], None] = field(repr=False)

    @property
    def results(self) -> tuple[Mapping[str, Any], ...]:
        """The results so far."""
        return self.record.results

    @property
    def done(self) -> str:
        """How far it is: `3 of 24 results`."""
        n = len(self.record.results)
        return count(n, "result") if self.total is None else f"{n} of {self.total} results"

    def add(self, result: Mapping[str, Any]) -> None:
        """Take one more result, of JSON values, and save the file."""
        self.extend([result])

    def extend(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Take several more, and save the file once."""
        self.record = replace(self.record, results=(*self.record.results, *results))
        self._save(self.record)


@dataclass
class EvaluationOutputs:
    """Where the results of a verb go.

    Attributes:
        target: the results file, and whether the object is printed instead.
        picture: the picture to draw; None for none.
        page: the page to write; None for none.
        earlier: the results to go on from; None to begin.
        resumed: the file they stand in.
    """

    target: ResultsTarget
    picture: Path | None
    page: Path | None
    earlier: ResultsRecord | None
    resumed: Path | None
    _lost: bool = field(default=False, init=False)

    @contextmanager
    def recording(
        self,
        *,
        test: str,
        model: Path,
        settings: Mapping[str, Any],
        plans: Sequence[RecordedPlan],
        report: Report,
        total: int | None = None,
    ) -> Iterator[Recording]:
        """Take results while the block runs, save each, and put out the whole at its end.

        Interrupted, or when the engine fails, what there is is kept and shown; the file then goes on with
        `--resume`. Whatever else ends the block, the file holds what was measured before.

        Args:
            test: what is measured.
            model: the file.
            settings: all else that results depend on, as JSON values.
            plans: the plans measured.
            report: how to show the results.
            total: results there will be in all.

        Raises:
            ResultsMismatch: the file that `--resume` names is of another measurement.
            MeasuringStoppedError: the engine failed, and there are results.
            Exit: a file could not be written.
        """
        recording = Recording(self._begin(test, model, settings, plans), total, self._save)
        try:
            yield recording
        except KeyboardInterrupt:
            self._finish(recording.record, report)
            raise KeyboardInterrupt(self._interrupted(recording)) from None
        except (EngineError, MemoryError) as error:
            if not recording.results:
                raise
            self._finish(recording.record, report)
            raise MeasuringStoppedError(self._stopped(recording, error)) from error
        self._finish(replace(recording.record, complete=True), report)
        self.target.require_kept()
        if self._lost:
            raise click.exceptions.Exit(1)

    def _begin(
        self, test: str, model: Path, settings: Mapping[str, Any], plans: Sequence[RecordedPlan]
    ) -> ResultsRecord:
        record = ResultsRecord(
            test=test,
            command=tuple(map(_readable, command_line.typed())),
            model=ModelIdentity(_readable(model.name), _fingerprint(model)),
            settings=settings,
            plans=tuple(plans),
            ropewalk=ropewalk_version(),
            date=now(),
            machine=machine(),
        )
        if self.earlier is None:
            return record
        check_resumable(self.earlier, record, name=str(self.resumed))
        if self.earlier.complete:  # nothing is left to measure: it stays what was measured then
            return replace(self.earlier, complete=False)
        runs = (*self.earlier.earlier, self.earlier.provenance)
        return replace(record, results=self.earlier.results, earlier=runs)

    def _save(self, record: ResultsRecord) -> None:
        self.target.save(record.as_json())

    def _finish(self, record: ResultsRecord, report: Report) -> None:
        """Write and show all that is wanted; where nothing was measured, no file is."""
        if record.results:
            record = replace(record, summary=tuple(report.summary(record)))
        self.target.finish(record.as_json())
        if not record.results:
            return
        stream = sys.stderr if self.target.takes_stdout else sys.stdout
        text = report.text(record, _shows_colour(stream), _shows_blocks(stream))
        try:  # first the files: whoever reads the text may have had enough of it
            self._draw(record, report)
        finally:
            click.echo(text, err=self.target.takes_stdout)

    def _draw(self, record: ResultsRecord, report: Report) -> None:
        if self.picture is not None:
            picture_format = self.picture.suffix.lower().lstrip(".")
            self._write(self.picture, report.picture(record, picture_format))
        if self.page is not None:
            self._write(self.page, report.page(record).encode())

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_whole(path, content)
        except OSError as error:
            self._lost = True
            click.echo(f"ropewalk: {path} could not be written ({error.strerror or error}).", err=True)

    def _interrupted(self, recording: Recording) -> str:
        if not (recording.results and self.target.kept):
            return f"Interrupted with {recording.done}."
        path = self.target.path
        return f"Interrupted with {recording.done}, kept in {path}; --resume {path} goes on."

    def _stopped(self, recording: Recording, error: BaseException) -> str:
        why, path = sentence(error).rstrip("."), self.target.path
        if not self.target.kept:
            return f"{why}; {recording.done} had come by then."
        return f"{why}; {recording.done} had come by then, kept in {path}; --resume {path} goes on."


def evaluation_outputs(verb: Verb) -> Verb:
    """Give a verb `--json`, `--png`, `--html`, `--resume`, `--force`; it receives them as `outputs`.

    What cannot be written or gone on from is refused before anything is measured.
    """

    @functools.wraps(verb)
    def with_outputs(
        *,
        results_file: Path | None,
        picture_file: Path | None,
        page_file: Path | None,
        resume: Path | None,
        force: bool,
        **others: object,
    ) -> None:
        verb(outputs=_outputs(results_file, picture_file, page_file, resume, force), **others)

    decorated: Verb = with_outputs
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_FILE = click.Path(path_type=Path)
_OPTIONS = (
    click.option(
        "--json",
        "results_file",
        metavar="FILE",
        type=_FILE,
        help="Write the results to FILE, saved after each (- for stdout).",
    ),
    click.option(
        "--png",
        "picture_file",
        metavar="FILE",
        type=_FILE,
        help="Draw them into FILE, .png or .svg; needs matplotlib.",
    ),
    click.option("--html", "page_file", metavar="FILE", type=_FILE, help="Write them as one page, .html."),
    click.option(
        "--resume",
        metavar="FILE",
        type=_FILE,
        help="Go on from the results file of an interrupted run, and save to it.",
    ),
    click.option("--force", is_flag=True, help="Replace these files where they exist."),
)


def _outputs(
    results: Path | None, picture: Path | None, page: Path | None, resume: Path | None, force: bool
) -> EvaluationOutputs:
    if picture is not None:
        _require_suffix(picture, _PICTURES, "--png")
    if page is not None:
        _require_suffix(page, _PAGES, "--html")
    takes_stdout = results is not None and str(results) == "-"
    file = None if takes_stdout else results
    _require_different({"--json": file, "--png": picture, "--html": page})
    if resume is not None:
        _require_different({"--resume": resume, "--png": picture, "--html": page})
    earlier = None if resume is None else read_results(resume)
    if file is None and not takes_stdout:
        file = resume
    goes_on = resume is not None and file is not None and _same(file, resume)
    for path, option in ((file, "--resume" if goes_on else "--json"), (picture, "--png"), (page, "--html")):
        if path is not None:
            require_writable(path, force or (goes_on and path is file), option)
    if picture is not None and find_spec("matplotlib") is None:
        raise PlottingMissingError(
            "matplotlib, which draws the picture, is not installed: run ./scripts/setup plot, "
            "or leave --png out (--html needs nothing)"
        )
    return EvaluationOutputs(ResultsTarget(file, takes_stdout=takes_stdout), picture, page, earlier, resume)


def _require_suffix(path: Path, suffixes: Sequence[str], option: str) -> None:
    if path.suffix.lower() not in suffixes:
        raise click.BadParameter(f"{path} does not end in {' or '.join(suffixes)}", param_hint=f"'{option}'")


def _require_different(targets: Mapping[str, Path | None]) -> None:
    given = [(option, path) for option, path in targets.items() if path is not None]
    for i, (option, path) in enumerate(given):
        for earlier, other in given[:i]:
            if _same(path, other):
                raise click.UsageError(
                    f"{earlier} and {option} name the same file, {path}", click.get_current_context()
                )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _readable(text: str) -> str:
    """An argument, or a file's name, without bytes that are no UTF-8: files and pictures cannot say them."""
    return text.encode("utf-8", "replace").decode()


def _fingerprint(model: Path) -> str:
    try:
        return model_fingerprint(model).digest
    except (OSError, PlanError):  # it was loaded, so it was there: it has been moved since
        return ""


def _shows_colour(stream: Any) -> bool:  # noqa: ANN401  # whatever stands for stdout
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _shows_blocks(stream: Any) -> bool:  # noqa: ANN401
    """Whether a stream's encoding has what the text views draw with: blocks, lines, braille."""
    try:
        "█░─│·⠿–".encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
