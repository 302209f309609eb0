"""`ropewalk doctor`: what is installed, and whether a file runs right on it."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import click
from platformdirs import user_cache_path

from ropewalk.backend.library import LibraryInfo, library_info
from ropewalk.cli.failures import CheckFailedError
from ropewalk.cli.identity import IdentityReport, check_file
from ropewalk.cli.options import RunOptions, model_options
from ropewalk.cli.output import print_facts, print_json
from ropewalk.cli.versions import version_of
from ropewalk.wording.quantities import size

_PACKAGES = ("ropewalk", "llama-cpp-python", "gguf", "numpy", "textual")


@click.command("doctor")
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Tokens to check FILE on, at most its train length.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@model_options
def doctor_command(file: Path | None, tokens: int, as_json: bool, run: RunOptions) -> None:
    """Show what is installed, and check a file on it.

    With FILE, the model is run within its train length with its plan and without, and the logits are
    compared: a plan that leaves positions below the train length alone must give exactly the same numbers.
    """
    library = library_info()
    report = None if file is None else check_file(file, tokens, run)
    if as_json:
        print_json(_as_json(library, report))
    else:
        print_facts(_lines(library))
        if report is not None:
            click.echo()
            print_facts(report.lines)
    if report is not None and report.passed is False:
        raise CheckFailedError(
            f"{file}: logits below the train length differ with and without the plan, and must not; "
            "rebuild the library with ./scripts/setup, and report this if it stays."
        )


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version_of(name) for name in _PACKAGES}}


def _as_json(library: LibraryInfo, report: IdentityReport | None) -> dict[str, Any]:
    return {
        "library": {
            "path": library.path,
            "version": library.version,
            "patched": library.patched,
            "build": library.build,
            "plan_schema": library.plan_schema,
            "devices": [
                {"name": d.name, "description": d.description, "kind": d.kind, "memory_total": d.memory_total}
                for d in library.devices
            ],
            "system_info": library.system_info,
        },
        "versions": _versions(),
        "cache": str(user_cache_path("ropewalk")),
        "file": None if report is None else report.as_json,
    }


def _lines(library: LibraryInfo) -> list[tuple[str, str]]:
    return [
        ("library", library.path),
        ("", f"llama-cpp-python {library.version}, {_patch(library)}"),
        *(
            ("device", f"{d.name}: {d.description} ({d.kind}, {size(d.memory_total)})")
            for d in library.devices
        ),
        *_versions().items(),
        ("cache", str(user_cache_path("ropewalk"))),
    ]


def _patch(library: LibraryInfo) -> str:
    if library.patched:
        return f"patched ({library.build}, plans up to schema {library.plan_schema})"
    kind = f"an older build of the patch ({library.build})" if library.build else "a stock build"
    return f"{kind}: only plans that are native run extended; ./scripts/setup builds the current one"
