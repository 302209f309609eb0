"""A decision in plain words: what each round dropped, and on which number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ropewalk.evaluation.choose import Contest, Decision, Stage
from ropewalk.evaluation.choose_losses import LossVerdict
from ropewalk.evaluation.choose_race import TOLERANCE, Standing
from ropewalk.wording.quantities import count

_SHOWN = 4  # plans of an order that a terminal names; the page has all


@dataclass(frozen=True)
class Round:
    """One round of a choice.

    Attributes:
        title: what was measured.
        sentences: what came of it.
    """

    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """A whole choice.

    Attributes:
        rounds: in their order.
        result: the choice and why, in sentences.
        warnings: what the person should know before they rely on it.
    """

    rounds: tuple[Round, ...]
    result: tuple[str, ...]
    warnings: tuple[str, ...]


def tell(contest: Contest, decision: Decision, disturbances: Mapping[str, float], target_length: int) -> Told:
    """Put a decision into words.

    Args:
        contest: who was in the running.
        decision: what came of it, as far as it is known.
        disturbances: by label.
        target_length: L' in tokens.
    """
    rounds = [_order_round(contest, disturbances)]
    left = list(contest.order)
    for stage, verdicts in zip(contest.stages, decision.stages, strict=False):
        rounds.append(_loss_round(len(rounds) + 1, stage, verdicts, contest, len(left)))
        left = [verdict.label for verdict in verdicts if verdict.kept]
    if decision.standings:
        rounds.append(_race_round(len(rounds) + 1, contest, decision, target_length))
    return Told(
        tuple(rounds),
        _result(contest, decision, target_length),
        _warnings(contest, decision, target_length),
    )


def standing_words(standing: Standing, decision: Decision, plain: str) -> str:
    """How a candidate stands, and why it was asked no more."""
    of = f"{standing.hits} of {standing.asked}" if standing.asked else "not asked"
    if standing.label == decision.winner:
        return f"{of}: the choice"
    if standing.asked == decision.cells:
        return of
    if not decision.decided:
        return f"{of}, not finished"
    best = next(s for s in decision.standings if s.label == decision.winner)
    most = decision.cells - standing.misses
    if standing.label == plain:
        return f"{of}: can reach {most} at most"
    return f"{of}: can reach {most} at most, no more than one above {best.hits}"


def _order_round(contest: Contest, disturbances: Mapping[str, float]) -> Round:
    shown = [
        *contest.order[:_SHOWN],
        *(label for label in (contest.plain,) if label in contest.order[_SHOWN:]),
    ]
    listed = ", ".join(f"{label} {disturbances[label]:.1f}" for label in shown)
    more = len(contest.order) - len(shown)
    others = f", and {count(more, 'other')}" if more else ""
    return Round(
        "Round 1, how much the rotary angles are disturbed",
        (
            f"It runs nothing and drops nobody: it orders {count(len(contest.order), 'candidate')}, the "
            f"least disturbed first: {listed}{others}.",
        ),
    )


def _loss_round(
    number: int, stage: Stage, verdicts: Sequence[LossVerdict], contest: Contest, of: int
) -> Round:
    best = verdicts[0]
    span = f"tokens {stage.first + 1:,} to {stage.end:,}"
    sentences = [f"The best is {best.label} with {best.perplexity:.2f}."]
    sentences += [
        f"Dropped: {verdict.label}, {verdict.perplexity:.2f}, which is surely worse: its loss is "
        f"{verdict.excess.mean:.2f} nats a token higher on the same tokens (95%: {verdict.excess.low:.2f} to "
        f"{verdict.excess.high:.2f}), where {contest.margin:g} are let pass."
        for verdict in verdicts
        if not verdict.kept
    ]
    if all(verdict.kept for verdict in verdicts):
        worst = max(verdicts, key=lambda verdict: verdict.perplexity)
        sentences.append(
            f"Nobody is surely worse by more than {contest.margin:g} nats a token, so nobody is dropped; the "
            f"worst is {worst.label} with {worst.perplexity:.2f}."
        )
    if len(verdicts) < of:
        sentences.append(f"{count(of - len(verdicts), 'candidate was', 'candidates were')} not measured.")
    return Round(f"Round {number}, perplexity of {stage.name} ({span})", tuple(sentences))


def _race_round(number: int, contest: Contest, decision: Decision, target_length: int) -> Round:
    sentences = [
        f"Each is asked for the same {count(decision.cells, 'key')}, whoever has missed least first, until "
        f"nobody can be more than {count(TOLERANCE, 'hit')} above the best."
    ]
    if decision.control is not None:
        hits, trials = decision.control
        sentences.append(
            f"Nobody hit at first, so the plain model was asked within its train length: {hits} of {trials}."
        )
    dropped = [s for s in decision.standings if s.label != decision.winner]
    winner = [s for s in decision.standings if s.label == decision.winner]
    asked = [s for s in dropped if s.asked]
    for standing in (*winner, *asked):
        alike = [
            label
            for label in contest.order
            if label != standing.label and contest.alike[label] == contest.alike[standing.label]
        ]
        too = f" (and {', '.join(alike)}, alike at this length)" if alike else ""
        sentences.append(f"{standing.label}{too}: {standing_words(standing, decision, contest.plain)}.")
    waiting = [standing.label for standing in dropped if not standing.asked]
    if waiting:
        why = ", as nobody could be more than one above the choice" if decision.decided else ""
        sentences.append(f"Not asked{why}: {', '.join(waiting)}.")
    return Round(f"Round {number}, passkeys at {target_length:,} tokens", tuple(sentences))


def _result(contest: Contest, decision: Decision, target_length: int) -> tuple[str, ...]:
    winner = next((s for s in decision.standings if s.label == decision.winner), None)
    plain = next((s for s in decision.standings if s.label == contest.plain), None)
    if decision.winner == contest.plain:
        if winner is not None and winner.hits and decision.decided:
            return (
                f"The plain model: it found {winner.hits} of {winner.asked} keys at {target_length:,} "
                "tokens, and no method more than one above that, so nothing is to be baked.",
            )
        return ("The plain model: nothing that was measured speaks for another.",)
    if winner is None or not winner.hits:
        return (f"{decision.winner}, on its perplexity alone.",)
    against = (
        f", where the plain model {_found(plain)}"
        if plain is not None and plain.label != winner.label
        else ""
    )
    return (
        f"{decision.winner}: it found {winner.hits} of {winner.asked} keys at {target_length:,} tokens"
        f"{against}.",
    )


def _found(plain: Standing) -> str:
    return f"found {plain.hits} of {plain.asked}" if plain.asked else "was not asked"


def _warnings(contest: Contest, decision: Decision, target_length: int) -> tuple[str, ...]:
    found = []
    any_hit = any(standing.hits for standing in decision.standings)
    if not decision.capable:
        found.append(
            "The model finds no passkey even within its train length, so this test says nothing of it."
        )
    elif decision.decided and not any_hit:  # everybody was asked for everything then
        found.append(f"Nobody found a single key at {target_length:,} tokens: take a shorter target length.")
    if not decision.decided:
        found.append("The race was not run to its end, so another may be better.")
    winner = next((s for s in decision.standings if s.label == decision.winner), None)
    if decision.decided and winner is not None and 0 < winner.hits <= decision.cells / 2:
        found.append(
            f"Even the best missed {winner.misses} of {decision.cells}: do not rely on what it says of so "
            "long a text."
        )
    if decision.stages:
        found += _worse_when_short(contest, decision, target_length)
    return tuple(found)


def _worse_when_short(contest: Contest, decision: Decision, target_length: int) -> list[str]:
    """A sentence where the choice foresees a short text surely worse than the plain model does."""
    by_label = {verdict.label: verdict for verdict in decision.stages[0]}
    mine, plain = by_label.get(decision.winner), by_label.get(contest.plain)
    if mine is None or plain is None or mine.label == plain.label:
        return []
    ratio = mine.perplexity / plain.perplexity
    if not mine.excess.low > plain.excess.mean or ratio < 1.01 or not math.isfinite(ratio):
        return []
    short = contest.stages[0]
    better = [
        label
        for label in by_label
        if contest.alike[label] == contest.alike[mine.label] and short.alike[label] == contest.plain
    ]
    instead = f", or bake {better[0]}, which is the same at {target_length:,} tokens" if better else ""
    return [
        f"Of {short.name} the plain model's perplexity is better, {plain.perplexity:.2f} against "
        f"{mine.perplexity:.2f}: use the plain file for texts within its train length{instead}."
    ]
