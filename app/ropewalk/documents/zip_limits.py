"""Documents that are ZIP files (EPUB, DOCX): opened, and their entries read, within limits."""

from __future__ import annotations

import io
import zipfile
import zlib

from ropewalk.documents.document import DocumentError, Source
from ropewalk.wording.quantities import size

MAX_ENTRY_BYTES = 256 << 20
"""Of one entry, unpacked: the longest books are some MB of text."""

MAX_TOTAL_BYTES = 1 << 30
"""Of all that is read of a file, unpacked."""

MAX_ENTRIES = 100_000
MAX_RATIO = 1000
"""Unpacked to packed, in entries of more than `RATIO_FROM`: XML packs to a tenth, zeros to a thousandth."""

RATIO_FROM = 16 << 20

_BLOCK = 1 << 20
_ENCRYPTED = 0x1
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


class LimitedZip:
    """A ZIP file whose entries are read into memory, none of it more than the limits allow."""

    def __init__(self, source: Source, kind: str) -> None:
        """Opens it.

        Args:
            source: the file.
            kind: what it should be (`an EPUB`), for messages.

        Raises:
            DocumentError: it is damaged, or no ZIP file, or has too many entries.
        """
        self._name, self._kind, self._read = source.name, kind, 0
        try:
            self._zip = zipfile.ZipFile(source.path or io.BytesIO(source.data))
        except OSError as error:
            raise DocumentError(f"{self._name} cannot be read: {error.strerror or error}.") from None
        except Exception:  # what zipfile raises for damaged ones is not all documented
            raise self.damaged() from None
        if len(self._zip.infolist()) > MAX_ENTRIES:
            self._zip.close()
            raise DocumentError(f"{self._name} holds over {MAX_ENTRIES:,} files, as no document does.")
        self._entries = {info.filename: info for info in self._zip.infolist()}

    def __enter__(self) -> LimitedZip:
        """It is closed at the end of the block."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Closes it."""
        self._zip.close()

    def __contains__(self, entry: str) -> bool:
        """Whether there is an entry of this name."""
        return entry in self._entries

    @property
    def names(self) -> list[str]:
        """The names of the entries; they are looked up here and never used as paths."""
        return list(self._entries)

    def read(self, entry: str) -> bytes:
        """An entry's bytes.

        Raises:
            KeyError: there is none of this name.
            DocumentError: it is damaged, encrypted or too large.
        """
        info = self._entries[entry]
        if info.flag_bits & _ENCRYPTED:
            raise DocumentError(f"{self._name} is encrypted; save a copy without a password.")
        blocks, unpacked = [], 0
        try:
            with self._zip.open(info) as stream:
                # What the entry says of its own size is not believed.
                while block := stream.read(_BLOCK):
                    unpacked += len(block)
                    self._read += len(block)
                    self._check(unpacked, info.compress_size)
                    blocks.append(block)
        except DocumentError:
            raise
        except _DAMAGE:
            raise self.damaged() from None
        return b"".join(blocks)

    def damaged(self) -> DocumentError:
        """The error for a file that is not whole."""
        return DocumentError(f"{self._name} is damaged, or not {self._kind}; get it again.")

    def _check(self, unpacked: int, packed: int) -> None:
        if unpacked > MAX_ENTRY_BYTES or self._read > MAX_TOTAL_BYTES:
            limit = size(MAX_ENTRY_BYTES if unpacked > MAX_ENTRY_BYTES else MAX_TOTAL_BYTES)
            raise DocumentError(f"{self._name} unpacks to over {limit}, which is more than any document has.")
        if unpacked > RATIO_FROM and unpacked > MAX_RATIO * max(1, packed):
            raise DocumentError(
                f"{self._name} unpacks to over {MAX_RATIO:,} times its size: it is no document."
            )
