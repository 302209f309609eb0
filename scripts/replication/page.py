"""The tables of `docs/replication.md`, each between its markers; what is around them is written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmark.page import Section, table, write_section
from replication.correlation import spearman
from replication.experiments import CONTENDERS, SAME_WITHIN_L, Experiment, L, experiments
from replication.findings import Findings
from replication.pictures import write_pictures
from ropewalk.evaluation.provenance import machine_words
from ropewalk.evaluation.statistics import Accuracy

COMMAND = "python scripts/replicate.py tests/data/tiny-llama --work DIR --bfloat16"
PAGE = "replication.md"
_MISSING = "–"


def write_page(held: Findings, docs: Path) -> None:
    """Write the tables of all findings, and the pictures.

    Args:
        held: a notebook's.
        docs: the folder of the page, which has the markers.
    """
    for name, text in _TABLES.items():
        write_section(docs / PAGE, Section(name, COMMAND, text(held)))
    write_pictures(held, docs / "replication")


def _origin(held: Findings) -> str:
    found = held["experiments"].values()
    dates = sorted(experiment["date"][:10] for experiment in found)
    days = " to ".join(sorted({dates[0], dates[-1]})) if dates else "not yet run"
    planned = [experiment.name for experiment in experiments()]
    missing = [name for name in planned if name not in held["experiments"]]
    state = f"{len(planned) - len(missing)} of {len(planned)} experiments"
    rest = f" Not run yet: {'; '.join(missing)}." if missing else ""
    return (
        f"{days}; {machine_words(held['machine'])}; torch {held['torch']}, transformers "
        f"{held['transformers']}; weights `{held['model']['sha256'][:16]}…`. {state}.{rest}"
    )


def _within(held: Findings) -> str:
    rows = []
    for contender in CONTENDERS:
        found = [_untuned(held, contender.label, factor) for factor in (2, 4, 10)]
        difference = held.get("within", {}).get(contender.label)
        same = "0" if difference == 0 else _MISSING if difference is None else f"{difference:.2g}"
        claim = "0" if contender.label in SAME_WITHIN_L else ""
        rows.append(
            [
                contender.label,
                claim,
                same,
                *[_hits(one, L) for one in found],
                *[_whole(one, L) for one in found],
            ]
        )
    head = ["method", "claimed", "logits differ by", *[f"passkey, plan x{n}" for n in (2, 4, 10)]]
    return table([*head, *[f"perplexity, plan x{n}" for n in (2, 4, 10)]], rows)


def _past(held: Findings) -> str:
    rows = []
    for contender in CONTENDERS:
        found = [(_untuned(held, contender.label, factor), factor * L) for factor in (2, 4, 10)]
        cells = [cell for one, length in found for cell in (_hits(one, length), _tail(one, length))]
        rows.append([contender.label, *cells])
    head = [cell for n in (2, 4, 10) for cell in (f"passkey at {n}L", f"perplexity at {n}L")]
    return table(["method", *head], rows)


def _tuned(steps: int, factor: int) -> Callable[[Findings], str]:
    def text(held: Findings) -> str:
        lengths = (L, 2 * L, 4 * L, 6 * L, 10 * L)
        planned = [one for one in experiments() if (one.steps, one.target) == (steps, factor * L)]
        rows = [
            [one.contender.label, *[_hits(_of(held, one), length) for length in lengths]] for one in planned
        ]
        return table(["method", *[f"{length // L}L" for length in lengths]], rows)

    return text


def _tuned_perplexity(held: Findings) -> str:
    lengths = (L // 2, L, 2 * L, 4 * L, 6 * L, 10 * L, 16 * L)
    rows = []
    for one in experiments():
        if one.steps and one.target == 4 * L:
            cells = [_tail(_of(held, one), length) for length in lengths]
            rows.append([one.contender.label, str(one.steps), *cells])
    return table(["method", "steps", *[f"{length / L:g}L" for length in lengths]], rows)


def _periods(held: Findings) -> str:
    lengths = (L, 2 * L, 4 * L, 6 * L, 10 * L)
    rows = []
    for label, length_of_period in (("Extra-PE", 1), ("Extra-MPE", 2)):
        for one in experiments():
            if one.contender.label == label and one.steps == 100:
                periods = one.target / L / length_of_period
                cells = [_hits(_of(held, one), length) for length in lengths]
                rows.append([label, f"{one.target // L}L", f"{periods:g}", *cells])
    return table(["method", "learned at", "periods seen", *[f"{n // L}L" for n in lengths]], rows)


def _correlation(held: Findings) -> str:
    rows = []
    for target in (2 * L, 4 * L):
        sweep = held.get(f"sweep {target}")
        if not sweep:
            rows.append([f"{target // L}L", _MISSING, _MISSING, _MISSING])
            continue
        disturbance = [plan["disturbance"] for plan in sweep]
        against_hits = spearman(disturbance, [plan["hits"] / plan["trials"] for plan in sweep])
        against_tail = spearman(disturbance, [plan["tail"] for plan in sweep])
        cells = [_rho(**asdict(found)) for found in (against_hits, against_tail)]
        rows.append([f"{target // L}L", f"{len(sweep)} plans, {sweep[0]['trials']} trials each", *cells])
    return table(["at", "what", "disturbance and hits", "disturbance and perplexity"], rows)


def _rho(*, rho: float, low: float, high: float, plans: int) -> str:
    return f"{rho:+.2f} ({low:+.2f} to {high:+.2f}; {plans} plans)"


def _sweep(held: Findings) -> str:
    rows = []
    for target in (2 * L, 4 * L):
        for plan in sorted(held.get(f"sweep {target}", []), key=lambda plan: float(plan["disturbance"])):
            accuracy = Accuracy(plan["hits"], plan["trials"]).words
            rows.append(
                [
                    f"{target // L}L",
                    plan["label"],
                    f"{plan['disturbance']:.1f}",
                    accuracy,
                    f"{plan['tail']:.2f}",
                ]
            )
    return table(["at", "plan", "disturbance", "passkey", "perplexity"], rows)


_TABLES: Mapping[str, Callable[[Findings], str]] = {
    "origin": _origin,
    "within": _within,
    "past": _past,
    "tuned-100": _tuned(100, 4),
    "tuned-300": _tuned(300, 4),
    "tuned-100-at-2": _tuned(100, 2),
    "tuned-perplexity": _tuned_perplexity,
    "periods": _periods,
    "correlation": _correlation,
    "sweep": _sweep,
}


def _of(held: Findings, experiment: Experiment) -> Findings | None:
    found: Findings | None = held["experiments"].get(experiment.name)
    return found


def _untuned(held: Findings, label: str, factor: int) -> Findings | None:
    found: Findings | None = held["experiments"].get(f"{label} x{factor}, 0 steps")
    return found


def _hits(found: Findings | None, length: int) -> str:
    for row in found["passkey"] if found else ():
        if row["length"] == length:
            return Accuracy(row["hits"], row["trials"]).words
    return _MISSING


def _whole(found: Findings | None, length: int) -> str:
    return _perplexity(found, length, "perplexity", "low", "high")


def _tail(found: Findings | None, length: int) -> str:
    return _perplexity(found, length, "tail", "tail_low", "tail_high")


def _perplexity(found: Findings | None, length: int, value: str, low: str, high: str) -> str:
    for row in found["perplexity"] if found else ():
        if row["length"] == length:
            return f"{row[value]:.1f} ({row[low]:.1f} to {row[high]:.1f})"
    return _MISSING
