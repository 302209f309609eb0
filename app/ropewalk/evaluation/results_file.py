"""The file that every measuring verb writes, one JSON object, and whether a run may go on from one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk.evaluation.results import write_json
from ropewalk.wording.errors import one_line

SCHEMA = 1
"""Version of what a results file holds."""

_LONGEST = 60  # characters of a value that a sentence quotes


class ResultsFileError(Exception):
    """A file is no results file that this version reads; the message is a sentence that says why."""


class ResultsMismatch(Exception):
    """A results file is of another measurement; the message is a sentence that names what differs."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which model was measured.

    Attributes:
        file: the file's name, without the folder it lies in.
        fingerprint: digest of its content; empty where it could not be read.
    """

    file: str
    fingerprint: str


@dataclass(frozen=True)
class RecordedPlan:
    """One of the plans that were measured.

    Attributes:
        label: as results name it.
        plan: its numbers as JSON values (`wording.plans.plan_json`); None for the plain model.
    """

    label: str
    plan: Mapping[str, Any] | None


@dataclass(frozen=True)
class ResultsRecord:
    """What a results file holds.

    Attributes:
        test: `passkey`, `perplexity`, ...
        command: the command line as it was typed.
        model: what was measured.
        settings: whatever else the results depend on, as JSON values: lengths, trials, seed, KV type.
        plans: the plans measured, in their order.
        results: one object for each measurement, in the order in which they were made.
        summary: what follows from the results.
        complete: whether all that was asked for was measured.
        ropewalk: this package's version.
        date: when the run began, ISO 8601.
        machine: see `provenance.machine`.
        earlier: command, date, machine and version of the runs that this one went on from.
    """

    test: str
    command: tuple[str, ...]
    model: ModelIdentity
    settings: Mapping[str, Any]
    plans: tuple[RecordedPlan, ...]
    results: tuple[Mapping[str, Any], ...] = ()
    summary: tuple[Mapping[str, Any], ...] = ()
    complete: bool = False
    ropewalk: str = ""
    date: str = ""
    machine: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
    earlier: tuple[Mapping[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that the file holds; JSON has no word for what is not finite, so that is null there."""
        value: dict[str, Any] = _finite(self._values())
        return value

    def _values(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "ropewalk": self.ropewalk,
            "test": self.test,
            "command": list(self.command),
            "date": self.date,
            "machine": dict(self.machine),
            "earlier": [dict(run) for run in self.earlier],
            "model": dataclasses.asdict(self.model),
            "settings": dict(self.settings),
            "plans": [{"label": plan.label, "plan": plan.plan} for plan in self.plans],
            "complete": self.complete,
            "results": [dict(result) for result in self.results],
            "summary": [dict(line) for line in self.summary],
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """What `earlier` keeps of a run."""
        return {
            "command": list(self.command),
            "date": self.date,
            "machine": dict(self.machine),
            "ropewalk": self.ropewalk,
        }


def write_results(path: Path, record: ResultsRecord) -> None:
    """Write a results file, whole or not at all.

    Raises:
        OSError: it cannot be written; what stood under the name still does.
    """
    write_json(path, record.as_json())


def read_results(path: Path) -> ResultsRecord:
    """Read a results file.

    Raises:
        ResultsFileError: it is missing, damaged, none, or of another version.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ResultsFileError(f"{path}: no such file; --json FILE begins one.") from None
    except OSError as error:
        raise ResultsFileError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError):
        raise ResultsFileError(f"{path} is damaged or no results file: it is not JSON.") from None
    if not isinstance(value, dict) or "schema" not in value:
        raise ResultsFileError(f"{path} is no results file of a ropewalk verb that measures.")
    if value["schema"] != SCHEMA:
        raise ResultsFileError(
            f"{path} is a results file of schema {shown(value['schema'])}, and this version reads {SCHEMA}; "
            "use the version of ropewalk that wrote it."
        )
    try:
        return _record(value)
    except (KeyError, TypeError, ValueError) as error:
        what = f"it has no '{error.args[0]}'" if isinstance(error, KeyError) else one_line(str(error))
        raise ResultsFileError(f"{path} is a damaged results file: {what}.") from None


def check_resumable(old: ResultsRecord, new: ResultsRecord, *, name: str = "The results file") -> None:
    """See that results of `old` may stand among those of `new`.

    Machine, date and versions may differ: they are kept, in `earlier`.

    Args:
        old: as read from a file.
        new: of the run that is about to begin.
        name: what to call the old one.

    Raises:
        ResultsMismatch: of another test, model, plan or setting.
    """
    remedy = "begin a new file with --json, or ask for the same"
    if old.test != new.test:
        raise ResultsMismatch(f"{name} is of the test '{shown(old.test)}', not '{new.test}'; {remedy}.")
    if (old.model.fingerprint or old.model.file) != (new.model.fingerprint or new.model.file):
        raise ResultsMismatch(
            f"{name} is of another model, {shown(old.model.file)} (fingerprint "
            f"{shown(old.model.fingerprint)[:8]}), not {shown(new.model.file)} "
            f"({new.model.fingerprint[:8]}); {remedy}."
        )
    _check_plans(old, new, name, remedy)
    made, wanted = _plain(old.settings), _plain(new.settings)
    for key in sorted(set(made) | set(wanted)):
        if key not in wanted or key not in made or made[key] != wanted[key]:
            raise ResultsMismatch(
                f"{name} was made with {key.replace('_', ' ')} {_said(made, key)}, "
                f"not {_said(wanted, key)}; {remedy}."
            )


def _check_plans(old: ResultsRecord, new: ResultsRecord, name: str, remedy: str) -> None:
    theirs, ours = [plan.label for plan in old.plans], [plan.label for plan in new.plans]
    if sorted(theirs) != sorted(ours):
        if _listed(theirs) != _listed(ours):
            raise ResultsMismatch(f"{name} is of {_listed(theirs)}, not of {_listed(ours)}; {remedy}.")
        more = [label for label in theirs if label not in ours]  # lists too long to be shown: what differs
        raise ResultsMismatch(
            f"{name} is of {_listed(more)} too, which is not asked for; {remedy}."
            if more
            else f"{name} is without {_listed([label for label in ours if label not in theirs])}; {remedy}."
        )
    plans = {plan.label: plan.plan for plan in old.plans}
    for plan in new.plans:
        if _plain(plans[plan.label]) != _plain(plan.plan):
            differs = _difference(plans[plan.label], plan)
            raise ResultsMismatch(
                f"{name} is of another plan under the name {plan.label}: {differs}; {remedy}."
            )


def _difference(old: Mapping[str, Any] | None, new: RecordedPlan) -> str:
    old, wanted = _plain(old), _plain(new.plan)
    if old is None or wanted is None:
        return "one of the two is the plain model"
    keys = [
        key
        for key in set(old) | set(wanted)
        if not (key in old and key in wanted and old[key] == wanted[key])
    ]
    key = min(keys, key=lambda key: (isinstance(wanted.get(key), (list, dict)), key))  # the tellable first
    return f"{key.replace('_', ' ')} {_said(old, key)}, not {_said(wanted, key)}"


def _said(values: Mapping[str, Any], key: str) -> str:
    return shown(values[key]) if key in values else "unsaid"


def _listed(labels: Sequence[str]) -> str:
    return shown(", ".join(labels)) or "no method"


def shown(value: object) -> str:
    """A value of a results file as a sentence may quote it: on one line, and not too long."""
    text = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _plain(value: Any) -> Any:  # noqa: ANN401  # whatever JSON can say
    """A value as it comes back from a file: tuples are lists there, and what UTF-8 cannot say is `?`."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _finite(value: Any) -> Any:  # noqa: ANN401  # whatever JSON can say
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, (list, tuple)) else value


def _record(value: dict[str, Any]) -> ResultsRecord:
    model = _mapping(value["model"], "model")
    return ResultsRecord(
        test=_text(value["test"], "test"),
        command=tuple(_text(part, "command") for part in _list(value["command"], "command")),
        model=ModelIdentity(
            _text(model["file"], "model's file"), _text(model["fingerprint"], "model's fingerprint")
        ),
        settings=_mapping(value["settings"], "settings"),
        plans=tuple(_plan(plan) for plan in _list(value["plans"], "plans")),
        results=tuple(_mapping(row, "results") for row in _list(value["results"], "results")),
        summary=tuple(_mapping(row, "summary") for row in _list(value["summary"], "summary")),
        complete=_truth(value["complete"], "complete"),
        ropewalk=_text(value["ropewalk"], "ropewalk"),
        date=_text(value["date"], "date"),
        machine=_mapping(value["machine"], "machine"),
        earlier=tuple(_mapping(run, "earlier") for run in _list(value["earlier"], "earlier")),
    )


def _plan(value: object) -> RecordedPlan:
    said = _mapping(value, "plans")
    plan = said["plan"]
    return RecordedPlan(_text(said["label"], "label"), None if plan is None else _mapping(plan, "plan"))


def _mapping(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"its '{name}' is not what it should be")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"its '{name}' is not what it should be")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"its '{name}' is not what it should be")
    return value


def _truth(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"its '{name}' is not what it should be")
    return value
