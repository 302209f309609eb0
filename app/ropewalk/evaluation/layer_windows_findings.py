"""What the rows of a results file say about windowed layers: sensitivities, the set, its check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ropewalk.evaluation.layer_windows import Calibration, Layers, Limits, Loss
from ropewalk.evaluation.layer_windows_check import HITS, TEXT, TURN, Compared
from ropewalk.evaluation.layer_windows_measure import Measurements, NotMeasured
from ropewalk.evaluation.layer_windows_plans import WindowPlans
from ropewalk.evaluation.layer_windows_search import LayerLoss, Search
from ropewalk.evaluation.results_file import ResultsFileError
from ropewalk.evaluation.statistics import Accuracy

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Turns:
    """Time and memory with and without the windows, from pairs of readings.

    Attributes:
        prompt_tokens: tokens read in each.
        prefill: median seconds without and with windows.
        decode: median seconds of a written token without and with windows.
        prefill_ratio: median over the pairs of the one by the other; above 1 where windows are faster.
        decode_ratio: likewise.
        n_ctx: tokens of the contexts.
        kv_bytes: of keys and values without and with windows, as the library says.
        pairs: how many there were.
    """

    prompt_tokens: int
    prefill: tuple[float, float]
    decode: tuple[float, float]
    prefill_ratio: float
    decode_ratio: float
    n_ctx: int
    kv_bytes: tuple[int, int]
    pairs: int


@dataclass(frozen=True)
class Findings:
    """All that there is so far.

    Attributes:
        search: as far as it came; it has not begun where the layers were given.
        layers: those that get a window; () while there are none.
        hits: on fresh prompts without and with windows; None while there are none.
        text_drop: of a token's log-probability in fresh text, in nats; None while it is not known.
        turns: None while there is no pair.
    """

    search: Search
    layers: Layers
    hits: tuple[Accuracy, Accuracy] | None
    text_drop: float | None
    turns: Turns | None

    @property
    def loses_hits(self) -> bool:
        """Whether the windows cost more than one of the fresh prompts' hits."""
        return self.hits is not None and self.hits[1].hits < self.hits[0].hits - 1


@dataclass(frozen=True)
class Question:
    """What a run is to find out.

    Attributes:
        calibration: what sets of layers are asked.
        limits: what they may lose.
        plans: by the layers that have a window.
        given: layers to check without a search; () to search.
    """

    calibration: Calibration
    limits: Limits
    plans: WindowPlans
    given: Layers = ()

    def search(self) -> Search:
        """One that has not begun."""
        return Search(self.calibration, self.limits, self.plans.spec.n_layer)

    def compared(self, layers: Layers) -> tuple[Compared, Compared]:
        """The two plans of the check: without windows, and with these."""
        return (
            Compared(self.plans.label_of(()), self.plans.plan(())),
            Compared(self.plans.label_of(layers), self.plans.plan(layers)),
        )


def find(question: Question, rows: Rows) -> Findings:
    """What rows say.

    Raises:
        ResultsFileError: one of them is damaged.
    """
    search = question.search()
    measurements = Measurements(rows)
    if not question.given:
        with suppress(NotMeasured):
            search.run(measurements.known)
    found = search.found.layers if search.found is not None else ()
    layers = question.given or found
    if not layers or not (question.given or search.done):
        return Findings(search, layers, None, None, None)
    labels = tuple(compared.label for compared in question.compared(layers))
    try:
        return Findings(search, layers, _hits(rows, labels), _text_drop(rows, labels), _turns(rows, labels))
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        raise ResultsFileError(
            "The results file is damaged: a result of the check lacks what it should have; "
            "begin a new one with --json."
        ) from None


def summary_of(findings: Findings, command: str) -> dict[str, Any]:
    """The same as JSON values.

    Args:
        findings: what there is.
        command: that bakes the plan; empty where none was found.
    """
    search = findings.search
    return {
        "layers": [_single_json(single) for single in search.singles],
        "order": [single.layer for single in search.order],
        "sets": [asdict(tried) | {"loss": _loss_json(tried.loss)} for tried in search.sets],
        "searched": search.done,
        "windowed": list(findings.layers),
        "hits": None if findings.hits is None else [accuracy.as_json() for accuracy in findings.hits],
        "text_drop": findings.text_drop,
        "turns": None if findings.turns is None else asdict(findings.turns),
        "command": command,
    }


def _single_json(single: LayerLoss) -> dict[str, Any]:
    return {
        "layer": single.layer,
        "loss": single.loss,
        "coarse": _loss_json(single.coarse),
        "closer": None if single.closer is None else _loss_json(single.closer),
    }


def _loss_json(loss: Loss) -> dict[str, float | int]:
    return {**asdict(loss), "total": loss.total}


def _hits(rows: Rows, labels: Sequence[str]) -> tuple[Accuracy, Accuracy] | None:
    """Of the prompts that were asked under both plans."""
    answers: dict[str, dict[tuple[Any, ...], bool]] = {label: {} for label in labels}
    for row in rows:
        if row.get("part") == HITS and row["method"] in answers:
            answers[row["method"]][row["length"], row["depth"], row["trial"]] = bool(row["hit"])
    plain, windowed = (answers[label] for label in labels)
    both = plain.keys() & windowed.keys()
    if not both:
        return None
    return (
        Accuracy(sum(plain[cell] for cell in both), len(both)),
        Accuracy(sum(windowed[cell] for cell in both), len(both)),
    )


def _text_drop(rows: Rows, labels: Sequence[str]) -> float | None:
    means = {row["plan"]: row["log_probability"] / row["scored"] for row in rows if row.get("part") == TEXT}
    return means[labels[0]] - means[labels[1]] if set(labels) <= set(means) else None


def _turns(rows: Rows, labels: Sequence[str]) -> Turns | None:
    last = {(row["turn"], row["plan"]): row for row in rows if row.get("part") == TURN}
    pairs = [
        tuple(last[turn, label] for label in labels)
        for turn in sorted({turn for turn, _ in last})
        if all((turn, label) in last for label in labels)
    ]
    if not pairs:
        return None
    prefills = [tuple(row["prefill_seconds"] for row in pair) for pair in pairs]
    decodes = [tuple(row["decode_seconds"] / max(1, row["decoded_tokens"]) for row in pair) for pair in pairs]
    return Turns(
        prompt_tokens=pairs[0][0]["prompt_tokens"],
        prefill=(median(p[0] for p in prefills), median(p[1] for p in prefills)),
        decode=(median(d[0] for d in decodes), median(d[1] for d in decodes)),
        prefill_ratio=median(plain / windowed for plain, windowed in prefills),
        decode_ratio=median(plain / windowed for plain, windowed in decodes),
        n_ctx=pairs[0][0]["n_ctx"],
        kv_bytes=(pairs[0][0]["kv_bytes"], pairs[0][1]["kv_bytes"]),
        pairs=len(pairs),
    )
