"""What a person names: oddities of files, several at once, standard input, what is refused, how far it is."""

from __future__ import annotations

import gzip
import io
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.documents import Document, DocumentError, Place, read_documents
from ropewalk.documents import files as files_module
from ropewalk.documents.document import Piece, joined

TEXT = b"The first line.\nThe second line.\n"


def read(*sources: Path | str, stdin: bytes | None = None) -> Document:
    given = None if stdin is None else io.BytesIO(stdin)
    return read_documents([str(source) for source in sources], stdin=given)


def refusal(*sources: Path | str, stdin: bytes | None = None) -> str:
    with pytest.raises(DocumentError) as caught:
        read(*sources, stdin=stdin)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.one_of(st.none(), st.integers(1, 9)),
            st.integers(1, 50),
            st.text(st.sampled_from("xy\n"), max_size=12),
        ),
        max_size=12,
    )
)
def test_every_character_knows_its_place(described: list[tuple[str, int | None, int, str]]) -> None:
    document = joined("d", ((file, False, Piece(text, page, line)) for file, page, line, text in described))
    expected = [
        Place(file, page, line + text[:i].count("\n"))
        for file, page, line, text in described
        for i in range(len(text))
    ]
    assert [document.place(i) for i in range(len(document.text))] == expected
    assert document.text == "".join(text for *_, text in described)


def test_a_place_outside_of_the_text_is_an_error() -> None:
    document = Document.of_text("a", "abc")
    assert document.place(3) == Place("a", None, 1)
    for offset in (-1, 4):
        with pytest.raises(IndexError):
            document.place(offset)


def test_one_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_bytes(b"# Title\r\n\r\ntext & <b>more</b>\rend")
    document = read(path)
    assert (document.name, document.text) == (str(path), "# Title\n\ntext & <b>more</b>\nend")
    assert document.place(document.text.index("end")) == Place(str(path), None, 4)
    assert document.notices == ()


@pytest.mark.parametrize(
    "ending", [".rst", ".tex", ".csv", ".json", ".jsonl", ".srt", ".log", ".xml", ".ipynb", ".py", ""]
)
def test_all_sorts_of_text_are_read_as_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"file{ending}"
    path.write_text('{"a": "<b>&amp;</b>"}\n\x1b[1mbold\x1b[0m\n')
    assert read(path).text == '{"a": "<b>&amp;</b>"}\n\x1b[1mbold\x1b[0m\n'


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"word " * 2_000_000)
    document = read(path)
    assert len(document.text) == 10_000_000
    assert document.place(9_999_999).line == 1


def test_several_files_are_joined_under_their_names(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_bytes(TEXT)
    second.write_bytes(b"no newline at its end")
    document = read(second, first, "-", stdin=b"from a pipe\n")
    assert document.text == (
        f"==> {second} <==\nno newline at its end\n\n"
        f"==> {first} <==\nThe first line.\nThe second line.\n\n"
        "==> standard input <==\nfrom a pipe\n"
    )
    assert document.place(document.text.index("second line")) == Place(str(first), None, 2)
    assert document.place(document.text.index("a pipe")) == Place("standard input", None, 1)
    assert document.place(document.text.index(f"==> {first}") + 4) == Place(str(first), None, 1)
    assert document.name == f"{second} and 2 more"


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    path.write_bytes(TEXT)
    link.symlink_to(path)
    document = read(path, link, tmp_path / "." / "a.txt")
    assert document.text == TEXT.decode()
    assert len(document.notices) == 2 and "link.txt is named twice" in document.notices[0]


def test_standard_input_is_told_by_its_content() -> None:
    assert (
        read("-", stdin="<!doctype html><p>shown</p><script>no</script>".encode("utf-16")).text == "shown\n"
    )
    assert read("-", stdin=b"plain").name == "standard input"
    assert "named twice" in refusal("-", "-", stdin=b"x")
    assert "standard input is empty" in refusal("-", stdin=b" \n")
    assert "closed" in refusal("-")
    assert "unpack it" in refusal("-", stdin=gzip.compress(TEXT))


def test_a_terminal_is_not_waited_for() -> None:
    if sys.platform == "win32":
        pytest.skip("no pseudo-terminals")
    master, slave = os.openpty()
    try:
        with (
            os.fdopen(slave, "rb") as terminal,
            pytest.raises(DocumentError, match="is a terminal; pipe a text"),
        ):
            read_documents(["-"], stdin=terminal)
    finally:
        os.close(master)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT)
    assert "no such file" in refusal(tmp_path / "missing.txt")
    assert "cannot be read" in refusal(path / "below.txt")
    assert "empty; name" in refusal("")
    assert "cannot be read" in refusal("a\0b")
    assert "nothing to read" in refusal()
    (tmp_path / "broken").symlink_to(tmp_path / "missing.txt")
    assert "no such file" in refusal(tmp_path / "broken")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "loop cannot be read" in refusal(tmp_path / "loop")


def test_one_bad_file_among_several_is_a_refusal(tmp_path: Path) -> None:
    good, empty = tmp_path / "good.txt", tmp_path / "empty.txt"
    good.write_bytes(TEXT)
    empty.write_bytes(b"")
    assert "empty.txt is empty" in refusal(good, empty)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_devices_and_sockets_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or a device" in refusal(tmp_path / "pipe")
    assert "is a pipe or a device" in refusal(os.devnull)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        assert "is a pipe or a device" in refusal(tmp_path / "socket")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentError, match="is a pipe or a device"):
        files_module.read_file(tmp_path / "pipe", lambda: None)


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_bytes(TEXT)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "check its permissions" in refusal(path)


def test_names_that_cannot_be_printed(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/od\xffd\nname.txt"
    try:
        Path(os.fsdecode(path)).write_bytes(TEXT)
    except OSError:
        pytest.skip("this file system takes no such names")
    document = read(os.fsdecode(path), "-", stdin=b"x")
    assert document.text.startswith(f"==> {tmp_path}/od\ufffdd\ufffdname.txt <==\nThe first line.")
    document.text.encode("utf-8")


class Writer:
    """Something that writes to a file whenever a block of it is read."""

    def __init__(self, write: Callable[[int], None], times: int = 99) -> None:
        self.write, self.times, self.calls = write, times, 0

    def __call__(self) -> None:
        if self.calls < self.times:
            self.write(self.calls)
        self.calls += 1


def stamped(path: Path, data: bytes, second: int) -> None:
    path.write_bytes(data)
    os.utime(path, (second, second))


def test_a_file_that_was_just_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "draft.txt"
    stamped(path, b"old text\n", 1000)
    writer = Writer(lambda _call: stamped(path, b"new text\n", 2000), times=1)
    assert files_module.read_file(path, writer) == (b"new text\n", None)


def test_a_log_that_grows_is_read_with_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "service.log"
    stamped(path, b"one\n", 1000)

    def grow(call: int) -> None:
        if call % 2 == 0:  # so that each reading comes to an end
            stamped(path, path.read_bytes() + b"two\n", 2000 + call)

    data, notice = files_module.read_file(path, Writer(grow))
    assert data == b"one\ntwo\ntwo\ntwo\n" and notice is not None
    assert "service.log is being written to" in notice


def test_a_file_that_keeps_changing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    stamped(path, b"0", 1000)
    with pytest.raises(DocumentError, match=r"state\.json keeps changing"):
        files_module.read_file(path, Writer(lambda call: stamped(path, b"%d" % (call + 1), 2000 + call)))


def test_a_file_that_vanishes_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    stamped(path, TEXT, 1000)

    def vanish() -> None:
        if path.exists():
            stamped(path, TEXT * 2, 2000)
            path.unlink()

    with pytest.raises(DocumentError, match=r"gone\.txt: no such file"):
        files_module.read_file(path, vanish)


def test_what_no_model_takes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(3 * 10**9)
    assert "huge.txt is 3.0 GB" in refusal(path)


def test_several_that_are_too_large_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ropewalk.documents.reading.MAX_BYTES", 50)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes(TEXT)
    assert "All of it together is 66 bytes" in refusal(tmp_path / "a.txt", tmp_path / "b.txt")
    assert "All of it together is 66 bytes" in refusal(tmp_path)


def test_standard_input_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MAX_BYTES", 5 << 20)
    reading, writing = os.pipe()

    def flood() -> None:
        try:
            while True:
                os.write(writing, b"yes\n" * 10_000)
        except OSError:
            os.close(writing)

    thread = threading.Thread(target=flood)
    thread.start()
    with os.fdopen(reading, "rb") as stdin, pytest.raises(DocumentError, match="Standard input is"):
        read_documents(["-"], stdin=stdin)
    thread.join()


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    sizes = {"a.txt": 3_000_000, "b.html": 200_000, "c.txt": 10}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"some line\n" * (size // 10))
    told: list[tuple[int, int]] = []
    read_documents([str(tmp_path / name) for name in sizes], on_progress=lambda *now: told.append(now))
    assert told[-1] == (3_200_010, 3_200_010)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 6


def open_files() -> set[str]:
    """Which files this process has open, where that can be told."""
    folder = Path("/proc/self/fd")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


@pytest.mark.parametrize("call", range(6))
def test_an_error_of_whoever_is_told_ends_it(tmp_path: Path, call: int) -> None:
    (tmp_path / "a.txt").write_bytes(b"some line\n" * 300_000)
    (tmp_path / "b.html").write_bytes(b"<p>some line\n" * 30_000)
    calls = 0

    def told(_done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > call:
            raise KeyboardInterrupt

    before = open_files()
    with pytest.raises(KeyboardInterrupt):
        read_documents([str(tmp_path)], on_progress=told)
    assert open_files() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.html"]
