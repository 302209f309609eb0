"""Needles in a haystack (Kamradt 2023; RULER, Hsieh et al. 2024): facts hidden in a text of the user's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ropewalk.evaluation.haystack import Haystack, HaystackTooShortError, repeated
from ropewalk.evaluation.haystack_fitting import longest_fit
from ropewalk.evaluation.haystack_tasks import ROOM_FOR_MORE, Prompts, Tokenize
from ropewalk.evaluation.needle_draws import Drawn, NeedleCell, draw_needles
from ropewalk.evaluation.needle_form import NeedleForm
from ropewalk.evaluation.passkey_prompt import PromptLengthError
from ropewalk.evaluation.retrieval import RetrievalTask

TEST = "needle"

INTRODUCTION = "Read the text below. After it you are asked about something that it says."

_CHARACTERS_A_TOKEN = 200
"""More than any token has on average: so much of a long text is looked at and no more."""


def haystack_of(
    name: str, text: str, count_tokens: Callable[[str], int], longest: int, *, repeat: bool
) -> Haystack:
    """A haystack for prompts of at most so many tokens.

    Args:
        name: what messages call it.
        text: of a document.
        count_tokens: tokens of a part of it by itself.
        longest: tokens of the longest prompt.
        repeat: whether a text that is too short is repeated.
    """
    haystack = Haystack(name, text[: longest * _CHARACTERS_A_TOKEN], count_tokens)
    tokens = haystack.tokens_before(haystack.last)
    if not repeat or tokens >= longest:
        return haystack
    copies = math.ceil(longest / max(1, tokens)) + 1
    return Haystack(name, repeated(text, copies), count_tokens)


def needle_tasks(
    form: NeedleForm,
    haystack: Haystack,
    tokenize: Tokenize,
    lengths: Sequence[int],
    depths: Sequence[float],
    *,
    trials: int = 1,
    seed: int = 0,
    chat: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[RetrievalTask]:
    """The prompts of every length, depth and trial; the same arguments give the same ones on every machine.

    A prompt is short of its length by less than one sentence of the haystack. The depth is a share of the
    haystack's tokens; the needle lies between the two sentences that are nearest to it. Of several values the
    first lies there and the others behind it.

    Args:
        form: what is hidden and asked.
        haystack: with enough text for the longest prompt.
        tokenize: makes a prompt's tokens.
        lengths: prompt lengths in tokens.
        depths: shares of the haystack before the needle, 0 to 1.
        trials: repetitions of each length and depth, each with other keys and values.
        seed: other seeds give others.
        chat: whether `tokenize` puts a chat template around it; the answer is then not begun.
        on_progress: told the prompts made and in all.

    Returns:
        Tasks by length, depth and trial, rising.

    Raises:
        PromptLengthError: a length is too short for what is hidden and asked.
        HaystackTooShortError: the text has too few tokens for a length.
        NothingToDrawError: the text says nearly all keys or values there are.
    """
    cells = [
        NeedleCell(length, depth, trial, seed)
        for length in sorted(set(lengths))
        for depth in sorted(set(depths))
        for trial in range(trials)
    ]
    said: dict[str, bool] = {}

    def is_said(what: str) -> bool:
        if what not in said:
            said[what] = what in haystack.text
        return said[what]

    maker = _Maker(haystack, Prompts(tokenize), begun=not chat)
    tasks = []
    for done, cell in enumerate(cells):
        if on_progress is not None:
            on_progress(done, len(cells))
        first = draw_needles(form, NeedleCell(cell.length, 0.0, 0, seed), is_said)
        usual = maker.usual_end(cell.length, first)
        tasks.append(maker.task(cell, draw_needles(form, cell, is_said), usual))
    return tasks


class _Maker:
    """Makes prompts of one haystack."""

    def __init__(self, haystack: Haystack, prompts: Prompts, *, begun: bool) -> None:
        self._haystack, self._prompts, self._begun = haystack, prompts, begun
        self._ends: dict[int, int] = {}

    def usual_end(self, length: int, first: Drawn) -> int:
        """About where the haystack of prompts of a length ends, whatever other prompts there are.

        Args:
            length: of the prompts, in tokens.
            first: what the first prompt of that length hides.
        """
        if length not in self._ends:
            room = length - len(self._prompts.tokens(self._text(first, 0, 0)[0]))
            last = self._haystack.last
            share = room / max(1, self._haystack.tokens_before(last))
            end = longest_fit(self._haystack.tokens_before, max(0, room), last, round(share * last))
            self._ends[length] = end or 0
        return self._ends[length]

    def task(self, cell: NeedleCell, drawn: Drawn, usual: int) -> RetrievalTask:
        """The task of a cell, in the haystack that ends about at the place `usual`."""

        def measure(end: int) -> int:
            return len(self._prompts.tokens(self._text(drawn, usual, end)[0]))

        end = longest_fit(measure, cell.length, self._haystack.last, usual)
        if end is None:
            raise PromptLengthError(
                f"A needle prompt cannot have {cell.length:,} tokens; the least here is {measure(0):,}."
            )
        text, needle = self._text(drawn, usual, end)
        tokens = self._prompts.tokens(text)
        if end == self._haystack.last and len(tokens) < cell.length:
            raise self._too_short(cell.length, len(tokens))
        before = self._prompts.tokens_before(text, needle)
        return RetrievalTask(
            test=TEST,
            length=cell.length,
            depth=cell.depth,
            trial=cell.trial,
            tokens=tokens,
            shared=before,
            distance=len(tokens) - before,
            expected=drawn.expected,
            rule=drawn.rule,
            answer_tokens=self._answer_tokens(drawn),
        )

    def _text(self, drawn: Drawn, usual: int, end: int) -> tuple[str, int]:
        """The prompt whose haystack ends at a place, and where the first needle that is asked for begins.

        Places of what is not asked for do not depend on the end, so that prompts of a length agree in them.
        """
        place_at = self._haystack.place_at
        hidden = [(place_at(one.share, usual), one.sentence) for one in drawn.others]
        hidden += [(place_at(one.share, end), one.sentence) for one in drawn.asked]
        body, starts = self._haystack.with_sentences(hidden, end)
        head = f"{INTRODUCTION}\n\n"
        question = drawn.question + drawn.beginning if self._begun else drawn.question
        return f"{head}{body}\n\n{question}", len(head) + min(starts[len(drawn.others) :])

    def _answer_tokens(self, drawn: Drawn) -> int:
        """Room for what is expected, and for the question said again where nothing begins the answer."""
        said = len(self._prompts.tokens(", ".join(drawn.expected)))
        begun = self._begun and drawn.beginning.strip() not in ("", "Answer:")
        return ROOM_FOR_MORE + said + (0 if begun else len(self._prompts.tokens(drawn.question)))

    def _too_short(self, length: int, tokens: int) -> HaystackTooShortError:
        has = self._haystack.tokens_before(self._haystack.last)
        return HaystackTooShortError(
            f"{self._haystack.name} has {has:,} tokens, {length - tokens:,} too few for a prompt of "
            f"{length:,}: name a longer text, ask for at most {tokens:,}, or have it repeated with --repeat."
        )
