"""A conversation at work: a loaded model that reads a document and answers questions about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ropewalk.documents import Document
from ropewalk.engine import (
    Engine,
    EngineOptions,
    GenerationResult,
    ModelDescription,
    PrefillResult,
    SamplingOptions,
)
from ropewalk.sessions.conversation import Conversation
from ropewalk.sessions.prompt import PromptBuilder
from ropewalk.sessions.room import answer_room, context_for

OnTokens = Callable[[int, int], None]
"""Told tokens read and in all."""

_SPARE_TOKENS = 2048
"""Room made for the conversation beyond what it needs now, so that the context is seldom made anew."""


class ReadingSession:
    """One model, one document at most, one conversation.

    Calls block; `cancel` may come from another thread and ends `read` and `ask` early. What was computed
    stays: the next call goes on from there.
    """

    def __init__(self, engine: Engine, sampling: SamplingOptions, *, beyond: bool = False) -> None:
        """A session on a started engine.

        Args:
            engine: the engine; whoever started it closes it.
            sampling: how answers are drawn.
            beyond: whether prompts may be longer than the target length, as they may under a streaming plan.
        """
        self._engine = engine
        self._sampling = sampling
        self._beyond = beyond
        self._prompts = PromptBuilder(engine)
        self._prefix: list[int] = []
        self._n_ctx = 0
        self.conversation = Conversation()
        self.document: Document | None = None

    def load(
        self, model: Path, options: EngineOptions, on_progress: Callable[[float], None]
    ) -> ModelDescription:
        """Load the model, in a small context at first.

        Raises:
            EngineError: it cannot be loaded.
        """
        self._model = self._engine.load(model, options, on_progress)
        self._n_ctx = options.n_ctx
        return self._model

    def open(self, document: Document) -> int:
        """Begin a new conversation over a document and return how many tokens it makes.

        Raises:
            TooLongError: it is longer than the model's target length.
            EngineError: the engine fails.
        """
        conversation = Conversation(document.text)
        prefix = self._prompts.document_prefix(conversation)
        self._room(len(prefix), 1)
        self.document, self.conversation, self._prefix = document, conversation, prefix
        return len(prefix)

    def read(self, on_tokens: OnTokens) -> PrefillResult:
        """Read the open document ahead of any question.

        Raises:
            EngineError: the engine fails; the memory does not suffice, for one.
        """
        room = self._room(len(self._prefix), _SPARE_TOKENS)
        return self._prefill(self._prefix, room, on_tokens)

    def ask(
        self, question: str, max_tokens: int, on_tokens: OnTokens, on_text: Callable[[str], None]
    ) -> tuple[PrefillResult, GenerationResult | None]:
        """Ask the next question.

        Args:
            question: what to ask.
            max_tokens: longest answer in tokens.
            on_tokens: told tokens of the prompt read and in all.
            on_text: given the answer piece by piece.

        Returns:
            What reading took, and the answer, which may have been cut by `cancel`; None where reading
            was cancelled. An answer, cut or not, becomes part of the conversation.

        Raises:
            TooLongError: the prompt is longer than the model's target length.
            EngineError: the engine fails.
        """
        prompt = self._prompts.prompt(self.conversation, question)
        room = self._room(len(prompt), max_tokens)
        read = self._prefill(prompt, room, on_tokens)
        if read.cancelled:
            return read, None
        stream = self._engine.generate(room, self._sampling)
        for piece in stream:
            on_text(piece.text)
        answer = stream.result
        self.conversation = self.conversation.with_turn(question, answer.text)
        return read, answer

    def cancel(self) -> None:
        """End what is going on; safe from any thread, and nothing where nothing goes on."""
        self._engine.cancel()

    def _room(self, prompt_tokens: int, wanted: int) -> int:
        unlimited = self._beyond or self._model.streams
        return answer_room(prompt_tokens, self._model.target_length, wanted, beyond=unlimited)

    def _prefill(self, tokens: list[int], room: int, on_tokens: OnTokens) -> PrefillResult:
        needed = context_for(len(tokens) + room)
        if needed > self._n_ctx:
            spare = context_for(len(tokens) + room + _SPARE_TOKENS)
            if not self._model.streams:
                spare = min(spare, context_for(self._model.target_length))
            self._n_ctx = self._engine.resize(max(needed, spare)).n_ctx
        return self._engine.prefill(tokens, on_tokens)
