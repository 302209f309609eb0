"""PDF files written by hand, object by object, for tests of what is read from them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pypdf
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NumberObject,
    StreamObject,
    TextStringObject,
)

_FONT = (
    b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding "
    b"<< /Type /Encoding /BaseEncoding /WinAnsiEncoding /Differences [1 /fi /fl /ff] >> >>"
)
FI, FL, FF = "\x01", "\x02", "\x03"
"""Characters that are drawn as ligatures."""

A_PICTURE = b"q 100 0 0 100 72 500 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \xff EI Q"
"""What a page shows that is a picture and nothing else."""


@dataclass(frozen=True)
class PdfPage:
    """A page: its content stream and what else its dictionary says."""

    content: bytes
    extra: bytes = b""


def page(lines: Iterable[str], *, x: int = 72, top: int = 720, extra: bytes = b"") -> PdfPage:
    """A page with these lines, one below the other, in Helvetica."""
    drawn = b" ".join(b"(" + _escaped(line) + b") Tj T*" for line in lines)
    return PdfPage(b"BT /F1 11 Tf 14 TL %d %d Td " % (x, top) + drawn + b" ET", extra)


def _escaped(line: str) -> bytes:
    return "".join("\\" + c if c in "()\\" else c for c in line).encode("cp1252")


def pdf(pages: Sequence[PdfPage]) -> bytes:
    """A whole PDF."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * i) for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [" + kids + b"] /Count %d >>" % len(pages),
        _FONT,
    ]
    for i, page in enumerate(pages):
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R %s >>" % (5 + 2 * i, page.extra),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page.content), page.content),
        ]
    file = io.BytesIO()
    file.write(b"%PDF-1.7\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(file.tell())
        file.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = file.tell()
    file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    file.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
    file.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table))
    return file.getvalue()


def with_form_field(data: bytes, value: str) -> bytes:
    """The same PDF with a form field on its first page, filled in with this."""
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(data)))
    page, font = writer.pages[0], writer.pages[0]["/Resources"]["/Font"].raw_get("/F1")  # type: ignore[index]
    drawn = StreamObject()
    drawn.set_data(b"/Tx BMC q BT /F1 11 Tf 2 5 Td (%s) Tj ET Q EMC" % _escaped(value))
    drawn.update(_named(Type="/XObject", Subtype="/Form"))
    drawn.update(
        {
            NameObject("/BBox"): _numbers(0, 0, 200, 20),
            NameObject("/Resources"): DictionaryObject(
                {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
            ),
        }
    )
    field = DictionaryObject(_named(Type="/Annot", Subtype="/Widget", FT="/Tx"))
    field.update(
        {
            NameObject("/T"): TextStringObject("name"),
            NameObject("/V"): TextStringObject(value),
            NameObject("/F"): NumberObject(4),
            NameObject("/Rect"): _numbers(150, 715, 350, 735),
            NameObject("/AP"): DictionaryObject({NameObject("/N"): writer._add_object(drawn)}),
        }
    )
    fields = ArrayObject([writer._add_object(field)])
    page[NameObject("/Annots")] = fields
    writer._root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): fields})
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def _named(**names: str) -> dict[NameObject, NameObject]:
    return {NameObject(f"/{key}"): NameObject(name) for key, name in names.items()}


def _numbers(*numbers: float) -> ArrayObject:
    return ArrayObject([FloatObject(number) for number in numbers])


def encrypted(data: bytes, user_password: str) -> bytes:
    """The same PDF, encrypted (by pypdf) so that only this password opens it."""
    writer = pypdf.PdfWriter(clone_from=pypdf.PdfReader(io.BytesIO(data)))
    writer.encrypt(user_password, owner_password="owner", algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()
