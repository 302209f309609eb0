"""What a GGUF file says about its model's own rotation: `RopeSpec`, and the facts that metadata needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGUFReader

from ropewalk_plan import architectures
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.gguf_keys import GgufKeys, integer, keys_of, number, text
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray, OwnScaling, RopeSpec
from ropewalk_plan.yarn_formula import BETA_FAST, BETA_SLOW, yarn_attention_factor, yarn_factors

FACTORS_TENSOR = "rope_freqs.weight"
LONG_LIST_TENSOR = "rope_factors_long.weight"
SHORT_LIST_TENSOR = "rope_factors_short.weight"

DEFAULT_BASE = 10000.0
_GROK_BETA_FAST = 8.0


@dataclass(frozen=True)
class ModelFacts:
    """What else of a model's file decides how a plan is written into it.

    Attributes:
        architecture: GGUF's `general.architecture`.
        context_length: `{arch}.context_length`.
        original_length: `rope.scaling.original_context_length`, or the context length where it is absent.
        scaling_type: `rope.scaling.type`: none, linear (the default), yarn or longrope.
        has_factors: whether the file has `rope_freqs.weight` and the architecture uses it.
        sliding_window: `attention.sliding_window`, 0 where it is absent.
        has_lists: whether the file has LongRoPE's two lists and the architecture uses them.
    """

    architecture: str
    context_length: int
    original_length: int
    scaling_type: str
    has_factors: bool
    sliding_window: int
    has_lists: bool = False


def model_facts_from_gguf(reader: GgufHeader | GGUFReader) -> ModelFacts:
    """The facts of one file.

    Raises:
        PlanError: no architecture or no context length in it.
    """
    keys = keys_of(reader)
    arch = _architecture(keys)
    context_length = _required(keys, f"{arch}.context_length")
    return ModelFacts(
        architecture=arch,
        context_length=context_length,
        original_length=integer(keys, f"{arch}.rope.scaling.original_context_length") or context_length,
        scaling_type=text(keys, f"{arch}.rope.scaling.type") or "linear",
        has_factors=arch in architectures.READS_ROPE_FREQS and keys.has_tensor(FACTORS_TENSOR),
        sliding_window=integer(keys, f"{arch}.attention.sliding_window") or 0,
        has_lists=arch in architectures.READS_LONGROPE_LISTS and keys.has_tensor(LONG_LIST_TENSOR),
    )


def rope_spec_from_gguf(reader: GgufHeader | GGUFReader) -> RopeSpec:
    """A model's rotation as llama.cpp would run its file: base, dimensions and its own scaling.

    Own scaling is what llama.cpp applies: linear and YaRN keys, the factors tensor (where the
    architecture uses it), the long LongRoPE list, the attention factor, and a base raised by `alpha`.

    Args:
        reader: a `GgufHeader` or a `gguf.GGUFReader`.

    Raises:
        PlanError: an architecture without RoPE or unknown to llama.cpp, or values that no rotary
            model can have.
    """
    keys = keys_of(reader)
    arch = _architecture(keys)
    _check_rotates(keys, arch)
    n_rot = _rotated_dimensions(keys, arch)
    base = _base(keys, arch)
    plain = RopeSpec(
        architecture=arch,
        n_rot=n_rot,
        base=base,
        train_length=_required(keys, f"{arch}.context_length"),
        n_layer=_required(keys, f"{arch}.block_count"),
    )
    listed = _listed_factors(keys, arch, plain.n_pairs)
    return RopeSpec(
        architecture=arch,
        n_rot=n_rot,
        base=base,
        train_length=plain.train_length,
        n_layer=plain.n_layer,
        own_factors=tuple(float(f) for f in listed * _scaling(keys, plain)),
        own_attention_factor=own_attention_factor(keys),
        own_scaling=_own_scaling(keys, plain),
    )


def own_attention_factor(keys: GgufKeys) -> float:
    """What llama.cpp multiplies rotated queries and keys by under the file's own scaling: 1 for most.

    In latent attention that is the rotated part of a head alone. Scores as a whole are scaled by the model
    besides, whatever a plan says (deepseek2 and its kin by `yarn_log_multiplier`).

    Raises:
        PlanError: no architecture in it.
    """
    arch = _architecture(keys)
    factor = number(keys, f"{arch}.rope.scaling.attn_factor") or 1.0
    scaling_type, scale = _type_and_scale(keys, arch)
    return factor * _own_yarn_attention(keys, arch, scale) if scaling_type == "yarn" else factor


def own_score_factor(keys: GgufKeys) -> float:
    """What llama.cpp multiplies whole scores by besides, as its root; a plan does not replace it. 1 for most.

    A few models of latent attention multiply them by a term of the file's scaling factor, under linear
    scaling too: `a (0.1 b ln s + 1)`, with `b` the file's log multiplier, and `a` the attention factor for
    what rotates, or under linear scaling `0.1 ln s + 1`.

    Raises:
        PlanError: no architecture in it.
    """
    arch = _architecture(keys)
    if arch not in architectures.SCALES_SCORES_TOO:
        return 1.0
    scaling_type, scale = _type_and_scale(keys, arch)
    rotated = own_attention_factor(keys) * (1.0 if scaling_type == "yarn" else yarn_attention_factor(scale))
    return rotated * yarn_attention_factor(scale, _log_multiplier(keys, arch))


def _architecture(keys: GgufKeys) -> str:
    arch = text(keys, "general.architecture")
    if not arch:
        raise PlanError(
            "the file does not say its architecture (general.architecture); convert the model again"
        )
    return arch


def _required(keys: GgufKeys, key: str) -> int:
    value = integer(keys, key)
    if value is None:
        raise PlanError(f"the file has no key {key}; convert the model again")
    return value


def _check_rotates(keys: GgufKeys, arch: str) -> None:
    if arch in architectures.WITHOUT_ROPE:
        raise PlanError(f"the architecture {arch} has no RoPE; choose a model that rotates its positions")
    if not architectures.is_known(arch):
        raise PlanError(f"the architecture {arch} is unknown to the llama.cpp this version is made for")
    layers = architectures.ROTATES_ONLY_WITH_LAYERS.get(arch)
    if layers is not None and integer(keys, f"{arch}.block_count") not in (None, layers):
        raise PlanError(
            f"this {arch} model has no RoPE, as only those of {layers} layers have; "
            "choose a model that rotates its positions"
        )
    switched = keys.value(f"{arch}.rope.scaling.finetuned")
    if arch in architectures.ROPE_SWITCHED_BY_FINETUNED and switched is False:
        raise PlanError(
            f"this {arch} model has its RoPE switched off ({arch}.rope.scaling.finetuned is false); "
            "choose a model that rotates its positions"
        )


def _rotated_dimensions(keys: GgufKeys, arch: str) -> int:
    n_rot = integer(keys, f"{arch}.rope.dimension_count") or integer(keys, f"{arch}.attention.key_length")
    if n_rot:
        return n_rot
    heads = _required(keys, f"{arch}.attention.head_count")
    if heads <= 0:
        raise PlanError(f"{arch}.attention.head_count is {heads}; it must be above 0")
    return _required(keys, f"{arch}.embedding_length") // heads


def _base(keys: GgufKeys, arch: str) -> float:
    base = number(keys, f"{arch}.rope.freq_base") or DEFAULT_BASE
    alpha = number(keys, f"{arch}.rope.scaling.alpha") or 0.0
    if arch in architectures.BASE_RAISED_BY_ALPHA and alpha > 0:
        head = integer(keys, f"{arch}.attention.key_length") or _rotated_dimensions(keys, arch)
        base = float(np.float32(base * alpha ** (head / (head - 2))))
    return base


def _listed_factors(keys: GgufKeys, arch: str, n_pairs: int) -> FloatArray:
    """The factors of the file's tensors: `rope_freqs`, else LongRoPE's long list, else ones."""
    names = []
    if arch in architectures.READS_ROPE_FREQS:
        names.append(FACTORS_TENSOR)
    if arch in architectures.READS_LONGROPE_LISTS:
        names.append(LONG_LIST_TENSOR)
    for name in names:
        values = keys.tensor_f32(name)
        if values is not None:
            if len(values) < n_pairs:
                raise PlanError(f"the tensor {name} has {len(values)} factors; the model has {n_pairs} pairs")
            return values[:n_pairs].astype(np.float64)
    return np.ones(n_pairs, dtype=np.float64)


def _own_scaling(keys: GgufKeys, plain: RopeSpec) -> OwnScaling | None:
    """The parameters of the file's own scaling; None for a plain model and for a bare tensor of factors."""
    arch = plain.architecture
    original_length = integer(keys, f"{arch}.rope.scaling.original_context_length")
    if arch in architectures.READS_LONGROPE_LISTS and keys.has_tensor(LONG_LIST_TENSOR):
        long, short = (_list(keys, name, plain.n_pairs) for name in (LONG_LIST_TENSOR, SHORT_LIST_TENSOR))
        original = original_length or plain.train_length
        return OwnScaling(
            "longrope",
            factor=plain.train_length / original,
            original_length=original,
            long_factors=long,
            short_factors=short,
        )
    scaling_type, scale = _type_and_scale(keys, arch)
    if scaling_type == "yarn":
        return OwnScaling("yarn", factor=scale, original_length=original_length or plain.train_length)
    return None if scale == 1.0 else OwnScaling("linear", factor=scale, original_length=original_length)


def _list(keys: GgufKeys, name: str, n_pairs: int) -> tuple[float, ...]:
    values = keys.tensor_f32(name)
    return () if values is None else tuple(float(f) for f in values[:n_pairs])


def _type_and_scale(keys: GgufKeys, arch: str) -> tuple[str, float]:
    """`rope.scaling.type` (linear where it is absent) and the scale that llama.cpp takes."""
    scaling_type = text(keys, f"{arch}.rope.scaling.type") or "linear"
    scale = number(keys, f"{arch}.rope.scaling.factor") or number(keys, f"{arch}.rope.scale_linear") or 1.0
    return scaling_type, 1.0 if scaling_type == "none" else scale


def _scaling(keys: GgufKeys, plain: RopeSpec) -> FloatArray:
    """Factors of the file's scaling keys, as llama.cpp's context computes them."""
    arch, prefix = plain.architecture, f"{plain.architecture}.rope.scaling"
    scaling_type, scale = _type_and_scale(keys, arch)
    if scaling_type != "yarn":
        return np.full(plain.n_pairs, scale, dtype=np.float64)
    reads_betas = arch in architectures.OTHER_YARN_DEFAULTS
    beta_fast = _GROK_BETA_FAST if arch == "grok" else BETA_FAST
    beta_slow, mix = BETA_SLOW, 1.0
    if reads_betas:
        beta_fast = number(keys, f"{prefix}.yarn_beta_fast") or beta_fast
        beta_slow = number(keys, f"{prefix}.yarn_beta_slow") or beta_slow
    if arch == "grok":
        mix = number(keys, f"{prefix}.yarn_ext_factor") or 1.0
    original_length = integer(keys, f"{prefix}.original_context_length") or plain.train_length
    return yarn_factors(plain, scale, original_length, beta_fast=beta_fast, beta_slow=beta_slow, mix=mix)


def _own_yarn_attention(keys: GgufKeys, arch: str, scale: float) -> float:
    """Stock's YaRN multiplier: `mscale(s, a) / mscale(s, b)` where the file has a log multiplier b."""
    divisor = _log_multiplier(keys, arch)
    if divisor == 0.0:
        return yarn_attention_factor(scale)
    weight = divisor if arch == "deepseek2" else 1.0
    return yarn_attention_factor(scale, weight) / yarn_attention_factor(scale, divisor)


def _log_multiplier(keys: GgufKeys, arch: str) -> float:
    """`mscale_all_dim`, 0 where the file does not have it or llama.cpp does not read it."""
    if arch not in architectures.READS_YARN_LOG_MULTIPLIER:
        return 0.0
    multiplier = number(keys, f"{arch}.rope.scaling.yarn_log_multiplier") or 0.0
    return multiplier * 10.0 if arch in architectures.SCALES_SCORES_TOO else multiplier  # written times 0.1
