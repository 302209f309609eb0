"""Whether llama.cpp's own keys can say all of a plan, and if so with which keys.

The decision looks at the plan's numbers, never at the name of the method that made them: each form that
stock llama.cpp knows is tried, and one is right if it reproduces every factor to F32 rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ropewalk_plan import architectures
from ropewalk_plan.own_rotation import ModelFacts
from ropewalk_plan.plan import ContextPlan, PositionKind
from ropewalk_plan.rope_spec import FloatArray, RopeSpec
from ropewalk_plan.yarn_formula import yarn_attention_factor, yarn_factors

_F32_ROUNDING = 2.0**-22
"""Relative difference below which two factors are the same F32 number, give or take its roundings."""

_SCALING_KEYS = (
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
)
"""A model's own scaling, without `{arch}.`: replaced as a whole by a native plan that changes it.
`rope.scaling.finetuned` is not in it: Granite reads it as the switch of RoPE itself."""

_UNCHANGED = "it leaves the model's own rotation as it is"
_LINEAR = "llama.cpp's linear scaling says it"
_YARN = "llama.cpp's YaRN says it, with its betas of 32 and 1"


@dataclass(frozen=True)
class NativeKeys:
    """How stock llama.cpp is told of a plan.

    Attributes:
        reason: why these keys say all of it, in a sentence.
        floats: F32 keys to set, without `{arch}.`.
        scaling_type: `rope.scaling.type` to set; empty for none.
        original_length: `rope.scaling.original_context_length` to set; 0 to leave it as it is.
        dropped: keys to remove, without `{arch}.`.
        factors: the numbers of `rope_freqs.weight`; empty for no tensor.
    """

    reason: str
    floats: dict[str, float]
    scaling_type: str = ""
    original_length: int = 0
    dropped: tuple[str, ...] = ()
    factors: tuple[float, ...] = ()


@dataclass(frozen=True)
class NotNative:
    """Why stock llama.cpp cannot be told all of a plan, in a sentence."""

    reason: str


def native_keys(plan: ContextPlan, spec: RopeSpec, facts: ModelFacts) -> NativeKeys | NotNative:
    """The stock keys that say all of `plan` for this model, or why there are none."""
    unsaid = _what_no_key_says(plan, spec.architecture)
    if unsaid:
        return NotNative(f"llama.cpp has no key for {unsaid}")
    if facts.context_length != plan.target_length and spec.architecture == "glm-dsa":
        return NotNative("llama.cpp tells the versions of glm-dsa apart by their context length")
    if not plan.schedule:
        return _unchanged(plan, facts)
    if facts.has_lists or facts.scaling_type == "longrope":
        return NotNative("the file's LongRoPE lists change with the size of the context, the plan does not")
    wanted = np.asarray(plan.frequency_factors, dtype=np.float64)
    if _same(wanted, spec.factors) and _close(plan.attention_factor, spec.own_attention_factor):
        return _unchanged(plan, facts)
    exception = architectures.why_not_stock(spec.architecture, facts.sliding_window)
    if exception:
        return NotNative(exception)
    return next(_forms(plan, spec, facts, wanted), NotNative(_why_no_form(plan, spec)))


def reason_of_file(
    plan: ContextPlan, *, native: bool, spec: RopeSpec, facts: ModelFacts, original_base: float
) -> str:
    """Why a file that carries `plan` is native or not, in the words of `native_keys`.

    Args:
        plan: the plan in the file.
        native: whether the file says it is native.
        spec: the rotation that the file's own keys say; a native plan's is in them.
        facts: of the same file.
        original_base: the base that the plan's factors are relative to.
    """
    if not native:
        said = native_keys(plan, spec, facts)
        return said.reason if isinstance(said, NotNative) else "the file was written without native keys"
    if not plan.schedule:
        return _UNCHANGED
    if original_base != spec.base:
        return _base_reason(spec.base, original_base)
    if facts.has_factors:
        return _factors_reason(spec.architecture)
    if facts.scaling_type == "yarn":
        return _YARN
    return _UNCHANGED if spec.is_plain else _LINEAR


def _what_no_key_says(plan: ContextPlan, architecture: str) -> str:
    if plan.position_map.kind is not PositionKind.IDENTITY:
        return f"a {plan.position_map.kind.value} position map"
    if plan.logn_length:
        return "scaling queries by the logarithm of their position"
    if plan.streaming:
        return "a rolling window with sinks before it"
    if plan.windows:
        return "windows of our own"
    if len(plan.schedule) > 1:
        # LongRoPE's two lists are not that: a short text in a large context is turned by the long one
        by_context = architecture in architectures.READS_LONGROPE_LISTS
        return "frequencies that change with the length of the text" + (
            " (it chooses between LongRoPE's two lists by the size of the context)" if by_context else ""
        )
    if plan.rope_layers is not None:
        return "a plan for some layers only"
    return ""


def _forms(
    plan: ContextPlan, spec: RopeSpec, facts: ModelFacts, wanted: FloatArray
) -> Iterator[NativeKeys | NotNative]:
    """The stock forms that reproduce the factors `wanted`, the most widely understood first."""
    yarn = None
    if not facts.has_factors:  # stock multiplies these forms with the file's factors
        if plan.attention_factor == 1.0:
            yield from _linear(plan, facts, wanted)
            yield from _raised_base(plan, spec, facts, wanted)
        yarn = _yarn(plan, spec, facts, wanted)
    if yarn is not None:
        exception = architectures.why_not_stock_yarn(spec.architecture)
        yield NotNative(exception) if exception else yarn
    if plan.attention_factor == 1.0 and spec.architecture in architectures.READS_ROPE_FREQS:
        yield NativeKeys(
            reason=_factors_reason(spec.architecture),
            floats={},
            original_length=facts.original_length,
            dropped=_SCALING_KEYS,
            factors=plan.frequency_factors,
        )


def _unchanged(plan: ContextPlan, facts: ModelFacts) -> NativeKeys:
    longer = plan.target_length != facts.context_length
    return NativeKeys(
        reason=_UNCHANGED,
        floats={},
        original_length=facts.original_length if longer else 0,
    )


def _linear(plan: ContextPlan, facts: ModelFacts, wanted: FloatArray) -> Iterator[NativeKeys]:
    if _same(wanted, np.full_like(wanted, wanted[0])):
        yield NativeKeys(
            reason=_LINEAR,
            floats={"rope.scaling.factor": plan.frequency_factors[0]},
            scaling_type="linear",
            original_length=facts.original_length,
            dropped=_SCALING_KEYS,
        )


def _raised_base(
    plan: ContextPlan, spec: RopeSpec, facts: ModelFacts, wanted: FloatArray
) -> Iterator[NativeKeys]:
    """`f_i = (base'/base)^(2i/d)`, with base' as the F32 number that the file can hold."""
    if spec.n_pairs < 2:
        return
    exponents = 2.0 * np.arange(spec.n_pairs, dtype=np.float64) / spec.n_rot
    exact = spec.base * wanted[-1] ** (1.0 / exponents[-1])
    if not 1 < exact < np.finfo(np.float32).max:
        return
    base = float(np.float32(exact))
    if _same(wanted, np.power(base / spec.base, exponents)):
        yield NativeKeys(
            reason=_base_reason(base, spec.base),
            floats={"rope.freq_base": base},
            original_length=facts.original_length,
            dropped=(*_SCALING_KEYS, "rope.scaling.alpha"),
        )


def _yarn(plan: ContextPlan, spec: RopeSpec, facts: ModelFacts, wanted: FloatArray) -> NativeKeys | None:
    """Stock YaRN: betas 32 and 1, total attention factor `attn_factor (0.1 ln s + 1)`."""
    plain = RopeSpec(spec.architecture, spec.n_rot, spec.base, spec.train_length, spec.n_layer)
    for scale in dict.fromkeys((float(np.float32(plan.scale)), plan.frequency_factors[-1])):
        for original_length in dict.fromkeys((plan.train_length, facts.original_length)):
            if scale <= 1.0 or not _same(wanted, yarn_factors(plain, scale, original_length)):
                continue
            floats = {"rope.scaling.factor": scale}
            correction = plan.attention_factor / yarn_attention_factor(scale)
            if not _close(correction, 1.0):
                floats["rope.scaling.attn_factor"] = correction
            return NativeKeys(
                reason=_YARN,
                floats=floats,
                scaling_type="yarn",
                original_length=original_length,
                dropped=_SCALING_KEYS,
            )
    return None


def _why_no_form(plan: ContextPlan, spec: RopeSpec) -> str:
    arch = spec.architecture
    if plan.attention_factor != 1.0:
        return "llama.cpp has no key for these frequencies together with an attention factor"
    return f"llama.cpp's {arch} reads no factors for single pairs, and no scaling of its own equals them"


def _same(one: FloatArray, other: FloatArray) -> bool:
    return bool(np.allclose(one, other, rtol=_F32_ROUNDING, atol=0.0))


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_F32_ROUNDING)


def _base_reason(base: float, original: float) -> str:
    return f"the rotary base says it ({base:.10g} instead of {original:.10g})"


def _factors_reason(architecture: str) -> str:
    return f"llama.cpp's {architecture} reads the factors from the tensor rope_freqs.weight"
