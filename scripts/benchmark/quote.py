"""Answers with drafts and without: one that quotes the document and one that does not; what batches cost."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.bench import Bench
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.ratios import spread
from benchmark.rounds import turns
from provision.failure import USAGE, ProvisionError
from provision.progress import Progress
from ropewalk.backend.context import Context, ContextParams
from ropewalk.backend.model import Model
from ropewalk.engine.draft_length import cost
from ropewalk.engine.generation import generate
from ropewalk.engine.results import GenerationResult
from ropewalk.engine.sampling import GREEDY, SamplingOptions
from ropewalk.engine.sequence import TokenSequence
from ropewalk.engine.speculation import MAX_DRAFT

LEAST_GAIN = 1.5
"""How many times as fast a quotation has to be written with drafts."""
LARGEST_LOSS = 1.05
"""How many times as long an answer that quotes nothing may take with drafts."""

QUOTED = ("docs/building.md", "docs/converting.md", "docs/methods.md")
"""The document, where no other is named."""

ANSWER_TOKENS = 200
_GIVEN = 48
"""Tokens of the passage that the prompt ends with."""
_STEP = 150
_BATCHES = (1, 2, 4, 8, 12, MAX_DRAFT + 1)
_BATCH = 512
_OTHER_TOKENS = 256  # what the prompts say beside the passage

_FIRST_TIME = "\n\nA passage of it:\n\n"
_AGAIN = "\n\nOnce more, the same passage, word for word:\n\n"
_STORY = "\n\nAnd now to something else.\n\nOnce upon a time there was a fox who lived by the sea"
_SAMPLING = SamplingOptions(temperature=0.8, seed=7)

_QUOTES, _QUOTES_NOTHING = f"quotes {ANSWER_TOKENS} tokens", "quotes nothing"
_WITH, _WITHOUT = "with drafts", "without"


@dataclass(frozen=True)
class Question:
    """What is asked after the document."""

    name: str
    prompt: list[int]
    sampling: SamplingOptions


@dataclass(frozen=True)
class Pair:
    """One round of a question: an answer with drafts, and one without."""

    drafted: GenerationResult
    plain: GenerationResult

    @property
    def speedup(self) -> float:
        """How many times as fast the drafted one was, token by token."""
        return (self.plain.seconds / self.plain.tokens) / (self.drafted.seconds / self.drafted.tokens)


@dataclass(frozen=True)
class _Found:
    """All that was measured: where the passage is, answers by question, seconds by batch."""

    document_tokens: int
    start: int
    answers: Mapping[str, Sequence[Pair]]
    batches: Mapping[int, Sequence[float]]

    def to_json(self) -> dict[str, Any]:
        return {
            "document_tokens": self.document_tokens,
            "passage_start": self.start,
            "answers": {
                name: [dataclasses.asdict(pair) | {"speedup": pair.speedup} for pair in pairs]
                for name, pairs in self.answers.items()
            },
            "batch_seconds": {str(size): list(seconds) for size, seconds in self.batches.items()},
        }


def measure_quote(bench: Bench, text: str, *, pairs: int, tokens: int) -> Outcome:
    """Reads a document once, and answers after it in turns with drafts and without.

    Args:
        bench: the model and the machine.
        text: the document; its first tokens are read.
        pairs: rounds.
        tokens: of the document.

    Raises:
        ProvisionError: the text is too short, or the model copies no passage of it.
    """
    if pairs < 1:
        raise ProvisionError(f"--pairs is {pairs}; it must be at least 1", USAGE)
    load = os.getloadavg()[0]
    passage_tokens = _GIVEN + ANSWER_TOKENS
    model = Model.load(bench.model, gpu_layers=0)
    try:
        document = model.vocabulary.tokenize(text)[:tokens]
        if len(document) < max(tokens, passage_tokens + 1):
            raise ProvisionError(f"the text has {len(document):,} tokens, and {tokens:,} are to be read")
        params = ContextParams(
            n_ctx=tokens + 3 * passage_tokens + _OTHER_TOKENS,
            n_batch=_BATCH,
            n_ubatch=_BATCH,
            n_outputs=passage_tokens,
            threads=bench.threads,
        )
        context = Context(model, params)
        try:
            with Progress("Quoting") as progress:
                sequence = TokenSequence(context, lambda: False)
                sequence.read(document, progress.update)
                progress.detail = "looking for a passage that the model copies"
                start, quotation = find_passage(sequence, document)
                story = Question(_QUOTES_NOTHING, _then(sequence, document, _STORY), _SAMPLING)
                answers = {
                    question.name: _answer_in_turns(sequence, question, pairs, progress)
                    for question in (quotation, story)
                }
                progress.detail = "batches"
                batches = _time_batches(sequence, document, pairs)
        finally:
            context.close()
    finally:
        model.close()
    found = _Found(len(document), start, answers, batches)
    return Outcome(_text(bench, found, load), found.to_json(), failure=_failure(answers))


def find_passage(sequence: TokenSequence, document: Sequence[int]) -> tuple[int, Question]:
    """The first passage that the model copies to its end, where the prompt quotes it and begins it again.

    Raises:
        ProvisionError: there is none.
    """
    length = _GIVEN + ANSWER_TOKENS
    for start in range(_STEP, len(document) - length, _STEP):
        passage = list(document[start : start + length])
        prompt = [*_then(sequence, document, _FIRST_TIME), *passage]
        prompt += sequence.context.model.vocabulary.tokenize(_AGAIN, add_special=False)
        sequence.read(prompt, _quiet)
        sequence.append(passage, all_logits=True)
        chosen = sequence.context.logits().argmax(axis=1)
        if list(chosen[_GIVEN - 1 : -1]) == passage[_GIVEN:]:
            return start, Question(_QUOTES, [*prompt, *passage[:_GIVEN]], GREEDY)
    raise ProvisionError("the model copies no passage of the text: give another --text or --model")


def _then(sequence: TokenSequence, document: Sequence[int], text: str) -> list[int]:
    more = sequence.context.model.vocabulary.tokenize(text, add_special=False)
    return [*document, *more]


def _quiet(_done: int, _total: int) -> None:
    pass


def _answer_in_turns(
    sequence: TokenSequence, question: Question, pairs: int, progress: Progress
) -> list[Pair]:
    drafts = {_WITH: None, _WITHOUT: 0}
    done = []
    for number in range(pairs):
        progress.detail = f"{question.name}: round {number + 1} of {pairs}"
        results: dict[str, GenerationResult] = {}
        for name in turns(list(drafts), number):
            sequence.read(question.prompt, _quiet)
            results[name] = generate(
                sequence,
                max_tokens=ANSWER_TOKENS,
                sampling=question.sampling,
                stop_at_eog=False,
                on_piece=lambda _piece: None,
                draft=drafts[name],
            )
        done.append(Pair(results[_WITH], results[_WITHOUT]))
    return done


def _time_batches(sequence: TokenSequence, document: Sequence[int], pairs: int) -> dict[int, list[float]]:
    """Seconds of computing so many tokens at once, with all their logits, after the document."""
    sequence.read(document, _quiet)
    seconds: dict[int, list[float]] = {size: [] for size in _BATCHES}
    for number in range(max(pairs, 5)):
        for size in turns([str(size) for size in _BATCHES], number):
            tokens = list(document[: int(size)])
            started = time.perf_counter()
            sequence.append(tokens, all_logits=True)
            seconds[int(size)].append(time.perf_counter() - started)
            sequence.roll_back_to(len(document))
    return seconds


def _text(bench: Bench, found: _Found, load: float) -> str:
    intro = (
        f"{bench.where} A document of {found.document_tokens:,} tokens, read once; then answers of "
        f"{ANSWER_TOKENS} tokens. The prompt of the first quotes {_GIVEN + ANSWER_TOKENS} tokens of the "
        f"document, from token {found.start:,} on, and begins the passage again with its first {_GIVEN}: "
        f"of the passages that begin {_STEP} tokens apart, the first that the model then copies to its end, "
        "greedily. The other is a story that has nothing to do with the document, drawn at temperature "
        f"{_SAMPLING.temperature}. Load average before: {load:.2f}."
    )
    batches = "A batch after the document, against one token:"
    return "\n\n".join((intro, _answer_table(found.answers), batches, _batch_table(found.batches)))


def _failure(answers: Mapping[str, Sequence[Pair]]) -> str:
    quotation = answers[_QUOTES]
    gain, other = (
        spread([pair.speedup for pair in answers[name]]).median for name in (_QUOTES, _QUOTES_NOTHING)
    )
    if gain < LEAST_GAIN:
        return f"a quotation is written {gain:.2f} times as fast with drafts, not {LEAST_GAIN}"
    if 1 / other > LARGEST_LOSS:
        return f"an answer that quotes nothing takes {1 / other:.3f} times as long with drafts"
    if any(pair.drafted.token_ids != pair.plain.token_ids for pair in quotation):
        return "the greedy answers with drafts and without differ"
    return ""


def _answer_table(answers: Mapping[str, Sequence[Pair]]) -> str:
    rows = []
    for name, pairs in answers.items():
        drafted = sum(pair.drafted.drafted for pair in pairs)
        accepted = sum(pair.drafted.accepted for pair in pairs)
        same = sum(pair.drafted.token_ids == pair.plain.token_ids for pair in pairs)
        rows.append(
            [
                name,
                f"{_speed([pair.plain for pair in pairs]):.1f}",
                f"{_speed([pair.drafted for pair in pairs]):.1f}",
                spread([pair.speedup for pair in pairs]).text,
                f"{drafted / len(pairs):.0f}",
                f"{accepted / drafted:.0%}" if drafted else "",
                f"{same} of {len(pairs)}",
            ]
        )
    head = [
        "answer",
        "tokens/s without",
        "with drafts",
        "times as fast",
        "drafted",
        "accepted",
        "same answer",
    ]
    return table(head, rows)


def _speed(results: Sequence[GenerationResult]) -> float:
    return float(np.median([result.tokens / result.seconds for result in results]))


def _batch_table(batches: Mapping[int, Sequence[float]]) -> str:
    ones = batches[1]
    rows = [
        [
            str(size),
            f"{1e3 * float(np.median(seconds)):.1f} ms",
            spread([a / b for a, b in zip(seconds, ones, strict=True)]).text,
            f"{cost(size - 1):.2f}",
        ]
        for size, seconds in batches.items()
    ]
    return table(["tokens at once", "time", "times one", "taken to be"], rows)
