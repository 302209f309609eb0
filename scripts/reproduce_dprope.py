"""DPRoPE's figures (Wu et al. 2024) for LLaMA-2, the paper's and ours side by side.

The disturbances of its Table 3, and of the settings that its Tables 4 to 7 sweep. For the sweeps the paper
has no disturbances, but what a fine-tuned LLaMA-2 13B scored (LongBench-E, average): that stands beside ours.
Run by `./scripts/reproduce_dprope`; plain arithmetic, no model is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ropewalk.cli.output import print_table
from ropewalk_plan import RopeSpec, make_plan
from ropewalk_plan.disturbance import DEFAULT_BINS, table_figure
from ropewalk_plan.plan_disturbance import plan_disturbances

LLAMA2 = RopeSpec(architecture="llama", n_rot=128, base=10000.0, train_length=4096, n_layer=32)
LENGTHS = (8192, 16384)

TABLE_3 = {
    "pi": (24.08, 33.67),
    "yarn": (25.55, 35.44),
    "dprope": (6.71, 22.92),
}
"""The paper's disturbances by method, at 8k and 16k."""

TABLE_4 = {56: 30.71, 64: 30.83, 72: 30.87, 80: 31.15, 88: 31.06, 96: 31.08}
"""The paper's scores at 8k by `interpolated_dims`."""

TABLE_6 = {90: 31.06, 180: 31.09, 360: 31.15, 720: 30.84}
"""The paper's scores at 8k by `bins`, with 80 interpolated dimensions."""

_DIMS_AT_8K = 80


@dataclass(frozen=True)
class Figure:
    """One figure of Table 3: the paper's and ours."""

    method: str
    length: int
    paper: float
    ours: float


def disturbance(
    method: str, length: int, options: Mapping[str, str] | None = None, bins: int = DEFAULT_BINS
) -> float:
    """A method's disturbance on LLaMA-2 in the unit of Table 3, measured with `bins` bins."""
    plan = make_plan(LLAMA2, method, length, options=options)
    return table_figure(plan_disturbances(plan, LLAMA2, bins=bins))


def table_3() -> list[Figure]:
    """All six figures of Table 3."""
    return [
        Figure(method, length, paper, disturbance(method, length))
        for method, figures in TABLE_3.items()
        for length, paper in zip(LENGTHS, figures, strict=True)
    ]


def sweep_dims() -> dict[int, tuple[float, ...]]:
    """DPRoPE's disturbance at 8k and at 16k by interpolated dimensions (Section 5.2)."""
    return {
        dims: tuple(disturbance("dprope", length, {"interpolated_dims": str(dims)}) for length in LENGTHS)
        for dims in TABLE_4
    }


def sweep_bins() -> dict[int, tuple[float, ...]]:
    """Disturbances of PI, YaRN and DPRoPE (80 dimensions) at 8k, all with b bins (Section 5.3)."""
    length = LENGTHS[0]
    return {
        bins: (
            disturbance("pi", length, bins=bins),
            disturbance("yarn", length, bins=bins),
            disturbance(
                "dprope", length, {"bins": str(bins), "interpolated_dims": str(_DIMS_AT_8K)}, bins=bins
            ),
        )
        for bins in TABLE_6
    }


def main() -> int:
    """Print everything."""
    print("Table 3: disturbance (nats, mean over pairs, times 1000), LLaMA-2, from 4k\n")
    print_table(
        ("METHOD", "LENGTH", "PAPER", "OURS", "OFF BY"),
        [
            (f.method, f"{f.length:,}", f"{f.paper:.2f}", f"{f.ours:.2f}", f"{f.ours / f.paper - 1:+.2%}")
            for f in table_3()
        ],
    )
    print(
        "\nInterpolated dimensions of 128 (Section 5.2): disturbance, and the paper's score at 8k (Table 4)\n"
    )
    _print_sweep(("DIMENSIONS", "AT 8K", "AT 16K", "PAPER'S SCORE"), sweep_dims(), TABLE_4)
    print("\nBins (Section 5.3): disturbance at 8k, and the paper's score (Table 6)\n")
    _print_sweep(("BINS", "PI", "YARN", "DPROPE", "PAPER'S SCORE"), sweep_bins(), TABLE_6)
    return 0


def _print_sweep(head: Sequence[str], ours: dict[int, tuple[float, ...]], scores: dict[int, float]) -> None:
    print_table(
        head,
        [
            (str(setting), *(f"{figure:.2f}" for figure in figures), f"{scores[setting]:.2f}")
            for setting, figures in ours.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
