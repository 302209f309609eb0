"""Bake: a GGUF file and a method in, the same GGUF file with a context plan in its metadata out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ropewalk_convert.errors import BakeError, SourceError, SpaceError, TargetError
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_convert.model_card import ModelCard, card_keys, card_of_bake, read_card
from ropewalk_convert.target import check_space, check_target, regular_file
from ropewalk_convert.undo import UNDO_KEY
from ropewalk_convert.whole_file import written_whole
from ropewalk_plan.compose import finetuning_notes, make_plan
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import METHOD_KEY, SCHEMA_KEY, FileChanges, plan_to_metadata, read_plan
from ropewalk_plan.not_executed import not_executed
from ropewalk_plan.own_rotation import model_facts_from_gguf, rope_spec_from_gguf
from ropewalk_plan.plan import ContextPlan, PlanError

__all__ = ["BakeError", "BakeResult", "SourceError", "SpaceError", "TargetError", "bake", "write_planned"]

_SPLIT_NAME = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_ONLY_THE_CARD = FileChanges(native=True, native_reason="the file's own keys say all of it", keys=())


@dataclass(frozen=True)
class BakeResult:
    """What was made.

    Attributes:
        plan: the plan in the file; None where only the model card's keys were written.
        native: whether stock llama.cpp runs it too.
        native_reason: why, or why not, in a sentence.
        target: the file.
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
    progress: Callable[[int, int], None] | None = None,
) -> BakeResult:
    """Copy a GGUF file with a context plan.

    The copy is streamed, and appears under its name only when it is whole: whatever goes wrong, a keyboard
    interrupt included, leaves nothing behind and an existing target as it was.

    Args:
        source: a GGUF file without a plan.
        target: the file to make; of a link, the file it points to is made.
        method: a name of `METHODS`, or several joined by `+`.
        target_length: L' in tokens.
        train_length: L in tokens; the file's own where None.
        options: the methods' options as text.
        force: replace an existing target.
        progress: called with bytes written and bytes in all; may raise to stop.

    Raises:
        PlanError: the plan that was asked for cannot be made.
        SourceError: the source cannot be read or extended, or the patched library would not execute the plan
            for its model.
        TargetError: the target cannot be made there.
        SpaceError: the disk is too full.
    """
    header = _read_source(source)
    check_target(target, source=source, force=force)
    try:
        spec = rope_spec_from_gguf(header)
    except PlanError as error:
        raise SourceError(f"{source}: {error}") from error
    plan = make_plan(spec, method, target_length, train_length, options)
    return _write(header, target, plan, card_of_bake(header), undo=True, force=force, progress=progress)


def write_planned(
    source: Path,
    target: Path,
    plan: ContextPlan | None,
    *,
    card: ModelCard,
    undo: bool,
    force: bool,
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
        progress: called with bytes written and bytes in all; may raise to stop.

    Raises:
        PlanError: a number of the plan that does not fit its key.
        SourceError: the source cannot be read, or the patched library would not execute the plan for it.
        TargetError: the target cannot be made there.
        SpaceError: the disk is too full.
    """
    header = _read_source(source)
    check_target(target, source=source, force=force)
    return _write(header, target, plan, card, undo=undo, force=force, progress=progress)


def _write(
    header: GgufHeader,
    target: Path,
    plan: ContextPlan | None,
    card: ModelCard,
    *,
    undo: bool,
    force: bool,
    progress: Callable[[int, int], None] | None,
) -> BakeResult:
    changes = _ONLY_THE_CARD if plan is None else _changes(plan, header)
    changes = replace(changes, keys=(*changes.keys, *card_keys(card, plan, header)))
    copy = GgufCopy(header, changes, undo=undo)
    made = regular_file(target)
    check_space(made, copy.total_bytes)
    with written_whole(made, force=force, needed=copy.total_bytes) as file:
        for done in copy.write(file.write):
            if progress is not None:
                progress(done, copy.total_bytes)
        file.flush()
        _check_written(file.path, plan, card, changes)
    return BakeResult(
        plan=plan,
        native=changes.native,
        native_reason=changes.native_reason,
        target=target,
        notes=() if plan is None else finetuning_notes(plan),
    )


def _read_source(source: Path) -> GgufHeader:
    if _SPLIT_NAME.search(source.name):
        raise SourceError(
            f"{source} is one part of a split model; join the parts first, with llama-gguf-split --merge"
        )
    try:
        header = GgufHeader.read(source)
    except GgufError as error:
        raise SourceError(str(error)) from error
    if header.value("split.count") not in (None, 0, 1):
        raise SourceError(
            f"{source} is one part of a split model; join the parts first, with llama-gguf-split --merge"
        )
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


def _check_written(path: Path, plan: ContextPlan | None, card: ModelCard, changes: FileChanges) -> None:
    """Read the new file back before it gets its name: it must be whole and hold the very plan and card."""
    try:
        header = GgufHeader.read(path)
        stored = None if plan is None else read_plan(header)
    except PlanError as error:
        raise BakeError(_not_as_written(path)) from error
    same_plan = (
        header.value(SCHEMA_KEY) is None
        if stored is None
        else stored.plan == plan and stored.native == changes.native
    )
    if (
        not same_plan
        or (plan is not None and stored is None)
        or read_card(header) != replace(card, base=None)
    ):
        raise BakeError(_not_as_written(path))


def _not_as_written(path: Path) -> str:
    return f"{path} does not read back as it was written; check the disk and try again"
