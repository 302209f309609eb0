"""`ropewalk snapshots`: what was read once and is kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import click

from ropewalk.cli.output import print_json, print_table
from ropewalk.sessions.snapshot import Snapshot
from ropewalk.sessions.snapshot_budget import VARIABLE, BudgetError, parse_size
from ropewalk.sessions.snapshot_shelf import SnapshotShelf
from ropewalk.wording.files import shortened
from ropewalk.wording.quantities import count, size


def _size(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except BudgetError as error:
        raise click.BadParameter(str(error)) from error


@click.group("snapshots")
def snapshots_command() -> None:
    """List or remove the texts that were read and are kept on disk.

    A snapshot is what a model has computed of a text, so that the text need not be read again. The least
    recently used go by themselves when there are too many.
    """


@snapshots_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def _list(as_json: bool) -> None:
    """Show what is kept, the last used first."""
    shelf = SnapshotShelf()
    snapshots, damaged = shelf.list(), shelf.damaged()
    if as_json:
        print_json(_as_json(shelf, snapshots, damaged))
        return
    if snapshots:
        print_table(
            ("id", "tokens", "size", "last used", "model", "text"),
            [
                (
                    snapshot.id,
                    f"{snapshot.n_tokens:,}",
                    size(snapshot.n_bytes),
                    datetime.fromtimestamp(snapshot.last_used).strftime("%Y-%m-%d %H:%M"),
                    shortened(snapshot.key.model_name),
                    shortened(snapshot.title),
                )
                for snapshot in snapshots
            ],
        )
        click.echo(f"{_sum(snapshots)} of {size(shelf.budget())}, in {shelf.folder}.")
    else:
        click.echo(f"No snapshots are kept in {shelf.folder}.")
    if damaged:
        click.echo(
            f"{count(len(damaged), 'more is', 'more are')} damaged: `ropewalk snapshots prune` removes them."
        )


@snapshots_command.command("delete")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def _delete(ids: tuple[str, ...]) -> None:
    """Remove snapshots by their ids, or the beginnings of these."""
    deleted = SnapshotShelf().delete(ids)
    click.echo(f"Removed {count(len(deleted), 'snapshot')}: {', '.join(deleted)}.")


@snapshots_command.command("prune")
@click.option(
    "--budget",
    callback=_size,
    metavar="SIZE",
    help="Bytes that may stay, as 20GB or 500MB; 0 removes everything "
    f"[default: {VARIABLE}, else 20 GB and at most a quarter of the room on the disk]",
)
def _prune(budget: int | None) -> None:
    """Remove what is damaged or left behind, and the least recently used beyond the budget."""
    shelf = SnapshotShelf()
    pruned = shelf.prune(budget)
    removed = [_sum(pruned.dropped)] if pruned.dropped else []
    if pruned.damaged:
        removed.append(count(pruned.damaged, "damaged snapshot"))
    if pruned.leftovers:
        removed.append(f"what {count(pruned.leftovers, 'killed process', 'killed processes')} left behind")
    stays = f"{_sum(shelf.list())} of {size(pruned.budget)}"
    click.echo(f"Removed {' and '.join(removed) or 'nothing'}; {stays} stay.")


def _sum(snapshots: Sequence[Snapshot]) -> str:
    """`2 snapshots, 1.2 GB`."""
    return f"{count(len(snapshots), 'snapshot')}, {size(sum(snapshot.n_bytes for snapshot in snapshots))}"


def _as_json(shelf: SnapshotShelf, snapshots: Sequence[Snapshot], damaged: Sequence[str]) -> dict[str, Any]:
    return {
        "folder": str(shelf.folder),
        "budget": shelf.budget(),
        "bytes": sum(snapshot.n_bytes for snapshot in snapshots),
        "snapshots": [
            {
                "id": snapshot.id,
                "title": snapshot.title,
                "model": snapshot.key.model_name,
                "tokens": snapshot.n_tokens,
                "bytes": snapshot.n_bytes,
                "kv_type": snapshot.key.kv_type,
                "plan": snapshot.key.plan,
                "created": _iso(snapshot.created),
                "last_used": _iso(snapshot.last_used),
            }
            for snapshot in snapshots
        ],
        "damaged": list(damaged),
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
