"""Bake: a GGUF file and a method in, the same GGUF file with a context plan in its metadata out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ropewalk_convert.errors import BakeError, SourceError, SpaceError, TargetError
from ropewalk_convert.gguf_copy import GgufCopy
from ropewalk_convert.target import check_space, check_target
from ropewalk_convert.whole_file import written_whole
from ropewalk_plan.compose import finetuning_notes, make_plan
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import METHOD_KEY, SCHEMA_KEY, FileChanges, plan_to_metadata, read_plan
from ropewalk_plan.not_executed import not_executed
from ropewalk_plan.own_rotation import ModelFacts, model_facts_from_gguf, rope_spec_from_gguf
from ropewalk_plan.plan import ContextPlan, PlanError
from ropewalk_plan.rope_spec import RopeSpec

__all__ = ["BakeError", "BakeResult", "SourceError", "SpaceError", "TargetError", "bake"]

_SPLIT_NAME = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class BakeResult:
    """What was made.

    Attributes:
        plan: the plan in the file.
        native: whether stock llama.cpp runs it too.
        native_reason: why, or why not, in a sentence.
        target: the file.
        notes: sentences a person should know, such as that the method needs a fine-tuned model.
    """

    plan: ContextPlan
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
    header, spec, facts = _read_source(source)
    made = check_target(target, source=source, force=force)
    plan = make_plan(spec, method, target_length, train_length, options)
    changes = plan_to_metadata(plan, spec, facts)
    if not changes.native:
        _check_executed(plan, header)
    copy = GgufCopy(header, changes)
    check_space(made, copy.total_bytes)
    with written_whole(made, force=force, needed=copy.total_bytes) as file:
        for done in copy.write(file.write):
            if progress is not None:
                progress(done, copy.total_bytes)
        file.flush()
        _check_written(file.path, plan, changes)
    return BakeResult(
        plan=plan,
        native=changes.native,
        native_reason=changes.native_reason,
        target=target,
        notes=finetuning_notes(plan),
    )


def _read_source(source: Path) -> tuple[GgufHeader, RopeSpec, ModelFacts]:
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
        raise SourceError(
            f"{source} carries a plan already ({header.value(METHOD_KEY)}); bake from the plain file"
        )
    try:
        return header, rope_spec_from_gguf(header), model_facts_from_gguf(header)
    except PlanError as error:
        raise SourceError(f"{source}: {error}") from error


def _check_executed(plan: ContextPlan, header: GgufHeader) -> None:
    refused = not_executed(plan, header)
    if refused is not None:
        raise SourceError(f"{header.path}: {refused.reason}; {refused.remedy}")


def _check_written(path: Path, plan: ContextPlan, changes: FileChanges) -> None:
    """Read the new file back before it gets its name: it must be whole and hold the very plan."""
    try:
        stored = read_plan(GgufHeader.read(path))
    except PlanError:
        stored = None
    if stored is None or stored.plan != plan or stored.native != changes.native:
        raise BakeError(f"{path} does not read back as it was written; check the disk and try again")
