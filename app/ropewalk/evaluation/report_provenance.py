"""Where results come from, as a report says it: model, plans, settings, machine, command, date."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ropewalk.evaluation.provenance import machine_words
from ropewalk.evaluation.report_page import Section, Table, Text
from ropewalk.evaluation.results_file import ResultsRecord, shown
from ropewalk.wording.quantities import count


def provenance_section(record: ResultsRecord) -> Section:
    """What a person needs to measure the same again."""
    rows = [
        ("model", record.model.file),
        ("fingerprint", record.model.fingerprint or "unknown"),
        ("date", record.date),
        ("machine", machine_words(dict(record.machine))),
        ("ropewalk", record.ropewalk),
        *((name.replace("_", " "), setting_words(value)) for name, value in record.settings.items()),
    ]
    for number, run in enumerate(record.earlier, start=1):
        machine = run.get("machine")
        where = machine_words(machine) if isinstance(machine, dict) else "unknown"
        rows.append((f"earlier run {number}", f"{shown(run.get('date', 'unknown'))}, {where}"))
    return Section(
        "How it was measured",
        (
            Table("Model, machine and settings", ("what", "value"), tuple(rows)),
            plans_table(record),
            Text(("The command, with which the same can be measured again:",)),
            Text((shlex.join(record.command),), code=True),
        ),
    )


def plans_table(record: ResultsRecord) -> Table:
    """The plans that were measured, with their methods' options."""
    return Table(
        "Methods, with all their options",
        ("label", "method", "train length", "target length", "options"),
        tuple((plan.label, *_plan_cells(plan.plan)) for plan in record.plans),
        frozenset({2, 3}),
    )


def notes(record: ResultsRecord) -> tuple[str, ...]:
    """Lines below a picture: which model, when, on what."""
    return (
        f"{record.model.file}, fingerprint {record.model.fingerprint[:8] or 'unknown'}; {record.date}; "
        f"{machine_words(dict(record.machine))}; ropewalk {record.ropewalk}.",
    )


def incomplete_words(record: ResultsRecord) -> str:
    """What to say before all else about results that are not all; empty where they are."""
    if record.complete:
        return ""
    done = count(len(record.results), "result")
    return f"Incomplete: the run was stopped after {done}, and can be gone on with."


def setting_words(value: Any) -> str:  # noqa: ANN401  # whatever JSON can say
    """A setting's value for people."""
    if isinstance(value, (list, tuple)):
        return ", ".join(setting_words(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)


def _plan_cells(plan: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if plan is None:
        return "none: the model as its file has it", "–", "–", ""
    said = {name: plan.get(name) for name in ("method", "train_length", "target_length", "options")}
    return (
        setting_words(said["method"]),
        setting_words(said["train_length"]),
        setting_words(said["target_length"]),
        setting_words(said["options"] or ""),
    )
