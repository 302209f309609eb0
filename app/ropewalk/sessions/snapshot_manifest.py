"""What a snapshot says of itself: a small file with the checksums of the others and of itself."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from ropewalk.engine import SavedState
from ropewalk.sessions.snapshot_key import SnapshotKey

Tokens = npt.NDArray[np.int32]

_FIRST_TOKENS = 64
_TOKEN_BYTES = np.dtype("<i4").itemsize


class DamagedSnapshot(Exception):
    """What is there is not what was written; the message says what, as the end of a sentence."""


@dataclass(frozen=True)
class Manifest:
    """A snapshot's own words.

    Attributes:
        key: what the text was read with.
        title: of the text, for people.
        created: seconds since 1970.
        n_tokens: how many tokens the text has.
        first_tokens: the first few, to see at once that another text begins otherwise.
        tokens_checksum: xxh3-128 of all tokens as little-endian 32-bit numbers.
        state_bytes: size of the file with keys and values.
        block_bytes: size of the blocks of that file.
        checksums: xxh3-128 of each of them.
    """

    key: SnapshotKey
    title: str
    created: float
    n_tokens: int
    first_tokens: tuple[int, ...]
    tokens_checksum: str
    state_bytes: int
    block_bytes: int
    checksums: tuple[str, ...]

    @classmethod
    def of(cls, key: SnapshotKey, title: str, created: float, saved: SavedState) -> Manifest:
        """The manifest of a state that was just saved."""
        return cls(
            key,
            title,
            created,
            len(saved.tokens),
            saved.tokens[:_FIRST_TOKENS],
            checksum_of(tokens_bytes(saved.tokens)),
            saved.n_bytes,
            saved.block_bytes,
            saved.checksums,
        )

    @property
    def id(self) -> str:
        """The snapshot's name: one for each text and key."""
        return snapshot_id(self.key, self.tokens_checksum)

    @property
    def n_bytes(self) -> int:
        """Bytes of tokens, keys and values."""
        return self.state_bytes + self.n_tokens * _TOKEN_BYTES

    def saved_state(self, tokens: Tokens) -> SavedState:
        """What the engine needs to read the state back."""
        return SavedState(tuple(tokens.tolist()), self.state_bytes, self.block_bytes, self.checksums)

    def encoded(self) -> bytes:
        """As a file."""
        fields = dataclasses.asdict(self)
        return json.dumps({"checksum": _checksum_of_fields(fields), "fields": fields}).encode("ascii")

    @classmethod
    def decoded(cls, data: bytes) -> Manifest:
        """The manifest that a file is.

        Raises:
            DamagedSnapshot: it is none, or was changed.
        """
        try:
            whole: dict[str, Any] = json.loads(data)
            fields = whole["fields"]
            if whole["checksum"] != _checksum_of_fields(fields):
                raise DamagedSnapshot("its manifest was changed")
            sequences = {name: tuple(fields[name]) for name in ("first_tokens", "checksums")}
            return cls(**(fields | sequences | {"key": SnapshotKey(**fields["key"])}))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedSnapshot("its manifest is not what was written") from error

    def tokens(self, data: bytes) -> Tokens:
        """The text's tokens from their file.

        Raises:
            DamagedSnapshot: the file is not what was written.
        """
        if checksum_of(data) != self.tokens_checksum or len(data) != self.n_tokens * _TOKEN_BYTES:
            raise DamagedSnapshot("its tokens are not what was written")
        return np.frombuffer(data, "<i4").astype(np.int32, copy=False)


def snapshot_id(key: SnapshotKey, tokens_checksum: str) -> str:
    """The name of the snapshot of a text: 16 hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(f"{key.digest} {tokens_checksum}".encode())


def tokens_bytes(tokens: object) -> bytes:
    """Tokens as their file has them: little-endian 32-bit numbers."""
    return np.asarray(tokens, "<i4").tobytes()


def checksum_of(data: bytes) -> str:
    """Of a small file: xxh3-128 as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def _checksum_of_fields(fields: dict[str, Any]) -> str:
    return checksum_of(json.dumps(fields, sort_keys=True).encode("ascii"))
