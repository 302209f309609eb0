"""Conversations over a document."""

from ropewalk.sessions.conversation import Conversation, Turn
from ropewalk.sessions.prompt import PromptBuilder
from ropewalk.sessions.reading import ReadingSession
from ropewalk.sessions.room import TooLongError, answer_room, context_for

__all__ = [
    "Conversation",
    "PromptBuilder",
    "ReadingSession",
    "TooLongError",
    "Turn",
    "answer_room",
    "context_for",
]
