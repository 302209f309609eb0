"""Prompt lookup against a search by hand, and the length of drafts against its own promises."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from ropewalk.engine.draft_length import SHORTEST_MATCH, DraftLength, cost
from ropewalk.engine.drafter import PromptDrafter
from ropewalk.engine.prompt_lookup import Guess, PromptLookup
from ropewalk.engine.speculation import MAX_DRAFT


def by_hand(text: list[int], count: int, shortest: int) -> Guess | None:
    """Every place that a run of last tokens ended at, one by one."""
    for match in range(min(32, len(text) - 1), shortest - 1, -1):
        ends = [i for i in range(match, len(text)) if text[i - match : i] == text[-match:]]
        if ends:
            votes = Counter(text[end] for end in ends)
            start = max(end for end in ends if votes[text[end]] == max(votes.values()))
            guessed = list(text)
            for i in range(count):
                guessed.append(guessed[start + i])
            return Guess(tuple(guessed[len(text) :]), match)
    return None


@given(
    st.lists(st.integers(0, 2), max_size=60) | st.lists(st.integers(0, 9), max_size=60),
    st.lists(st.integers(0, 2), max_size=8),
    st.integers(1, 20),
    st.integers(1, 4),
)
@example([7] * 40, [], 5, 1)
@example([1, 2] * 30, [], 7, 3)
def test_a_guess_is_what_followed_the_longest_repetition(
    tokens: list[int], more: list[int], count: int, shortest: int
) -> None:
    lookup = PromptLookup(tokens)
    for token in more:
        lookup.append(token)
    assert lookup.guess(count, shortest) == by_hand([*tokens, *more], count, shortest)


def test_a_text_may_grow_far_beyond_what_it_began_with() -> None:
    lookup = PromptLookup([])
    for token in range(5000):
        lookup.append(token)
    assert lookup.guess(3, 1) is None
    for token in range(100, 110):
        lookup.append(token)
    assert lookup.guess(3, 1) == Guess((110, 111, 112), 10)


def test_a_long_text_of_one_token_is_guessed_to_go_on() -> None:
    lookup = PromptLookup([5] * 300_000)
    assert lookup.guess(4, 2) == Guess((5, 5, 5, 5), 32)


DRAFTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, MAX_DRAFT), st.floats(0, 1)), max_size=400)


@given(DRAFTS)
def test_what_drafts_lose_is_bounded(drafts: list[tuple[int, int, float]]) -> None:
    """However they come out: 2.5 tokens' time, and 2 % of the answer's."""
    length = DraftLength()
    time, made = 0.0, 0
    for match, most, share in drafts:
        drafted = length.choose(match, most)
        assert 0 <= drafted <= most
        assert drafted == 0 or match >= SHORTEST_MATCH
        accepted = int(share * drafted)
        length.note(match, drafted, accepted)
        time += cost(drafted)
        made += 1 + accepted
        assert time <= made * 1.02 + 2.5 + 1e-6


def test_right_drafts_grow_and_wrong_ones_end() -> None:
    right, drafted = DraftLength(), []
    for _ in range(12):
        drafted.append(right.choose(20, MAX_DRAFT))
        right.note(20, drafted[-1], drafted[-1])
    assert drafted == sorted(drafted)
    assert 0 < drafted[0] < drafted[-1] == MAX_DRAFT
    wrong, tried = DraftLength(), 0
    for _ in range(300):
        count = wrong.choose(20, MAX_DRAFT)
        tried += count > 0
        wrong.note(20, count, 0)
    assert 1 <= tried <= 5


def test_a_quotation_takes_less_than_half_the_time() -> None:
    """Two hundred tokens of a text that were read before, by the costs measured."""
    text = [(7919 * i) % 4001 for i in range(4000)]
    quoted = text[1000:1200]
    drafter = PromptDrafter([*text, *quoted[:8]])
    time, at = 0.0, 8
    while at < len(quoted):
        draft = drafter.draft(MAX_DRAFT)
        accepted = sum(a == b for a, b in zip(draft, quoted[at:], strict=False))
        for token in quoted[at : at + 1 + accepted]:
            drafter.append(token)
        drafter.note(accepted)
        time += cost(len(draft))
        at += 1 + accepted
    assert time < 0.5 * (len(quoted) - 8)
