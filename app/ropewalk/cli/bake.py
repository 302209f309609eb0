"""`ropewalk bake`: a context plan written into a copy of a GGUF file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ropewalk.cli.method_options import MethodChoice, method_options
from ropewalk.cli.output import print_facts, print_json
from ropewalk.cli.output_file import one_target, output_option
from ropewalk.cli.progress import Bytes, ProgressReport
from ropewalk.wording.plans import plan_json, plan_lines, where_it_runs
from ropewalk_convert.bake import BakeResult, bake


@click.command("bake")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path), required=False)
@output_option
@method_options
@click.option("--force", is_flag=True, help="Replace OUT if it exists; of a link, the file it names.")
@click.option("--check", is_flag=True, help="Compare every weight with IN's before OUT gets its name.")
@click.option("--json", "as_json", is_flag=True, help="Print what was baked as one JSON object.")
def bake_command(
    *,
    source: Path,
    target: Path | None,
    output: Path | None,
    choice: MethodChoice,
    force: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Write a context extension into a copy of a GGUF file.

    The copy carries the plan as metadata; the weights stay as they are. `ropewalk methods` lists the methods,
    and `ropewalk unbake` gives IN back. Of a split model, IN is the first part, and OUT what the names of the
    new parts begin with.
    """
    path = one_target(target, output)
    with ProgressReport().step(f"baking {path.name}", Bytes()) as update:
        result = bake(
            source,
            path,
            method=choice.method,
            target_length=choice.target_length,
            train_length=choice.train_length,
            options=choice.options,
            force=force,
            check=check,
            progress=update,
        )
    if as_json:
        print_json(_as_json(source, result, check))
    else:
        _print(result, check)


def _as_json(source: Path, result: BakeResult, checked: bool) -> dict[str, object]:
    assert result.plan is not None, "bake makes one"
    return {
        "source": str(source),
        "target": str(result.target),
        "plan": plan_json(result.plan, result.native, result.native_reason),
        "notes": list(result.notes),
        "weights_checked": checked,
    }


def _print(result: BakeResult, checked: bool) -> None:
    assert result.plan is not None, "bake makes one"
    print_facts(
        [
            ("baked", str(result.target)),
            *plan_lines(result.plan),
            ("native", f"{'yes' if result.native else 'no'}: {result.native_reason}"),
            ("runs in", where_it_runs(result.plan, result.native)),
            *([("weights", "every byte is the source's")] if checked else []),
            *(("note", note) for note in result.notes),
            ("next", f"ropewalk chat {shlex.quote(str(result.target))} YOUR_TEXT.txt"),
        ]
    )
