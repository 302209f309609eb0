"""Which of some plans a model is best extended with: decided on the cheapest evidence that separates them.

Rounds, each dearer than the one before. How much the plans disturb the rotary angles costs nothing, and says
only in which order they are looked at. Perplexity drops those that are surely worse than the best by a
margin: first of a short text, then, where that costs little beside an answer at the target length, of the
tokens just past L. A retrieval test at the target length costs a reading of as many tokens for each answer.
It is run as a race (`choose_race`), and it alone chooses among those that are left: on the small trained
model of the tests the plans with the best perplexity just past L are not those that find most
(docs/choosing.md).

Everything here follows from the evidence alone, so what was kept of a run tells its story again, as far as it
came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ropewalk.evaluation.choose_losses import MARGIN, LossVerdict, judge_losses
from ropewalk.evaluation.choose_race import Race, Standing


class Evidence(Protocol):
    """What is measured, or was. None for what is not there: not measured yet, or not within the budget."""

    def losses(self, stage: str, label: str) -> Sequence[float] | None:
        """Nats of each token of a stage under a plan; the same tokens for every plan."""

    def answer(self, label: str, number: int) -> bool | None:
        """Whether a plan's answer of this number, from 0, to the cells at the target length is right."""

    def control(self, number: int) -> bool | None:
        """Whether the plain model's answer of this number to the cells within L is right."""


@dataclass(frozen=True)
class Stage:
    """Some tokens of a text, by whose losses plans are dropped.

    Attributes:
        name: of the stage.
        first: the first token scored, from 1.
        end: one past the last.
        alike: for each plan the one whose losses are the same, itself if there is none.
    """

    name: str
    first: int
    end: int
    alike: Mapping[str, str]


@dataclass(frozen=True)
class Contest:
    """Who is in the running, and for what.

    Attributes:
        order: the plans by disturbance, the least first.
        plain: the plain model's label, one of them.
        stages: of perplexity, one after the other.
        alike: for each plan the one whose answers at the target length are the same, or itself.
        cells: how many there are at the target length.
        control_cells: how many there are within L.
        forgetful: plans under which every layer has a window, so that the text is forgotten: nobody is
            compared with them, and they are raced last.
        margin: nats per token within which losses are alike.
    """

    order: tuple[str, ...]
    plain: str
    stages: tuple[Stage, ...]
    alike: Mapping[str, str]
    cells: int
    control_cells: int = 0
    forgetful: frozenset[str] = frozenset()
    margin: float = MARGIN


@dataclass(frozen=True)
class Decision:
    """What the evidence says.

    Attributes:
        winner: the plan chosen; the plain model where there was no evidence at all.
        stages: the verdicts of each stage, as `judge_losses` has them, of the plans that were measured.
        standings: how the plans stood at the end of the race, in its order; each stands for those alike.
        decided: whether the race came to its end.
        control: hits and cells of the plain model within L, where nobody hit anything at first; else None.
        cells: how many there were to answer.
    """

    winner: str
    stages: tuple[tuple[LossVerdict, ...], ...] = ()
    standings: tuple[Standing, ...] = ()
    decided: bool = False
    control: tuple[int, int] | None = None
    cells: int = 0

    @property
    def capable(self) -> bool:
        """Whether the model passes the test at all: somebody hit, or the plain model did within L."""
        return any(s.hits for s in self.standings) or self.control is None or self.control[0] > 0


def decide(
    contest: Contest, evidence: Evidence, on_stage: Callable[[Decision], None] = lambda so_far: None
) -> Decision:
    """Choose.

    Args:
        contest: who is in the running.
        evidence: asked only for what is needed.
        on_stage: told what is known after each stage of perplexity.
    """
    left = contest.order
    decision = Decision(contest.plain, cells=contest.cells)
    for stage in contest.stages:
        measured = {label: evidence.losses(stage.name, stage.alike[label]) for label in left}
        losses = {label: found for label, found in measured.items() if found is not None}
        if losses:
            verdicts = judge_losses(losses, {contest.plain}, contest.forgetful, contest.margin)
            kept = {verdict.label for verdict in verdicts if verdict.kept}
            best = _best_by_losses(verdicts, contest.plain)
            decision = replace(decision, winner=best, stages=(*decision.stages, verdicts))
            on_stage(decision)
            left = tuple(label for label in left if label in kept)
        if len(losses) < len(measured):
            return decision  # the budget ended within the stage: what comes is dearer
    return _race(contest, evidence, decision, racers(contest, left))


def racers(contest: Contest, left: Sequence[str]) -> tuple[str, ...]:
    """The plans that are raced: one of each that answer alike, the plain model rather than another.

    Args:
        contest: who was in the running.
        left: who still is.
    """
    alike: dict[str, str] = {}
    for label in sorted(left, key=lambda label: label in contest.forgetful):
        alike.setdefault(contest.alike[label], label)
    alike[contest.alike[contest.plain]] = contest.plain
    return tuple(alike.values())


def _race(contest: Contest, evidence: Evidence, before: Decision, order: Sequence[str]) -> Decision:
    own = [verdict for verdicts in before.stages for verdict in verdicts if verdict.label == contest.plain]
    ties = not any(verdict.excess.low > contest.margin for verdict in own)
    race = Race(order, contest.cells, plain=contest.plain, plain_wins_ties=ties)
    control: tuple[int, int] | None = None
    while (label := race.next()) is not None:
        if control is None and _all_missed_once(race):
            control = _control(contest, evidence)
            if control is not None and control[0] == 0:
                break
        hit = evidence.answer(contest.alike[label], race.asked(label))
        if hit is None:
            break
        race.note(label, hit)
    standings = race.standings
    return replace(
        before,
        winner=race.best().label if any(s.hits for s in standings) else before.winner,
        standings=standings,
        decided=race.next() is None,
        control=control,
    )


def _best_by_losses(verdicts: Sequence[LossVerdict], plain: str) -> str:
    """The best, where it is surely better than the plain model, which was measured too; else that."""
    own = next((verdict for verdict in verdicts if verdict.label == plain), None)
    return plain if own is None or own.excess.low <= 0 else verdicts[0].label


def _all_missed_once(race: Race) -> bool:
    return all(standing.misses and not standing.hits for standing in race.standings)


def _control(contest: Contest, evidence: Evidence) -> tuple[int, int] | None:
    """Hits and cells of the plain model within L, up to the first hit: is the test one for this model?"""
    asked = 0
    for number in range(contest.control_cells):
        hit = evidence.control(number)
        if hit is None:
            break
        asked += 1
        if hit:
            return 1, asked
    return (0, asked) if asked else None
