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
        system: what the model is told to be, before all else; None leaves that to its template.
    """

    document: str | None = None
    turns: tuple[Turn, ...] = ()
    system: str | None = None

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
        return messages if self.system is None else [("system", self.system), *messages]

    def plain_text(self, question: str) -> str:
        """The prompt that asks the next question of a model without a chat template."""
        turns = "".join(f"Question: {turn.question}\nAnswer: {turn.answer}\n\n" for turn in self.turns)
        return f"{self._head()}{turns}Question: {question}\nAnswer:"

    def raw_text(self, text: str) -> str:
        """The document and a text after it, for the model to go on from: no words but theirs.

        Turns of a conversation that went on so are part of it, one after the other.
        """
        return self._head() + "".join(f"{turn.question}{turn.answer}" for turn in self.turns) + text

    def _head(self) -> str:
        return "".join(f"{part}\n\n" for part in (self.system, self.document) if part is not None)
