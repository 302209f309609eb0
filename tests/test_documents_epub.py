"""EPUBs: the text of each chapter in reading order, and what is said of those that cannot be read."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from epub_files import chapter, epub, zipped
from ropewalk.documents import zip_limits
from ropewalk.documents.document import Document, DocumentError, Source, joined
from ropewalk.documents.epub import is_epub, read_epub


def read(data: bytes, name: str = "book.epub") -> Document:
    reading = read_epub(Source(name, data), lambda _done, _total: None)
    return joined(name, ((name, False, piece) for piece in reading.pieces), reading.notices)


ONE = chapter("<h1>Loomings</h1><p>Call me <i>Ishmael</i>. Some years&nbsp;ago &mdash; never mind.</p>")
TWO = chapter("<h1>The Carpet-Bag</h1><p>I stuffed a shirt or two\ninto my old carpet-bag.</p>")


def test_chapters_come_in_the_order_of_the_spine_with_their_titles() -> None:
    document = read(epub({"b.xhtml": TWO, "a.xhtml": ONE}, spine=["a.xhtml", "b.xhtml"]))
    assert document.text == (
        "# Loomings\n\nCall me Ishmael. Some years ago — never mind.\n\n"
        "# The Carpet-Bag\n\nI stuffed a shirt or two into my old carpet-bag.\n\n"
    )
    place = document.place(document.text.index("carpet-bag."))
    assert (place.page, place.line, place.section) == (None, 7, "The Carpet-Bag")
    assert document.place(document.text.index("Ishmael")).section == "Loomings"
    assert document.notices == ()


@pytest.mark.parametrize("ncx", [False, True])
def test_the_table_of_contents_says_what_chapters_are_called(ncx: bool) -> None:
    titles = {"a.xhtml": "1. Loomings", "c.xhtml#top": "3. The Spouter-Inn"}
    last = chapter("<p>Entering that gable-ended inn.</p>")
    document = read(epub({"a.xhtml": ONE, "b.xhtml": TWO, "c.xhtml": last}, titles=titles, ncx=ncx))
    assert [part.section for part in document.parts] == ["1. Loomings", "1. Loomings", "3. The Spouter-Inn"]
    assert [part.first_line for part in document.parts] == [1, 5, 9]


def test_a_file_is_read_by_its_path_as_its_bytes_are(tmp_path: Path) -> None:
    data = epub({"a.xhtml": ONE})
    (tmp_path / "a.epub").write_bytes(data)
    reading = read_epub(Source("a.epub", b"", tmp_path / "a.epub"), lambda _done, _total: None)
    assert "".join(piece.text for piece in reading.pieces) == read(data).text


def test_names_in_the_book_may_be_escaped() -> None:
    data = epub({}, spine=["the%20first.xhtml"], extra={"OEBPS/the first.xhtml": ONE})
    assert "Ishmael" in read(data).text


def test_a_chapter_that_is_no_xml_is_read_as_html() -> None:
    assert read(epub({"a.xhtml": "<html><body><p>One<br>two<p>three &amp; four</html>"})).text == (
        "One\ntwo\n\nthree & four\n\n"
    )


def test_empty_elements_of_xml_do_not_swallow_what_follows() -> None:
    body = '<a id="x"/><p>Before.</p><script src="x"/><div/><p>After.</p>'
    assert read(epub({"a.xhtml": chapter(body).replace("<title>The book</title>", "<title/>")})).text == (
        "Before.\n\nAfter.\n\n"
    )


def test_it_is_told_by_its_content() -> None:
    assert is_epub(epub({"a.xhtml": ONE}))
    assert is_epub(epub({"a.xhtml": ONE}, mimetype=False))
    assert not is_epub(zipped({"a.txt": "text"}))
    assert not is_epub(b"PK\x03\x04 and nothing else")
    assert not is_epub(b"")


def test_progress_counts_chapters_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    data = epub({"a.xhtml": ONE, "b.xhtml": TWO})
    read_epub(Source("b", data), lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (1, 2), (2, 2)]


def test_chapters_that_are_missing_are_counted() -> None:
    document = read(epub({"a.xhtml": ONE}, spine=["a.xhtml", "lost.xhtml", "../../../etc/passwd"]))
    assert document.text.startswith("# Loomings")
    assert document.notices == ("book.epub: 2 of its 3 chapters are not in the file.",)
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="unlisted"/></spine></package>'
    )
    document = read(epub({"a.xhtml": ONE}, extra={"OEBPS/book.opf": package}))
    assert document.notices == ("book.epub: 1 of its 2 chapters are not in the file.",)


def test_entities_do_not_reach_outside_of_the_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    doctype = f'<!DOCTYPE html [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    document = read(epub({"a.xhtml": chapter("<p>It is &x; here.</p>", doctype=doctype), "b.xhtml": TWO}))
    assert "secret" not in document.text
    assert "carpet-bag" in document.text
    package = f'<!DOCTYPE package [<!ENTITY x SYSTEM "{secret.as_uri()}">]><package>&x;</package>'
    with pytest.raises(DocumentError, match="without chapters"):
        read(epub({"a.xhtml": ONE}, extra={"OEBPS/book.opf": package}))


def test_entities_that_multiply_do_not() -> None:
    laughs = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(12))
    doctype = f'<!DOCTYPE html [<!ENTITY l0 "ha">{laughs}]>'
    body = '<p title="&l12;">Laugh: &l12;</p>'
    document = read(epub({"a.xhtml": chapter(body, doctype=doctype), "b.xhtml": TWO}))
    assert "carpet-bag" in document.text
    assert len(document.text) < 10_000


@pytest.mark.parametrize(
    ("algorithm", "uri", "refused"),
    [
        ("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OEBPS/a.xhtml", True),
        ("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "OEBPS/font.otf", False),
        ("http://www.idpf.org/2008/embedding", "OEBPS/font.otf", False),
        ("http://ns.adobe.com/pdf/enc#RC", "OEBPS/font.otf", False),
    ],
)
def test_protected_books_are_refused_and_obfuscated_fonts_are_not(
    algorithm: str, uri: str, refused: bool
) -> None:
    encryption = (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
        'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
        f'<enc:EncryptionMethod Algorithm="{algorithm}"/><enc:CipherData><enc:CipherReference URI="{uri}"/>'
        "</enc:CipherData></enc:EncryptedData></encryption>"
    )
    data = epub({"a.xhtml": ONE}, extra={"META-INF/encryption.xml": encryption})
    if refused:
        with pytest.raises(DocumentError, match=r"^book\.epub is copy-protected \(DRM\)"):
            read(data)
    else:
        assert "Ishmael" in read(data).text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (epub({}), "book.epub is an EPUB without chapters; get it again."),
        (epub({"a.xhtml": chapter("<img src='x.png'/>")}), "book.epub has 1 chapter but no text in them"),
        (epub({"a.xhtml": ""}), "book.epub has 1 chapter but no text in them"),
        (epub({}, spine=["a.xhtml", "b.xhtml"]), "book.epub lacks its 2 chapters; get it again."),
        (zipped({"a.txt": "text"}), "book.epub is damaged, or not an EPUB; get it again."),
        (epub({"a.xhtml": ONE}, extra={"OEBPS/book.opf": b"\0\1\2"}), "book.epub is damaged, or not an EPUB"),
        (epub({"a.xhtml": ONE})[:-200], "book.epub is damaged, or not an EPUB; get it again."),
        (b"", "book.epub is damaged, or not an EPUB; get it again."),
    ],
    ids=[
        "no chapters",
        "pictures",
        "empty chapter",
        "lost chapters",
        "a ZIP file",
        "no package",
        "cut",
        "empty",
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(data)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_any_damage_is_a_sentence_or_a_text() -> None:
    whole = epub({"a.xhtml": ONE, "b.xhtml": TWO}, titles={"a.xhtml": "One"})
    outcomes = set()
    for at in range(0, len(whole), 7):
        try:
            read(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            outcomes.add("read")
        except DocumentError as error:
            assert "book.epub" in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    data = epub({"a.xhtml": b"<p>" + b"\0" * (64 << 20)})
    assert len(data) < 100_000
    with pytest.raises(DocumentError, match=r"^book\.epub unpacks to over 1,000 times its size"):
        read(data)


def test_more_text_than_any_book_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = random.Random(1).randbytes(300_000).hex()
    chapters = {f"{i}.xhtml": chapter(f"<p>{noise}</p>") for i in range(3)}
    monkeypatch.setattr(zip_limits, "MAX_ENTRY_BYTES", 400_000)
    with pytest.raises(DocumentError, match=r"^book\.epub unpacks to over 400\.0 kB"):
        read(epub(chapters))
    monkeypatch.setattr(zip_limits, "MAX_ENTRY_BYTES", 256 << 20)
    monkeypatch.setattr(zip_limits, "MAX_TOTAL_BYTES", 1_000_000)
    with pytest.raises(DocumentError, match=r"^book\.epub unpacks to over 1\.0 MB"):
        read(epub(chapters))


def test_a_size_that_an_entry_states_is_not_believed() -> None:
    data = bytearray(epub({"a.xhtml": b"<p>" + b"\0" * (64 << 20)}))
    for header, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = -1
        while (at := data.find(header, at + 1)) >= 0:
            data[at + offset : at + offset + 4] = (100).to_bytes(4, "little")
    with pytest.raises(DocumentError, match=r"^book\.epub (is damaged|unpacks to)"):
        read(bytes(data))


def test_an_archive_within_is_not_opened() -> None:
    inner = zipped({"a.xhtml": ONE})
    document = read(epub({"a.xhtml": TWO}, extra={"OEBPS/inner.zip": inner}))
    assert "Ishmael" not in document.text
