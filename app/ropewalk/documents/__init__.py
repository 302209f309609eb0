"""Files that a person wants read: their text, with where each part of it came from."""

from ropewalk.documents.document import Document, DocumentError, Part, Place
from ropewalk.documents.reading import read_documents

__all__ = ["Document", "DocumentError", "Part", "Place", "read_documents"]
