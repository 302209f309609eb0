"""From a conversation to the tokens that the model reads."""

from __future__ import annotations

import hashlib
from datetime import date

from ropewalk.engine import Engine
from ropewalk.sessions.conversation import Conversation, Turn

_QUESTION = "ropewalk:question"
"""Stands for a question not yet asked, to find where the document's part of the prompt ends."""

_OPENED, _CLOSED = "\ufdd0", "\ufdd1"  # Unicode has put these aside for a program's own use; no text has them


class PromptBuilder:
    """Makes prompts for one loaded model, with its chat template where it has one.

    A document or question that spells a control token of the model ("<|im_end|>") is read as the text
    it is, so that it cannot end its own message.
    """

    def __init__(self, engine: Engine, *, raw: bool = False) -> None:
        """Build prompts for the model that `engine` has loaded.

        Args:
            engine: has a model, or its vocabulary alone.
            raw: leave the chat template out, and let the model go on from the question's own words.
        """
        self._engine = engine
        self._raw = raw
        self._spells_control: dict[bytes, bool] = {}
        self._today = date.today()  # one day for all prompts, so that midnight changes none of them

    def prompt(self, conversation: Conversation, question: str) -> list[int]:
        """The tokens that ask the next question of a conversation."""
        return self._tokens(self._render(conversation, question))

    def document_prefix(self, conversation: Conversation) -> list[int]:
        """The tokens that begin the conversation's prompt whatever the first question is.

        Reading these ahead leaves only the question to be read when it is asked. Empty where the
        conversation has no document.
        """
        if conversation.document is None:
            return []
        opening = Conversation(conversation.document, system=conversation.system)
        return self._tokens(self._render(opening, _QUESTION).rpartition(_QUESTION)[0])

    def _render(self, conversation: Conversation, question: str) -> str:
        """The prompt as text, with marks around what is to be read as the text it is."""
        if self._raw:
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
        content = content.replace(_OPENED, "").replace(_CLOSED, "")  # they mean nothing, and are ours here
        if not self._spells_control_token(content):
            return content
        inside = content.strip()
        before, _, after = content.partition(inside)
        return f"{before}{_OPENED}{inside}{_CLOSED}{after}"

    def _spells_control_token(self, content: str) -> bool:
        known = hashlib.blake2b(content.encode("utf-8", "replace"), digest_size=16).digest()
        if known not in self._spells_control:
            parsed = self._engine.tokenize(content, add_special=False, parse_special=True)
            literal = self._engine.tokenize(content, add_special=False, parse_special=False)
            self._spells_control[known] = parsed != literal
        return self._spells_control[known]

    def _tokens(self, text: str) -> list[int]:
        """Tokens of a prompt: control tokens in the template's words, none between marks."""
        if self._raw:
            return self._engine.tokenize(text, add_special=True, parse_special=False)
        if _OPENED not in text:
            tokens = self._engine.tokenize(text, add_special=True, parse_special=True)
            return self._without_second_start(tokens)
        tokens = self._engine.tokenize("", add_special=True)
        for part in text.split(_OPENED):
            content, closed, words = part.rpartition(_CLOSED)
            if closed:
                tokens += self._engine.tokenize(content, add_special=False, parse_special=False)
            if words:
                tokens += self._engine.tokenize(words, add_special=False, parse_special=True)
        return self._without_second_start(tokens)

    def _without_second_start(self, tokens: list[int]) -> list[int]:
        """Drop the start token that the tokenizer adds where the template has written it already."""
        start = self._engine.tokenize("", add_special=True)
        doubled = len(start) == 1 and tokens[:2] == start * 2
        return tokens[1:] if doubled else tokens
