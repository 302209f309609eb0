"""LongEval's line retrieval: which number stands in one line of a long record?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ropewalk.evaluation.haystack_fitting import longest_fit
from ropewalk.evaluation.haystack_tasks import ROOM_FOR_MORE, Prompts, Tokenize
from ropewalk.evaluation.lines_record import MOST_LINES, LinesPrompt, Record, lines_prompt
from ropewalk.evaluation.passkey_prompt import PromptLengthError
from ropewalk.evaluation.retrieval import RetrievalTask

TEST = "lines"

_TOKENS_A_LINE = 16  # where to begin to look for how many fit


def lines_tasks(
    tokenize: Tokenize,
    lengths: Sequence[int],
    depths: Sequence[float],
    trials: int,
    seed: int = 0,
    *,
    chat: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[RetrievalTask]:
    """The prompts of every length, depth and trial; the same arguments give the same ones on every machine.

    A trial has one record for all depths and lengths: what its prompts have in common up to their questions
    is computed once. A prompt is short of its length by less than one line.

    Args:
        tokenize: makes a prompt's tokens.
        lengths: prompt lengths in tokens.
        depths: which line is asked for, as a share of the record: 0 the first, 1 the last.
        trials: records, each with other lines.
        seed: other seeds give other records.
        chat: whether `tokenize` puts a chat template around it; the answer is then not begun.
        on_progress: told the prompts made and in all.

    Returns:
        Tasks by trial, length and depth, rising.

    Raises:
        PromptLengthError: a length is too short, or would take more lines than there are names.
    """
    cells = [
        (trial, length, depth)
        for trial in range(trials)
        for length in sorted(set(lengths))
        for depth in sorted(set(depths))
    ]
    prompts = Prompts(tokenize)
    tasks: list[RetrievalTask] = []
    records = [Record(seed, trial) for trial in range(trials)]
    usual: dict[tuple[int, int], int] = {}
    for done, (trial, length, depth) in enumerate(cells):
        if on_progress is not None:
            on_progress(done, len(cells))
        record, begun = records[trial], not chat
        if (trial, length) not in usual:  # what fits at depth 0: where to look does not matter to it
            guess = usual.get((trial - 1, length), length // _TOKENS_A_LINE)
            usual[trial, length] = _lines_that_fit(prompts, record, length, 0.0, guess, begun=begun)
        count = _lines_that_fit(prompts, record, length, depth, usual[trial, length], begun=begun)
        prompt = lines_prompt(record, count, depth, begun=begun)
        tasks.append(_task(prompts, prompt, trial, length, depth, chat=chat))
    return tasks


def _lines_that_fit(
    prompts: Prompts, record: Record, length: int, depth: float, guess: int, *, begun: bool
) -> int:
    def measure(more: int) -> int:
        return len(prompts.tokens(lines_prompt(record, more + 1, depth, begun=begun).text))

    more = longest_fit(measure, length, MOST_LINES - 1, guess - 1)
    if more is None:
        raise PromptLengthError(
            f"A prompt of lines cannot have {length:,} tokens; the least here is {measure(0):,}."
        )
    if more == MOST_LINES - 1:
        raise PromptLengthError(
            f"There are names for {MOST_LINES:,} lines, and {length:,} tokens would take more; "
            f"ask for at most {measure(more):,}."
        )
    return more + 1


def _task(
    prompts: Prompts, prompt: LinesPrompt, trial: int, length: int, depth: float, *, chat: bool
) -> RetrievalTask:
    tokens = prompts.tokens(prompt.text)
    shared = prompts.tokens_before(prompt.text, prompt.record_end)
    before = prompts.tokens_before(prompt.text, prompt.asked_start)
    restated = len(prompts.tokens(prompt.text[prompt.question_start :])) if chat else 0
    return RetrievalTask(
        test=TEST,
        length=length,
        depth=depth,
        trial=trial,
        tokens=tokens,
        shared=shared,
        distance=len(tokens) - before,
        expected=(prompt.asked.number,),
        rule="first-number",
        answer_tokens=ROOM_FOR_MORE + restated,
    )
