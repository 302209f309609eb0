"""DOCX: the text of a Word document, section by section, its notes at the end.

Word lays pages out anew on each machine, so a passage's place is the heading that it stands under and the
line of the text as it is read here. The XML is read here (`docx_text.py`), not by a library for editing:
those keep every picture in memory, and leave out insertions, text boxes and notes.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator

from lxml import etree

from ropewalk.documents.document import DocumentError, OnProgress, Piece, Reading, Source
from ropewalk.documents.docx_numbering import Numbering, read_numbering
from ropewalk.documents.docx_text import Block, Style, blocks, read_styles
from ropewalk.documents.zip_limits import LimitedZip

_RELATIONSHIPS = "_rels/.rels"
_DOCUMENT = "word/document.xml"
_NOTES = (("footnotes.xml", "footnote", "[^{}]"), ("endnotes.xml", "endnote", "[^e{}]"))
_STEPS = 2


def is_docx(data: bytes) -> bool:
    """Whether bytes are a Word document's: a ZIP file with what each must hold."""
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _DOCUMENT in archive.namelist()
    except Exception:  # damaged archives fail in many ways
        return False


def read_docx(source: Source, on_progress: OnProgress) -> Reading:
    """The text of a Word document, a piece for each of its headings.

    Raises:
        DocumentError: it is damaged, has no text, or unpacks to more than any document.
    """
    on_progress(0, _STEPS)
    with LimitedZip(source, "a DOCX file") as archive:
        document = _document_name(archive)
        root = _xml(archive, document)
        if root is None:
            raise archive.damaged()
        on_progress(1, _STEPS)
        folder = posixpath.dirname(document)
        styles = read_styles(_xml(archive, posixpath.join(folder, "styles.xml")))
        numbering = read_numbering(_xml(archive, posixpath.join(folder, "numbering.xml")))
        text = [*blocks(root, styles, numbering), *_notes(archive, folder, styles, numbering)]
        pieces = tuple(_pieces(text))
    if not pieces:
        raise DocumentError(f"{source.name} has no text; name a file with text in it.")
    on_progress(_STEPS, _STEPS)
    return Reading(pieces)


def _pieces(document: list[Block]) -> Iterator[Piece]:
    """The document's sections, with the lines counted through."""
    section: str | None = None
    texts: list[str] = []
    first_line = 1
    for i, block in enumerate(document):
        if block.heading is not None:
            if texts:
                text = "".join(texts)
                yield Piece(text, first_line=first_line, section=section)
                first_line += text.count("\n")
            section, texts = block.heading, []
        last = i + 1 == len(document)
        texts.append(block.text + ("\n" if last or document[i + 1].close else "\n\n"))
    if texts:
        yield Piece("".join(texts), first_line=first_line, section=section)


def _notes(
    archive: LimitedZip, folder: str, styles: dict[str, Style], numbering: Numbering
) -> Iterator[Block]:
    for file, kind, mark in _NOTES:
        root = _xml(archive, posixpath.join(folder, file))
        for note in () if root is None else root.iter(f"{{*}}{kind}"):
            attributes = {str(key).rpartition("}")[2]: str(value) for key, value in note.attrib.items()}
            if attributes.get("type", "normal") == "normal":
                text = " ".join(" ".join(block.text.split()) for block in blocks(note, styles, numbering))
                if text:
                    yield Block(f"{mark.format(attributes.get('id'))}: {text}")


def _document_name(archive: LimitedZip) -> str:
    root = _xml(archive, _RELATIONSHIPS)
    for relation in () if root is None else root.iter("{*}Relationship"):
        if relation.get("Type", "").endswith("/officeDocument"):
            name = posixpath.normpath(str(relation.get("Target", ""))).lstrip("/")
            if name in archive:
                return name
    return _DOCUMENT


def _xml(archive: LimitedZip, entry: str) -> etree._Element | None:
    """An entry's XML; nothing outside of it is looked at. None: there is no such entry.

    Raises:
        DocumentError: it is no XML.
    """
    if entry not in archive:
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(archive.read(entry), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise archive.damaged() from None
