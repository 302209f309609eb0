"""`ropewalk methods`: the context-extension methods there are."""

from __future__ import annotations

import click

from ropewalk.cli.output import print_facts, print_json, print_table
from ropewalk_plan import METHODS, MethodInfo


@click.command("methods")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def methods_command(name: str | None, as_json: bool) -> None:
    """List the context-extension methods and their options.

    With NAME, show that method's options.
    """
    if name is not None and name not in METHODS:
        raise click.BadParameter(f"'{name}' is none of {', '.join(METHODS)}.", param_hint="NAME")
    if as_json:
        print_json({"methods": [_as_json(info) for info in METHODS.values() if name in (None, info.name)]})
    elif name is None:
        _print_all()
    else:
        _print_one(METHODS[name])


def _as_json(info: MethodInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "summary": info.summary,
        "source": info.source,
        "needs_finetuning": info.needs_finetuning,
        "untuned_scale": info.untuned_scale if info.needs_finetuning else None,
        "tuning": info.tuning,
        "options": [
            {"name": o.name, "default": o.default, "allowed": o.allowed, "source": o.source}
            for o in info.options
        ],
    }


def _print_all() -> None:
    rows = [(info.name, _finetuning(info), info.summary) for info in METHODS.values()]
    print_table(("METHOD", "FINE-TUNING", "WHAT IT DOES"), rows)
    click.echo(
        "\nMethods that set different things compose: dprope+logn. Options and sources: ropewalk methods NAME"
    )


def _print_one(info: MethodInfo) -> None:
    tuning = f"{_finetuning(info)}: {info.tuning}" if info.tuning else _finetuning(info)
    print_facts([("method", info.name), ("", info.summary), ("source", info.source), ("fine-tuning", tuning)])
    if not info.options:
        return
    click.echo("\nOptions (--method-option NAME=VALUE):")
    rows = [(o.name, o.default, f"{o.allowed} ({o.source})") for o in info.options]
    print_table(("NAME", "DEFAULT", "ALLOWED (SOURCE)"), rows)


def _finetuning(info: MethodInfo) -> str:
    if not info.needs_finetuning:
        return "not needed"
    return "needed" if info.untuned_scale <= 1 else f"past {info.untuned_scale:g} times"
