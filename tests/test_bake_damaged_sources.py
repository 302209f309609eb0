"""Files that are not whole GGUF files: one sentence that names the file, whatever is wrong with it."""

from __future__ import annotations

import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from gguf_files import write_rope_keys
from ropewalk_convert import SourceError, bake
from ropewalk_plan import GgufError, GgufHeader


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return write_rope_keys(tmp_path / "whole.gguf").read_bytes()


def refused(path: Path) -> str:
    with pytest.raises(SourceError) as error:
        bake(path, path.with_name("baked.gguf"), method="pi", target_length=4096)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    assert not path.with_name("baked.gguf").exists()
    return message


@pytest.mark.parametrize("data", [b"", b"GG", b"GGML", b"\x00" * 5000, b"PK\x03\x04" + b"x" * 100])
def test_not_gguf(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(data)
    assert "is not a GGUF file" in refused(path)


def test_missing_folder_and_unreadable(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "missing.gguf")
    assert "is a folder" in refused(tmp_path)
    loop = tmp_path / "loop.gguf"
    loop.symlink_to(loop)
    assert "cannot be read" in refused(loop)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_without_permission(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(whole)
    path.chmod(0)
    assert "check its permissions" in refused(path)


def test_cut_short_at_every_byte(tmp_path: Path, whole: bytes) -> None:
    """The data of the last tensor ends the file, so every shorter file is refused."""
    path = tmp_path / "short.gguf"
    end = GgufHeader.read(tmp_path / "whole.gguf").data_end
    for length in range(4, end):
        path.write_bytes(whole[:length])
        with pytest.raises(GgufError, match="cut short"):
            GgufHeader.read(path)
    assert "cut short" in refused(path)


@pytest.mark.parametrize(
    ("version", "message"), [(1, "version 1"), (4, "version 4"), (0x03000000, "big-endian")]
)
def test_versions(tmp_path: Path, whole: bytes, version: int, message: str) -> None:
    path = tmp_path / "version.gguf"
    path.write_bytes(whole[:4] + struct.pack("<I", version) + whole[8:])
    assert message in refused(path)


def test_absurd_counts_and_lengths(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "absurd.gguf"
    for at in (8, 16, 24):  # number of tensors, number of keys, length of the first key
        path.write_bytes(whole[:at] + b"\xff" * 8 + whole[at + 8 :])
        assert "damaged" in refused(path)


def test_random_damage_is_an_error_of_ours_or_none(tmp_path: Path) -> None:
    """1,000 files with some bytes of the header changed: read, or refused in a sentence."""
    source = write_rope_keys(tmp_path / "plain.gguf")
    whole = source.read_bytes()
    header_size = GgufHeader.read(source).data_start
    path, chance = tmp_path / "damaged.gguf", random.Random(1)
    refusals = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(4, header_size)] = chance.randrange(256)
        path.write_bytes(data)
        try:
            header = GgufHeader.read(path)
            for key in header.keys:
                header.value(key)
        except GgufError as error:
            refusals += 1
            assert str(path) in str(error)
    assert refusals > 300


def test_a_large_vocabulary_is_passed_over_quickly(tmp_path: Path) -> None:
    """Strings are not decoded on the way, and damage among them is seen."""
    tokens = b"".join(struct.pack("<Q", 5) + b"token" for _ in range(200_000))
    name = b"tokenizer.ggml.tokens"
    key = struct.pack("<Q", len(name)) + name + struct.pack("<IIQ", 9, 8, 200_000) + tokens
    path = tmp_path / "vocabulary.gguf"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key
    path.write_bytes(head + bytes(-len(head) % 32))
    header = GgufHeader.read(path)
    tokens_read = header.value(name.decode())
    assert isinstance(tokens_read, list)
    assert len(tokens_read) == 200_000 and set(tokens_read) == {"token"}
    path.write_bytes(head[:-1000])
    with pytest.raises(GgufError, match="cut short"):
        GgufHeader.read(path)
    shutil.rmtree(tmp_path)
