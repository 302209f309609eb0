"""The pinned source distribution: its description, its checksum, its unpacking."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from provision.digests import check_sha256
from provision.failure import ProvisionError
from provision.upstream import read_upstream, unpack

ROOT = Path(__file__).resolve().parents[1]


def _archive(path: Path, *members: tuple[str, bytes | None, int]) -> Path:
    """A tar file of (name, content or None for a symbolic link, mode)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content, mode in members:
            info = tarfile.TarInfo(name)
            info.mode = mode
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def test_the_repositorys_pin_is_the_one_that_pyproject_requires() -> None:
    upstream = read_upstream(ROOT / "patches" / "upstream.toml")
    requirement = f'"{upstream.name}=={upstream.version}"'
    assert requirement in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert len(bytes.fromhex(upstream.sha256)) == 32
    assert upstream.patched_version == f"{upstream.version}+{upstream.local_label}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('name = "x"\nversion = "1"\nsha256 = "0"\n', "it must have"),
        ('name = "x"\nname = "y"\n', "line 2"),
        ("name = x\n", "line 1"),
        ('name = "x"\n[table]\n', "line 2"),
    ],
)
def test_a_malformed_pin_is_refused_by_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "upstream.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProvisionError, match=complaint):
        read_upstream(path)


def test_a_wrong_checksum_names_both(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"abc")
    # The published test vector of SHA-256 for "abc".
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_sha256(path, right, "unused")
    with pytest.raises(ProvisionError, match=f"{right} where {'0' * 64} was expected; try again"):
        check_sha256(path, "0" * 64, "try again")


def test_unpacking_drops_the_top_folder_and_the_git_folder(tmp_path: Path) -> None:
    archive = _archive(
        tmp_path / "a.tar.gz",
        ("pkg-1/.git/HEAD", b"ref", 0o644),
        ("pkg-1/src/a.c", b"int a;", 0o600),
        ("pkg-1/.gitignore", b"x", 0o644),
        ("pkg-1/run.sh", b"#!/bin/sh", 0o775),
    )
    seen: list[tuple[int, int]] = []
    unpack(archive, tmp_path / "out", lambda done, total: seen.append((done, total)))
    files = {
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert files == {"src/a.c", ".gitignore", "run.sh"}
    assert (tmp_path / "out/src/a.c").read_bytes() == b"int a;"
    assert (tmp_path / "out/run.sh").stat().st_mode & 0o111
    assert seen[-1] == (4, 4)


@pytest.mark.parametrize("name", ["pkg/../../evil", "/evil", "../evil", "pkg/../evil"])
def test_members_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    archive = _archive(tmp_path / "a.tar.gz", (name, b"x", 0o644))
    with pytest.raises(ProvisionError, match="leads outside"):
        unpack(archive, tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("evil"))


def test_links_are_refused(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", ("pkg/link", None, 0o777))
    with pytest.raises(ProvisionError, match="no plain file"):
        unpack(archive, tmp_path / "out")


def test_a_truncated_archive_is_refused_with_the_remedy(tmp_path: Path) -> None:
    archive = _archive(tmp_path / "a.tar.gz", ("pkg/a", bytes(range(256)) * 400, 0o644))
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ProvisionError, match="delete it and run again"):
        unpack(archive, tmp_path / "out")
