"""Files that a person wants read: their text, with where each part of it came from."""

from ropewalk.documents.document import Document, DocumentError, Part, Place
from ropewalk.documents.quotations import Quotation, find_quotations
from ropewalk.documents.reading import read_documents
from ropewalk.documents.selection import Selection, SelectionError, Unit, fitting_range, parse_selection

__all__ = [
    "Document",
    "DocumentError",
    "Part",
    "Place",
    "Quotation",
    "Selection",
    "SelectionError",
    "Unit",
    "find_quotations",
    "fitting_range",
    "parse_selection",
    "read_documents",
]
