"""The record that a baked file keeps of the file it was made from, and by which that file is made again.

It says the original as a list of pieces, bytes of the baked file and what the baked file has no more, and a
digest of the original's header, so that a wrong result is never given back for the right one.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.pieces import Copied, New, Piece, Zeros, chunks, merged, read_bytes
from ropewalk_plan.metadata import PREFIX

UNDO_KEY = PREFIX + "undo"
UNDO_VERSION = 1

_HEAD = struct.Struct(
    "<BQQQ32sI"
)  # version, sizes of the original, its header and the baked file, digest, pieces
_COPIED, _ZEROS, _NEW = 0, 1, 2
_KIND, _COPIED_BYTES, _NUMBER = struct.Struct("<B"), struct.Struct("<QQ"), struct.Struct("<Q")


class UndoError(ValueError):
    """Bytes that are no undo record of this version; the message is a clause that says why."""


@dataclass(frozen=True)
class Undo:
    """How the original is made from the baked file.

    Attributes:
        original_bytes: the original's size.
        header_bytes: of them, those before its tensor data.
        baked_bytes: the size of the baked file.
        header_sha256: of the original's header.
        pieces: the original, `Copied` from the baked file.
    """

    original_bytes: int
    header_bytes: int
    baked_bytes: int
    header_sha256: bytes
    pieces: tuple[Piece, ...]


def encode_undo(undo: Undo) -> bytes:
    """The record as bytes; how many does not depend on the positions and sizes in it."""
    parts = [
        _HEAD.pack(
            UNDO_VERSION,
            undo.original_bytes,
            undo.header_bytes,
            undo.baked_bytes,
            undo.header_sha256,
            len(undo.pieces),
        )
    ]
    for piece in undo.pieces:
        if isinstance(piece, Copied):
            parts.append(_KIND.pack(_COPIED) + _COPIED_BYTES.pack(piece.start, piece.n_bytes))
        elif isinstance(piece, Zeros):
            parts.append(_KIND.pack(_ZEROS) + _NUMBER.pack(piece.n_bytes))
        else:
            parts.append(_KIND.pack(_NEW) + _NUMBER.pack(piece.n_bytes) + piece.raw)
    return b"".join(parts)


def decode_undo(raw: bytes) -> Undo:
    """The record that `encode_undo` wrote.

    Raises:
        UndoError: it is damaged, or of another version.
    """
    if not raw or raw[0] != UNDO_VERSION:
        raise UndoError(f"its record of the original is of version {raw[0] if raw else 'none'}")
    try:
        _, original, header, baked, digest, n_pieces = _HEAD.unpack_from(raw, 0)
        pieces, end = _decode_pieces(raw, n_pieces)
    except struct.error:
        raise UndoError("its record of the original is cut short") from None
    whole = sum(piece.n_bytes for piece in pieces) == original and header <= original and end == len(raw)
    within = all(p.start + p.n_bytes <= baked for p in pieces if isinstance(p, Copied))
    if not whole or not within:
        raise UndoError("its record of the original is damaged")
    return Undo(original, header, baked, digest, tuple(pieces))


def _decode_pieces(raw: bytes, n_pieces: int) -> tuple[list[Piece], int]:
    pieces: list[Piece] = []
    at = _HEAD.size
    for _ in range(n_pieces):
        (kind,) = _KIND.unpack_from(raw, at)
        at += _KIND.size
        if kind == _COPIED:
            pieces.append(Copied(*_COPIED_BYTES.unpack_from(raw, at)))
            at += _COPIED_BYTES.size
            continue
        (n_bytes,) = _NUMBER.unpack_from(raw, at)
        at += _NUMBER.size
        if kind == _ZEROS:
            pieces.append(Zeros(n_bytes))
        elif kind == _NEW and n_bytes <= len(raw) - at:
            pieces.append(New(raw[at : at + n_bytes]))
            at += n_bytes
        else:
            raise UndoError("its record of the original is damaged")
    return pieces, at


def undo_of(baked: Sequence[Piece], source: Path, source_bytes: int, header_bytes: int) -> Undo:
    """The record for a file that is made of `baked`, pieces of `source`.

    Args:
        baked: the new file; every byte of the source stands in it at most once.
        source: the original.
        source_bytes: its size.
        header_bytes: of them, those before its tensor data.

    Raises:
        SourceError: the source cannot be read.
    """
    places: list[tuple[int, Copied]] = []  # of the source, and where they are copied to
    position = 0
    for piece in baked:
        if isinstance(piece, Copied):
            places.append((piece.start, Copied(position, piece.n_bytes)))
        position += piece.n_bytes
    pieces: list[Piece] = []
    at = 0
    for start, copied in sorted(places, key=lambda place: place[0]):
        pieces += [_left_out(source, at, start), copied]
        at = start + copied.n_bytes
    pieces.append(_left_out(source, at, source_bytes))
    return Undo(
        original_bytes=source_bytes,
        header_bytes=header_bytes,
        baked_bytes=position,
        header_sha256=digest([Copied(0, header_bytes)], source),
        pieces=tuple(piece for piece in pieces if piece.n_bytes),
    )


def header_pieces(undo: Undo) -> list[Piece]:
    """The pieces that make the original's header."""
    pieces: list[Piece] = []
    left = undo.header_bytes
    for piece in undo.pieces:
        n_bytes = min(left, piece.n_bytes)
        left -= n_bytes
        if isinstance(piece, Copied):
            pieces.append(Copied(piece.start, n_bytes))
        else:
            pieces.append(New(piece.raw[:n_bytes]) if isinstance(piece, New) else Zeros(n_bytes))
    return merged(pieces)


def digest(pieces: Sequence[Piece], source: Path) -> bytes:
    """The SHA-256 of what `pieces` of `source` make."""
    sha256 = hashlib.sha256()
    for chunk in chunks(pieces, source):
        sha256.update(chunk)
    return sha256.digest()


def _left_out(source: Path, start: int, end: int) -> Piece:
    """Bytes of the source that the new file lacks: few, as weights are never left out."""
    raw = read_bytes(source, start, end - start)
    return New(raw) if any(raw) else Zeros(len(raw))
