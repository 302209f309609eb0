"""How many graph nodes plans add."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.bench import NO_PLAN, UNPATCHED, Bench
from benchmark.jobs import OURS, STOCK, NodesJob, Setup
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.window_plan import WINDOWS, WindowPlan

_TOKENS = 64
_ONE_TOKEN = 1  # of the two graphs


def measure_nodes(bench: Bench, methods: Sequence[str], windows: WindowPlan) -> Outcome:
    """Counts them, for a batch and for a single token.

    Args:
        bench: where.
        methods: of the plans.
        windows: the options of the method `windows`, if it is among them.
    """
    cases: list[tuple[str, str, Setup]] = [(NO_PLAN, OURS, bench.setup(_TOKENS * 2))]
    for method in methods:
        options = windows.options if method == WINDOWS else {}
        cases.append((method, OURS, bench.setup(_TOKENS * 2, method, options=options)))
    if bench.against_stock:
        cases.insert(0, (UNPATCHED, STOCK, bench.setup(_TOKENS * 2)))
    counts = {name: bench.libraries.run(library, NodesJob(setup, _TOKENS)) for name, library, setup in cases}
    first = next(iter(counts))
    rows = [
        [
            name,
            *(str(sum(graph.values())) for graph in graphs),
            f"{sum(graphs[_ONE_TOKEN].values()) - sum(counts[first][_ONE_TOKEN].values()):+d}",
            added(counts[first][_ONE_TOKEN], graphs[_ONE_TOKEN]),
        ]
        for name, graphs in counts.items()
    ]
    text = table(["", "nodes, a batch", "nodes, one token", f"more than {first}", "of which"], rows)
    intro = f"{bench.model.name}, {bench.n_layer} layers, two rotations each; ggml's names of operations."
    failure = ""
    if bench.against_stock and counts[UNPATCHED] != counts[NO_PLAN]:
        failure = "the graphs without a plan are not the unpatched library's"
    return Outcome(f"{intro}\n\n{text}", {"operations": counts}, failure=failure)


def added(base: dict[str, int], other: dict[str, int]) -> str:
    """The operations that a graph has more or fewer of than another: `60 ROPE, -1 VIEW`."""
    differences = {name: other.get(name, 0) - base.get(name, 0) for name in sorted({*base, *other})}
    return ", ".join(f"{count} {name}" for name, count in differences.items() if count)
