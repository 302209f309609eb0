"""Draws the plots of docs/methods.md.

Run by `./scripts/method_plots`; plain arithmetic, no model is needed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ropewalk.evaluation.plan_curves import plan_curves
from ropewalk.evaluation.plan_plots import draw_plans
from ropewalk.evaluation.plan_report import make_report
from ropewalk.evaluation.results import write_whole
from ropewalk_plan import ModelFacts, RopeSpec

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "plots"

LLAMA2 = RopeSpec(architecture="llama", n_rot=128, base=10000.0, train_length=4096, n_layer=32)
SMOLLM2 = RopeSpec(architecture="llama", n_rot=64, base=100000.0, train_length=8192, n_layer=30)

_N_POINTS = 200


@dataclass(frozen=True)
class Plot:
    """One plot: methods, each with its options, on one model at one target length."""

    name: str
    spec: RopeSpec
    target_length: int
    methods: tuple[tuple[str, dict[str, str]], ...]

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return FOLDER / f"{self.name}.svg"

    def draw(self) -> bytes:
        """The picture file's content."""
        spec = self.spec
        facts = ModelFacts(
            architecture=spec.architecture,
            context_length=spec.train_length,
            original_length=spec.train_length,
            scaling_type="linear",
            has_factors=False,
            sliding_window=0,
        )
        reports = [
            make_report(spec, facts, method=method, target_length=self.target_length, options=options)
            for method, options in self.methods
        ]
        return draw_plans(plan_curves(reports, _N_POINTS), "svg")


PLOTS = (
    Plot(
        "interpolation",
        LLAMA2,
        16384,
        (("none", {}), ("pi", {}), ("ntk", {}), ("yarn", {}), ("dprope", {})),
    ),
    Plot("periodic", LLAMA2, 16384, (("none", {}), ("extra-pe", {}), ("extra-mpe", {}))),
    Plot(
        "bases",
        LLAMA2,
        16384,
        (("none", {}), ("ntk", {}), ("abf", {}), ("small-base", {}), ("llama3", {"factor": "4"})),
    ),
    Plot(
        "dprope-threshold",
        SMOLLM2,
        16384,
        tuple(("dprope", {"threshold": threshold}) for threshold in ("0.0001", "0.001", "0.05")),
    ),
    Plot("queries", LLAMA2, 16384, (("none", {}), ("logn", {}), ("yarn", {}), ("dprope+logn", {}))),
)


def main() -> int:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    for plot in PLOTS:
        content = plot.draw()
        write_whole(plot.path, content)
        print(f"{plot.path.relative_to(FOLDER.parents[1])}: {len(content) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
