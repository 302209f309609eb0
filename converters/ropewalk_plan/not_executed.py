"""Which part of a plan the patched library does not execute for a model, as far as its file can tell.

The library is the judge: it refuses a file at load, or when a context is made and the graph is known. What
the file can tell already is told here, before gigabytes are copied. The table is `architectures`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from gguf import GGUFReader

from ropewalk_plan import architectures
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.gguf_keys import GgufKeys, integer, keys_of
from ropewalk_plan.own_rotation import model_facts_from_gguf, own_attention_factor
from ropewalk_plan.plan import ContextPlan, PositionKind

_FOURTH = 4
_F32_ROUNDINGS = 1e-6
_SEVERAL_POSITIONS = "a token has several positions"
_ANOTHER_MEMORY = "its keys lie in a memory of another kind"


@dataclass(frozen=True)
class Refused:
    """A part of a plan that is not executed.

    Attributes:
        reason: why, in a clause that names the architecture.
        remedy: what to ask for instead, in a clause.
    """

    reason: str
    remedy: str


def not_executed(plan: ContextPlan, reader: GgufHeader | GGUFReader) -> Refused | None:
    """The first part of `plan` that the library would refuse to execute for the model of this file, if any.

    Only for a plan that the library executes, not for one that the file's own keys say.

    Raises:
        PlanError: the file does not say its architecture or its context length.
    """
    arch = model_facts_from_gguf(reader).architecture
    model = _Model(arch, keys_of(reader))
    return next(chain(_refused(plan, model), _refused_windows(plan, model)), None)


def is_latent(reader: GgufHeader | GGUFReader) -> bool:
    """Whether the model of this file runs as multi-head latent attention.

    Only a part of each head rotates then, and a plan's attention factor is for whole scores.

    Raises:
        PlanError: the file does not say its architecture or its context length.
    """
    return _is_latent(_Model(model_facts_from_gguf(reader).architecture, keys_of(reader)))


@dataclass(frozen=True)
class _Model:
    """A model's architecture and what its file says under that name."""

    arch: str
    keys: GgufKeys

    def number(self, key: str) -> int:
        """The number under `{arch}.key`, 0 where it is absent."""
        return integer(self.keys, f"{self.arch}.{key}") or 0

    def has(self, key: str) -> bool:
        return self.keys.value(f"{self.arch}.{key}") is not None


def _refused(plan: ContextPlan, model: _Model) -> Iterator[Refused]:
    arch = model.arch
    if plan.schedule and _is_latent(model) and abs(own_attention_factor(model.keys) - 1.0) > _F32_ROUNDINGS:
        yield Refused(
            f"this {arch} model's own scaling sharpens a part of each head, from which no plan can go on",
            "choose a method that leaves the frequencies alone",
        )
    if plan.schedule and plan.rope_layers is None and _turns_nothing(model):
        yield Refused(
            f"no layer of this {arch} model both rotates and sees the whole context, so factors would change "
            "nothing",
            "choose a method without them",
        )
    if plan.position_map.kind is not PositionKind.IDENTITY and arch in architectures.POSITIONS_OF_ITS_OWN:
        yield Refused(
            f"{arch} rotates by positions of its own, which a position map does not reach",
            "choose a method without one",
        )
    if plan.logn_length and (arch in architectures.ATTENTION_OF_ITS_OWN or _slides_throughout(model)):
        yield Refused(
            f"LogN does not reach the attention of this {arch} model",
            "choose a method without it",
        )
    why = _why_no_steps(model) if len(plan.schedule) > 1 else ""
    if why:
        yield Refused(
            f"the patched library changes no factors with the length of the text in this {arch} model: {why}",
            "choose a static method",
        )


def _refused_windows(plan: ContextPlan, model: _Model) -> Iterator[Refused]:
    why = _why_no_windows(model) if any(plan.windows) else ""
    if why:
        yield Refused(
            f"the patched library gives no windows to this {model.arch} model: {why}",
            "choose a method without them",
        )
    if plan.streaming and model.arch in architectures.KEYS_NORMALIZED_LAST:
        yield Refused(
            f"this {model.arch} model cannot stream: a norm follows the rotation of its keys",
            "choose windows without streaming",
        )


def _is_latent(model: _Model) -> bool:
    return (
        model.arch in architectures.LATENT_WITH_LENGTHS
        and model.number("attention.key_length_mla") > 0
        and model.number("attention.value_length_mla") > 0
    )


def _turns_nothing(model: _Model) -> bool:
    arch = model.arch
    if arch in architectures.FULL_LAYERS_DO_NOT_ROTATE or _slides_throughout(model):
        return True
    if arch in architectures.EVERY_FOURTH_DOES_NOT_ROTATE and _slides(model):
        shift = architectures.EVERY_FOURTH_DOES_NOT_ROTATE[arch]
        return all((layer + shift) % _FOURTH == 0 for layer in _full_layers(model, shift))
    layers = architectures.FULL_LAYERS_DO_NOT_ROTATE_WITH_LAYERS.get(arch)
    return layers is not None and model.number("block_count") == layers


def _slides(model: _Model) -> bool:
    """Whether the file asks for a window, or its architecture has one and the file does not say 0."""
    if model.has("attention.sliding_window"):
        return model.number("attention.sliding_window") > 0
    return model.arch in architectures.SLIDES_UNLESS_WINDOW_IS_ZERO


def _full_layers(model: _Model, shift: int) -> list[int]:
    """The layers that see the whole context: one of so many, from `shift`, or by the file's own list."""
    pattern = model.keys.value(f"{model.arch}.attention.sliding_window_pattern")
    if isinstance(pattern, list):
        return [layer for layer, slides in enumerate(pattern) if not slides]
    period = pattern if isinstance(pattern, int) and pattern > 0 else _FOURTH
    return [layer for layer in range(model.number("block_count")) if (layer + shift) % period == 0]


def _slides_throughout(model: _Model) -> bool:
    return model.arch in architectures.SLIDES_THROUGHOUT or (
        model.arch in architectures.SLIDES_THROUGHOUT_WITH_WINDOW
        and model.number("attention.sliding_window") > 0
    )


def _why_no_steps(model: _Model) -> str:
    """Why cached keys cannot be turned to other factors, in a clause; empty if they can."""
    arch = model.arch
    if _has_several_positions(model):
        return _SEVERAL_POSITIONS
    if arch in architectures.KEYS_NORMALIZED_LAST:
        return "a norm follows the rotation of its keys"
    if arch in architectures.MEMORY_OF_ITS_OWN or (
        arch in architectures.MEMORY_OF_ITS_OWN_WITH_INDEXER and model.number("attention.indexer.top_k") > 0
    ):
        return _ANOTHER_MEMORY
    return ""


def _why_no_windows(model: _Model) -> str:
    """Why layers cannot have windows of a plan, in a clause; empty if they can."""
    arch = model.arch
    if _has_several_positions(model):
        return _SEVERAL_POSITIONS
    if arch in architectures.KEEPS_NO_KEYS:
        return "it keeps no keys from token to token"
    if arch in architectures.MEMORY_OF_ITS_OWN | architectures.MEMORY_OF_ITS_OWN_FOR_WINDOWS:
        return _ANOTHER_MEMORY
    return "it has windows of its own" if _has_own_windows(model) else ""


def _has_own_windows(model: _Model) -> bool:
    arch = model.arch
    if arch in architectures.FULL_LAYERS_DO_NOT_ROTATE_WITH_LAYERS:
        return model.number("block_count") == architectures.FULL_LAYERS_DO_NOT_ROTATE_WITH_LAYERS[arch]
    if arch in architectures.SLIDES_ONLY_WITH_WINDOW | architectures.SLIDES_UNLESS_WINDOW_IS_ZERO:
        return _slides(model)
    return arch in architectures.SLIDING | architectures.DRAFTS_WITH_WINDOWS


def _has_several_positions(model: _Model) -> bool:
    return model.arch in architectures.SEVERAL_POSITIONS or (
        model.arch in architectures.SEVERAL_POSITIONS_WITH_SECTIONS and _has_sections(model)
    )


def _has_sections(model: _Model) -> bool:
    """Whether the first two of `rope.dimension_sections` are above 0; one number stands for all of them."""
    value = model.keys.value(f"{model.arch}.rope.dimension_sections")
    sections = value[:2] if isinstance(value, list) else [value, value]
    return len(sections) == 2 and all(isinstance(n, int) and n > 0 for n in sections)
