"""What the engine's thread tells the screen."""

from __future__ import annotations

from textual.message import Message

from ropewalk.documents import Document
from ropewalk.engine import GenerationResult, ModelDescription
from ropewalk.sessions import ReadResult


class Loading(Message):
    """A share of the model, 0 to 1, is loaded."""

    def __init__(self, share: float) -> None:
        """How much."""
        super().__init__()
        self.share = share


class Loaded(Message):
    """The model is loaded."""

    def __init__(self, model: ModelDescription) -> None:
        """Which."""
        super().__init__()
        self.model = model


class LoadFailed(Message):
    """The model cannot be loaded: the application has nothing to do."""

    def __init__(self, error: Exception) -> None:
        """Why."""
        super().__init__()
        self.error = error


class Opening(Message):
    """A share of a file, 0 to 1, is read from the disk."""

    def __init__(self, share: float) -> None:
        """How much."""
        super().__init__()
        self.share = share


class Opened(Message):
    """A document is opened and about to be read."""

    def __init__(self, document: Document, tokens: int) -> None:
        """Which, and the tokens it makes."""
        super().__init__()
        self.document = document
        self.tokens = tokens


class Reading(Message):
    """Some tokens of a prompt are read."""

    def __init__(self, done: int, total: int) -> None:
        """How many of how many."""
        super().__init__()
        self.done = done
        self.total = total


class Restoring(Message):
    """A share of a snapshot, 0 to 1, is back in memory."""

    def __init__(self, share: float) -> None:
        """How much."""
        super().__init__()
        self.share = share


class Keeping(Message):
    """A share of a snapshot, 0 to 1, is on disk."""

    def __init__(self, share: float) -> None:
        """How much."""
        super().__init__()
        self.share = share


class Noticed(Message):
    """Something that a person should know, while everything goes on."""

    def __init__(self, sentence: str) -> None:
        """What."""
        super().__init__()
        self.sentence = sentence


class ReadingEnded(Message):
    """The document is read, or reading it was cancelled."""

    def __init__(self, result: ReadResult) -> None:
        """What it took."""
        super().__init__()
        self.result = result


class AnswerText(Message):
    """A piece of the answer."""

    def __init__(self, text: str) -> None:
        """The piece."""
        super().__init__()
        self.text = text


class AnswerEnded(Message):
    """The answer is complete or was cancelled; or reading its prompt was cancelled and there is none."""

    def __init__(self, read: ReadResult, answer: GenerationResult | None) -> None:
        """What reading and answering took."""
        super().__init__()
        self.read = read
        self.answer = answer


class Failed(Message):
    """Something did not work; the application goes on."""

    def __init__(self, error: Exception) -> None:
        """What."""
        super().__init__()
        self.error = error
