"""Word documents: their text in order, and what is said of those that cannot be read."""

from __future__ import annotations

import io
from pathlib import Path

import docx as python_docx
import pytest
from docx.table import Table
from docx.text.paragraph import Paragraph

from docx_files import STRICT_W, docx, paragraph, part
from epub_files import zipped
from ropewalk.documents.document import BinaryFileError, Document, DocumentError, Source, joined
from ropewalk.documents.docx import is_docx, read_docx
from ropewalk.documents.formats import format_of


def read(data: bytes, name: str = "report.docx") -> Document:
    reading = read_docx(Source(name, data), lambda _done, _total: None)
    return joined(name, ((name, False, piece) for piece in reading.pieces), reading.notices)


def written() -> bytes:
    """A document as python-docx writes it."""
    document = python_docx.Document()
    document.add_heading("A report", 0)
    document.add_paragraph("What it is about.")
    document.add_heading("Ropes", 1)
    line = document.add_paragraph("They are ")
    line.add_run("long").bold = True
    line.add_run("\tand\nstrong.")
    for item in ("hemp", "sisal"):
        document.add_paragraph(item, style="List Bullet")
    table = document.add_table(2, 2)
    for cell, text in zip(
        (cell for row in table.rows for cell in row.cells), ("a", "b", "c", "d e"), strict=True
    ):
        cell.text = text
    document.add_paragraph("")
    document.add_heading("Ends", 2)
    document.add_paragraph("All of them.")
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def test_a_document_comes_in_order_with_headings_lists_and_tables() -> None:
    document = read(written())
    assert document.text == (
        "# A report\n\nWhat it is about.\n\n# Ropes\n\nThey are long\tand\nstrong.\n\n- hemp\n- sisal\n"
        "a | b\nc | d e\n\n## Ends\n\nAll of them.\n"
    )
    place = document.place(document.text.index("sisal"))
    assert (place.page, place.line, place.section) == (None, 11, "Ropes")
    assert document.text.splitlines()[10] == "- sisal"
    assert document.place(document.text.index("All of")).section == "Ends"
    assert document.notices == ()


def test_the_words_are_those_that_python_docx_finds() -> None:
    theirs: list[str] = []
    for block in python_docx.Document(io.BytesIO(written())).iter_inner_content():
        if isinstance(block, Paragraph):
            theirs += block.text.split()
        elif isinstance(block, Table):
            theirs += [word for row in block.rows for cell in row.cells for word in cell.text.split()]
    assert [word for word in read(written()).text.split() if word not in ("#", "##", "-", "|")] == theirs


def test_a_file_is_read_by_its_path_as_its_bytes_are(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(written())
    reading = read_docx(Source("a", b"", tmp_path / "a.docx"), lambda _done, _total: None)
    assert "".join(piece.text for piece in reading.pieces) == read(written()).text


def run(text: str, properties: str = "", element: str = "t") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:{element} xml:space="preserve">{text}</w:{element}></w:r>'


ROOT = "<m:rad><m:deg/><m:e><m:r><m:t>2x</m:t></m:r></m:e></m:rad>"


def math(kind: str, **parts: str) -> str:
    inner = "".join(f"<m:{name}><m:r><m:t>{text}</m:t></m:r></m:{name}>" for name, text in parts.items())
    return f"<m:{kind}>{inner}</m:{kind}>"


FRACTION = math("f", num="a+b", den="20")
SUM = (
    '<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub><m:r><m:t>i=1</m:t></m:r></m:sub>'
    f"<m:sup><m:r><m:t>n</m:t></m:r></m:sup><m:e>{math('sSup', e='x', sup='2')}</m:e></m:nary>"
)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"<w:ins>{run('new ')}</w:ins><w:del>{run('old ', element='delText')}</w:del>", "new end"),
        (f"<w:moveTo>{run('here ')}</w:moveTo><w:moveFrom>{run('there ')}</w:moveFrom>", "here end"),
        (f"<w:hyperlink>{run('a link ')}</w:hyperlink>", "a link end"),
        (f"<w:sdt><w:sdtPr/><w:sdtContent>{run('a field ')}</w:sdtContent></w:sdt>", "a field end"),
        (run("PAGE \\* MERGEFORMAT", element="instrText") + run("7 "), "7 end"),
        (run("unseen ", "<w:vanish/>") + run("seen ", '<w:vanish w:val="0"/>'), "seen end"),
        ("<w:r><w:t>well</w:t><w:noBreakHyphen/><w:t>known </w:t><w:softHyphen/></w:r>", "well-known end"),
        ("<m:oMath><m:r><m:t>a=b</m:t></m:r></m:oMath>" + run(" "), "a=b end"),
        (run("10") + run("6", '<w:vertAlign w:val="superscript"/>') + run(" "), "10^6 end"),
        (run("H") + run("2", '<w:vertAlign w:val="subscript"/>') + run("O "), "H2O end"),
        (run("10") + run("2", '<w:vertAlign w:val="subscript"/>') + run(" "), "10_2 end"),
        (run("1") + run("st ", '<w:vertAlign w:val="superscript"/>'), "1st end"),
        (f"<m:oMath>{FRACTION}</m:oMath>" + run(" "), "(a+b)/20 end"),
        (f"<m:oMath>{SUM}</m:oMath>" + run(" "), "∑_(i=1)^n x^2 end"),
        (f"<m:oMath>{ROOT}</m:oMath>" + run(" "), "√2x end"),
        (f"<m:oMath><m:d><m:e>{FRACTION}</m:e></m:d></m:oMath>" + run(" "), "((a+b)/20) end"),
    ],
    ids=[
        *("tracked", "moved", "link", "control", "field code", "hidden", "hyphens", "formula"),
        *("power", "index", "base", "ordinal", "fraction", "sum", "root", "brackets"),
    ],
)
def test_what_is_text_and_what_is_not(content: str, text: str) -> None:
    assert read(docx(paragraph(content, "end"))).text == f"{text}\n"


def test_text_boxes_come_once_behind_their_paragraph() -> None:
    box = f"<w:txbxContent>{paragraph('In the box.')}</w:txbxContent>"
    drawn = f"<w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    body = paragraph("Before ", f"{drawn}</mc:AlternateContent></w:r>", "after.") + paragraph("Last.")
    assert read(docx(body)).text == "Before after.\n\nIn the box.\n\nLast.\n"


def test_notes_are_marked_and_come_at_the_end() -> None:
    notes = part(
        "footnotes",
        f'<w:footnote w:type="separator" w:id="-1">{paragraph("sep")}</w:footnote>'
        f'<w:footnote w:id="2">{paragraph("As was said.")}</w:footnote>',
    )
    body = paragraph("A claim", '<w:r><w:footnoteReference w:id="2"/></w:r>', ".")
    assert read(docx(body, {"word/footnotes.xml": notes})).text == "A claim[^2].\n\n[^2]: As was said.\n"


def test_headings_are_told_by_their_style_in_any_language_or_by_their_outline() -> None:
    styles = part(
        "styles",
        '<w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="berschrift2"/></w:style>'
        '<w:style w:styleId="Loop"><w:name w:val="Loop"/><w:basedOn w:val="Loop"/></w:style>'
        '<w:style w:styleId="Item"><w:name w:val="Item"/><w:pPr><w:numPr><w:numId w:val="1"/></w:numPr>'
        "</w:pPr></w:style>",
    )
    body = (
        paragraph("Erstens", properties='<w:pStyle w:val="berschrift2"/>')
        + paragraph("Zweitens", properties='<w:pStyle w:val="Mine"/>')
        + paragraph("Drittens", properties='<w:outlineLvl w:val="2"/>')
        + paragraph("Text.", properties='<w:pStyle w:val="Loop"/>')
        + paragraph("Punkt.", properties='<w:pStyle w:val="Item"/>')
        + paragraph("Keiner.", properties='<w:pStyle w:val="Item"/><w:numPr><w:numId w:val="0"/></w:numPr>')
    )
    assert read(docx(body, {"word/styles.xml": styles})).text == (
        "## Erstens\n\n## Zweitens\n\n### Drittens\n\nText.\n\n- Punkt.\n\nKeiner.\n"
    )


@pytest.mark.parametrize(
    ("font", "place", "shown"),
    [
        *(("Symbol", "F06D", "μ"), ("Symbol", "F0B3", "≥"), ("Symbol", "00B1", "±"), ("Symbol", "F057", "Ω")),
        *(("Symbol", "F0AE", "→"), ("Symbol", "F0DE", "⇒"), ("Symbol", "F0E5", "∑"), ("Symbol", "F07A", "ζ")),
        *(("Wingdings", "F0FC", "✓"), ("Wingdings", "F001", "\ufffd"), ("Other", "F041", "\ufffd")),
        *(("Arial", "00B5", "µ"), ("Arial", "zz", "\ufffd"), ("Arial", "D800", "\ufffd")),
    ],
)
def test_symbols_are_characters(font: str, place: str, shown: str) -> None:
    symbol = f'<w:r><w:sym w:font="{font}" w:char="{place}"/></w:r>'
    assert read(docx(paragraph("10 ", symbol, "m"))).text == f"10 {shown}m\n"


def in_list(text: str, number_id: int, level: int = 0, properties: str = "") -> str:
    numbered = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number_id}"/></w:numPr>'
    return paragraph(text, properties=properties + numbered)


def list_rules(list_id: int, *levels: str) -> str:
    rules = "".join(f'<w:lvl w:ilvl="{i}">{level}</w:lvl>' for i, level in enumerate(levels))
    return f'<w:abstractNum w:abstractNumId="{list_id}">{rules}</w:abstractNum>'


def level(kind: str, text: str, start: int = 1, style: str = "") -> str:
    of_style = f'<w:pStyle w:val="{style}"/>' if style else ""
    values = f'<w:numFmt w:val="{kind}"/>{of_style}<w:lvlText w:val="{text}"/>'
    return f'<w:start w:val="{start}"/>{values}'


def test_numbers_of_paragraphs_are_those_that_word_shows() -> None:
    numbering = part(
        "numbering",
        list_rules(7, level("decimal", "%1."), level("decimal", "%1.%2"), level("lowerLetter", "(%3)"))
        + list_rules(8, level("upperRoman", "Article %1", start=4), level("bullet", "o"))
        + list_rules(9, level("decimalZero", "%1", start=9), level("none", ""))
        + '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
        '<w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="9"/></w:num>'
        '<w:num w:numId="4"><w:abstractNumId w:val="7"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="1"/></w:lvlOverride></w:num>',
    )
    items = [
        *((1, 0, "1."), (1, 1, "1.1"), (1, 1, "1.2"), (1, 2, "(a)"), (1, 2, "(b)"), (1, 0, "2.")),
        *((1, 1, "2.1"), (1, 2, "(a)"), (2, 0, "Article IV"), (2, 1, "-"), (2, 0, "Article V")),
        *((3, 0, "09"), (3, 0, "10"), (3, 1, ""), (1, 0, "3."), (4, 0, "1."), (4, 1, "1.1"), (4, 0, "2.")),
        *((5, 0, "-"), (0, 0, "")),
    ]
    body = "".join(in_list(f"text {i}", which, at) for i, (which, at, _) in enumerate(items))
    lines = [line for line in read(docx(body, {"word/numbering.xml": numbering})).text.split("\n") if line]
    assert lines == [f"{label} text {i}".strip() for i, (_, _, label) in enumerate(items)]


def test_numbers_are_no_flood() -> None:
    levels = [level("lowerLetter", "%1" * 10_000, start=99_999), level("upperRoman", "%2", start=99_999)]
    numbering = part(
        "numbering", list_rules(0, *levels) + '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
    )
    text = read(docx(in_list("one", 1) + in_list("two", 1, 1), {"word/numbering.xml": numbering})).text
    assert len(text) < 1000
    assert text.endswith("99999 two\n")


def test_headings_have_their_numbers_by_their_styles() -> None:
    numbering = part(
        "numbering",
        list_rules(0, level("decimal", "%1", style="One"), level("decimal", "%1.%2", style="Two"))
        + '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>',
    )
    styles = part(
        "styles",
        "".join(
            f'<w:style w:styleId="{name}"><w:name w:val="heading {i}"/><w:pPr><w:numPr><w:numId w:val="1"/>'
            "</w:numPr></w:pPr></w:style>"
            for i, name in ((1, "One"), (2, "Two"))
        )
        + '<w:style w:styleId="Sub"><w:name w:val="Sub"/><w:basedOn w:val="Two"/></w:style>',
    )
    body = "".join(
        paragraph(text, properties=f'<w:pStyle w:val="{style}"/>')
        for style, text in (("One", "Scope"), ("Two", "Here"), ("One", ""), ("One", "Terms"), ("Sub", "Rope"))
    )
    document = read(docx(body, {"word/numbering.xml": numbering, "word/styles.xml": styles}))
    assert document.text == "# 1 Scope\n\n## 1.1 Here\n\n# 3 Terms\n\n## 3.1 Rope\n"
    assert document.place(document.text.index("Rope")).section == "3.1 Rope"


def test_tables_in_tables_are_cells() -> None:
    def table(*cells: str) -> str:
        return "<w:tbl><w:tr>" + "".join(f"<w:tc>{cell}</w:tc>" for cell in cells) + "</w:tr></w:tbl>"

    inner = table(paragraph("b"), paragraph("c"))
    deleted = f"<w:tbl><w:tr><w:trPr><w:del/></w:trPr><w:tc>{paragraph('gone')}</w:tc></w:tr></w:tbl>"
    body = table(paragraph("a") + paragraph("a2"), inner + paragraph(), paragraph("d")) + deleted
    assert read(docx(body)).text == "a a2 | b | c | d\n"


def test_the_strict_kind_of_file_is_read_too() -> None:
    assert read(docx(paragraph("Strictly."), namespace=STRICT_W)).text == "Strictly.\n"


def test_it_is_told_by_its_content() -> None:
    assert is_docx(written())
    assert not is_docx(zipped({"xl/workbook.xml": "<x/>"}))
    assert not is_docx(b"PK\x03\x04 and nothing else")
    assert format_of(Source("no ending", written())).read is read_docx


@pytest.mark.parametrize("name", ["old.doc", "locked.docx"])
def test_old_and_encrypted_files_are_refused_with_the_remedy(name: str) -> None:
    inside = b"" if name == "old.doc" else "EncryptedPackage".encode("utf-16-le")
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504 + inside
    with pytest.raises(BinaryFileError, match="save it"):
        format_of(Source(name, data))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (docx(""), "report.docx has no text; name a file with text in it."),
        (docx(paragraph(" ")), "report.docx has no text; name a file with text in it."),
        (docx("<w:p>"), "report.docx is damaged, or not a DOCX file; get it again."),
        (zipped({"a.txt": "text"}), "report.docx is damaged, or not a DOCX file; get it again."),
        (written()[:-500], "report.docx is damaged, or not a DOCX file; get it again."),
        (b"plain text", "report.docx is damaged, or not a DOCX file; get it again."),
    ],
    ids=["empty", "blank", "bad XML", "a ZIP file", "cut", "plain text"],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(data)
    assert str(caught.value) == sentence


def test_entities_neither_reach_outside_nor_multiply(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    laughs = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(12))
    outside = f'<!DOCTYPE d [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    assert read(docx(paragraph("It is &x; here."), doctype=outside)).text == "It is\n"
    with pytest.raises(DocumentError, match="damaged"):
        read(docx(paragraph("It is &l12; here."), doctype=f'<!DOCTYPE d [<!ENTITY l0 "ha">{laughs}]>'))


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    data = docx(" " * (64 << 20))
    assert len(data) < 100_000
    with pytest.raises(DocumentError, match=r"^report\.docx unpacks to over 1,000 times its size"):
        read(data)


def test_deep_nesting_is_a_text_or_a_sentence() -> None:
    for depth in (50, 5000):
        body = "<w:sdt><w:sdtContent>" * depth + paragraph("Deep.") + "</w:sdtContent></w:sdt>" * depth
        try:
            assert read(docx(body)).text == "Deep.\n"
        except DocumentError as error:
            assert depth == 5000
            assert "damaged" in str(error)


def test_any_damage_is_a_sentence_or_a_text() -> None:
    whole = docx(paragraph("One.") + paragraph("Two."))
    outcomes = set()
    for at in range(0, len(whole), 5):
        try:
            read(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            outcomes.add("read")
        except DocumentError as error:
            assert "report.docx" in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
