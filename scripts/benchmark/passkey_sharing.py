"""A passkey test with what its prompts have in common computed once, against each prompt read by itself."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from benchmark.bench import Bench
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.ratios import spread
from provision.progress import Progress
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.passkey import passkey_tasks
from ropewalk.evaluation.retrieval import RetrievalResult, RetrievalTask
from ropewalk.evaluation.retrieval_run import Work, context_length, run_tasks, work_of
from ropewalk.sessions import context_for

DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 3

LEAST_SHARE = 0.9
"""Of what sharing can save at most, that has to be reached."""


@dataclass(frozen=True)
class Pair:
    """One cell both ways.

    Attributes:
        shared: what came of it in its turn, going on from what other cells had computed.
        naive_seconds: reading its whole prompt and answering.
        naive_tokens: tokens computed for that.
        naive_answer: the greedy answer.
    """

    shared: RetrievalResult
    naive_seconds: float
    naive_tokens: int
    naive_answer: str


@dataclass(frozen=True)
class Sharing:
    """All cells of one round.

    Attributes:
        pairs: in the order in which they were run.
        work: what an order of them can and must compute.
    """

    pairs: Sequence[Pair]
    work: Work

    @property
    def computed(self) -> tuple[int, int]:
        """Prompt tokens computed, the naive way and sharing."""
        return sum(pair.naive_tokens for pair in self.pairs), sum(
            pair.shared.computed_tokens for pair in self.pairs
        )

    @property
    def seconds(self) -> tuple[float, float]:
        """Seconds, the naive way and sharing."""
        return sum(pair.naive_seconds for pair in self.pairs), sum(pair.shared.seconds for pair in self.pairs)

    @property
    def same_answers(self) -> int:
        """Cells that are answered alike, letter for letter."""
        return sum(pair.naive_answer == pair.shared.answer for pair in self.pairs)

    @property
    def share_of_bound(self) -> float:
        """How near the tokens computed are to what no order can avoid: 1 is all the way."""
        return self.work.bound / self.computed[1]


def windows_ratio(depths: Sequence[float] = DEPTHS, trials: int = TRIALS) -> float:
    """What sharing can save at most where all that prompts have in common is the filler before the needle."""
    return len(depths) * trials / (max(depths) + trials * sum(1 - depth for depth in depths))


def measure_passkey(bench: Bench, *, tokens: int, pairs: int) -> Outcome:
    """Runs every cell both ways, in turns, on two engines: what a machine does by itself falls on both.

    Args:
        bench: the model and the machine.
        tokens: of a prompt.
        pairs: rounds of all cells.
    """
    load = os.getloadavg()[0]
    rounds: list[Sharing] = []
    complete = True
    with Progress("Passkeys, naive and shared") as progress, _engines(bench, tokens) as (naive, shared):
        tasks = passkey_tasks(shared, [tokens], DEPTHS, TRIALS)
        for engine in (naive, shared):
            engine.resize(context_for(context_length(tasks)))
        total = pairs * len(tasks)
        try:
            for number in range(pairs):
                done: list[Pair] = []
                for pair in _pairs(naive, shared, tasks):
                    done.append(pair)
                    progress.update(number * len(tasks) + len(done), total)
                rounds.append(Sharing(done, work_of(tasks)))
        except KeyboardInterrupt:
            if not rounds:
                raise
            complete = False
    intro = (
        f"{bench.where} {len(tasks)} cells of at most {tokens:,} tokens: depths "
        f"{', '.join(f'{depth:g}' for depth in DEPTHS)}, {TRIALS} keys each; the machine's load was "
        f"{load:.1f} when this began. Each cell was run both ways one after the other, on two loaded models: "
        "*naive* reads its whole prompt into an empty context, *shared* goes on from a copy of the filler at "
        "its needle."
    )
    return Outcome(
        f"{intro}\n\n{sharing_table(rounds)}\n\n{sharing_words(rounds)}",
        {"rounds": [asdict(found) for found in rounds]},
        complete=complete,
        failure=_failure(rounds),
    )


def sharing_table(rounds: Sequence[Sharing]) -> str:
    """A row for each way."""
    first = rounds[0]
    seconds = [[found.seconds[way] for found in rounds] for way in (0, 1)]
    gains = spread([naive / shared for naive, shared in zip(*seconds, strict=True)])
    ratio = first.computed[0] / first.computed[1]
    rows = [
        ["naive", f"{first.computed[0]:,}", "", f"{spread(seconds[0]).median:,.1f}", ""],
        [
            "shared",
            f"{first.computed[1]:,}",
            f"{ratio:.3f} times fewer",
            f"{spread(seconds[1]).median:,.1f}",
            f"{gains.text} times as fast" if len(rounds) > 1 else f"{gains.median:.3f} times as fast",
        ],
        [
            "at the least",
            f"{first.work.bound:,}",
            f"{first.computed[0] / first.work.bound:.3f} times fewer",
            "",
            "",
        ],
    ]
    return table(["", "prompt tokens computed", "", "seconds, answers included", ""], rows)


def sharing_words(rounds: Sequence[Sharing]) -> str:
    """How near the bounds it comes, and whether answers are the same."""
    first = rounds[0]
    cells = sum(len(found.pairs) for found in rounds)
    same = sum(found.same_answers for found in rounds)
    reached = first.computed[0] / first.computed[1] / windows_ratio()
    windows = max(DEPTHS) + TRIALS * sum(1 - depth for depth in DEPTHS)
    return (
        f"Of the tokens computed, {first.share_of_bound:.1%} are what no order can avoid: each different "
        f"beginning of a prompt, once. Counted in windows, {len(DEPTHS) * TRIALS} against "
        f"max(depth) + {TRIALS} sum(1 - depth) = {windows:g}, the most to be had is "
        f"{windows_ratio():.3f} times fewer, and {reached:.1%} of that is reached. "
        f"Answers that are the same letter for letter: {same} of {cells}."
    )


def _failure(rounds: Sequence[Sharing]) -> str:
    share = min(found.share_of_bound for found in rounds)
    if share < LEAST_SHARE:
        return f"{share:.1%} of the bound is reached, and {LEAST_SHARE:.0%} have to be"
    return ""


@contextmanager
def _engines(bench: Bench, tokens: int) -> Iterator[tuple[Engine, Engine]]:
    """The model loaded twice: with one sequence, and with two."""
    with ExitStack() as stack:
        engines = []
        for n_sequences in (1, 2):
            engine = stack.enter_context(Engine.start())
            options = EngineOptions(
                n_ctx=context_for(min(tokens, 256)),
                threads=bench.threads,
                gpu_layers=0,
                n_sequences=n_sequences,
            )
            engine.load(bench.model, options)
            engines.append(engine)
        yield engines[0], engines[1]


def _pairs(naive: Engine, shared: Engine, tasks: Sequence[RetrievalTask]) -> Iterator[Pair]:
    by_cell = {(task.length, task.depth, task.trial): task for task in tasks}
    for result in run_tasks(shared, tasks, method="shared"):
        task = by_cell[result.length, result.depth, result.trial]
        naive.drop_sequence(0)
        start = time.perf_counter()
        read = naive.prefill(task.tokens)
        answer = "".join(piece.text for piece in naive.generate(task.answer_tokens))
        yield Pair(result, time.perf_counter() - start, read.prompt_tokens - read.cached_tokens, answer)
