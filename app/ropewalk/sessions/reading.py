"""A conversation at work: a loaded model that reads a document and answers questions about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ropewalk.documents import Document, Selection
from ropewalk.engine import (
    Cancelled,
    Engine,
    EngineOptions,
    GenerationResult,
    ModelDescription,
    SamplingOptions,
)
from ropewalk.sessions.conversation import Conversation
from ropewalk.sessions.prompt import PromptBuilder
from ropewalk.sessions.reader import Reader, ReadProgress, ReadResult
from ropewalk.sessions.room import Asked, answer_room
from ropewalk.sessions.snapshot_shelf import SnapshotShelf

Notice = Callable[[str], None]

_CONVERSATION = 4096
"""Tokens that questions and answers on a document may have before it is read with factors for more."""


class ReadingSession:
    """One model, one document at most, one conversation.

    Calls block. `cancel` may come from another thread and ends them early, those too that are made after it
    until `begin` is called. What was computed stays: the next call goes on from there.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: SamplingOptions,
        *,
        beyond: bool = False,
        shelf: Callable[[Notice], SnapshotShelf] | None = None,
        system: str | None = None,
        draft: int | None = None,
    ) -> None:
        """A session on a started engine.

        Args:
            engine: the engine; whoever started it closes it.
            sampling: how answers are drawn.
            beyond: whether prompts may be longer than the target length, as they may under a streaming plan.
            shelf: makes what keeps snapshots of what was read, given whom it tells what could not be kept or
                used; None for none.
            system: what the model is told to be; None leaves that to its template.
            draft: most tokens drafted at once from the text; 0 for none, None for the engine's own number.
        """
        self._engine = engine
        self._sampling = sampling
        self._beyond = beyond
        self._noticed: Notice | None = None
        self._shelf = None if shelf is None else shelf(self._notice)
        self._draft = draft
        self._prompts = PromptBuilder(engine)
        self._reader: Reader | None = None
        self._prefix: list[int] = []
        self._selection: Selection | None = None
        self._cancelled = False
        self.conversation = Conversation(system=system)
        self.document: Document | None = None

    def load(
        self, model: Path, options: EngineOptions, on_progress: Callable[[float], None]
    ) -> ModelDescription:
        """Load the model, in a small context at first.

        Raises:
            EngineError: it cannot be loaded.
        """
        self._reader = Reader.load(self._engine, model, options, on_progress, self._shelf)
        self._model = self._reader.model
        return self._model

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called since `begin`."""
        return self._cancelled

    def begin(self) -> None:
        """Forget that something was cancelled: something new begins."""
        self._cancelled = False
        if self._reader is not None:
            self._reader.begin()

    def open(self, document: Document, selection: Selection | None = None) -> int:
        """Begin a new conversation over a document and return how many tokens it makes.

        Args:
            document: what to talk about.
            selection: what of its file it is, as the person chose it; None for all.

        Raises:
            TooLongError: it is longer than the model's target length.
            Cancelled: by `cancel`; what was open is open still.
            EngineError: the engine fails.
        """
        conversation = self._conversation_on(document)
        prefix = self._prompts.document_prefix(conversation)
        self._require_wanted()
        self._room(self._asked(len(prefix), len(prefix), document, selection), 1)
        self._selection = selection
        self.document, self.conversation, self._prefix = document, conversation, prefix
        return len(prefix)

    def read(self, progress: ReadProgress) -> ReadResult:
        """Read the open document ahead of any question.

        Raises:
            EngineError: the engine fails; the memory does not suffice, for one.
        """
        return self._read(self._prefix, 1, progress)

    def ask(
        self, question: str, max_tokens: int, progress: ReadProgress, on_text: Callable[[str], None]
    ) -> tuple[ReadResult, GenerationResult | None]:
        """Ask the next question.

        Args:
            question: what to ask.
            max_tokens: longest answer in tokens.
            progress: told how reading the prompt goes.
            on_text: given the answer piece by piece.

        Returns:
            What reading took, and the answer, which may have been cut by `cancel`; None where reading
            was cancelled. An answer, cut or not, becomes part of the conversation.

        Raises:
            TooLongError: the prompt is longer than the model's target length.
            Cancelled: by `cancel`, before anything was read.
            EngineError: the engine fails.
        """
        prompt = self._prompts.prompt(self.conversation, question)
        self._require_wanted()
        room = self._room(
            self._asked(len(prompt), self._n_shared(prompt), self.document, self._selection), max_tokens
        )
        read = self._read(prompt, room, progress)
        if read.cancelled or self._cancelled:
            return dataclasses.replace(read, cancelled=True), None
        stream = self._engine.generate(room, self._sampling, draft=self._draft)
        for piece in stream:
            on_text(piece.text)
            if self._cancelled:  # since the reading ended, when there was nothing to cancel
                self._engine.cancel()
        answer = stream.result
        self.conversation = self.conversation.with_turn(question, answer.text)
        return read, answer

    def cancel(self) -> None:
        """End what is going on; safe from any thread."""
        self._cancelled = True
        if self._reader is None:
            self._engine.cancel()
        else:
            self._reader.cancel()

    def _loaded(self) -> Reader:
        assert self._reader is not None, "no model is loaded"
        return self._reader

    def _room(self, asked: Asked, wanted: int) -> int:
        return answer_room(asked, self._model, wanted, beyond=self._beyond)

    def _n_shared(self, prompt: list[int]) -> int:
        """Tokens of the document's part of a prompt; the last of them may be another one in each prompt."""
        return min(len(self._prefix), len(prompt))

    def _asked(
        self, prompt: int, shared: int, document: Document | None, selection: Selection | None
    ) -> Asked:
        return Asked(prompt, shared, document, selection, self._counted)

    def _counted(self, document: Document) -> int:
        return len(self._prompts.document_prefix(self._conversation_on(document)))

    def _conversation_on(self, document: Document) -> Conversation:
        return Conversation(document.text, system=self.conversation.system)

    def _read(self, tokens: list[int], room: int, progress: ReadProgress) -> ReadResult:
        self._noticed = progress.noticed
        return self._loaded().read(
            tokens,
            room,
            progress,
            document_tokens=self._n_shared(tokens),
            title="" if self.document is None else self.document.name,
            reserve=min(len(self._prefix) + _CONVERSATION, self._model.target_length),
        )

    def _notice(self, sentence: str) -> None:
        if self._noticed is not None:
            self._noticed(sentence)

    def _require_wanted(self) -> None:
        if self._cancelled:
            raise Cancelled("it was stopped before anything was read")
