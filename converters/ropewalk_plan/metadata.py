"""Plans as GGUF metadata: the key table, and the way from a plan to keys and back.

`docs/gguf-metadata.md` is the specification; this module is its implementation. What llama.cpp's own keys
can say in full is said with them (see `native`); the whole plan is always written under `ropewalk.`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from gguf import GGUFReader, GGUFValueType

from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.gguf_keys import GgufKeys, keys_of, number
from ropewalk_plan.native import NativeKeys, NotNative, native_keys, reason_of_file
from ropewalk_plan.own_rotation import (
    FACTORS_TENSOR,
    ModelFacts,
    model_facts_from_gguf,
    rope_spec_from_gguf,
)
from ropewalk_plan.plan import (
    SCHEMA,
    ContextPlan,
    PlanError,
    PositionKind,
    PositionMap,
    ScheduleStep,
)
from ropewalk_plan.rope_spec import RopeSpec

PREFIX = "ropewalk."

SCHEMA_KEY = PREFIX + "schema"
NATIVE_KEY = PREFIX + "native"
METHOD_KEY = PREFIX + "method"
OPTIONS_KEY = PREFIX + "options"
TRAIN_LENGTH_KEY = PREFIX + "train_length"
TARGET_LENGTH_KEY = PREFIX + "target_length"
BASE_KEY = PREFIX + "rope.base"
LENGTHS_KEY = PREFIX + "rope.schedule_lengths"
FACTORS_KEY = PREFIX + "rope.schedule_factors"
ATTENTION_FACTORS_KEY = PREFIX + "rope.schedule_attention_factors"
LAYERS_KEY = PREFIX + "rope.layers"
POSITION_KIND_KEY = PREFIX + "position.kind"
POSITION_PERIOD_KEY = PREFIX + "position.period"
FIRST_PAIR_KEY = PREFIX + "position.first_pair"
LOGN_KEY = PREFIX + "logn.length"
WINDOWS_KEY = PREFIX + "attention.windows"
SINKS_KEY = PREFIX + "attention.sinks"
STREAMING_KEY = PREFIX + "attention.streaming"

_U32, _F32 = GGUFValueType.UINT32, GGUFValueType.FLOAT32
_BOOL, _STRING = GGUFValueType.BOOL, GGUFValueType.STRING
_U32_MAX = 2**32 - 1
_GGUF_TYPES = {int: _U32, bool: _BOOL, str: _STRING}

_Scalar = TypeVar("_Scalar", int, str, bool)

Value = int | float | bool | str | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True)
class KeyValue:
    """One key to write.

    Attributes:
        key: its full name.
        type: the type of the value, or of an array's elements.
        value: a scalar, or a tuple for an array.
    """

    key: str
    type: GGUFValueType
    value: Value


@dataclass(frozen=True)
class FileChanges:
    """What a plan changes in a model's file; everything else in it stays as it is.

    Attributes:
        native: whether the stock keys among these say all of the plan.
        native_reason: why, or why not, in a sentence.
        keys: keys to set, replacing one of the same name where it stands, else appended.
        dropped: names of keys to leave out.
        tensors: F32 tensors (flat, by name) to replace, or to append.
    """

    native: bool
    native_reason: str
    keys: tuple[KeyValue, ...]
    dropped: frozenset[str] = frozenset()
    tensors: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredPlan:
    """A plan as a file holds it.

    Attributes:
        plan: the plan.
        native: whether the file's own keys say all of it, so that stock llama.cpp runs it too.
        native_reason: why, or why not, in a sentence.
        rope_base: the base that the plan's factors are relative to: the file's, or the model's original
            one where a native plan raised it.
    """

    plan: ContextPlan
    native: bool
    native_reason: str
    rope_base: float


def plan_to_metadata(plan: ContextPlan, spec: RopeSpec, facts: ModelFacts) -> FileChanges:
    """The keys and tensors that make `plan` part of a model's file.

    Args:
        plan: the plan.
        spec: the model's own rotation, from the same file as `facts`.
        facts: what else of the file decides.

    Raises:
        PlanError: a number that does not fit the type of its key.
    """
    said = native_keys(plan, spec, facts)
    if isinstance(said, NotNative):
        keys = [*_trained_length(plan, spec, facts), *_plan_keys(plan, native=False)]
        return FileChanges(native=False, native_reason=said.reason, keys=tuple(keys))
    arch = spec.architecture
    stock = _stock_keys(plan, said, arch)
    kept = {entry.key for entry in stock}
    keys = [*stock, *_plan_keys(plan, native=True)]
    if "rope.freq_base" in said.floats:
        keys.append(KeyValue(BASE_KEY, _F32, spec.base))
    return FileChanges(
        native=True,
        native_reason=said.reason,
        keys=tuple(keys),
        dropped=frozenset(f"{arch}.{name}" for name in said.dropped) - kept,
        tensors={FACTORS_TENSOR: said.factors} if said.factors else {},
    )


def read_plan(reader: GgufHeader | GGUFReader) -> StoredPlan | None:
    """The plan that a file carries, or None for a plain file.

    Args:
        reader: a `GgufHeader` or a `gguf.GGUFReader`.

    Raises:
        PlanError: a schema this version does not know, a key that is missing or of the wrong type, or
            values that are no plan.
    """
    keys = keys_of(reader)
    if keys.value(SCHEMA_KEY) is None:
        return None
    schema = _read(keys, SCHEMA_KEY, 0)
    if schema != SCHEMA:
        raise PlanError(
            f"the file holds a plan of schema {schema}, and this version reads schema {SCHEMA}: "
            "update ropewalk, or bake the file again from the plain one"
        )
    plan = ContextPlan(
        method=_read(keys, METHOD_KEY, ""),
        options=_read(keys, OPTIONS_KEY, ""),
        train_length=_read_length(keys, TRAIN_LENGTH_KEY),
        target_length=_read_length(keys, TARGET_LENGTH_KEY),
        schedule=_read_schedule(keys),
        rope_layers=_read_integers(keys, LAYERS_KEY) or None,
        position_map=_read_position_map(keys),
        logn_length=_read(keys, LOGN_KEY, 0),
        windows=_read_integers(keys, WINDOWS_KEY),
        sinks=_read(keys, SINKS_KEY, 0),
        streaming=_read(keys, STREAMING_KEY, False),
    )
    native = _read(keys, NATIVE_KEY, False)
    spec, facts = rope_spec_from_gguf(reader), model_facts_from_gguf(reader)
    if plan.schedule and plan.n_pairs != spec.n_pairs:
        raise PlanError(
            f"the plan has factors for {plan.n_pairs} pairs and the model has {spec.n_pairs}; "
            "bake the file again from the plain one"
        )
    beyond = [layer for layer in plan.rope_layers or () if layer >= spec.n_layer]
    if beyond:
        raise PlanError(
            f"the plan names layer {beyond[0]} and the model has {spec.n_layer}, counted from 0; "
            "bake the file again from the plain one"
        )
    if plan.windows and len(plan.windows) != spec.n_layer:
        raise PlanError(
            f"the plan has windows for {len(plan.windows)} layers and the model has {spec.n_layer}; "
            "bake the file again from the plain one"
        )
    base = number(keys, BASE_KEY) or spec.base
    return StoredPlan(
        plan=plan,
        native=native,
        native_reason=reason_of_file(plan, native=native, spec=spec, facts=facts, original_base=base),
        rope_base=base,
    )


def _plan_keys(plan: ContextPlan, *, native: bool) -> list[KeyValue]:
    steps = plan.schedule
    keys = [
        KeyValue(SCHEMA_KEY, _U32, SCHEMA),
        KeyValue(NATIVE_KEY, _BOOL, native),
        KeyValue(METHOD_KEY, _STRING, plan.method),
        KeyValue(OPTIONS_KEY, _STRING, plan.options),
        KeyValue(TRAIN_LENGTH_KEY, _U32, plan.train_length),
        KeyValue(TARGET_LENGTH_KEY, _U32, plan.target_length),
        KeyValue(LENGTHS_KEY, _U32, tuple(step.up_to_length for step in steps)),
        KeyValue(FACTORS_KEY, _F32, tuple(f for step in steps for f in step.frequency_factors)),
        KeyValue(ATTENTION_FACTORS_KEY, _F32, tuple(step.attention_factor for step in steps)),
        KeyValue(LAYERS_KEY, _U32, plan.rope_layers or ()),
        KeyValue(POSITION_KIND_KEY, _STRING, plan.position_map.kind.value),
        KeyValue(POSITION_PERIOD_KEY, _U32, plan.position_map.period),
        KeyValue(FIRST_PAIR_KEY, _U32, plan.position_map.first_pair),
        KeyValue(LOGN_KEY, _U32, plan.logn_length),
        KeyValue(WINDOWS_KEY, _U32, plan.windows),
        KeyValue(SINKS_KEY, _U32, plan.sinks),
        KeyValue(STREAMING_KEY, _BOOL, plan.streaming),
    ]
    written = [entry for entry in keys if entry.value != ()]  # an empty array is said by the key's absence
    for entry in written:
        _check_fits(entry)
    return written


def _trained_length(plan: ContextPlan, spec: RopeSpec, facts: ModelFacts) -> list[KeyValue]:
    """L as the file's context length, where a stock build would go on beyond it with a plain rotation.

    Files whose converter wrote the length that a model was fine-tuned to, and dropped how, say more than L.
    """
    said_otherwise = facts.has_lists or not spec.is_plain or spec.architecture == "glm-dsa"
    turned = plan.schedule or plan.logn_length
    if facts.context_length <= plan.train_length or said_otherwise or not turned:
        return []
    return [KeyValue(f"{spec.architecture}.context_length", _U32, plan.train_length)]


def _check_fits(entry: KeyValue) -> None:
    if entry.type is not _U32:
        return
    for value in entry.value if isinstance(entry.value, tuple) else (entry.value,):
        if not isinstance(value, int) or not 0 <= value <= _U32_MAX:
            raise PlanError(f"{entry.key} is {value}; it must be a whole number from 0 to {_U32_MAX}")


def _stock_keys(plan: ContextPlan, said: NativeKeys, arch: str) -> list[KeyValue]:
    keys = [KeyValue(f"{arch}.context_length", _U32, plan.target_length)]
    if said.scaling_type:
        keys.append(KeyValue(f"{arch}.rope.scaling.type", _STRING, said.scaling_type))
    if said.original_length:
        keys.append(KeyValue(f"{arch}.rope.scaling.original_context_length", _U32, said.original_length))
    keys += [KeyValue(f"{arch}.{name}", _F32, value) for name, value in said.floats.items()]
    return keys


def _read(keys: GgufKeys, key: str, default: _Scalar) -> _Scalar:
    """The value under `key`, of the GGUF type that goes with `default`, which stands for an absent key."""
    _check_type(keys, key, (_GGUF_TYPES[type(default)],))
    value = keys.value(key)
    if value is None:
        return default
    assert type(value) is type(default), "the GGUF type was checked"
    return value


def _check_type(keys: GgufKeys, key: str, wanted: tuple[GGUFValueType, ...]) -> None:
    """Refuse what the library refuses: a key of another type than a plan has there, like U64 for U32."""
    found = keys.types(key)
    if found and found != wanted:
        raise PlanError(
            f"the key {key} holds {_type_words(found)}, and a plan has {_type_words(wanted)} there; "
            "bake the file again from the plain one"
        )


def _type_words(types: tuple[int, ...]) -> str:
    """GGUF types in words: `UINT32`, `ARRAY of FLOAT32`."""
    known = {int(kind): kind.name for kind in GGUFValueType}
    return " of ".join(known.get(kind, f"type {kind}") for kind in types)


def _read_length(keys: GgufKeys, key: str) -> int:
    if keys.value(key) is None:
        raise PlanError(
            f"the file holds a plan without the key {key}; bake the file again from the plain one"
        )
    return _read(keys, key, 0)


def _read_integers(keys: GgufKeys, key: str) -> tuple[int, ...]:
    return tuple(int(value) for value in _read_list(keys, key, _U32))


def _read_floats(keys: GgufKeys, key: str) -> tuple[float, ...]:
    return tuple(float(value) for value in _read_list(keys, key, _F32))


def _read_list(keys: GgufKeys, key: str, element: GGUFValueType) -> list[Any]:
    _check_type(keys, key, (GGUFValueType.ARRAY, element))
    values = keys.value(key)
    if values is None:
        return []
    assert isinstance(values, list), "the GGUF type was checked"
    return values


def _read_schedule(keys: GgufKeys) -> tuple[ScheduleStep, ...]:
    lengths = _read_integers(keys, LENGTHS_KEY)
    factors = _read_floats(keys, FACTORS_KEY)
    attention_factors = _read_floats(keys, ATTENTION_FACTORS_KEY)
    n_steps = len(lengths)
    if len(attention_factors) != n_steps or (len(factors) % n_steps if n_steps else len(factors)):
        raise PlanError(
            f"{FACTORS_KEY} has {len(factors)} numbers and {ATTENTION_FACTORS_KEY} {len(attention_factors)}, "
            f"which does not fit the {n_steps} steps of {LENGTHS_KEY}; bake the file again from the plain one"
        )
    n_pairs = len(factors) // n_steps if n_steps else 0
    return tuple(
        ScheduleStep(length, factors[step * n_pairs : (step + 1) * n_pairs], attention_factors[step])
        for step, length in enumerate(lengths)
    )


def _read_position_map(keys: GgufKeys) -> PositionMap:
    kind = _read(keys, POSITION_KIND_KEY, PositionKind.IDENTITY.value)
    kinds = [known.value for known in PositionKind]
    if kind not in kinds:
        raise PlanError(f"the key {POSITION_KIND_KEY} holds {kind!r}; it must be {' or '.join(kinds)}")
    return PositionMap(
        PositionKind(kind), _read(keys, POSITION_PERIOD_KEY, 0), _read(keys, FIRST_PAIR_KEY, 0)
    )
