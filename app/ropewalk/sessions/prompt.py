"""From a conversation to the tokens that the model reads."""

from __future__ import annotations

from collections.abc import Sequence

from ropewalk.engine import Engine
from ropewalk.sessions.conversation import Conversation

_QUESTION_MARK = "ropewalk:question"
"""Stands for a question not yet asked, to find where the document's part of the prompt ends."""


class PromptBuilder:
    """Makes prompts for one loaded model, with its chat template where it has one.

    A document or question that spells a control token of the model ("<|im_end|>") is read as the text
    it is, so that it cannot end its own message.
    """

    def __init__(self, engine: Engine) -> None:
        """Build prompts for the model that `engine` has loaded."""
        self._engine = engine
        self._spells_control: dict[str, bool] = {}

    def prompt(self, conversation: Conversation, question: str) -> list[int]:
        """The tokens that ask the next question of a conversation."""
        contents = [content for _, content in conversation.messages(question)]
        return self._tokens(self._render(conversation, question), contents)

    def document_prefix(self, conversation: Conversation) -> list[int]:
        """The tokens that begin the conversation's prompt whatever the first question is.

        Reading these ahead leaves only the question to be read when it is asked. Empty where the
        conversation has no document.
        """
        if conversation.document is None:
            return []
        text = self._render(Conversation(conversation.document), _QUESTION_MARK)
        return self._tokens(text.rpartition(_QUESTION_MARK)[0], [conversation.document])

    def _render(self, conversation: Conversation, question: str) -> str:
        rendered = self._engine.apply_template(conversation.messages(question))
        return conversation.plain_text(question) if rendered is None else rendered

    def _tokens(self, text: str, contents: Sequence[str]) -> list[int]:
        if any(self._spells_control_token(content) for content in contents):
            tokens = self._tokens_of_parts(text, contents)
        else:
            tokens = self._engine.tokenize(text, add_special=True, parse_special=True)
        return self._without_second_start(tokens)

    def _spells_control_token(self, content: str) -> bool:
        if content not in self._spells_control:
            parsed = self._engine.tokenize(content, add_special=False, parse_special=True)
            literal = self._engine.tokenize(content, add_special=False, parse_special=False)
            self._spells_control[content] = parsed != literal
        return self._spells_control[content]

    def _tokens_of_parts(self, text: str, contents: Sequence[str]) -> list[int]:
        """Tokenize the template's parts with control tokens, the messages' contents without."""
        tokens = self._engine.tokenize("", add_special=True)
        for content in filter(None, contents):
            verbatim = content if content in text else content.strip()  # many templates trim
            before, found, text = text.partition(verbatim)
            tokens += self._engine.tokenize(before, add_special=False, parse_special=True)
            tokens += self._engine.tokenize(found, add_special=False, parse_special=False)
        return tokens + self._engine.tokenize(text, add_special=False, parse_special=True)

    def _without_second_start(self, tokens: list[int]) -> list[int]:
        """Drop the start token that the tokenizer adds where the template has written it already."""
        start = self._engine.tokenize("", add_special=True)
        doubled = len(start) == 1 and tokens[:2] == start * 2
        return tokens[1:] if doubled else tokens
