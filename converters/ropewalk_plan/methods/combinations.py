"""Methods that somebody runs together: what is worth trying beside each method alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Combination:
    """Several methods as one.

    Attributes:
        method: their names, joined by `+`.
        source: who runs them together.
        options: the options with which they do.
    """

    method: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)


COMBINATIONS = (
    Combination("dprope+logn", "ours: LogN changes nothing below L, and adds to what decides frequencies"),
    Combination("dynamic-ntk+logn", "Qwen, Bai et al. 2023, Table 3: its ladder's second step"),
    Combination(
        "dynamic-ntk+logn+windows",
        "Qwen, Bai et al. 2023, Section 2.5 and Table 3: its whole recipe",
        {"rule": "layer-wise"},
    ),
)
"""Combinations that a paper runs, or that we do, each of methods in `METHODS`."""
