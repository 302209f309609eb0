"""`ropewalk bake`: a context plan written into a copy of a GGUF file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ropewalk.cli.method_options import MethodChoice, method_options
from ropewalk.cli.output import print_facts, print_json
from ropewalk.cli.progress import Bytes, ProgressReport
from ropewalk.wording.plans import plan_json, plan_lines, where_it_runs
from ropewalk_convert.bake import BakeResult, bake


@click.command("bake")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="The file to write, if not given after IN.",
)
@method_options
@click.option("--force", is_flag=True, help="Replace OUT if it exists; of a link, the file it names.")
@click.option("--json", "as_json", is_flag=True, help="Print what was baked as one JSON object.")
def bake_command(
    *,
    source: Path,
    target: Path | None,
    output: Path | None,
    choice: MethodChoice,
    force: bool,
    as_json: bool,
) -> None:
    """Write a context extension into a copy of a GGUF file.

    The copy carries the plan as metadata; the weights stay as they are. `ropewalk methods` lists the methods.
    """
    path = _one_target(target, output)
    with ProgressReport().step(f"baking {path.name}", Bytes()) as update:
        result = bake(
            source,
            path,
            method=choice.method,
            target_length=choice.target_length,
            train_length=choice.train_length,
            options=choice.options,
            force=force,
            progress=update,
        )
    if as_json:
        print_json(_as_json(source, result))
    else:
        _print(result)


def _one_target(target: Path | None, output: Path | None) -> Path:
    if target is not None and output is not None:
        raise click.UsageError("OUT is given twice, after IN and with -o.", click.get_current_context())
    path = target or output
    if path is None:
        raise click.UsageError("Missing OUT, the file to write.", click.get_current_context())
    if str(path) == "-":
        raise click.UsageError(
            "OUT is -, and a GGUF file cannot go to stdout; name a file.", click.get_current_context()
        )
    return path


def _as_json(source: Path, result: BakeResult) -> dict[str, object]:
    assert result.plan is not None, "bake makes one"
    return {
        "source": str(source),
        "target": str(result.target),
        "plan": plan_json(result.plan, result.native, result.native_reason),
        "notes": list(result.notes),
    }


def _print(result: BakeResult) -> None:
    assert result.plan is not None, "bake makes one"
    print_facts(
        [
            ("baked", str(result.target)),
            *plan_lines(result.plan),
            ("native", f"{'yes' if result.native else 'no'}: {result.native_reason}"),
            ("runs in", where_it_runs(result.native)),
            *(("note", note) for note in result.notes),
            ("next", f"ropewalk chat {shlex.quote(str(result.target))} YOUR_TEXT.txt"),
        ]
    )
