"""The verbs of the command, imported one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

VERBS: Mapping[str, str] = MappingProxyType(
    {
        "pull": "Fetch a GGUF model from a Hugging Face repository into the cache.",
        "convert": "Make a GGUF file of a Hugging Face checkpoint, with a context extension in it.",
        "bake": "Write a context extension into a copy of a GGUF file.",
        "unbake": "Give back the GGUF file that a baked one was made from.",
        "inspect": "Show what a GGUF file's context plan is and where it runs.",
        "plan": "Show what a method would do to a model, pair by pair, and compare methods.",
        "fit": "Show whether a model with a long context fits into memory.",
        "methods": "List the context-extension methods and their options.",
        "passkey": "Test whether a model finds five digits in a long text.",
        "windows": "Find the layers of a model that can do with a window, by measurement.",
        "perplexity": "Measure how well a model foresees a text, by the length of the context.",
        "compare": "Compare every method that applies to a model: perplexity, passkeys, memory, speed.",
        "choose": "Find the method that makes a model read texts of a length.",
        "lines": "Test whether a model finds one line of a long record.",
        "needle": "Test whether a model finds facts that are hidden in a text of yours.",
        "ask": "Ask questions about documents.",
        "chat": "Read and question documents in a full-screen terminal application.",
        "snapshots": "List or remove the texts that were read and are kept on disk.",
        "rpc-server": "Let other machines compute on this one's devices.",
        "doctor": "Show what is installed, and check a file on it.",
    }
)
"""Each verb with its summary. The verb `x-y` is the command `x_y_command` of `ropewalk.cli.x_y`."""


class VerbGroup(click.Group):
    """A click group that imports a verb's module when the verb is named, and none for a list of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order in which a person meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A verb's command; None for a name that is no verb."""
        if cmd_name not in VERBS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(import_module(f"ropewalk.cli.{name}"), f"{name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with their summaries, importing none."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def _show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"ropewalk {import_module('ropewalk.cli.versions').version_of('ropewalk')}")
        context.exit()


@click.group(
    cls=VerbGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.pass_context
def ropewalk(context: click.Context) -> None:
    """Long documents on local models: bake a context-extension method into a GGUF file, ask, chat, test."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
