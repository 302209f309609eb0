"""Word documents written by hand, part by part, for what python-docx does not write."""

from __future__ import annotations

from collections.abc import Mapping

from epub_files import zipped

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT_W = "http://purl.oclc.org/ooxml/wordprocessingml/main"
_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>'
)
_RELATIONSHIPS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="/word/document.xml"/></Relationships>'
)


def paragraph(*runs: str, properties: str = "") -> str:
    """A paragraph: runs of text, or XML where they begin with `<`."""
    inner = "".join(
        run if run.startswith("<") else f'<w:r><w:t xml:space="preserve">{run}</w:t></w:r>' for run in runs
    )
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def part(kind: str, body: str, *, namespace: str = _W, doctype: str = "") -> str:
    """A part of the document: its root element and what is in it."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{doctype}<w:{kind} xmlns:w="{namespace}" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
        'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math">'
        f"{body}</w:{kind}>"
    )


def docx(body: str, extra: Mapping[str, str | bytes] | None = None, **options: str) -> bytes:
    """A whole document with this body."""
    return zipped(
        {
            "[Content_Types].xml": _TYPES,
            "_rels/.rels": _RELATIONSHIPS,
            "word/document.xml": part("document", f"<w:body>{body}</w:body>", **options),
            **(extra or {}),
        }
    )
