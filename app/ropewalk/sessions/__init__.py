"""Conversations over a document, and what was read of it, kept on disk."""

from ropewalk.sessions.conversation import Conversation, Turn
from ropewalk.sessions.prompt import PromptBuilder
from ropewalk.sessions.reader import Reader, ReadProgress, ReadResult
from ropewalk.sessions.reading import ReadingSession
from ropewalk.sessions.room import Asked, TooLongError, answer_room, context_for
from ropewalk.sessions.snapshot_shelf import SnapshotShelf

__all__ = [
    "Asked",
    "Conversation",
    "PromptBuilder",
    "ReadProgress",
    "ReadResult",
    "Reader",
    "ReadingSession",
    "SnapshotShelf",
    "TooLongError",
    "Turn",
    "answer_room",
    "context_for",
]
