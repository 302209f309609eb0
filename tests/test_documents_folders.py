"""Folders: git itself says which files count, with its own program and, for dulwich, without."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.documents import Document, DocumentError, Place, ignore_rules, read_documents, source_tree
from ropewalk.documents.ignore_rules import files_that_count

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is what they compare with")
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def listed_by_git(folder: Path) -> set[str]:
    found = git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return set(found.split("\0")) - {""}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(document: Document, folder: Path) -> list[str]:
    files = [part.file for part in document.parts if part.header]
    return [file.removeprefix(f"{folder}/") for file in files]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


@pytest.fixture
def without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program can be found."""
    (tmp_path / "no-programs").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))


NAMES = st.sampled_from(["a", "b", "c.txt", "d.log", "build", ".env", "x y", "é"])
SIMPLE = st.sampled_from(
    ["a", "b", "*.txt", "*.log", "build/", "b*", "?", "/a", "/build", "a/b", "**/c.txt", ".env", "é"]
)
EXOTIC = st.sampled_from(
    ["**", "/**/", "a/**", "a/**/b", "[ab]", "[!a]", "[]a]", "*", "\\a", "x y ", "#a", "\\#a", "*/", "/*"]
)


def rules(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    line = st.tuples(st.sampled_from(["", "", "!"]), patterns).map("".join)
    return st.lists(line, max_size=4).map(lambda lines: "\n".join(["# a comment", *lines, ""]))


def trees(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    """Trees of files with `.gitignore` at any level."""
    path = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
    ignore = st.tuples(st.lists(NAMES, max_size=2), rules(patterns)).map(
        lambda drawn: ("/".join([*drawn[0], ".gitignore"]), drawn[1])
    )
    entry = st.one_of(path.map(lambda name: (name, "text\n")), ignore)
    return st.lists(entry, min_size=1, max_size=14).map(without_clashes)


def without_clashes(entries: list[tuple[str, str]]) -> dict[str, str]:
    """Leave out files where a folder is needed, and folders where a file is."""
    kept: dict[str, str] = {}
    folders: set[str] = set()
    for name, text in entries:
        above = {"/".join(name.split("/")[:depth]) for depth in range(1, name.count("/") + 1)}
        if name not in folders and not above & set(kept):
            kept[name] = text
            folders |= above
    return kept


def compare(files: dict[str, str], exclude: str, forced: bool, listing: Callable[[Path], list[str]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, files)
        git(folder, "init", "-q", "--template=")
        write(folder, {".git/info/exclude": exclude})
        if forced:
            git(folder, "add", "-f", sorted(files)[0])
        assert set(listing(folder)) == listed_by_git(folder)


@settings(max_examples=15, deadline=None)
@given(trees(st.one_of(SIMPLE, EXOTIC)), rules(SIMPLE), st.booleans())
def test_the_files_of_a_repository_are_those_that_git_lists(
    files: dict[str, str], exclude: str, forced: bool
) -> None:
    def listing(folder: Path) -> list[str]:
        if not listed_by_git(folder):
            return []
        document = read_documents([str(folder)])
        written = names(document, folder)
        assert written == sorted(written, key=lambda name: os.fsencode(name).split(b"/"))
        return written

    compare({name: text or "#\n" for name, text in files.items()}, exclude, forced, listing)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(trees(SIMPLE), rules(SIMPLE), st.booleans())
def test_without_git_ordinary_rules_are_read_as_git_reads_them(
    files: dict[str, str], exclude: str, forced: bool
) -> None:
    def listing(folder: Path) -> list[str]:
        return ignore_rules._by_dulwich(folder, lambda: None).files

    compare(files, exclude, forced, listing)


TREE = {
    "README.md": "# Read me\n",
    ".gitignore": "*.log\nbuild/\n!keep.log\n",
    ".hidden": "dotfiles count\n",
    "src/main.c": "int main(void) {\n  return 0;\n}\n",
    "src/.gitignore": "*.o\n!special.o\n",
    "src/main.o": "no\n",
    "src/special.o": "special\n",
    "src/page.html": "<p>as written</p>\n",
    "src/debug.log": "no\n",
    "src/keep.log": "keep\n",
    "build/out.txt": "out\n",
    "empty.txt": "",
}
COUNTED = [
    *(".gitignore", ".hidden", "README.md"),
    *("src/.gitignore", "src/keep.log", "src/main.c", "src/page.html", "src/special.o"),
]


def test_a_source_tree(repository: Path) -> None:
    write(repository, TREE)
    document = read_documents([str(repository)])
    assert names(document, repository) == COUNTED
    assert document.text.startswith(f"==> {repository}/.gitignore <==\n*.log\n")
    assert "<p>as written</p>" in document.text
    assert document.place(document.text.index("return 0")) == Place(f"{repository}/src/main.c", None, 2)
    assert document.notices == ()


@pytest.mark.usefixtures("without_git")
def test_a_source_tree_where_git_is_not_installed(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    write(folder, TREE)
    document = read_documents([str(folder)])
    assert names(document, folder) == COUNTED
    assert "\nas written\n" in document.text and "<p>" not in document.text, (
        "a page, as it lies in no repository"
    )


def test_a_folder_below_the_root_of_its_repository(repository: Path) -> None:
    write(repository, TREE)
    assert names(read_documents([str(repository / "src")]), repository / "src") == [
        ".gitignore", "keep.log", "main.c", "page.html", "special.o",
    ]  # fmt: skip


@pytest.mark.parametrize("with_git", [True, False])
def test_an_ignored_folder_that_is_named_is_read(
    repository: Path, with_git: bool, request: pytest.FixtureRequest
) -> None:
    write(repository, TREE)
    if not with_git:
        request.getfixturevalue("without_git")
    assert names(read_documents([str(repository / "build")]), repository / "build") == ["out.txt"]
    document = read_documents([str(repository / "src" / "debug.log")])
    assert document.text == "no\n"


def test_a_folder_named_from_within(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository, TREE)
    monkeypatch.chdir(repository)
    assert [part.file for part in read_documents(["."]).parts if part.header][2] == "README.md"
    assert read_documents(["."]).name == "repository"
    assert read_documents(["src/"]).parts[0].file == "src/.gitignore"


@pytest.mark.parametrize("with_git", [True, False])
def test_repositories_within_are_read_by_their_own_rules(
    repository: Path, with_git: bool, request: pytest.FixtureRequest
) -> None:
    write(
        repository,
        {"a.txt": "a\n", "inner/b.txt": "b\n", "inner/c.log": "c\n", "inner/.gitignore": "*.log\n"},
    )
    git(repository / "inner", "init", "-q")
    git(repository / "inner", "add", ".")
    git(repository / "inner", "commit", "-qm", "x")
    expected = ["a.txt", "inner/.gitignore", "inner/b.txt"]
    assert names(read_documents([str(repository)]), repository) == expected
    git(repository, "add", "inner")  # as a submodule
    if not with_git:
        request.getfixturevalue("without_git")
    assert names(read_documents([str(repository)]), repository) == expected


@pytest.mark.parametrize("with_git", [True, False])
def test_repositories_in_a_folder_that_is_none(
    tmp_path: Path, with_git: bool, request: pytest.FixtureRequest
) -> None:
    write(tmp_path, {"notes.txt": "Notes.\n"})
    for name in ("one", "group/two"):
        folder = tmp_path / "all" / name
        write(folder, {".gitignore": "*.log\n", "kept.log": "Yes.\n", "other.log": "No.\n", "secret": "x"})
        git(folder, "init", "-q")
        git(folder, "add", "-f", "kept.log")
        write(folder, {".git/info/exclude": "secret\n"})
    git(tmp_path, "clone", "-q", "--bare", "all/one", "all/one.git")
    if not with_git:
        request.getfixturevalue("without_git")
    expected = [f"all/{name}/{file}" for name in ("group/two", "one") for file in (".gitignore", "kept.log")]
    assert names(read_documents([str(tmp_path / "all")]), tmp_path) == expected


@pytest.mark.parametrize("name", ["bare.git", "repository/.git"])
def test_where_git_keeps_versions_is_no_source_tree(repository: Path, name: str) -> None:
    git(repository.parent, "clone", "-q", "--bare", "repository", "bare.git")
    folder = repository.parent / name
    with pytest.raises(DocumentError, match=r"git holds git's own files.*name a folder.*git clone"):
        read_documents([str(folder)])


def test_what_is_tracked_but_deleted_is_not_missed(repository: Path) -> None:
    write(repository, {"a.txt": "a\n", "b.txt": "b\n"})
    git(repository, "add", ".")
    (repository / "b.txt").unlink()
    assert names(read_documents([str(repository)]), repository) == ["a.txt"]


def test_a_repository_runs_no_program_of_its_own(repository: Path, tmp_path: Path) -> None:
    write(repository, {"a.txt": "a\n"})
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/was-run'\n")
    hook.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(hook))
    git(repository, "ls-files", "--others")
    assert (tmp_path / "was-run").exists(), "git runs it where it is not told not to"
    (tmp_path / "was-run").unlink()
    assert names(read_documents([str(repository)]), repository) == ["a.txt"]
    assert not (tmp_path / "was-run").exists()


def test_git_is_asked_about_the_folder_and_nothing_else(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, {"a.txt": "a\n"})
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert names(read_documents([str(repository)]), repository) == ["a.txt"]


def test_links_loops_pipes_and_binaries_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    write(folder, {"a.txt": "a\n", "sub/b.txt": "b\n", "sub/c.html": "<p>page</p>"})
    (folder / "link.txt").symlink_to("a.txt")
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "outside").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    png = b"\x89PNG\r\n\x1a\n\0"
    for name, data in (("x.png", png), ("y.png", png), ("z.bin", b"\0\1\2\3" * 99)):
        (folder / name).write_bytes(data)
    document = read_documents([str(folder)])
    assert names(document, folder) == ["a.txt", "sub/b.txt", "sub/c.html"]
    assert document.notices == (
        f"{folder}: 3 links are left out: links are not followed "
        f"({folder}/link.txt, {folder}/outside, {folder}/sub/loop).",
        f"{folder}: 1 pipe or device is left out: only files are read ({folder}/pipe).",
        f"{folder}: 3 files that are not text are left out (2 .png, 1 .bin).",
    )


def test_a_damaged_file_is_left_out_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    write(folder, {"a.txt": "a\n", "page.html": "<script>x</script>"})
    (folder / "latin.txt").write_bytes(
        "Zürich, 5 Äpfel, größer; schöne Grüße aus Köln an Jürgen".encode("latin-1")
    )
    document = read_documents([str(folder)])
    assert names(document, folder) == ["a.txt", "latin.txt"]
    assert [notice.split(" ")[0] for notice in document.notices] == [
        f"{folder}/latin.txt",
        f"{folder}/page.html",
    ]
    assert document.notices[1].endswith("It is left out.")


def test_many_notices_are_not_a_flood(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.txt").write_bytes("schöne Grüße".encode("latin-1"))
    notices = read_documents([str(folder)]).notices
    assert len(notices) == 6 and "15 more files" in notices[-1]


def test_folders_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"has no text in it, \.gitignore heeded; name"):
        read_documents([str(tmp_path)])
    (tmp_path / "a.bin").write_bytes(bytes(99))
    with pytest.raises(DocumentError, match="has no text in it, only 1 file of other kinds"):
        read_documents([str(tmp_path)])


def test_a_folder_and_a_file_in_it(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "a\n", "b.txt": "b\n"})
    document = read_documents([str(tmp_path / "b.txt"), str(tmp_path)])
    assert names(document, tmp_path) == ["b.txt", "a.txt"]
    assert "1 file named before" in document.notices[0]
    document = read_documents([str(tmp_path), str(tmp_path / "b.txt")])
    assert names(document, tmp_path) == ["a.txt", "b.txt"]
    assert "b.txt is named twice" in document.notices[0]


@pytest.mark.parametrize("with_git", [True, False])
def test_names_that_are_not_utf8(repository: Path, with_git: bool, request: pytest.FixtureRequest) -> None:
    if not with_git:
        request.getfixturevalue("without_git")
    try:
        Path(os.fsdecode(os.fsencode(repository) + b"/caf\xe9.txt")).write_text("odd\n")
    except OSError:
        pytest.skip("this file system takes no such names")
    write(repository, {"naïve.txt": "even\n"})
    document = read_documents([str(repository)])
    assert names(document, repository) == ["caf\ufffd.txt", "naïve.txt"]
    document.text.encode("utf-8")


def test_trees_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ignore_rules, "MAX_FILES", 10)
    write(tmp_path, {f"{i}/{i}.txt": "x" for i in range(40)})
    entries = 0

    def count(_done: int, _total: int) -> None:
        nonlocal entries
        entries += 1

    with pytest.raises(DocumentError, match=r"holds more than 10 files; name a folder in it"):
        read_documents([str(tmp_path)], on_progress=count)
    assert entries < 40 + 20  # the folders, and files until there were too many
    git(tmp_path, "init", "-q")
    with pytest.raises(DocumentError, match=r"holds more than 10 files; name a folder in it"):
        read_documents([str(tmp_path)])


@pytest.mark.parametrize("with_git", [True, False])
def test_listing_can_be_ended(repository: Path, with_git: bool, request: pytest.FixtureRequest) -> None:
    write(repository, {"a.txt": "a\n"})
    if not with_git:
        request.getfixturevalue("without_git")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source_tree.list_tree(str(repository), stop)


@pytest.mark.parametrize(
    ("rules", "left_out"),
    [
        (None, set()),  # a folder of that name
        (b"caf\xe9\n*.log\n", {"b.log"}),
        (b"\0\0\n*.log\n", {"b.log"}),
        (b"*.log\r\n", {"b.log"}),
        (b"[\n(\n[z-a]\n{a,b}\n\\\n*.log\n", {"b.log"}),
        (b"a*" * 40 + b"b\n*.log", {"b.log"}),
    ],
)
def test_odd_rules_do_no_harm(
    repository: Path,
    rules: bytes | None,
    left_out: set[str],
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write(repository, {"a.txt": "a\n", "b.log": "b\n"})
    if rules is None:
        (repository / ".gitignore").mkdir()
    else:
        (repository / ".gitignore").write_bytes(rules)
    for fixture in (None, "without_git"):
        if fixture is not None:
            request.getfixturevalue(fixture)
        found = files_that_count(repository, lambda: None).files
        assert {"a.txt", "b.log"} - set(found) == left_out
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("damaged", ["index", "config", "HEAD", "info/exclude"])
def test_a_damaged_repository_is_a_folder(
    repository: Path, damaged: str, request: pytest.FixtureRequest
) -> None:
    write(repository, {"a.txt": "a\n", f".git/{damaged}": "\0damage [\n"})
    assert files_that_count(repository, lambda: None).files == ["a.txt"]
    request.getfixturevalue("without_git")
    assert files_that_count(repository, lambda: None).files == ["a.txt"]


def test_version_control_is_never_read(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "a\n", ".hg/store": "x\n", ".svn/entries": "x\n", "sub/CVS/Root": "x\n"})
    found = files_that_count(tmp_path, lambda: None)
    assert (found.files, found.is_repository) == (["a.txt"], False)
