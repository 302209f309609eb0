"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen; the default is greedy.

    Attributes:
        temperature: 0 for the most probable token always, whatever the others say.
        top_k: draw among the k most probable; 0 for all.
        top_p: draw among the fewest that make up this probability; 1 for all.
        min_p: leave out what is less probable than this share of the most probable; 0 for none.
        seed: of the random numbers, 0 to 2^32 - 1.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: names the option, its value and what is allowed.
        """
        for name, value, low, high in (
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_k", self.top_k, 0, 2**31 - 1),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("seed", self.seed, 0, 2**32 - 1),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; it must be {low} to {high}")


GREEDY = SamplingOptions()
"""The most probable token, always."""
