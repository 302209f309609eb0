"""`ropewalk unbake`: the file that a baked one was made from."""

from __future__ import annotations

from pathlib import Path

import click

from ropewalk.cli.output import print_facts, print_json
from ropewalk.cli.output_file import one_target, output_option
from ropewalk.cli.progress import Bytes, ProgressReport
from ropewalk.wording.quantities import size
from ropewalk_convert.unbake import unbake


@click.command("unbake")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path), required=False)
@output_option
@click.option("--force", is_flag=True, help="Replace OUT if it exists; of a link, the file it names.")
@click.option("--json", "as_json", is_flag=True, help="Print what was given back as one JSON object.")
def unbake_command(
    *, source: Path, target: Path | None, output: Path | None, force: bool, as_json: bool
) -> None:
    """Give back the GGUF file that a baked one was made from, byte for byte.

    What baking changed is kept in the baked file; the weights are copied.
    """
    path = one_target(target, output)
    with ProgressReport().step(f"unbaking {source.name}", Bytes()) as update:
        result = unbake(source, path, force=force, progress=update)
    if as_json:
        print_json(
            {
                "source": str(source),
                "target": str(result.target),
                "bytes": result.n_bytes,
                "method": result.method,
            }
        )
    else:
        print_facts(
            [
                ("given back", f"{result.target} ({size(result.n_bytes)})"),
                ("plan", f"none; {result.method} was taken out"),
            ]
        )
