"""Quantize: a GGUF file in, the same model with smaller numbers out, by llama.cpp's own quantizer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ropewalk_convert.errors import BakeError, QuantizeError, SourceError, SpaceError, TargetError
from ropewalk_convert.quantization import Quantization
from ropewalk_convert.quantize_preview import QuantizePreview, preview
from ropewalk_convert.quantizer import run_quantizer
from ropewalk_convert.target import check_space, explained, size_text
from ropewalk_plan.gguf_header import GgufError, GgufHeader

_STREAM_ERRORS = ("iostream", "basic_ios", "basic_filebuf")  # what C++ says when a file cannot be written


def quantized_bytes(source: Path, wanted: Quantization, *, source_called: str | None = None) -> int:
    """The exact size of what `quantize` would write; see `QuantizePreview.n_bytes`.

    Raises:
        SourceError, QuantizeError: it cannot be made, as `quantize` says.
    """
    return preview(source, wanted, called=source_called or str(source)).n_bytes


def quantize(
    source: Path,
    out: Path,
    wanted: Quantization,
    progress: Callable[[int, int], None] | None = None,
    *,
    source_called: str | None = None,
    out_called: Path | None = None,
) -> tuple[str, ...]:
    """Quantize a GGUF file; its keys go with it, a context plan among them.

    Everything that can be checked is checked before `out` is touched; whatever goes wrong later, a keyboard
    interrupt included, removes it. The source's parts, if it is split, are joined.

    Args:
        source: a GGUF file of any type, or the first part of a split one.
        out: the file to write, in place: give a temporary name, such as one of `temporary_beside`.
        wanted: the quantization.
        progress: called with bytes written and bytes in all; may raise to stop.
        source_called: the source's name in messages, where it is a temporary file.
        out_called: the same of `out`; in the same folder.

    Returns:
        Sentences a person should know, such as that a type did not fit some tensors.

    Raises:
        SourceError: the source or the importance matrix cannot be read, the source is quantized already, or
            the one does not belong to the other.
        QuantizeError: the wishes cannot be met for this file, or the quantizer failed.
        SpaceError: the disk is too full.
        TargetError: `out` cannot be written.
    """
    named, target = source_called or str(source), out_called or out
    planned = preview(source, wanted, called=named)
    with explained(target, planned.n_bytes):
        if out.exists() and out.samefile(source):
            raise TargetError(f"{target} is the source itself; give the new file another name")
        check_space(target, planned.n_bytes)

    def written(n_bytes: int) -> None:
        if progress is not None:
            progress(min(n_bytes, planned.n_bytes), planned.n_bytes)

    try:
        run = run_quantizer(source, out, wanted, planned.keys, dry_run=False, called=named, written=written)
        if run.failure is not None:
            if any(word in run.failure for word in _STREAM_ERRORS):
                raise _not_written(out, planned.n_bytes, target)
            raise _failure(run.failure, wanted, named)
        _check_written(out, planned, target)
        written(planned.n_bytes)
    except BaseException:
        with suppress(OSError):
            out.unlink(missing_ok=True)
        raise
    return planned.notes


def _failure(failure: str, wanted: Quantization, named: str) -> BakeError:
    if "invalid data" in failure:
        return SourceError(
            f"{named} has weights that are no finite numbers ({failure}); fetch or convert the model again"
        )
    return QuantizeError(
        f"llama.cpp could not make {wanted.type} of {named} ({failure}); choose another type or options"
    )


def _not_written(out: Path, needed: int, target: Path) -> BakeError:
    present = out.stat().st_size if out.exists() else 0
    if present + shutil.disk_usage(out.parent).free < needed:
        return SpaceError(
            f"the disk filled up while {target} was written, which needs {size_text(needed)}; "
            "make room, or write to another disk"
        )
    return TargetError(f"{target} cannot be written; check its folder's permissions and quota")


def _check_written(out: Path, planned: QuantizePreview, target: Path) -> None:
    """The new file must be whole and hold what was planned."""
    try:
        names = set(GgufHeader.read(out).tensors)
    except GgufError:
        names = set()
    if names != {tensor.name for tensor in planned.tensors}:
        raise QuantizeError(f"{target} does not read back as it was written; check the disk and try again")
