"""Does disturbance predict accuracy? Many factor plans, untuned, and how their ranks agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import finetune
from finetuning.planned_model import apply_plan
from replication.experiments import Contender
from replication.findings import Findings
from replication.running import WINDOWS, Bench, passkey
from torch_evaluation.perplexity import perplexities

THRESHOLDS = (0.0, 1e-4, 1e-3, 0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)
"""DPRoPE's, in nats, as its Figure 5 raises them."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's, with Fieller's interval of 95% (Fisher's z, standard error 1.03/sqrt(n - 3)).

    Attributes:
        rho: from -1 to 1.
        low: end of the interval.
        high: the other end.
        plans: how many.
    """

    rho: float
    low: float
    high: float
    plans: int


def swept() -> list[Contender]:
    """Factor plans from extrapolating every pair to interpolating every pair."""
    uniform = [Contender("none", "none"), Contender("PI", "pi"), Contender("NTK", "ntk")]
    uniform += [Contender("NTK by parts", "ntk-by-parts")]
    by_threshold = [
        Contender(f"DPRoPE {threshold:g}", "dprope", {"threshold": f"{threshold:g}"})
        for threshold in THRESHOLDS
    ]
    by_number = [
        Contender(f"DPRoPE {n} dimensions", "dprope", {"interpolated_dims": str(n)}) for n in range(2, 32, 2)
    ]
    return [*uniform, *by_threshold, *by_number]


def sweep(bench: Bench, target: int, trials: int) -> list[Findings]:
    """Disturbance, passkey and perplexity at the target, of each plan once."""
    found: list[Findings] = []
    seen = set()
    model = finetune.load_model(bench.checkpoint).eval()
    for contender in swept():
        plan = bench.plan(contender, target)
        factors = plan.frequency_factors or (1.0,) * bench.spec.n_pairs
        if (factors, plan.attention_factor) in seen:
            continue
        seen.add((factors, plan.attention_factor))
        apply_plan(model, plan, bench.spec)
        (perplexity,) = perplexities(
            model, bench.held_out, bench.tokenizer.bos_token_id, (target,), WINDOWS, static=True
        )
        (hits,) = passkey(bench, model, (target,), trials)
        found.append(
            {
                "label": contender.label,
                "disturbance": bench.disturbance(plan),
                "hits": hits["hits"],
                "trials": hits["trials"],
                "tail": perplexity.tail,
            }
        )
    return found


def spearman(x: Sequence[float], y: Sequence[float]) -> RankCorrelation:
    """Rank correlation; ties share their ranks' mean."""
    n = len(x)
    rho = float(np.corrcoef(ranks(x), ranks(y))[0, 1])
    z, error = math.atanh(max(-0.999999, min(0.999999, rho))), 1.959964 * 1.03 / math.sqrt(n - 3)
    return RankCorrelation(round(rho, 3), round(math.tanh(z - error), 3), round(math.tanh(z + error), 3), n)


def ranks(values: Sequence[float]) -> Numbers:
    """Ranks from 1."""
    array = np.asarray(values, dtype=np.float64)
    return np.array([(array < value).sum() + ((array == value).sum() + 1) / 2 for value in array])
