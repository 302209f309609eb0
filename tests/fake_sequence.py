"""The sequences of a fake context: which tokens each holds, and which cells they share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class FakeSequence:
    """One text in a fake context.

    Attributes:
        cells: a number and a token for each position; a copy has the same numbers.
        was_read: whether its last token's logits could be asked for.
    """

    cells: list[tuple[int, int]] = field(default_factory=list)
    was_read: bool = False

    @property
    def tokens(self) -> list[int]:
        """What it holds."""
        return [token for _, token in self.cells]


class FakeContext:
    """Room for tokens, which sequences share.

    Attributes:
        n_ctx: tokens there is room for.
        can_roll_back: whether part of a text can be forgotten, as under a plan without windows.
    """

    def __init__(self, n_ctx: int, n_sequences: int, can_roll_back: bool) -> None:
        """An empty one."""
        self.n_ctx, self.can_roll_back = n_ctx, can_roll_back
        self.sequences = [FakeSequence() for _ in range(n_sequences)]
        self._numbers = itertools.count()

    @property
    def room(self) -> int:
        """Tokens that it has room for beside those that it holds."""
        return self.n_ctx - len({number for sequence in self.sequences for number, _ in sequence.cells})

    def room_from(self, sequence: FakeSequence, length: int) -> int:
        """Tokens that it would have room for, if a sequence were cut to a length."""
        cut = sequence.cells[length:]
        del sequence.cells[length:]
        room = self.room
        sequence.cells += cut
        return room

    def reusable(self, sequence: FakeSequence, prompt: Sequence[int]) -> int:
        """Tokens of a prompt that need not be computed again; the last one always is."""
        common = 0
        held = sequence.tokens
        while common < min(len(held), len(prompt) - 1) and held[common] == prompt[common]:
            common += 1
        return common if common == len(held) or self.can_roll_back else 0

    def hold(self, sequence: FakeSequence, tokens: Sequence[int]) -> None:
        """Computes further tokens."""
        sequence.cells += [(next(self._numbers), token) for token in tokens]
