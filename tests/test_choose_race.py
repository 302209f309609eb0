"""A race over cells: who is asked next, when it is decided, and that it finds the best less one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.evaluation.choose_race import TOLERANCE, Race

ANSWERS = st.dictionaries(
    st.sampled_from(["plain", "a", "b", "c", "d", "e"]),
    st.lists(st.booleans(), min_size=6, max_size=6),
    min_size=1,
)


def run(race: Race, answers: dict[str, list[bool]]) -> int:
    """Runs a race to its end; the cells that were asked."""
    asked = 0
    while (label := race.next()) is not None:
        race.note(label, answers[label][race.asked(label)])
        asked += 1
    return asked


@given(ANSWERS, st.booleans())
def test_the_winner_has_the_hits_of_the_best_less_one_and_no_fewer_than_the_plain_model(
    answers: dict[str, list[bool]], ties: bool
) -> None:
    race = Race(list(answers), 6, plain="plain" if "plain" in answers else None, plain_wins_ties=ties)
    asked = run(race, answers)
    assert asked <= 6 * len(answers)
    hits = {label: sum(cells) for label, cells in answers.items()}
    winner = race.best()
    assert winner.asked == 6
    assert hits[winner.label] == winner.hits >= max(hits.values()) - TOLERANCE
    if "plain" in answers:
        assert winner.hits >= hits["plain"]
        if ties and hits["plain"] == winner.hits:
            assert winner.label == "plain"


@given(ANSWERS)
def test_without_a_tolerance_the_winner_is_the_best(answers: dict[str, list[bool]]) -> None:
    race = Race(list(answers), 6, tolerance=0)
    run(race, answers)
    assert race.best().hits == max(sum(cells) for cells in answers.values())


def test_a_first_that_hits_everything_is_asked_everything_and_the_others_nothing() -> None:
    race = Race(["a", "b", "c"], 6)
    assert run(race, {"a": [True] * 6, "b": [True] * 6, "c": [True] * 6}) == 6
    assert race.best().label == "a"


def test_a_miss_gives_the_next_cell_to_another() -> None:
    race = Race(["a", "b"], 3)
    race.note("a", hit=False)
    assert race.next() == "b"
    race.note("b", hit=True)
    assert race.next() == "b"
    race.note("b", hit=False)
    assert race.next() == "b"  # as many misses, more answers


def test_the_plain_model_is_asked_until_it_cannot_win() -> None:
    race = Race(["a", "plain"], 4, plain="plain")
    assert run(race, {"a": [True] * 4, "plain": [True, True, False, True]}) == 7
    assert race.best().label == "a"


@pytest.mark.parametrize(("ties", "winner"), [(True, "plain"), (False, "a")])
def test_the_plain_model_wins_ties_where_it_is_allowed_to(ties: bool, winner: str) -> None:
    race = Race(["a", "plain"], 2, plain="plain", plain_wins_ties=ties)
    run(race, {"a": [True] * 2, "plain": [True] * 2})
    assert race.best().label == winner


def test_who_leads_a_race_that_was_broken_off() -> None:
    race = Race(["a", "b", "c"], 6)
    race.note("a", hit=True)
    for hit in (True, True, False):
        race.note("b", hit)
    assert race.best().label == "a"  # 2/3 against 3/5
    race.note("b", hit=True)
    assert race.best().label == "a"  # 2/3 against 4/6: the first of equals


def test_known_chances_are_told_apart_most_of_the_time() -> None:
    """Noise of a known size: of candidates that hit with 0.9, 0.5 and 0.1 the first is chosen."""
    drawn = random.Random(7)
    chances = {"weak": 0.1, "middling": 0.5, "strong": 0.9}
    chosen, asked = [], 0
    for _ in range(200):
        answers = {label: [drawn.random() < p for _ in range(6)] for label, p in chances.items()}
        race = Race(list(answers), 6)
        asked += run(race, answers)
        chosen.append(race.best().label)
    assert chosen.count("strong") > 170
    assert chosen.count("weak") == 0
    assert asked < 0.65 * 200 * 18
