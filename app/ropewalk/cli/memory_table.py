"""The memory that a model takes: its weights, and a KV cache by length and type."""

from __future__ import annotations

from typing import Any

import click

from ropewalk.cli.kv_sizes import KvSizes, Sizes
from ropewalk.cli.output import print_table
from ropewalk.wording.quantities import size
from ropewalk_plan import GgufHeader

_NONE = "-"


def weight_bytes(header: GgufHeader) -> int:
    """Bytes of all tensors, of all parts; with a type that is not known, of all that is there."""
    return sum(
        file.data_end - file.data_start
        if any(tensor.n_bytes is None for tensor in file.tensors.values())
        else sum(tensor.n_bytes or 0 for tensor in file.tensors.values())
        for file in header.files
    )


def memory_json(header: GgufHeader, sizes: KvSizes) -> dict[str, Any]:
    """All numbers of the table, in bytes."""
    rows = None
    if not sizes.reason:
        rows = [
            {
                "length": length,
                **_at(sizes.sizes, i),
                "without_windows": None if sizes.plain is None else _at(sizes.plain, i),
            }
            for i, length in enumerate(sizes.lengths)
        ]
    return {"weights": weight_bytes(header), "kv_cache": rows, "reason": sizes.reason or None}


def memory_line(header: GgufHeader, sizes: KvSizes) -> tuple[str, str]:
    """What the weights take, and why there is no table where there is none."""
    weights = f"{size(weight_bytes(header))} of weights"
    if sizes.reason:
        return "memory", f"{weights}; the KV cache's size is not known: {sizes.reason}"
    return "memory", f"{weights}, and a KV cache as follows"


def print_memory_table(sizes: KvSizes, train_length: int, target_length: int | None) -> None:
    """Print the KV cache's sizes, a row for each length; again without windows where the plan has some."""
    names = {train_length: " (train length)"}
    if target_length is not None and target_length != train_length:
        names[target_length] = " (target length)"
    lengths = [f"{length:,}{names.get(length, '')}" for length in sizes.lengths]
    for title, table in (("tokens", sizes.sizes), ("without windows", sizes.plain)):
        if table is not None:
            click.echo()
            print_table([title, *table], ([name, *_cells(table, i)] for i, name in enumerate(lengths)))


def _at(sizes: Sizes, i: int) -> dict[str, int | None]:
    return {kv_type: of_lengths[i] for kv_type, of_lengths in sizes.items()}


def _cells(sizes: Sizes, i: int) -> list[str]:
    return [_NONE if value is None else size(value) for value in _at(sizes, i).values()]
