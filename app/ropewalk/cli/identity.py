"""The below-L identity check of one file: its plan against no plan, within the train length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropewalk.cli.options import RunOptions
from ropewalk.cli.progress import ProgressReport
from ropewalk.cli.running import loaded_model
from ropewalk.engine import IdentityResult, ModelDescription
from ropewalk.sessions import context_for
from ropewalk.wording.plans import plan_json, plan_lines, where_it_runs
from ropewalk.wording.quantities import count


@dataclass(frozen=True)
class IdentityReport:
    """What the check of a file found.

    Attributes:
        lines: (label, sentence) pairs for people.
        as_json: the same as JSON values.
        passed: whether the plan leaves positions below L alone as it must; None where there is nothing
            that must be so.
    """

    lines: list[tuple[str, str]]
    as_json: dict[str, Any]
    passed: bool | None


def check_file(file: Path, tokens: int, run: RunOptions) -> IdentityReport:
    """Load a file and compare its logits within the train length with its plan and without.

    Args:
        file: a GGUF file.
        tokens: how many tokens to compare on; fewer where the train length is shorter.
        run: how to run it; the seed draws the tokens.

    Raises:
        EngineError: the file cannot be run.
    """
    with loaded_model(file, run, ProgressReport()) as (engine, model):
        if model.plan is None or model.native:
            return _report(file, model, None)
        n_tokens = min(tokens, model.train_length)
        draw = random.Random(run.seed)
        engine.resize(context_for(n_tokens))
        return _report(
            file, model, engine.check_identity([draw.randrange(model.vocab_size) for _ in range(n_tokens)])
        )


def _report(file: Path, model: ModelDescription, result: IdentityResult | None) -> IdentityReport:
    passed, verdict = _verdict(model, result)
    lines = [("file", str(file)), ("architecture", f"{model.architecture}, {count(model.n_layer, 'layer')}")]
    if model.plan is None:
        lines.append(("train length", count(model.train_length, "token")))
    else:
        lines += [*plan_lines(model.plan), ("runs in", where_it_runs(model.plan, model.native))]
    return IdentityReport(
        lines=[*lines, ("check", verdict)],
        as_json={
            "path": str(file),
            "architecture": model.architecture,
            "train_length": model.train_length,
            "target_length": model.target_length,
            "plan": None if model.plan is None else plan_json(model.plan, model.native),
            "identity": None
            if result is None
            else {
                "tokens": result.n_tokens,
                "max_difference": result.max_difference,
                "bit_identical": result.bit_identical,
            },
            "passed": passed,
            "verdict": verdict,
        },
        passed=passed,
    )


def _verdict(model: ModelDescription, result: IdentityResult | None) -> tuple[bool | None, str]:
    if model.plan is None:
        return None, "nothing to compare: the file has no plan"
    if result is None:
        return (
            None,
            "nothing to compare: the file's own keys say the whole plan, so any llama.cpp runs it alike",
        )
    where = f"on {count(result.n_tokens, 'token')} below the train length"
    if not model.plan.changes_within_train_length:
        if result.bit_identical:
            return True, f"identical {where}, bit for bit, with the plan and without"
        return False, f"NOT identical {where}: the largest logit difference is {result.max_difference:.3g}"
    return None, (
        f"the largest logit difference {where} is {result.max_difference:.3g}, by design: "
        "this plan changes frequencies or attention there too"
    )
