"""Convert: a Hugging Face checkpoint in, a GGUF file with its context plan out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ropewalk_convert.bake import BakeResult, write_planned
from ropewalk_convert.checkpoint_files import (
    CheckpointFiles,
    check_without_weights,
    converted_bytes,
    read_checkpoint_files,
)
from ropewalk_convert.converter import convert_checkpoint
from ropewalk_convert.early_checks import check_quantizable, check_tokens
from ropewalk_convert.errors import ConverterError, SourceError, TargetError
from ropewalk_convert.model_card import BaseModel, ModelCard, installed_version
from ropewalk_convert.quantization import Quantization, check_quantization, largest_quantized_bytes
from ropewalk_convert.quantize import quantize
from ropewalk_convert.target import check_space, check_target
from ropewalk_convert.upstream_source import check_extra_installed
from ropewalk_convert.workspace import temporary_beside
from ropewalk_plan.checkpoint_method import (
    KEEP,
    NONE,
    CheckpointMethod,
    NoRotationError,
    plan_for_converted,
    read_checkpoint_method,
)
from ropewalk_plan.compose import parse_method
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import plan_to_metadata
from ropewalk_plan.not_executed import not_executed
from ropewalk_plan.own_rotation import model_facts_from_gguf, rope_spec_from_gguf
from ropewalk_plan.plan import ContextPlan, PlanError

Progress = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are in all."""

Step = Callable[[str], AbstractContextManager[Progress]]
"""Shows one step of the work, named in a few words, while its block runs."""

_DIRECT = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
"""Types that llama.cpp's converter writes by itself."""

_SIXTEEN_BITS = "auto"
_WIDE = ("F32", "F64")  # safetensors' names of types that lose something in 16 bits


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine, and where it is from.

    Attributes:
        folder: where its files are.
        name: what to call it: the repository's OWNER/NAME, or the folder's name.
        revision: the commit of the repository; empty for a folder.
        url: the repository's page; empty for a folder.
    """

    folder: Path
    name: str
    revision: str = ""
    url: str = ""

    @property
    def shown(self) -> str:
        """What messages call it: the repository, not the folder of the cache that it lies in."""
        return self.name if self.url else str(self.folder)


@dataclass(frozen=True)
class Conversion:
    """What is wanted of a conversion.

    Attributes:
        method: a name of `METHODS`, several joined by `+`, `none`, or `keep`: the checkpoint's own.
        target_length: L' in tokens; None: as far as the checkpoint's method reaches.
        train_length: L in tokens, before any extension; the checkpoint's own where None.
        options: the methods' options as text.
        quantization: how to quantize; None: 16 bits a weight, in the checkpoint's own type where it has one.
    """

    method: str = KEEP
    target_length: int | None = None
    train_length: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    quantization: Quantization | None = None


@dataclass(frozen=True)
class ConvertResult:
    """What was made.

    Attributes:
        baked: the file, and the plan in it.
        architecture: GGUF's name of the model's.
        context_length: tokens that the file says it is for, its plan included.
        warnings: what the quantizer remarked, in sentences.
        rotates: False for a model that Ropewalk cannot read a rotation of.
    """

    baked: BakeResult
    architecture: str
    context_length: int
    warnings: tuple[str, ...]
    rotates: bool


def check_source(folder: Path, wanted: Conversion, *, called: str | None = None) -> None:
    """What can be said against a conversion before a checkpoint's weights are there.

    Args:
        folder: all of the checkpoint but its weights.
        wanted: what is to be made of it.
        called: what messages call it; the folder itself where None.

    Raises:
        PlanError: the method is unknown, or contradicts itself.
        SourceError: the checkpoint cannot be converted, its method cannot be read, or it has no rotation to
            extend.
        ExtraMissingError: what conversion needs is not installed.
        QuantizeError: the quantization cannot be made, whatever the model.
    """
    _check_wishes(wanted)
    with _called(folder, called or str(folder)):
        check_without_weights(folder)
        _own_method(folder, wanted.method)


@contextmanager
def _called(folder: Path, name: str) -> Iterator[None]:
    """Have what is wrong with a folder's files, or with a file, told of it under another name."""
    try:
        yield
    except SourceError as error:
        if name == str(folder):
            raise
        raise SourceError(str(error).replace(str(folder), name)) from error


def _check_wishes(wanted: Conversion) -> None:
    check_extra_installed()
    if wanted.quantization is not None:
        check_quantization(wanted.quantization)
    if wanted.method not in (KEEP, NONE):
        parse_method(wanted.method)


def convert(
    checkpoint: Checkpoint,
    target: Path,
    wanted: Conversion,
    *,
    force: bool = False,
    check: bool = False,
    step: Step,
) -> ConvertResult:
    """Make a GGUF file of a checkpoint, with the plan that its own method or another one asks for.

    What can be known before the work is checked before it: the files, the method, the target, the room on the
    disk. What is made on the way are temporary files beside the target, which gets its name when it is whole.

    Args:
        checkpoint: where the checkpoint is.
        target: the GGUF file to make.
        wanted: the method, and the type of the weights.
        force: replace an existing target.
        check: compare all weights with those converted before the file gets its name.
        step: shows each step.

    Raises:
        PlanError: the plan that was asked for cannot be made.
        SourceError: the checkpoint cannot be converted, or the patched library would not execute the plan
            for its model.
        ConverterError: llama.cpp's converter failed.
        ExtraMissingError: what conversion needs is not installed.
        QuantizeError: the quantizer failed.
        TargetError: the target cannot be made there.
        SpaceError: the disk is too full.
    """
    _check_wishes(wanted)
    with _called(checkpoint.folder, checkpoint.shown):
        files = read_checkpoint_files(checkpoint.folder)
        own = _own_method(checkpoint.folder, wanted.method)
    _check_not_of(checkpoint.folder, target)
    made = check_target(target, source=checkpoint.folder, force=force)
    outtype, quantization = _types(files, wanted.quantization)
    check_space(made, _room(files, outtype, quantization))
    warnings: tuple[str, ...] = ()
    with ExitStack() as temporaries:
        converted = ready = temporaries.enter_context(temporary_beside(made))
        with step(f"converting {checkpoint.name}") as progress:
            convert_checkpoint(
                checkpoint.folder,
                converted,
                outtype=outtype,
                model_name=checkpoint.name.partition("/")[2] or None,
                folder_name=checkpoint.name.partition("/")[2] or None,
                called=checkpoint.shown,
                weight_bytes=files.weight_bytes,
                progress=progress,
                on_header=lambda: _check_early(
                    checkpoint, own, converted, wanted, quantization=quantization, made=made
                ),
            )
        plan = _plan(checkpoint, own, _read_back(checkpoint, converted), wanted)
        if quantization is not None:
            quantized = temporaries.enter_context(temporary_beside(made))
            with step(f"quantizing to {quantization.type}") as progress:
                warnings = quantize(
                    converted,
                    quantized,
                    quantization,
                    progress,
                    source_called=checkpoint.name,
                    out_called=made,
                )
            converted.unlink()
            ready = quantized
        ours = f"what was converted of {checkpoint.name}"
        with step(f"writing {target.name}") as progress, _called(ready, ours):
            baked = write_planned(
                ready,
                target,
                plan,
                card=_card(checkpoint),
                undo=False,
                force=force,
                check=check,
                progress=progress,
            )
        ready.unlink()  # here, because an interrupt in what ends the block would leave it
    return _result(baked, warnings)


def _read_back(checkpoint: Checkpoint, converted: Path) -> GgufHeader:
    try:
        return GgufHeader.read(converted)
    except GgufError as error:
        raise ConverterError(
            f"what llama.cpp's converter made of {checkpoint.name} does not read back as it was written; "
            "check the disk, and run the same command again"
        ) from error


def _own_method(folder: Path, method: str) -> CheckpointMethod | None:
    """The checkpoint's own method; None where none is needed, or the model does not rotate."""
    if method == NONE:
        return None
    try:
        return read_checkpoint_method(folder)
    except NoRotationError as error:
        if method == KEEP:
            return None
        raise SourceError(str(error)) from error
    except PlanError as error:
        raise SourceError(f"{error}, or convert it without its method, with --method none") from error


def _types(files: CheckpointFiles, wanted: Quantization | None) -> tuple[str, Quantization | None]:
    """The type that the converter writes, and what is left for the quantizer, which is given all there is."""
    if wanted is None:
        return _SIXTEEN_BITS, None
    special = (
        wanted.imatrix or wanted.output_tensor_type or wanted.token_embedding_type or wanted.tensor_types
    )
    if wanted.type in _DIRECT and not special:
        return _DIRECT[wanted.type], None
    wide = wanted.type == "F32" or 2 * _wide_weights(files) > files.n_parameters
    return _DIRECT["F32"] if wide else _SIXTEEN_BITS, wanted


def _wide_weights(files: CheckpointFiles) -> int:
    """How many weights of the matrices lose something in 16 bits; a router alone does not widen a model."""
    matrices = (tensor for tensor in files.tensors if tensor.dtype in _WIDE and len(tensor.shape) > 1)
    return sum(math.prod(tensor.shape) for tensor in matrices)


def _room(files: CheckpointFiles, outtype: str, quantization: Quantization | None) -> int:
    """The most bytes that are on the disk at a time: two of the steps beside each other."""
    converted = converted_bytes(files, outtype)
    if quantization is None:
        return 2 * converted
    quantized = largest_quantized_bytes(files.n_parameters, quantization)
    return quantized + max(converted, quantized)


def _check_not_of(folder: Path, target: Path) -> None:
    """Refuse to replace a file that the checkpoint is made of; a GGUF file in its folder is another model."""
    with suppress(OSError):
        file = target.resolve()
        if not file.is_file() or file.suffix == ".gguf":
            return
        inside = file.is_relative_to(folder.resolve())
        if inside or any(path.is_file() and path.samefile(file) for path in folder.iterdir()):
            raise TargetError(f"{target} is a file of the checkpoint itself; give the new file another name")


def _check_early(
    checkpoint: Checkpoint,
    own: CheckpointMethod | None,
    unfinished: Path,
    wanted: Conversion,
    *,
    quantization: Quantization | None,
    made: Path,
) -> None:
    """Refuse what will not do while no more than the header is there; where data is needed, wait for it."""
    header = GgufHeader.read_file(unfinished, whole=False)
    check_tokens(header, checkpoint.shown)
    with suppress(GgufError):
        _plan(checkpoint, own, header, wanted)
    if quantization is not None:
        check_quantizable(header, made, quantization, checkpoint.name)


def _plan(
    checkpoint: Checkpoint, own: CheckpointMethod | None, header: GgufHeader, wanted: Conversion
) -> ContextPlan | None:
    """The plan for the converted file.

    Raises:
        PlanError: a method that was asked for makes none for this model.
        SourceError: the library would not execute it, or the checkpoint's own method makes none.
    """
    if own is None:
        return None
    try:
        plan = plan_for_converted(
            own,
            header,
            method=wanted.method,
            target_length=wanted.target_length,
            train_length=wanted.train_length,
            options=wanted.options,
        )
        if plan is None:
            return None
        changes = plan_to_metadata(plan, rope_spec_from_gguf(header), model_facts_from_gguf(header))
    except GgufError:
        raise
    except PlanError as error:
        asked = wanted.method != KEEP or wanted.target_length is not None
        raise error if asked else SourceError(f"{checkpoint.name}: {error}") from error
    refused = None if changes.native else not_executed(plan, header)
    if refused is not None:
        remedy = refused.remedy if wanted.method != KEEP else "convert it with --method none"
        raise SourceError(f"{checkpoint.name}: {refused.reason}; {remedy}")
    return plan


def _card(checkpoint: Checkpoint) -> ModelCard:
    owner, _, name = checkpoint.name.rpartition("/")
    return ModelCard(
        version=installed_version(),
        made_by="convert",
        base_model=checkpoint.name,
        base_model_revision=checkpoint.revision,
        base=BaseModel(name, owner, checkpoint.url) if checkpoint.url else None,
    )


def _result(baked: BakeResult, warnings: tuple[str, ...]) -> ConvertResult:
    header = GgufHeader.read(baked.target)
    facts = model_facts_from_gguf(header)
    length = facts.context_length if baked.plan is None else baked.plan.target_length
    try:
        rope_spec_from_gguf(header)
        rotates = True
    except PlanError:
        rotates = False
    return ConvertResult(baked, facts.architecture, length, warnings, rotates)
