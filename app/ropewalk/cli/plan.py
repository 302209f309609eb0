"""`ropewalk plan`: what a method would do to a model, before anything is made or run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

import click

from ropewalk.cli.method_options import MethodChoice, method_options
from ropewalk.cli.output import print_facts, print_json, print_table
from ropewalk.cli.plan_source import RotationNumbers, read_source, source_options
from ropewalk.cli.results_target import require_writable
from ropewalk.evaluation.plan_curves import PlanCurves, plan_curves
from ropewalk.evaluation.plan_report import PlanReport, make_report, report_json
from ropewalk.evaluation.plan_tables import (
    COMPARISON_HEAD,
    PAIR_HEAD,
    comparison_rows,
    interpolated_line,
    pair_rows,
)
from ropewalk.evaluation.results import write_whole
from ropewalk.evaluation.terminal_plots import draw_in_terminal
from ropewalk.wording.plans import plan_lines
from ropewalk_plan import ModelFacts, RopeSpec, finetuning_notes
from ropewalk_plan.export import llama_cpp_arguments, transformers_config, vllm_arguments

_TERMINAL = "-"
_FORMATS = (".png", ".svg")
_PICTURE_POINTS = 240
_TERMINAL_POINTS = 138  # two dots to each column of a curve

_EXPORTS: Mapping[str, Callable[[PlanReport, ModelFacts], str]] = MappingProxyType(
    {
        "hf": lambda report, facts: json.dumps(transformers_config(report.plan, report.spec), indent=2),
        "vllm": lambda report, facts: vllm_arguments(report.plan, report.spec),
        "llama.cpp": lambda report, facts: llama_cpp_arguments(report.plan, report.spec, facts),
    }
)


class PlottingMissingError(Exception):
    """matplotlib is not installed; the message says what to do."""


@click.command("plan")
@click.argument("model", metavar="[MODEL]", type=click.Path(path_type=Path), required=False)
@source_options
@method_options
@click.option(
    "--compare",
    metavar="METHOD,...",
    default="",
    help="Other methods to set beside it; options after colons: dprope:threshold=0.1",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all numbers.")
@click.option("--plot", metavar="FILE", help="Draw it into FILE, .png or .svg, or in the terminal (-).")
@click.option(
    "--export",
    type=click.Choice(list(_EXPORTS)),
    help="Print only what another program needs to run the same plan.",
)
@click.option("--force", is_flag=True, help="Replace the plot's FILE if it exists.")
def plan_command(
    *,
    model: Path | None,
    numbers: RotationNumbers,
    choice: MethodChoice,
    compare: str,
    as_json: bool,
    plot: str | None,
    export: str | None,
    force: bool,
) -> None:
    """Show what a method would do to a model, pair by pair, and compare methods.

    MODEL is a GGUF file or a checkpoint folder (its config.json is enough); without it, give --head-dim,
    --rope-base and --train-length.
    """
    _check_outputs(as_json, plot, export, compare)
    draw = None
    if plot not in (None, _TERMINAL):
        require_writable(Path(plot or ""), force, "--plot")
        draw = _drawing()
    spec, facts = read_source(model, numbers, choice.train_length)
    reports = [
        make_report(
            spec,
            facts,
            method=method,
            target_length=choice.target_length,
            train_length=choice.train_length,
            options=options,
        )
        for method, options in ((choice.method, choice.options), *_others(compare))
    ]
    if draw is not None and plot is not None:
        path = Path(plot)
        write_whole(path, draw(plan_curves(reports, _PICTURE_POINTS), path.suffix.lower().lstrip(".")))
    if export is not None:
        click.echo(_EXPORTS[export](reports[0], facts))
    elif as_json:
        print_json(_as_json(model, reports, compare))
    else:
        _print(model, reports)
        if plot == _TERMINAL:
            click.echo(f"\n{draw_in_terminal(plan_curves(reports, _TERMINAL_POINTS))}")


def _check_outputs(as_json: bool, plot: str | None, export: str | None, compare: str) -> None:
    context = click.get_current_context()
    if export is not None and (as_json or compare or plot == _TERMINAL):
        raise click.UsageError("--export prints one plan and nothing else: leave out the other", context)
    if plot == _TERMINAL and as_json:
        raise click.UsageError("--json and --plot - both print: draw into a file, or leave one out", context)
    if plot not in (None, _TERMINAL):
        path = Path(plot or "")
        if path.suffix.lower() not in _FORMATS:
            wanted = " or ".join(_FORMATS)
            raise click.BadParameter(f"{path} does not end in {wanted}", context, param_hint="'--plot'")


def _others(compare: str) -> list[tuple[str, dict[str, str]]]:
    """`pi,dprope:threshold=0.1` as methods with their options."""
    others = []
    for item in compare.split(",") if compare else []:
        method, *assignments = item.strip().split(":")
        if not method or not all("=" in assignment for assignment in assignments):
            raise click.BadParameter(
                f"'{item}' is not METHOD or METHOD:NAME=VALUE",
                click.get_current_context(),
                param_hint="'--compare'",
            )
        others.append((method, dict(assignment.split("=", 1) for assignment in assignments)))
    return others


def _drawing() -> Callable[[PlanCurves, str], bytes]:
    """The function that draws with matplotlib, an extra that need not be there."""
    try:
        draw: Callable[[PlanCurves, str], bytes] = import_module("ropewalk.evaluation.plan_plots").draw_plans
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        raise PlottingMissingError(
            "matplotlib, which draws the plot, is not installed: run ./scripts/setup plot, "
            "or draw in the terminal with --plot -"
        ) from error
    return draw


def _as_json(model: Path | None, reports: list[PlanReport], compare: str) -> dict[str, object]:
    answer: dict[str, object] = {"model": None if model is None else str(model), **report_json(reports[0])}
    if compare:
        answer["compared"] = [report_json(report) for report in reports[1:]]
    return answer


def _print(model: Path | None, reports: list[PlanReport]) -> None:
    report = reports[0]
    print_facts(
        [
            ("model", _rotation(model, report.spec)),
            *((label, text) for label, text in plan_lines(report.plan) if label != "frequencies"),
            ("interpolated", interpolated_line(report)),
            ("disturbance", f"{report.disturbance:.2f} (nats, mean over pairs, times 1000)"),
            ("portable", f"{'yes' if report.portable else 'no'}: {report.portable_reason}"),
            *(("note", note) for note in _notes(report)),
        ]
    )
    click.echo()
    print_table(PAIR_HEAD, pair_rows(report))
    if len(reports) > 1:
        click.echo()
        print_table(COMPARISON_HEAD, comparison_rows(reports))


def _notes(report: PlanReport) -> tuple[str, ...]:
    windowed = (
        "Disturbance and scores are of distances up to the target length; windowed layers see nearer ones."
    )
    return (
        *((windowed,) if any(report.plan.windows) else ()),
        *finetuning_notes(report.plan),
    )


def _rotation(model: Path | None, spec: RopeSpec) -> str:
    own = "" if spec.is_plain else ", with a scaling of the model's own"
    name = "" if model is None else f"{model}: "
    return f"{name}{spec.architecture}, {spec.n_pairs} pairs, base {spec.base:g}{own}"
