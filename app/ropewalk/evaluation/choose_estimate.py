"""What a choice will cost, before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.evaluation.choose import Contest, racers
from ropewalk.evaluation.choose_evidence import Material
from ropewalk.evaluation.reading_cost import ReadingCost
from ropewalk.evaluation.retrieval_run import work_of
from ropewalk.wording.quantities import clock


@dataclass(frozen=True)
class Estimate:
    """Bounds of the work.

    Attributes:
        least_tokens: where the first that is asked finds every key, and the plain model misses its first.
        most_tokens: where nobody is dropped and everybody is asked everything.
        least_seconds: for the former, at the pace so far: an underestimate where longer texts are slower.
    """

    least_tokens: int
    most_tokens: int
    least_seconds: float

    @property
    def words(self) -> str:
        """A sentence or two."""
        least = clock(self.least_seconds)
        return (
            f"It will read from {self.least_tokens:,} to {self.most_tokens:,} tokens, depending on what "
            f"comes out; at the pace of the first few hundred that takes {least} at least, and more as "
            "longer texts are read more slowly."
        )


def estimate(contest: Contest, material: Material, cost: ReadingCost) -> Estimate:
    """The cost of all that may be measured, nothing of it being known."""
    stages = [(stage.end, len(set(stage.alike.values()))) for stage in contest.stages]
    raced = racers(contest, contest.order)
    cells = work_of(material.cells).planned
    longest = max(len(task.tokens) for task in material.cells)
    perplexities = sum(end * times for end, times in stages)
    seconds = sum(cost.seconds(end) * times for end, times in stages)
    seconds += cost.seconds(longest) * (1 + cells / longest)
    return Estimate(
        least_tokens=perplexities + cells + longest,
        most_tokens=perplexities + cells * len(raced) + sum(len(task.tokens) for task in material.control),
        least_seconds=seconds,
    )
