"""Unbake: a baked GGUF file in, the file it was baked from out, byte for byte.

What was replaced is in the baked file itself (see `undo`), weights are copied from it. The original's header
is made first, and compared with the digest that was taken of it when the file was baked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.errors import BakeError, SourceError
from ropewalk_convert.model_card import read_card
from ropewalk_convert.pieces import Copied, write_pieces
from ropewalk_convert.split_files import check_space_for, check_target_files, target_files
from ropewalk_convert.undo import UNDO_KEY, Undo, UndoError, decode_undo, digest, header_pieces
from ropewalk_convert.whole_file import written_set
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import METHOD_KEY, SCHEMA_KEY

_REMEDY = "fetch or convert the plain model again"


@dataclass(frozen=True)
class UnbakeResult:
    """What was given back.

    Attributes:
        target: the file; of a split model, its first part.
        n_bytes: the size of all its files.
        method: of the plan that it carries no more.
    """

    target: Path
    n_bytes: int
    method: str


def unbake(
    source: Path,
    target: Path,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> UnbakeResult:
    """Make the file that `source` was baked from, or the files of a split model.

    Like a baked copy it appears under its name only when it is whole.

    Args:
        source: a file that `bake` made, or the first part of a split model.
        target: the file to make; for a split model see `split_files.target_files`.
        force: replace an existing target.
        progress: called with bytes written and bytes in all; may raise to stop.

    Raises:
        SourceError: the source cannot be read, was not baked, keeps no record of what it was baked from, or
            was changed since so that the record does not fit.
        TargetError: the target cannot be made there.
        SpaceError: the disk is too full.
        BakeError: what was written does not read back.
    """
    try:
        header = GgufHeader.read(source)
    except GgufError as error:
        raise SourceError(str(error)) from error
    _check_baked(header)
    undos = [_undo_of(file) for file in header.files]
    made = check_target_files(target, header, force=force)
    needed = sum(undo.original_bytes for undo in undos)
    check_space_for(made, needed)
    before = 0
    with written_set(made, force=force, needed=needed) as files:
        for part, undo, file in zip(header.files, undos, files, strict=True):
            for written in write_pieces(undo.pieces, part.path, file.write):
                if progress is not None:
                    progress(before + written, needed)
            before += undo.original_bytes
            file.flush()
            if digest([Copied(0, undo.header_bytes)], file.path) != undo.header_sha256:
                raise BakeError(
                    f"{file.path} does not read back as it was written; check the disk and try again"
                )
    return UnbakeResult(
        target=target_files(target, len(header.files))[0],
        n_bytes=needed,
        method=str(header.value(METHOD_KEY) or ""),
    )


def _check_baked(header: GgufHeader) -> None:
    card = read_card(header)
    if card is not None and card.made_by == "convert" and header.value(SCHEMA_KEY) is not None:
        raise SourceError(
            f"{header.path} was converted from a checkpoint ({card.base_model}), not baked from a GGUF file, "
            "so there is nothing to give back; convert it again with --method none for a file without a plan"
        )
    if header.value(SCHEMA_KEY) is None:
        raise SourceError(f"{header.path} carries no plan, so there is nothing to take out; use it as it is")
    if header.value(UNDO_KEY) is None:
        raise SourceError(
            f"{header.path} was baked by a version that kept no record of the file before; "
            "fetch or convert the plain model again"
        )


def _undo_of(file: GgufHeader) -> Undo:
    """The record in one file, proven to give back the header that the file had."""
    value = file.value(UNDO_KEY)
    try:
        if not isinstance(value, list):
            raise UndoError("it has no record of the original")
        undo = decode_undo(bytes(value))
    except (UndoError, TypeError, ValueError) as error:
        reason = error if isinstance(error, UndoError) else "its record of the original is damaged"
        raise SourceError(f"{file.path} cannot be unbaked: {reason}; {_REMEDY}") from error
    if undo.baked_bytes != file.n_bytes:
        raise SourceError(
            f"{file.path} has {file.n_bytes:,} bytes and had {undo.baked_bytes:,} when it was baked; "
            f"{_REMEDY}"
        )
    if digest(header_pieces(undo), file.path) != undo.header_sha256:
        raise SourceError(f"{file.path} was changed after it was baked, in its metadata; {_REMEDY}")
    return undo
