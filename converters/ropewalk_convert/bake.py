"""Bake: a GGUF file and a method in, the same GGUF file with a context plan in its metadata out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ropewalk_convert.errors import BakeError, SourceError, SpaceError, TargetError
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_convert.model_card import ModelCard, card_keys, card_of_bake, read_card
from ropewalk_convert.split_files import changes_by_file, check_space_for, check_target_files, target_files
from ropewalk_convert.undo import UNDO_KEY
from ropewalk_convert.weights_check import check_weights, weights_bytes
from ropewalk_convert.whole_file import WholeFile, written_set
from ropewalk_plan.compose import finetuning_notes, make_plan
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import METHOD_KEY, SCHEMA_KEY, FileChanges, plan_to_metadata, read_plan
from ropewalk_plan.not_executed import not_executed
from ropewalk_plan.own_rotation import model_facts_from_gguf, rope_spec_from_gguf
from ropewalk_plan.plan import ContextPlan, PlanError

__all__ = ["BakeError", "BakeResult", "SourceError", "SpaceError", "TargetError", "bake", "write_planned"]

_ONLY_THE_CARD = FileChanges(native=True, native_reason="the file's own keys say all of it", keys=())


@dataclass(frozen=True)
class BakeResult:
    """What was made.

    Attributes:
        plan: the plan in the file; None where only the model card's keys were written.
        native: whether stock llama.cpp runs it too.
        native_reason: why, or why not, in a sentence.
        target: the file; of a split model, its first part.
        notes: sentences a person should know, such as that the method needs a fine-tuned model.
    """

    plan: ContextPlan | None
    native: bool
    native_reason: str
    target: Path
    notes: tuple[str, ...]


def bake(
    source: Path,
    target: Path,
    *,
    method: str,
    target_length: int,
    train_length: int | None = None,
    options: Mapping[str, str] | None = None,
    force: bool = False,
    check: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> BakeResult:
    """Copy a GGUF file with a context plan.

    The copy is streamed, and appears under its name only when it is whole: whatever goes wrong, a keyboard
    interrupt included, leaves nothing behind and an existing target as it was. A split model is copied part
    by part, and its first part gets its name last.

    Args:
        source: a GGUF file without a plan, or the first part of a split model.
        target: the file to make; of a link, the file it points to is made. For a split model see
            `split_files.target_files`.
        method: a name of `METHODS`, or several joined by `+`.
        target_length: L' in tokens.
        train_length: L in tokens; the file's own where None.
        options: the methods' options as text.
        force: replace an existing target.
        check: compare every weight with the source's before the copy gets its name.
        progress: called with bytes written (and compared) and bytes in all; may raise to stop.

    Raises:
        PlanError: the plan that was asked for cannot be made.
        SourceError: the source cannot be read or extended, or the patched library would not execute the plan
            for its model.
        TargetError: the target cannot be made there.
        SpaceError: the disk is too full.
        BakeError: the copy does not read back as it was written.
    """
    header = _read_source(source)
    made = check_target_files(target, header, force=force)
    try:
        spec = rope_spec_from_gguf(header)
    except PlanError as error:
        raise SourceError(f"{source}: {error}") from error
    plan = make_plan(spec, method, target_length, train_length, options)
    writing = _Writing(header, target, made, card_of_bake(header), True, force, check, progress)
    return _write(writing, plan)


def write_planned(
    source: Path,
    target: Path,
    plan: ContextPlan | None,
    *,
    card: ModelCard,
    undo: bool,
    force: bool,
    check: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> BakeResult:
    """Copy a GGUF file with a plan, or none, and the keys of its model card; as `bake` does.

    Args:
        source: a GGUF file without a plan.
        target: the file to make.
        plan: made for this very model; None where the file's own keys say all there is to say.
        card: what the copy says of its making.
        undo: keep a record in the copy by which `unbake` gives back the source.
        force: replace an existing target.
        check: compare every weight with the source's before the copy gets its name.
        progress: called with bytes written (and compared) and bytes in all; may raise to stop.

    Raises:
        PlanError: a number of the plan that does not fit its key.
        SourceError: the source cannot be read, or the patched library would not execute the plan for it.
        TargetError: the target cannot be made there.
        SpaceError: the disk is too full.
        BakeError: the copy does not read back as it was written.
    """
    header = _read_source(source)
    made = check_target_files(target, header, force=force)
    return _write(_Writing(header, target, made, card, undo, force, check, progress), plan)


@dataclass(frozen=True)
class _Writing:
    """What is copied where and how; see `write_planned`."""

    source: GgufHeader
    target: Path
    made: tuple[Path, ...]
    card: ModelCard
    undo: bool
    force: bool
    check: bool
    progress: Callable[[int, int], None] | None


def _write(writing: _Writing, plan: ContextPlan | None) -> BakeResult:
    source, card = writing.source, writing.card
    changes = _ONLY_THE_CARD if plan is None else _changes(plan, source)
    changes = replace(changes, keys=(*changes.keys, *card_keys(card, plan, source)))
    copies = [
        GgufCopy(file, of_file, undo=writing.undo)
        for file, of_file in zip(source.files, changes_by_file(changes, source), strict=True)
    ]
    needed = sum(copy.total_bytes for copy in copies)
    check_space_for(writing.made, needed)
    done = _Done(writing.progress, needed + (weights_bytes(source, changes.tensors) if writing.check else 0))
    with written_set(writing.made, force=writing.force, needed=needed) as files:
        for copy, file in zip(copies, files, strict=True):
            before = 0
            for written in copy.write(file.write):
                done.add(written - before)
                before = written
            file.flush()
        written_header = _read_back(files, plan, card, changes)
        if writing.check:
            for file in files:
                file.sync()
            check_weights(source, written_header, changes.tensors, done.add)
    return BakeResult(
        plan=plan,
        native=changes.native,
        native_reason=changes.native_reason,
        target=target_files(writing.target, len(source.files))[0],
        notes=() if plan is None else finetuning_notes(plan),
    )


class _Done:
    """Adds up what is done, and reports it."""

    def __init__(self, report: Callable[[int, int], None] | None, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def add(self, n_bytes: int) -> None:
        self._done += n_bytes
        if self._report is not None:
            self._report(self._done, self._total)


def _read_source(source: Path) -> GgufHeader:
    try:
        header = GgufHeader.read(source)
    except GgufError as error:
        raise SourceError(str(error)) from error
    if header.value(SCHEMA_KEY) is not None:
        gives_back = ", which `ropewalk unbake` gives back" if header.value(UNDO_KEY) is not None else ""
        raise SourceError(
            f"{source} carries a plan already ({header.value(METHOD_KEY)}); "
            f"bake from the plain file{gives_back}"
        )
    return header


def _changes(plan: ContextPlan, header: GgufHeader) -> FileChanges:
    """What the plan changes in the model's file.

    Raises:
        SourceError: the model has no rotation that can be read, or the library would not execute the plan.
    """
    try:
        spec, facts = rope_spec_from_gguf(header), model_facts_from_gguf(header)
    except PlanError as error:
        raise SourceError(f"{header.path}: {error}") from error
    changes = plan_to_metadata(plan, spec, facts)
    refused = None if changes.native else not_executed(plan, header)
    if refused is not None:
        raise SourceError(f"{header.path}: {refused.reason}; {refused.remedy}")
    return changes


def _read_back(
    files: Sequence[WholeFile], plan: ContextPlan | None, card: ModelCard, changes: FileChanges
) -> GgufHeader:
    """Read the new files before they get their names: they must be whole and hold the very plan and card."""
    again = f"{files[0].path} does not read back as it was written; check the disk and try again"
    try:
        header = GgufHeader.read_parts([file.path for file in files])
        stored = read_plan(header)
    except PlanError as error:
        raise BakeError(again) from error
    found = None if stored is None else (stored.plan, stored.native)
    wanted = None if plan is None else (plan, changes.native)
    if found != wanted or read_card(header) != replace(card, base=None):
        raise BakeError(again)
    return header
