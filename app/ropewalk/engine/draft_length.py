"""How many tokens to draft: as many as pay, by how often drafts were right, with a bound on what they cost.

All in units of computing one token alone, by counts and not by the clock: the same question then gets the
same drafts, and the same answer to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_COST, NEXT_COST = 0.6, 0.34
"""What a draft costs more than its token alone, and each of its tokens: measured on a CPU at a depth of 4,000
tokens (docs/speculation.md). A GPU computes 16 tokens in little more than the time of one."""

SHORTEST_MATCH = 6
"""Repetitions that are shorter go on differently too often to pay."""

_LONG_MATCH = 9
_EXPECTED = (0.8, 0.92)
_WEIGHT = 6.0
_FORGETTING = 0.95

_FIRST_CREDIT = 2.5
_CREDIT_PER_TOKEN = 0.02
_MOST_CREDIT = 8.0


def cost(drafted: int) -> float:
    """What computing a token and a draft after it takes, in tokens computed one by one."""
    return 1.0 if drafted == 0 else 1.0 + FIRST_COST + NEXT_COST * drafted


@dataclass
class _Record:
    """How often guesses were right; recent ones count more."""

    right: float = 0.0
    tried: float = 0.0

    def note(self, drafted: int, accepted: int) -> None:
        self.right = _FORGETTING * self.right + accepted
        self.tried = _FORGETTING * self.tried + accepted + (accepted < drafted)

    def share(self, expected: float) -> float:
        """Of right guesses, where `expected` is what to think before any."""
        return (self.right + expected * _WEIGHT) / (self.tried + _WEIGHT)


class DraftLength:
    """Decides for one answer.

    What drafts may lose is bounded: 2.5 tokens' time to begin with and 2 % of the answer's, which each
    wrong draft is paid from; what right ones save is put in, up to 8.
    """

    def __init__(self) -> None:
        """Nothing was drafted."""
        self._credit = _FIRST_CREDIT
        self._records = tuple(_Record() for _ in _EXPECTED)

    def choose(self, match: int, most: int) -> int:
        """Tokens to draft after a repetition of `match` tokens: 0 where none pay; `most` at most."""
        if match < SHORTEST_MATCH:
            return 0
        kind = _kind(match)
        right = min(0.999, self._records[kind].share(_EXPECTED[kind]))
        best, best_gain = 0, 1.0
        for drafted in range(1, most + 1):
            if cost(drafted) - 1.0 > self._credit:
                break
            # tokens of the answer that come out of it: 1 + right + right^2 ...
            gain = (1.0 - right ** (drafted + 1)) / (1.0 - right) / cost(drafted)
            if gain > best_gain:
                best, best_gain = drafted, gain
        return best

    def note(self, match: int, drafted: int, accepted: int) -> None:
        """What came of a draft, or of none (all 0): a token, and as many more as were accepted."""
        if drafted > 0:
            self._records[_kind(match)].note(drafted, accepted)
        made = 1 + accepted
        self._credit = min(_MOST_CREDIT, self._credit + made * (1 + _CREDIT_PER_TOKEN) - cost(drafted))


def _kind(match: int) -> int:
    return int(match >= _LONG_MATCH)
