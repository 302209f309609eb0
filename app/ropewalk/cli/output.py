"""What verbs print for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_OF_FILES = 1000
"""Columns where there is no terminal: enough that no row is broken."""


def print_json(value: dict[str, Any] | list[dict[str, Any]]) -> None:
    """Print one object, or a list of some, which is then all that stands on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print (label, sentence) pairs, the labels in a column, sentences folded to the terminal's width."""
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in facts:
        table.add_row(Text(label, style="bold"), Text(text))
    _print(table, err=False)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, err: bool = False) -> None:
    """Print a table; on a terminal its last column is folded to the width there is.

    Args:
        head: the columns' names.
        rows: the cells.
        err: print on stderr, where stdout is for something else.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, name in enumerate(head):
        table.add_column(Text(name), no_wrap=i < len(head) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _print(table, err=err)


def _print(table: Table, *, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    console = Console(file=stream, width=None if stream.isatty() else _WIDTH_OF_FILES, soft_wrap=False)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip(), file=stream)
