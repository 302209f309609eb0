"""A model in several files: which files a target stands for, and which of them a change concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gguf import GGUFValueType

from ropewalk_convert.errors import TargetError
from ropewalk_convert.leftovers import remove_leftovers
from ropewalk_convert.put_aside import bring_back_left
from ropewalk_convert.target import check_space, check_target
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.metadata import FileChanges, KeyValue
from ropewalk_plan.split_model import SPLIT_TENSORS_KEY, PartName, part_paths

_SUFFIX = ".gguf"


def target_files(target: Path, count: int) -> tuple[Path, ...]:
    """The files that a model of `count` files is written to.

    Args:
        target: the file of a model in one; of more, what the parts' names begin with (`LONG.gguf` stands for
            `LONG-00001-of-00003.gguf` and so on), or the first part.
        count: how many files.

    Raises:
        TargetError: the name is one of another part, or of a model of another number of parts.
    """
    if count == 1:
        return (target,)
    name = PartName.of(target)
    if name is None:
        stem = target.name.removesuffix(_SUFFIX) or target.name
    elif (name.number, name.count) == (1, count):
        stem = name.stem
    else:
        raise TargetError(
            f"{target} is the name of part {name.number} of {name.count}, and this model has {count} parts; "
            f"name the new one {name.stem}{_SUFFIX}"
        )
    return part_paths(target.parent, stem, count)


def check_target_files(target: Path, source: GgufHeader, *, force: bool) -> tuple[Path, ...]:
    """Check that a copy of `source` may be made at `target`, before any work is done.

    Returns:
        The files that are made: those of `target_files`, or where they point to if they are links.

    Raises:
        TargetError: one of them cannot be made; see `target.check_target`.
    """
    bring_back_left(target_files(target, len(source.files)))
    made: list[Path] = []
    for file in target_files(target, len(source.files)):
        for part in source.files:
            path = check_target(file, source=part.path, force=force)
        made.append(path)
    return tuple(made)


def check_space_for(files: Sequence[Path], needed: int) -> None:
    """Check that `needed` bytes are free for `files` together, the leftovers of all of them removed first.

    Raises:
        SpaceError: they are not.
    """
    for file in files:
        remove_leftovers(file)
    check_space(files[0], needed)


def changes_by_file(changes: FileChanges, source: GgufHeader) -> tuple[FileChanges, ...]:
    """The changes of a model's file, as changes of each of its files.

    llama.cpp reads keys in the first file, so they go there, and new tensors with them; a tensor is replaced
    where it is. Each part says how many tensors there are in all.
    """
    files = source.files
    tensors: list[dict[str, tuple[float, ...]]] = [{} for _ in files]
    for name, numbers in changes.tensors.items():
        tensors[_place(name, files)][name] = numbers
    n_new = sum(not source.has_tensor(name) for name in changes.tensors)
    by_file = [
        FileChanges(
            native=changes.native,
            native_reason=changes.native_reason,
            keys=_tensor_count(file, n_new),
            tensors=replaced,
        )
        for file, replaced in zip(files, tensors, strict=True)
    ]
    by_file[0] = replace(by_file[0], keys=(*changes.keys, *by_file[0].keys), dropped=changes.dropped)
    return tuple(by_file)


def _place(name: str, files: Sequence[GgufHeader]) -> int:
    return next((number for number, file in enumerate(files) if name in file.tensors), 0)


def _tensor_count(file: GgufHeader, n_new: int) -> tuple[KeyValue, ...]:
    count = file.value(SPLIT_TENSORS_KEY)
    if not n_new or not isinstance(count, int):
        return ()
    return (KeyValue(SPLIT_TENSORS_KEY, GGUFValueType(file.types(SPLIT_TENSORS_KEY)[0]), count + n_new),)
