"""The natural text of the training: Jane Austen's novels, as Debian's package `r-cran-janeaustenr` has them.

The novels (1811 to 1818) are in the public domain, the package is under the MIT licence. R keeps its data as
a row of compressed vectors of lines; reading those needs no R.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

PACKAGE_FILE = Path("/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
"""Where Debian's package puts them."""

_CHARACTER_VECTOR = 16  # R's STRSXP
_HEADER = b"X\n"  # R's serialization, binary, big-endian


class NovelsError(ValueError):
    """A file that does not hold the novels; the message is one sentence."""


def read_novels(path: Path = PACKAGE_FILE) -> list[str]:
    """The six novels, in the file's order; Persuasion is the fourth.

    Lines of a paragraph are joined by spaces, and every paragraph stands on a line of its own.

    Args:
        path: `Rdata.rdb` of the package.

    Raises:
        NovelsError: the file is missing or another.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NovelsError(
            f"{path} cannot be read ({error.strerror}): install Debian's package r-cran-janeaustenr, or name "
            "its file Rdata.rdb with --novels."
        ) from error
    try:
        novels = ["\n".join(_paragraphs(_lines(vector))) for vector in _vectors(data)]
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise NovelsError(f"{path} is not the data file of r-cran-janeaustenr ({error}).") from error
    if len(novels) != 6 or not novels[3].startswith("Persuasion"):
        raise NovelsError(f"{path} is not the data file of r-cran-janeaustenr: it has no six novels.")
    return novels


def _vectors(data: bytes) -> Iterator[bytes]:
    """The serialized objects: each a length of 4 bytes, which compression makes superfluous, and itself."""
    position = 0
    while position < len(data):
        decompressor = zlib.decompressobj()
        yield decompressor.decompress(data[position + 4 :])
        position = len(data) - len(decompressor.unused_data)


def _lines(vector: bytes) -> list[str]:
    """The strings of one character vector."""
    if not vector.startswith(_HEADER):
        raise struct.error("no vector of R's")
    (name_length,) = struct.unpack_from(">I", vector, 14)  # of the encoding, after three versions
    position = 18 + name_length
    kind, count = struct.unpack_from(">II", vector, position)
    if kind & 0xFF != _CHARACTER_VECTOR:
        raise struct.error("no vector of lines")
    position += 8
    lines = []
    for _ in range(count):
        _, length = struct.unpack_from(">Ii", vector, position)
        position += 8
        lines.append(vector[position : position + length].decode("utf-8"))
        position += length
    return lines


def _paragraphs(lines: list[str]) -> Iterator[str]:
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            yield " ".join(paragraph)
            paragraph = []
