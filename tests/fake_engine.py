"""An engine without a model: the Python interface of `ropewalk.engine.Engine`, answering by rule.

Its tokens are words, single digits and single other characters; its chat template is a plain one with
control tokens. It remembers what its context holds, as the real one does, and counts what it computes.
It can be told to stand still after so many tokens, so that tests need not race it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from ropewalk.engine.options import EngineOptions
from ropewalk.engine.results import GenerationResult, IdentityResult, ModelDescription, Piece, PrefillResult
from ropewalk.engine.sampling import GREEDY, SamplingOptions
from ropewalk_plan.plan import ContextPlan, ScheduleStep

_CONTROL = re.compile(r"(<\|\w+\|>)")
_WORDS = re.compile(r" ?[A-Za-z]+|[0-9]|.", re.DOTALL)
_START = "<|start|>"

DPROPE_LIKE = ContextPlan(
    method="dprope",
    options="threshold=0.0001",
    train_length=2000,
    target_length=4000,
    schedule=(ScheduleStep(4000, (1.0, 1.0, 2.0, 2.0)),),
)
LOGN_LIKE = ContextPlan(method="logn", train_length=2000, target_length=4000, logn_length=2000)


def find_passkey(prompt: str) -> str:
    """What a perfect model answers to a passkey prompt."""
    found = re.search(r"The pass key is ([0-9]+)\.", prompt)
    return f" {found.group(1)}. Remember it." if found else " the pass is the pass"


def noting(prompts: list[str], answer: str) -> Callable[[str], str]:
    """A rule that notes each prompt in `prompts`; `{}` in its answer is the number of that prompt."""

    def respond(prompt: str) -> str:
        prompts.append(prompt)
        return answer.format(len(prompts))

    return respond


class FakeStream:
    """What `FakeEngine.generate` returns: pieces, and the result after the last."""

    def __init__(self, pieces: Iterator[Piece], result: Callable[[], GenerationResult]) -> None:
        self._pieces, self._result = pieces, result

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    @property
    def result(self) -> GenerationResult:
        return self._result()


class FakeEngine:
    """A fake of `Engine`; see the module."""

    def __init__(
        self,
        *,
        plan: ContextPlan | None = DPROPE_LIKE,
        native: bool = False,
        train_length: int = 2000,
        template: bool = True,
        respond: Callable[[str], str] = find_passkey,
        read_up_to: int | None = None,
        answer_up_to: int | None = None,
        load_error: Exception | None = None,
        prefill_error: Exception | None = None,
        identity: IdentityResult | None = None,
    ) -> None:
        self.plan, self.native, self.train_length = plan, native, train_length
        self.template, self.respond = template, respond
        self.read_up_to, self.answer_up_to = read_up_to, answer_up_to
        self.go_on = threading.Event()
        self.load_error, self.prefill_error, self.identity = load_error, prefill_error, identity
        self.held: list[int] = []
        self.prefills: list[PrefillResult] = []
        self.contexts: list[int] = []
        self.samplings: list[SamplingOptions] = []
        self.options: EngineOptions | None = None
        self.tokenized_characters = 0
        self.closed = False
        self._pieces: dict[str, int] = {}
        self._texts: list[str] = []
        self._cancelled = threading.Event()
        self._running = False

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def load(
        self, model: Path, options: EngineOptions, on_progress: Callable[[float], None] | None = None
    ) -> ModelDescription:
        if self.load_error is not None:
            raise self.load_error
        for share in (0.5, 1.0):
            if on_progress is not None:
                on_progress(share)
        self.options = options
        self._path = model
        self.held = []
        return self.resize(options.n_ctx)

    def resize(self, n_ctx: int) -> ModelDescription:
        self.contexts.append(n_ctx)
        self.held = self.held if len(self.held) <= n_ctx else []
        return ModelDescription(
            path=self._path,
            architecture="llama",
            n_layer=2,
            n_params=1000,
            size_bytes=4000,
            train_length=self.train_length,
            target_length=self.plan.target_length if self.plan else self.train_length,
            vocab_size=1000,
            has_chat_template=self.template,
            plan=self.plan,
            native=self.native,
            n_ctx=n_ctx,
        )

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        self.tokenized_characters += len(text)
        words = [_START] if add_special else []
        for part in _CONTROL.split(text):
            if parse_special and _CONTROL.fullmatch(part):
                words.append(part)
            else:
                words += [f"literal:{word}" for word in _WORDS.findall(part)]
        return [self._token(word) for word in words]

    def text_of(self, tokens: Sequence[int]) -> str:
        return "".join(self._texts[token].removeprefix("literal:") for token in tokens)

    def words_of(self, tokens: Sequence[int]) -> list[str]:
        return [self._texts[token] for token in tokens]

    def apply_template(self, messages: Sequence[tuple[str, str]]) -> str | None:
        if not self.template:
            return None
        turns = "".join(f"<|{role}|>\n{content.strip()}<|end|>\n" for role, content in messages)
        return f"{_START}{turns}<|assistant|>\n"

    def prefill(
        self, tokens: Sequence[int], on_progress: Callable[[int, int], None] | None = None
    ) -> PrefillResult:
        if self.prefill_error is not None:
            raise self.prefill_error
        assert len(tokens) < self.contexts[-1], "the context is too small"
        self._begin()
        start = time.perf_counter()
        cached = 0
        while cached < min(len(self.held), len(tokens) - 1) and self.held[cached] == tokens[cached]:
            cached += 1
        done = cached
        while done < len(tokens) and not self._cancelled.is_set():
            if on_progress is not None:
                on_progress(done, len(tokens))
            if self.read_up_to is not None and done >= self.read_up_to:
                self._wait()
                continue
            done = min(done + 64, len(tokens))
        if on_progress is not None:
            on_progress(done, len(tokens))
        self.held = list(tokens[:done])
        result = PrefillResult(len(tokens), cached, time.perf_counter() - start, done < len(tokens))
        self.prefills.append(result)
        self._running = False
        return result

    def generate(
        self, max_tokens: int, sampling: SamplingOptions = GREEDY, stop_at_eog: bool = True
    ) -> FakeStream:
        self.samplings.append(sampling)
        self._begin()
        answer = self.tokenize(self.respond(self.text_of(self.held)), add_special=False)
        made: list[int] = []
        start = time.perf_counter()

        def pieces() -> Iterator[Piece]:
            for token in answer[:max_tokens]:
                if len(made) == self.answer_up_to:
                    self._wait()
                if self._cancelled.is_set():
                    break
                made.append(token)
                self.held.append(token)
                yield Piece(self.text_of([token]), len(made))
            self._running = False

        def result() -> GenerationResult:
            reason: Literal["stop", "length", "cancelled"] = (
                "stop" if len(made) == len(answer) else "length" if len(made) == max_tokens else "cancelled"
            )
            return GenerationResult(
                self.text_of(made), len(made), time.perf_counter() - start, reason, tuple(made)
            )

        return FakeStream(pieces(), result)

    def check_identity(self, tokens: Sequence[int]) -> IdentityResult:
        assert self.identity is not None
        return IdentityResult(self.identity.max_difference, self.identity.bit_identical, len(tokens))

    def cancel(self) -> None:
        if self._running:
            self._cancelled.set()

    def close(self) -> None:
        self.closed = True

    def _wait(self) -> None:
        """Stand still until told to go on, or cancelled; not for ever, so that a failing test ends."""
        until = time.monotonic() + 10
        while not self.go_on.is_set() and not self._cancelled.is_set() and time.monotonic() < until:
            time.sleep(0.002)
        self.read_up_to = self.answer_up_to = None

    def _begin(self) -> None:
        self._cancelled.clear()
        self._running = True

    def _token(self, word: str) -> int:
        if word not in self._pieces:
            self._pieces[word] = len(self._texts)
            self._texts.append(word)
        return self._pieces[word]
