"""Files that a person wants read: a file -> its text."""

from ropewalk.documents.text import DocumentError, TextDocument, decode_text, read_text_document

__all__ = ["DocumentError", "TextDocument", "decode_text", "read_text_document"]
