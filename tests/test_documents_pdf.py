"""PDFs: what is read of them, page by page, and what is said of those that cannot be read."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pypdf
import pytest

import pdf_files
from pdf_files import FF, FI, FL, PdfPage, encrypted, page, pdf, with_form_field
from ropewalk.documents import find_quotations, parse_selection, read_documents
from ropewalk.documents.document import Document, DocumentError, Source, joined
from ropewalk.documents.pdf import is_pdf, read_pdf
from ropewalk.documents.pdf_text import clean_pages


def read(data: bytes, name: str = "book.pdf") -> Document:
    reading = read_pdf(Source(name, data), lambda _done, _total: None)
    return joined(name, ((name, False, piece) for piece in reading.pieces), reading.notices)


def test_each_page_keeps_its_number_and_its_lines() -> None:
    document = read(pdf([page(["First page.", "It has two lines."]), page(["Second page."])]))
    assert document.text == "First page.\nIt has two lines.\nSecond page.\n"
    assert [(part.page, part.first_line) for part in document.parts] == [(1, 1), (2, 1)]
    place = document.place(document.text.index("two lines"))
    assert (place.page, place.line) == (1, 2)
    assert document.place(document.text.index("Second")).page == 2
    assert document.notices == ()


def test_a_pdf_is_told_by_how_it_begins() -> None:
    data = pdf([page(["Text."])])
    assert is_pdf(data)
    assert is_pdf(b"\xef\xbb\xbf\r\n" + data)
    assert not is_pdf(b"A text about files that begin with %PDF-1.7, which this one does not.")
    assert not is_pdf(b"")


def test_a_file_is_read_by_its_path_as_its_bytes_are(tmp_path: Path) -> None:
    data = pdf([page(["By its path."])])
    path = tmp_path / "a name ü.pdf"
    path.write_bytes(data)
    reading = read_pdf(Source("a", b"", path), lambda _done, _total: None)
    assert reading.pieces[0].text == "By its path.\n" == read(data).text


def test_a_pdf_longer_than_any_text_is_read_where_it_lies(tmp_path: Path) -> None:
    gap = 1_100_000_000  # a hole behind the first line, which takes no space on the disk
    data = pdf([page(["A picture book."])])
    data = re.sub(rb"\d{10}(?= 00000 n)", lambda offset: b"%010d" % (int(offset[0]) + gap), data)
    data = re.sub(rb"(?<=startxref\n)\d+", lambda offset: b"%d" % (int(offset[0]) + gap), data)
    path = tmp_path / "pictures.pdf"
    with path.open("wb") as file:
        file.write(data[:9])
        file.seek(9 + gap)
        file.write(data[9:])
    tracemalloc.start()
    try:
        assert read_documents([str(path)]).text == "A picture book.\n"
        assert "A picture book." in read_documents([str(tmp_path)]).text
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="names are not of any bytes elsewhere")
def test_a_name_that_is_no_utf8_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.pdf")
    path.write_bytes(pdf([page(["Au lait."])]))
    assert read_documents([str(path)]).text == "Au lait.\n"


def test_the_words_are_those_that_pypdf_finds() -> None:
    lines = [f"Line {i}: the rope is {i * 7} fathoms long (more or less)." for i in range(50)]
    data = pdf([page(lines[i : i + 10]) for i in range(0, 50, 10)])
    theirs = " ".join(their.extract_text() for their in pypdf.PdfReader(io.BytesIO(data)).pages).split()
    assert read(data).text.split() == theirs
    assert theirs == " ".join(lines).split()


def test_typography_is_kept_and_ligatures_are_letters() -> None:
    document = read(pdf([page([f"“The {FI}sh’s {FL}ag” – o{FF}ered, née\xa0Müller; 5\xa0€…"])]))
    assert document.text == "“The fish’s flag” – offered, née Müller; 5 €…\n"


def test_a_word_cut_by_a_line_end_is_whole_again() -> None:
    lines = ["A person who reads a long docu-", "ment wants the words in it to be", "whole."]
    assert "a long document wants" in read(pdf([page(lines)])).text


@pytest.mark.parametrize(
    ("cut", "elsewhere", "whole"),
    [
        ("exam\x02ple", "", "example"),
        ("Kullback\x02Leibler", "", "Kullback-Leibler"),
        ("1990\x021995", "", "1990-1995"),
        ("OPTI\x02MAL", "", "OPTIMAL"),
        ("well\x02known", "", "wellknown"),
        ("well\x02known", "It is Well-known.", "well-known"),
        ("well\x02known", "It is known as well.", "well-known"),
        ("well\x02known", "It is known as well. It is wellknown.", "wellknown"),
        ("some\x02thing", "some thin", "something"),
        ("co\x02operate", "co-operate or cooperate", "cooperate"),
        ("x\x02", "", "x-"),
        ("\x02", "", "-"),
    ],
)
def test_a_hyphen_at_a_line_end_stays_where_it_would_be_without(cut: str, elsewhere: str, whole: str) -> None:
    assert clean_pages([f"see {cut} here", elsewhere]) == (f"see {whole} here", elsewhere)


def test_cleaning_takes_time_in_proportion_to_the_text() -> None:
    for page_text in ("a" * 1_000_000 + "\x02" + "b" * 1_000_000, "\x02" * 500_000, " " * 1_000_000 + "x"):
        assert len(clean_pages([page_text])[0]) >= 500_000


def test_a_page_may_be_turned_and_its_box_may_lie_elsewhere() -> None:
    turned = page(["Turned."], extra=b"/Rotate 90")
    moved = page(["Moved."], x=-400, top=-300, extra=b"/MediaBox [-612 -792 0 0]")
    assert read(pdf([turned, moved])).text == "Turned.\nMoved.\n"


def test_forms_are_read_as_they_are_filled_in() -> None:
    document = read(with_form_field(pdf([page(["Name:"]), page(["Second page."])]), "Ishmael (a sailor)"))
    assert document.text == "Name:\nIshmael (a sailor)\nSecond page.\n"


def test_a_stated_part_is_read_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "book.pdf"
    path.write_bytes(pdf([page([f"This is page {i}."]) for i in range(1, 5)]))
    document = read_documents([str(path)], selection=parse_selection("2-3", "pages"))
    assert document.text == "This is page 2.\nThis is page 3.\n"
    assert document.place(document.text.index("3")).page == 3
    (quotation,) = find_quotations('It says "this is page 3".', document)
    assert quotation.place is not None
    assert (quotation.place.page, quotation.place.line) == (3, 1)


def test_pages_of_pictures_are_named_and_blank_ones_are_not() -> None:
    picture, blank = PdfPage(pdf_files.A_PICTURE), PdfPage(b"")
    document = read(pdf([page(["One."]), picture, blank, picture, picture, page(["Six."])]))
    assert [part.page for part in document.parts] == [1, 6]
    (notice,) = document.notices
    assert "book.pdf: 3 of 6 pages have no text" in notice
    assert "(pages 2, 4-5)" in notice
    assert "ocrmypdf" in notice


def test_fonts_that_do_not_say_which_letters_they_show_are_told() -> None:
    document = read(pdf([page(["Good."]), page(["\x10\x11\x12 \x13\x14"])]))
    assert document.text == "Good.\n\ufffd\ufffd\ufffd \ufffd\ufffd\n"
    (notice,) = document.notices
    assert "1 of 2 pages do not say which letters they show (page 2)" in notice
    assert "ocrmypdf --force-ocr" in notice
    assert clean_pages(["one \x01 bullet in a long line"]) == ("one \ufffd bullet in a long line",)


def test_a_scanned_book_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        DocumentError, match=r"^book\.pdf has 2 pages but no text.*ocrmypdf book\.pdf"
    ) as caught:
        read(pdf([PdfPage(pdf_files.A_PICTURE)] * 2))
    assert "\n" not in str(caught.value)


def test_blank_pages_alone_are_refused() -> None:
    with pytest.raises(DocumentError, match=r"^book\.pdf has 1 page, all of them blank"):
        read(pdf([PdfPage(b"")]))


def test_a_pdf_without_pages_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"^book\.pdf is a PDF without pages"):
        read(pdf([]))


def test_a_password_is_asked_for_with_the_remedy() -> None:
    data = encrypted(pdf([page(["Secret."])]), "open sesame")
    with pytest.raises(DocumentError, match=r"^book\.pdf is encrypted.*qpdf"):
        read(data)


def test_an_encrypted_pdf_that_opens_without_a_password_is_read() -> None:
    data = encrypted(pdf([page(["Anyone may read this."])]), "")
    assert b"Anyone" not in data
    assert read(data).text == "Anyone may read this.\n"


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7\n", b"%PDF-1.7\n" + b"\xff" * 5000, b"%PDF-1.7\n" + b"<<" * 5000]
)
def test_what_only_begins_as_a_pdf_is_refused(data: bytes) -> None:
    assert is_pdf(data)
    with pytest.raises(DocumentError, match=r"^book\.pdf is (damaged|a PDF without pages)"):
        read(data)


def test_a_damaged_pdf_is_read_as_far_as_it_goes_or_refused() -> None:
    whole = pdf([page([f"This is page {i}."]) for i in range(1, 6)])
    read_some = refused = 0
    for cut in range(len(whole) // 5, len(whole), len(whole) // 5):
        for data in (whole[:cut], whole[:cut] + b"\0" * 40 + whole[cut + 40 :]):
            try:
                document = read(data)
            except DocumentError as error:
                assert "book.pdf" in str(error)
                refused += 1
            else:
                assert set(document.text.split()) <= {"This", "is", "page", "1.", "2.", "3.", "4.", "5."}
                read_some += 1
    assert read_some
    assert refused


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        read_pdf(Source("gone.pdf", b"", tmp_path / "gone.pdf"), lambda _done, _total: None)


def test_progress_counts_pages_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    data = pdf([page([f"Page {i}."]) for i in range(1, 8)])
    read_pdf(Source("book.pdf", data), lambda done, total: told.append((done, total)))
    assert told[-1] == (7, 7)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# A PDFium of the test's own, which the reading process takes for the real one.
_STAND_IN = """
import os, pathlib, signal, time
pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
class raw:
    def FPDFPage_GetAnnotCount(page): return 0
class PdfiumError(Exception):
    err_code = None
class PdfDocument:
    def __init__(self, source): pass
    def __len__(self): return 3
    def __getitem__(self, number):
        if number == 1:
            {what_happens}
        return self
    def get_textpage(self): return self
    def get_text_bounded(self, errors): return "text"
    def get_objects(self, max_depth): return ()
    def close(self): pass
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def ended(pid_file: Path) -> bool:
    """Whether the process whose id is in the file is gone, or waits for nothing but to be reaped."""
    pid = int(pid_file.read_text())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_crash_of_pdfium_is_a_sentence(stand_in: Path) -> None:
    (stand_in / "pypdfium2.py").write_text(
        _STAND_IN.format(what_happens="os.kill(os.getpid(), signal.SIGSEGV)")
    )
    with pytest.raises(DocumentError, match=r"^page 2 of book\.pdf is damaged so that reading it fails"):
        read(b"%PDF-")
    assert ended(stand_in / "pid")


def test_a_hang_of_pdfium_ends(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stand_in / "pypdfium2.py").write_text(_STAND_IN.format(what_happens="time.sleep(1000)"))
    monkeypatch.setattr("ropewalk.documents.pdf.PATIENCE_SECONDS", 2.0)
    with pytest.raises(DocumentError, match=r"^page 2 of book\.pdf takes for ever"):
        read(b"%PDF-")
    assert ended(stand_in / "pid")


def test_reading_can_be_ended_within_a_page(stand_in: Path) -> None:
    (stand_in / "pypdfium2.py").write_text(_STAND_IN.format(what_happens="time.sleep(1000)"))
    beats = 0

    def cancel(done: int, _total: int) -> None:
        nonlocal beats
        beats += done == 1
        if beats == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_pdf(Source("book.pdf", b"%PDF-"), cancel)
    assert ended(stand_in / "pid")


def test_the_reading_process_ends_with_its_owner(stand_in: Path) -> None:
    (stand_in / "pypdfium2.py").write_text(_STAND_IN.format(what_happens="time.sleep(1000)"))
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from ropewalk.documents.document import Source\nfrom ropewalk.documents.pdf import read_pdf\n"
            "read_pdf(Source('book.pdf', b'%PDF-'), lambda done, total: print(done, flush=True))",
        ],
        stdout=subprocess.PIPE,
    )
    assert owner.stdout is not None
    assert b"1\n" in iter(owner.stdout.readline, b"")  # it is within the second page
    owner.kill()
    owner.communicate()
    for _ in range(600):
        if ended(stand_in / "pid"):
            break
        time.sleep(0.05)
    assert ended(stand_in / "pid")
