"""From a conversation to the tokens that the model reads."""

from __future__ import annotations

import hashlib
import re
from datetime import date

from ropewalk.engine import Engine
from ropewalk.sessions.conversation import Conversation, Turn
from ropewalk.sessions.prompt_tokens import PromptTokens

_QUESTIONS = ("A", "B")
"""Stand for a question not yet asked: what prompts of the two begin with, all prompts begin with."""

_OPENED, _CLOSED = "\ufdd0", "\ufdd1"  # Unicode has put these aside for a program's own use; no text has them
_MARKED = re.compile(f"{_OPENED}([^{_OPENED}{_CLOSED}]*){_CLOSED}")
_MARKS = re.compile(f"[{_OPENED}{_CLOSED}]")


class PromptBuilder:
    """Makes prompts for one loaded model, with its chat template where it has one.

    A document or question that spells a control token of the model ("<|im_end|>") is read as the text
    it is, so that it cannot end its own message.
    """

    def __init__(self, engine: Engine, *, raw: bool = False, today: date | None = None) -> None:
        """Build prompts for the model that `engine` has loaded.

        Args:
            engine: has a model, or its vocabulary alone.
            raw: leave the chat template out, and let the model go on from the question's own words.
            today: the day that the template is told; the present one where None.
        """
        self._engine = engine
        self._raw = raw
        self._as_tokens = PromptTokens(engine)
        self._spells_control: dict[bytes, bool] = {}
        self._today = today or date.today()  # one day for all prompts, so that midnight changes none of them

    def prompt(self, conversation: Conversation, question: str) -> list[int]:
        """The tokens that ask the next question of a conversation."""
        return self._tokens(self._render(conversation, question))

    def document_prefix(self, conversation: Conversation) -> list[int]:
        """The tokens that begin the conversation's prompt whatever the first question is.

        Reading these ahead leaves only the question to be read when it is asked; the last few of them may be
        others there, as its first characters may make one token with what stands before. Empty where the
        conversation has no document.
        """
        if conversation.document is None:
            return []
        opening = Conversation(conversation.document, system=conversation.system)
        first, second = (self._render(opening, question) for question in _QUESTIONS)
        return self._tokens(_common_beginning(first, second))

    def _render(self, conversation: Conversation, question: str) -> str:
        """The prompt as text, with marks around what is to be read as the text it is."""
        if self._raw:
            if conversation.document is not None:
                self._as_tokens.remember(conversation.document, control=False)
            return conversation.raw_text(question)
        conversation = Conversation(
            None if conversation.document is None else self._marked(conversation.document),
            tuple(
                Turn(self._marked(turn.question), self._marked(turn.answer)) for turn in conversation.turns
            ),
            None if conversation.system is None else self._marked(conversation.system),
        )
        question = self._marked(question)
        rendered = self._engine.apply_template(conversation.messages(question), today=self._today)
        return conversation.plain_text(question) if rendered is None else rendered

    def _marked(self, content: str) -> str:
        """A content that spells a control token, between marks; spaces around it are left to the template."""
        content = _MARKS.sub("", content)  # they mean nothing, and are ours here
        inside = content.strip()
        if not self._spells_control_token(inside):
            return content
        before, _, after = content.partition(inside)
        return f"{before}{_OPENED}{inside}{_CLOSED}{after}"

    def _spells_control_token(self, content: str) -> bool:
        known = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=16).digest()
        if known not in self._spells_control:
            self._spells_control[known] = self._as_tokens.spells_control(content)
        return self._spells_control[known]

    def _tokens(self, text: str) -> list[int]:
        """Tokens of a prompt: control tokens in the template's words, none between marks.

        A mark whose other one a template has cut off means nothing: then its words keep theirs.
        """
        if self._raw:
            return self._as_tokens.whole(text, control=False)
        if _OPENED not in text and _CLOSED not in text:
            return self._as_tokens.whole(text, control=True)
        tokens: list[int] = []
        for number, part in enumerate(_MARKED.split(text)):
            if number % 2:
                tokens += self._as_tokens.remember(part, control=False)
            elif words := _MARKS.sub("", part):
                tokens += self._as_tokens.part(words, control=True)
        return self._as_tokens.started(tokens)


def _common_beginning(first: str, second: str) -> str:
    """What two texts begin with."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # the first `low` characters are the same; those from `high` on were not looked at
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return first[:low]
