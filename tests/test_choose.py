"""Deciding on evidence: against an exhaustive comparison, with what is missing, and what is said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.evaluation.choose import Contest, Decision, Stage, decide, racers
from ropewalk.evaluation.choose_words import tell

LABELS = ("dprope", "yarn", "ntk", "none", "pi")
SAME = {label: label for label in LABELS}
HARD = np.random.default_rng(5).gamma(2.0, 2.0, 256)


@dataclass
class Known:
    """Evidence with known scores; counts what was asked of it.

    Attributes:
        offsets: mean losses above those of the text, by plan.
        answers: by plan, of every cell.
        within: the plain model's answers within L.
        budget: answers that there is time for.
    """

    answers: dict[str, list[bool]]
    offsets: dict[str, float] = field(default_factory=dict)
    within: list[bool] = field(default_factory=lambda: [True] * 3)
    budget: int = 10**6
    measured: int = 10**6
    asked: int = 0
    scored: int = 0

    def losses(self, stage: str, label: str) -> Sequence[float] | None:
        self.scored += 1
        return list(HARD + self.offsets.get(label, 0.0)) if self.scored <= self.measured else None

    def answer(self, label: str, number: int) -> bool | None:
        self.asked += 1
        return self.answers[label][number] if self.asked <= self.budget else None

    def control(self, number: int) -> bool | None:
        return self.within[number]


def contest(alike: dict[str, str] | None = None, forgetful: frozenset[str] = frozenset()) -> Contest:
    stage = Stage("the first tokens", 1, 257, SAME)
    return Contest(LABELS, "none", (stage,), {**SAME, **(alike or {})}, 6, 3, forgetful)


def hits(of_six: int) -> list[bool]:
    return [True] * of_six + [False] * (6 - of_six)


def words(decision: Decision, of: Contest) -> str:
    told = tell(of, decision, {label: float(i) for i, label in enumerate(LABELS)}, 4096)
    rounds = [sentence for part in told.rounds for sentence in part.sentences]
    return "\n".join((*rounds, *told.result, *told.warnings))


@settings(max_examples=200)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=5, max_size=5))
def test_the_choice_has_the_hits_of_an_exhaustive_comparison_less_one(answers: list[list[bool]]) -> None:
    evidence = Known(dict(zip(LABELS, answers, strict=True)))
    decision = decide(contest(), evidence)
    best = max(map(sum, answers))
    assert decision.decided
    assert sum(evidence.answers[decision.winner]) >= best - 1
    assert sum(evidence.answers[decision.winner]) >= sum(evidence.answers["none"])


def test_a_clear_best_costs_its_cells_and_a_few() -> None:
    evidence = Known({"dprope": hits(6), "yarn": hits(2), "ntk": hits(0), "none": hits(0), "pi": hits(0)})
    decision = decide(contest(), evidence)
    assert decision.winner == "dprope"
    assert evidence.asked == 7  # its own, and the plain model's first
    said = words(decision, contest())
    assert "dprope: 6 of 6: the choice." in said
    assert "none: 0 of 1: can reach 5 at most." in said
    assert "Not asked, as nobody could be more than one above the choice: yarn, ntk, pi." in said
    assert "it found 6 of 6 keys at 4,096 tokens, where the plain model found 0 of 1." in said


def test_what_perplexity_drops_is_told_with_its_number_and_never_asked() -> None:
    answers = {label: hits(3) for label in LABELS} | {"pi": hits(6)}
    evidence = Known(answers, offsets={"pi": 1.5})
    decision = decide(contest(), evidence)
    assert [verdict.label for verdict in decision.stages[0] if not verdict.kept] == ["pi"]
    assert "pi" not in [standing.label for standing in decision.standings]
    said = words(decision, contest())
    assert "Dropped: pi," in said
    assert "1.50 nats a token higher on the same tokens" in said


def test_the_plain_model_is_chosen_where_nothing_is_better() -> None:
    decision = decide(contest(), Known({label: hits(6) for label in LABELS}))
    assert decision.winner == "none"
    assert "nothing is to be baked" in words(decision, contest())


def test_a_plain_model_whose_perplexity_is_broken_does_not_win_a_tie() -> None:
    evidence = Known({label: hits(6) for label in LABELS}, offsets={"none": 2.0})
    assert decide(contest(), evidence).winner == "dprope"


def test_plans_that_answer_alike_are_asked_once_the_plain_model_for_its_like() -> None:
    alike = contest({"ntk": "yarn", "pi": "none"})
    assert racers(alike, LABELS) == ("dprope", "yarn", "none")
    assert "yarn (and ntk, alike at this length)" in words(
        decide(alike, Known({"dprope": hits(0), "yarn": hits(5), "none": hits(1)})), alike
    )


def test_plans_that_forget_the_text_are_raced_last() -> None:
    assert racers(contest(forgetful=frozenset({"dprope"})), LABELS)[-1] == "dprope"


def test_a_model_that_cannot_do_the_test_is_found_out_within_its_train_length() -> None:
    evidence = Known({label: hits(0) for label in LABELS}, within=[False] * 3, offsets={"dprope": -0.1})
    decision = decide(contest(), evidence)
    assert evidence.asked == 5  # once each
    assert decision.control == (0, 3)
    assert decision.winner == "dprope"  # surely better on its losses
    said = words(decision, contest())
    assert "finds no passkey even within its train length" in said
    assert "on its perplexity alone" in said


def test_where_nobody_hits_but_the_model_can_everybody_is_asked_to_the_end() -> None:
    evidence = Known({label: hits(0) for label in LABELS}, within=[False, True, True])
    decision = decide(contest(), evidence)
    assert decision.control == (1, 2)
    assert decision.decided
    assert decision.winner == "none"
    assert "take a shorter target length" in words(decision, contest())


@pytest.mark.parametrize("budget", [0, 1, 4])
def test_who_was_not_asked_is_not_said_to_have_found_nothing(budget: int) -> None:
    decision = decide(contest(), Known({label: hits(0) for label in LABELS}, budget=budget))
    said = words(decision, contest())
    assert "not run to its end" in said
    assert "Nobody found" not in said


@pytest.mark.parametrize("cells", [1, 2, 6])
def test_whoever_alone_finds_a_key_is_chosen(cells: int) -> None:
    answers = {label: [False] * cells for label in LABELS}
    answers["pi"][-1] = True
    few = dataclasses.replace(contest(), cells=cells)
    assert decide(few, Known(answers)).winner == "pi"


def test_a_budget_that_ends_leaves_a_leader_and_says_so() -> None:
    answers = {"dprope": hits(0), "yarn": hits(6), "ntk": hits(0), "none": hits(0), "pi": hits(0)}
    decision = decide(contest(), Known(answers, budget=4))
    assert not decision.decided
    assert decision.winner == "yarn"
    assert "not run to its end" in words(decision, contest())


def test_a_budget_that_ends_in_the_perplexities_races_nobody() -> None:
    evidence = Known({}, measured=3)
    decision = decide(contest(), evidence)
    assert evidence.asked == 0
    assert decision.winner == "none"
    assert "2 candidates were not measured" in words(decision, contest())


def test_a_choice_that_foresees_short_texts_worse_says_so() -> None:
    evidence = Known({label: hits(0) for label in LABELS} | {"dprope": hits(6)}, offsets={"dprope": 0.2})
    said = words(decide(contest(), evidence), contest())
    assert "use the plain file for texts within its train length" in said


def test_a_plan_that_is_the_same_at_the_target_and_spares_short_texts_is_named() -> None:
    stage = Stage("the first tokens", 1, 257, {**SAME, "ntk": "none"})
    alike = Contest(LABELS, "none", (stage,), {**SAME, "ntk": "dprope"}, 6, 3)
    evidence = Known({label: hits(0) for label in LABELS} | {"dprope": hits(6)}, offsets={"dprope": 0.2})
    said = words(decide(alike, evidence), alike)
    assert "or bake ntk, which is the same at 4,096 tokens" in said


def test_a_choice_that_misses_half_is_not_to_be_relied_on() -> None:
    evidence = Known({label: hits(0) for label in LABELS} | {"yarn": hits(3)})
    assert "Even the best missed 3 of 6" in words(decide(contest(), evidence), contest())
