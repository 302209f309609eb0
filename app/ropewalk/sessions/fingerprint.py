"""Which model a file is, without reading all of it.

The digest is of the headers (metadata and tensor table) of all parts and of three blocks of every tensor,
at its beginning, middle and end, so that a model of which only one tensor was changed is another. It does
not depend on the file's name, place or times. What was found is remembered by those: path, size, times of
change and inode of every part. The time of the inode's own change is one of them: the others can be set.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import xxhash
from platformdirs import user_cache_path

from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.split_model import PartName, part_paths

_SCHEMA = 2
_BLOCK_BYTES = 4096
_LONG_FACTORS = "rope_factors_long.weight"
_Stamp: TypeAlias = list[list[object]]


@dataclass(frozen=True)
class ModelFingerprint:
    """What tells one model from another.

    Attributes:
        digest: xxh3-128, as 32 hexadecimal digits.
        long_above: tokens of context above which the file's own long factors (LongRoPE) are in force
            instead of the short ones; 0 where it has none.
    """

    digest: str
    long_above: int


def model_fingerprint(path: Path, folder: Path | None = None) -> ModelFingerprint:
    """The fingerprint of a model.

    Args:
        path: a GGUF file; of a split model, the first part.
        folder: where fingerprints are remembered; None for the user's cache directory.

    Raises:
        GgufError: the file is missing, unreadable or damaged, or another part is.
    """
    folder = user_cache_path("ropewalk") / "fingerprints" if folder is None else folder
    path = path.resolve()
    stamp = _stamp(path)
    remembered = folder / f"{xxhash.xxh3_64_hexdigest(os.fsencode(path))}.json"
    known = _recall(remembered, stamp)
    if known is not None:
        return known
    header = GgufHeader.read(path)
    found = ModelFingerprint(_digest(header), _long_above(header))
    if stamp is not None and stamp == _stamp(path):
        _remember(remembered, stamp, found)
    return found


def _stamp(path: Path) -> _Stamp | None:
    """What changes when a file or one of its other parts does; None where one cannot be looked at."""
    name = PartName.of(path)
    files: Sequence[Path] = (path,) if name is None else part_paths(path.parent, name.stem, name.count)
    try:
        states = [(file, file.stat()) for file in files]
    except OSError:
        return None
    return [[os.fsdecode(file), s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for file, s in states]


def _digest(header: GgufHeader) -> str:
    found = xxhash.xxh3_128()
    for part in header.files:
        found.update(f"{part.n_bytes} {part.data_start}\n".encode())
        with part.path.open("rb", buffering=0) as file:
            left = part.data_start
            while left and (piece := file.read(min(left, 2**20))):
                found.update(piece)
                left -= len(piece)
            for tensor in part.tensors.values():
                size = tensor.n_bytes or _BLOCK_BYTES
                last = max(0, size - _BLOCK_BYTES)
                for start in sorted({0, last // 2, last}):
                    file.seek(part.data_start + tensor.offset + start)
                    found.update(file.read(min(_BLOCK_BYTES, size)))
    return found.hexdigest()


def _long_above(header: GgufHeader) -> int:
    if not header.has_tensor(_LONG_FACTORS):
        return 0
    arch = header.value("general.architecture")
    original = header.value(f"{arch}.rope.scaling.original_context_length")
    length = original if isinstance(original, int) else header.value(f"{arch}.context_length")
    return length if isinstance(length, int) else 0


def _recall(remembered: Path, stamp: _Stamp | None) -> ModelFingerprint | None:
    try:
        data = json.loads(remembered.read_bytes())
        if stamp is None or data["schema"] != _SCHEMA or data["files"] != stamp:
            return None
        digest, long_above = data["digest"], data["long_above"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if isinstance(digest, str) and len(digest) == 32 and isinstance(long_above, int):
        return ModelFingerprint(digest, long_above)
    return None


def _remember(remembered: Path, stamp: _Stamp, found: ModelFingerprint) -> None:
    """Write it down whole or not at all; where that cannot be, it is found again the next time."""
    data = {"schema": _SCHEMA, "files": stamp, "digest": found.digest, "long_above": found.long_above}
    temporary = remembered.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        remembered.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(data), encoding="ascii")
        temporary.replace(remembered)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
