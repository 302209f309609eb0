"""Which error ends a command with which exit code."""

from __future__ import annotations

from ropewalk.backend.errors import LibraryNotPatchedError
from ropewalk.documents import DocumentError
from ropewalk.engine import DoesNotFitError, ModelLoadError
from ropewalk.evaluation.haystack import HaystackTooShortError
from ropewalk.evaluation.layer_windows_probes import CalibrationError
from ropewalk.evaluation.needle_draws import NothingToDrawError
from ropewalk.evaluation.needle_form import NeedleFormError
from ropewalk.evaluation.passkey_prompt import MissingDigitsError, PromptLengthError
from ropewalk.evaluation.perplexity import TextTooShortError
from ropewalk.evaluation.results_file import ResultsFileError, ResultsMismatch
from ropewalk.sessions import TooLongError
from ropewalk.sessions.snapshot import UnknownSnapshot
from ropewalk.sessions.snapshot_budget import BudgetError
from ropewalk.wording.errors import sentence
from ropewalk_convert.errors import SourceError, SpaceError, TargetError
from ropewalk_plan import PlanError

FAILED, USAGE, BAD_INPUT, DOES_NOT_FIT, NOT_PATCHED = 1, 2, 3, 4, 5


class InputFileError(Exception):
    """A file that a verb cannot work on; the message is a sentence that names it and the remedy."""


class CheckFailedError(Exception):
    """A check that a person asked for did not hold; the message is a sentence that says which."""


class MeasuringStoppedError(Exception):
    """What was raised `from` ended a measurement that has results; the message says what became of them."""


_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (  # the first that fits
    (LibraryNotPatchedError, NOT_PATCHED),
    (DoesNotFitError, DOES_NOT_FIT),
    (TooLongError, DOES_NOT_FIT),
    (MemoryError, DOES_NOT_FIT),
    (SpaceError, DOES_NOT_FIT),
    (ModelLoadError, BAD_INPUT),
    (SourceError, BAD_INPUT),
    (DocumentError, BAD_INPUT),
    (InputFileError, BAD_INPUT),
    (MissingDigitsError, BAD_INPUT),
    (ResultsFileError, BAD_INPUT),
    (ResultsMismatch, USAGE),
    (TargetError, USAGE),
    (PromptLengthError, USAGE),
    (HaystackTooShortError, USAGE),
    (NothingToDrawError, USAGE),
    (NeedleFormError, USAGE),
    (TextTooShortError, USAGE),
    (CalibrationError, USAGE),
    (PlanError, USAGE),
    (BudgetError, USAGE),
    (UnknownSnapshot, USAGE),
)


def exit_code(error: BaseException) -> int:
    """The exit code of an error, 1 for those that are not told apart."""
    if isinstance(error, MeasuringStoppedError) and error.__cause__ is not None:
        error = error.__cause__
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def report(error: BaseException) -> tuple[str, int]:
    """An error as one sentence and an exit code."""
    return sentence(error), exit_code(error)
