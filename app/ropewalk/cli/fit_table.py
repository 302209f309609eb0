"""How what fits is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ropewalk.cli.output import print_facts, print_table
from ropewalk.engine.codec import to_plain
from ropewalk.engine.fit_report import FitReport, FitRow, FittedModel
from ropewalk.wording.quantities import count, size

_HOST = "CPU"
_ANY = 2**31 - 256
"""As many tokens as there are positions, which windows in every layer have room for."""


@dataclass(frozen=True)
class Text:
    """The files that are to be read.

    Attributes:
        name: of the document they make.
        tokens: of the model's.
        n_ctx: the context for them, a question and an answer.
    """

    name: str
    tokens: int
    n_ctx: int


@dataclass(frozen=True)
class Fit:
    """What was found out.

    Attributes:
        path: the model's file.
        text: what is to be read with it; None for any.
        limit: the longest text that the model is for; None without one.
        kv_type: the type of cached keys and values that was asked for.
        report: what fits.
    """

    path: Path
    text: Text | None
    limit: int | None
    kv_type: str
    report: FitReport

    @property
    def model(self) -> FittedModel:
        """The model."""
        return self.report.model

    @property
    def n_ctx(self) -> int:
        """The length that was asked for."""
        return self.report.n_ctx

    @property
    def is_short_enough(self) -> bool:
        """Whether the model is for a text as long as this one, with room for a token of an answer."""
        return self.text is None or self.limit is None or self.text.tokens < self.limit

    @property
    def asked(self) -> FitRow | None:
        """The row that was asked for; None where the model's cache cannot have that type."""
        return self.row(self.kv_type, self.n_ctx)

    @property
    def fits(self) -> bool:
        """Whether the context fits into memory, and the text into the model's length."""
        return self.is_short_enough and self.asked is not None and self.asked.short_of is None

    @property
    def longest(self) -> dict[str, int]:
        """The longest contexts by KV type."""
        return {longest.kv_type: longest.n_ctx for longest in self.report.longest}

    def row(self, kv_type: str, n_ctx: int) -> FitRow | None:
        """A row; None where there is none."""
        return next((row for row in self.report.rows if (row.kv_type, row.n_ctx) == (kv_type, n_ctx)), None)


def fit_json(fit: Fit) -> dict[str, Any]:
    """All of it, in bytes."""
    text = fit.text
    return {
        "model": str(fit.path),
        "train_length": fit.model.train_length,
        "target_length": fit.model.target_length,
        "text": None
        if text is None
        else {
            "name": text.name,
            "tokens": text.tokens,
            "n_ctx": text.n_ctx,
            "within_target_length": fit.is_short_enough,
        },
        "kv_type": fit.kv_type,
        "n_ctx": fit.n_ctx,
        "fits": fit.fits,
        "layers": fit.report.n_layers,
        "devices": to_plain(fit.report.rooms),
        "contexts": [
            {
                "kv_type": row.kv_type,
                "n_ctx": row.n_ctx,
                "gpu_layers": row.gpu_layers,
                "fits": row.short_of is None,
                "short_of": row.short_of,
                "estimated": row.estimated,
                "total": row.total,
                "devices": [{**_plain(device), "total": device.total} for device in row.devices],
            }
            for row in fit.report.rows
        ],
        "longest": fit.longest,
    }


def print_fit(fit: Fit) -> None:
    """Print whether it fits, what it takes on each device, and lengths by KV type."""
    asked = fit.asked
    print_facts(_facts(fit, asked))
    if asked is not None:
        click.echo()
        print_table(
            ("DEVICE", "WEIGHTS", "KV CACHE", "COMPUTE", "TOTAL", "FREE", "LEFT ALONE"), _devices(fit, asked)
        )
    click.echo()
    print_table(("TOKENS", *fit.longest), _lengths(fit))


def _facts(fit: Fit, asked: FitRow | None) -> list[tuple[str, str]]:
    n_layer = count(fit.model.n_layer, "layer")
    facts = [("model", f"{fit.path}: {size(fit.model.size_bytes)} of weights, {n_layer}")]
    text = fit.text
    if text is not None:
        facts.append(("text", f"{text.name}: {count(text.tokens, 'token')}; {_against_lengths(fit, text)}"))
    facts.append(("context", f"{count(fit.n_ctx, 'token')} of {fit.kv_type}"))
    if asked is not None and len(fit.report.rooms) > 1:
        facts.append(("placed", _placed(fit, asked)))
    facts.append(("fits", _verdict(fit, asked)))
    if asked is not None and asked.estimated:
        facts.append(("note", "the sizes of the context are estimates: the library does not tell them"))
    return facts


def _against_lengths(fit: Fit, text: Text) -> str:
    model = fit.model
    if model.streams:
        return "its plan streams, so that any length will do"
    if text.tokens <= model.train_length:
        return f"within the train length of {model.train_length:,}"
    beyond = f"beyond the train length of {model.train_length:,}"
    if fit.limit is not None and fit.is_short_enough:
        return f"{beyond}, within the target length of {fit.limit:,}"
    return f"{beyond} and the target length of {fit.limit:,}"


def _placed(fit: Fit, asked: FitRow) -> str:
    gpus = ", ".join(room.device for room in fit.report.rooms if room.device != _HOST)
    return f"{asked.gpu_layers} of {count(fit.report.n_layers, 'layer')} on {gpus}, the output counted as one"


def _verdict(fit: Fit, asked: FitRow | None) -> str:
    if asked is None:
        return f"no: the model's heads are not made of whole blocks of {fit.kv_type}; use f16 or f32"
    longest = fit.longest.get(fit.kv_type, 0)
    up_to = (
        "so does a context of any length"
        if longest >= _ANY
        else f"the longest context that fits has {count(longest, 'token')}"
    )
    if asked.short_of is not None:
        others = [f"{length:,} with {name}" for name, length in fit.longest.items() if length > longest]
        instead = f" ({', '.join(others)})" if others else ""
        rest = f"{up_to}{instead}" if longest or others else "no context does"
        return f"no: there is not enough memory on {asked.short_of}; {rest}"
    if not fit.fits:
        return (
            "no: the text is longer than what the model is for; see `ropewalk methods`, or give it in parts"
        )
    return f"yes; {up_to}"


def _devices(fit: Fit, asked: FitRow) -> list[tuple[str, ...]]:
    taken = {device.device: device for device in asked.devices}
    rows = []
    for room in fit.report.rooms:
        device = taken.get(room.device)
        parts = (
            (0, 0, 0, 0)
            if device is None
            else (device.weights, device.kv_cache, device.compute, device.total)
        )
        name = f"{room.device} ({room.description})" if room.description else room.device
        rows.append((name, *(size(part) for part in parts), size(room.free), size(room.margin)))
    return rows


def _lengths(fit: Fit) -> list[tuple[str, ...]]:
    lengths = sorted({row.n_ctx for row in fit.report.rows})
    rows = [
        (_name(fit, length), *(_cell(fit, fit.row(kv_type, length)) for kv_type in fit.longest))
        for length in lengths
    ]
    return [
        *rows,
        (
            "longest that fits",
            *("any" if length >= _ANY else f"{length:,}" for length in fit.longest.values()),
        ),
    ]


def _name(fit: Fit, length: int) -> str:
    if fit.text is not None and length == fit.text.n_ctx:
        return f"{length:,} (the text)"
    if length == fit.model.target_length:
        return f"{length:,} (target length)"
    return f"{length:,}"


def _cell(fit: Fit, row: FitRow | None) -> str:
    if row is None:
        return "-"
    layers = f", {row.gpu_layers} layers on GPU" if len(fit.report.rooms) > 1 else ""
    return f"{size(row.total)}{layers}" if row.short_of is None else f"{size(row.total)}, too much"


def _plain(value: object) -> dict[str, Any]:
    plain = to_plain(value)
    assert isinstance(plain, dict)
    return plain
