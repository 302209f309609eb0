"""Files that a person wants read: their text, with where each part of it came from."""

from ropewalk.documents.document import Document, DocumentError, Part, Place
from ropewalk.documents.reading import read_documents
from ropewalk.documents.selection import Selection, SelectionError, fitting_range, parse_selection, select

__all__ = [
    "Document",
    "DocumentError",
    "Part",
    "Place",
    "Selection",
    "SelectionError",
    "fitting_range",
    "parse_selection",
    "read_documents",
    "select",
]
