"""A conversation as data: the document it is about, and what was asked and answered."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Conversation:
    """Questions and answers, over a document or none.

    The document stands at the head of the first user message, before the question: so every prompt of
    the conversation begins with it, and a model that has read it once need not read it again.

    Attributes:
        document: the document's text; None for a conversation without one.
        turns: what was said so far.
    """

    document: str | None = None
    turns: tuple[Turn, ...] = ()

    def with_turn(self, question: str, answer: str) -> Conversation:
        """The conversation with one more turn."""
        return dataclasses.replace(self, turns=(*self.turns, Turn(question, answer)))

    def messages(self, question: str) -> list[tuple[str, str]]:
        """The (role, content) messages that ask the next question."""
        messages: list[tuple[str, str]] = []
        for turn in self.turns:
            messages += [("user", turn.question), ("assistant", turn.answer)]
        messages.append(("user", question))
        if self.document is not None:
            role, first = messages[0]
            messages[0] = (role, f"{self.document}\n\n{first}")
        return messages

    def plain_text(self, question: str) -> str:
        """The prompt that asks the next question of a model without a chat template."""
        document = "" if self.document is None else f"{self.document}\n\n"
        turns = "".join(f"Question: {turn.question}\nAnswer: {turn.answer}\n\n" for turn in self.turns)
        return f"{document}{turns}Question: {question}\nAnswer:"
