"""What each `rope_type` of a checkpoint's config does to its frequencies, as transformers 5.23 computes it.

A form is a function from the scaling's parameters and the plain rotation to what is in force at full length.
Sources: `modeling_rope_utils.py` of transformers; for each form the paper that its function of the same
name cites.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ropewalk_plan.config_values import ConfigValues
from ropewalk_plan.llama3_formula import llama3_factors
from ropewalk_plan.longrope_formula import longrope_attention_factor
from ropewalk_plan.plan import MAX_FACTOR
from ropewalk_plan.rope_spec import FloatArray, OwnScaling, RopeSpec
from ropewalk_plan.yarn_formula import BETA_FAST, BETA_SLOW, yarn_factors, yarn_mscale


@dataclass(frozen=True)
class ScalingConfig:
    """A checkpoint's scaling as its config says it.

    Attributes:
        parameters: `rope_parameters`, or the older `rope_scaling`.
        plain: the rotation without the scaling; its train length is `max_position_embeddings`.
        original_length: the length before the scaling, where the config says it outside of `parameters`;
            it comes first then, as in transformers.
        partial_rotary_factor: the rotated share of a head.
        by_layer_type: whether transformers keeps parameters for each layer type.
        sequence_length: the length after the scaling, where the config has a key of its own for it
            (`max_sequence_length`, in LongChat and Vicuna).
    """

    parameters: ConfigValues
    plain: RopeSpec
    original_length: int | None = None
    partial_rotary_factor: float = 1.0
    by_layer_type: bool = False
    sequence_length: int | None = None

    @property
    def length_before(self) -> int:
        """`original_max_position_embeddings`; the full length where there is none."""
        inside = self.parameters.whole("original_max_position_embeddings")
        return self.original_length or inside or self.plain.train_length

    @property
    def knows_length_before(self) -> bool:
        """Whether the config says a length before the scaling."""
        return bool(self.original_length or self.parameters.first_of("original_max_position_embeddings"))

    def factor(self) -> float:
        """The parameter `factor`, which the form needs.

        Raises:
            PlanError: there is none, or it is not above 0.
        """
        value = self.parameters.number("factor", above=0)
        if value is None:
            raise self.parameters.missing("factor", "it must be a number above 0, as this rope_type needs it")
        return value

    def factor_or_ratio(self) -> float:
        """`factor`, or the full length over the one before, which transformers takes in its place."""
        if self.parameters.first_of("factor") is None and self.knows_length_before:
            return self.plain.train_length / self.length_before
        return self.factor()

    def length_after(self, factor: float) -> int:
        """The length the checkpoint is good for: some configs leave `max_position_embeddings` as it was."""
        return max(self.plain.train_length, round(self.length_before * factor))


def plain(config: ScalingConfig) -> RopeSpec:
    """`default` and Qwen-VL's `mrope`, whose sections say which position turns a pair, not how fast."""
    return config.plain


def linear(config: ScalingConfig) -> RopeSpec:
    """Position Interpolation: every frequency divided by `factor`.

    Many configs do not say from which length. `max_position_embeddings` is the one after it in most; where
    `max_sequence_length` is `factor` times that, it is the one before.
    """
    factor, length = config.factor(), config.plain.train_length
    factors = np.full(config.plain.n_pairs, factor)
    if not config.knows_length_before and config.sequence_length != round(length * factor):
        return _scaled(config.plain, factors, OwnScaling("linear", factor=factor))
    scaling = OwnScaling("linear", factor=factor, original_length=config.length_before)
    return _scaled(config.plain, factors, scaling, train_length=config.length_after(factor))


def dynamic(config: ScalingConfig) -> RopeSpec:
    """Dynamic NTK: nothing up to `max_position_embeddings`; beyond it the base grows with the length.

    HunYuan's is another thing by that name: with `alpha`, the base is raised by it once and for all.
    """
    alpha = config.parameters.number("alpha", above=0)
    if alpha is not None and config.plain.architecture.startswith("hunyuan"):
        n_rot = config.plain.n_rot
        return replace(config.plain, base=config.plain.base * alpha ** (n_rot / (n_rot - 2)))
    scaling = OwnScaling("dynamic", factor=config.factor(), original_length=config.plain.train_length)
    return replace(config.plain, own_scaling=scaling)


def yarn(config: ScalingConfig) -> RopeSpec:
    """YaRN with transformers' options: betas, `truncate`, and three ways to an attention factor.

    Where layer types have parameters of their own, transformers does not look for `truncate` in them.
    """
    parameters, factor, original = config.parameters, config.factor_or_ratio(), config.length_before
    beta_fast = parameters.number("beta_fast", at_least=0) or BETA_FAST
    beta_slow = parameters.number("beta_slow", at_least=0) or BETA_SLOW
    truncate = parameters.flag("truncate", default=True) or config.by_layer_type
    factors = yarn_factors(
        config.plain, factor, original, beta_fast=beta_fast, beta_slow=beta_slow, truncate=truncate
    )
    attention_factor = parameters.number("attention_factor", above=0)
    if attention_factor is None:
        attention_factor = yarn_mscale(
            factor, parameters.number("mscale"), parameters.number("mscale_all_dim")
        )
    scaling = OwnScaling(
        "yarn",
        factor=factor,
        original_length=original,
        beta_fast=beta_fast,
        beta_slow=beta_slow,
        truncate=truncate,
    )
    return _scaled(config.plain, factors, scaling, attention_factor, config.length_after(factor))


def longrope(config: ScalingConfig) -> RopeSpec:
    """LongRoPE: the long list where the full length is beyond the one before the scaling, else the short.

    Phi-3.5-MoE's config has an attention factor for each list, `long_mscale` and `short_mscale`.
    """
    parameters, pairs = config.parameters, config.plain.n_pairs
    long, short = (parameters.positive_numbers(f"{which}_factor", pairs) for which in ("long", "short"))
    factor, original = config.factor_or_ratio(), config.length_before
    full_length = config.length_after(factor)
    in_force = "long" if full_length > original else "short"
    attention_factors = {
        which: parameters.number(f"{which}_mscale", "attention_factor", above=0)
        or longrope_attention_factor(factor, original)
        for which in ("long", "short")
    }
    attention_factor = attention_factors[in_force]
    scaling = OwnScaling(
        "longrope",
        factor=factor,
        original_length=original,
        long_factors=long,
        short_factors=short,
        short_attention_factor=(
            None if attention_factors["short"] == attention_factor else attention_factors["short"]
        ),
    )
    factors = np.array(long if in_force == "long" else short)
    return _scaled(config.plain, factors, scaling, attention_factor, full_length)


def llama3(config: ScalingConfig) -> RopeSpec:
    """Llama 3.1's: slow pairs divided by `factor`, fast ones left alone, a ramp over the turns between."""
    parameters, factor, original = config.parameters, config.factor(), config.length_before
    low = parameters.number("low_freq_factor", above=0)
    high = parameters.number("high_freq_factor", above=0)
    if low is None:
        raise parameters.missing("low_freq_factor", "it must be a number above 0, as llama3 needs it")
    if high is None:
        raise parameters.missing("high_freq_factor", "it must be a number above 0, as llama3 needs it")
    if high < low:
        raise parameters.refusal("high_freq_factor", f"at least low_freq_factor, which is {low:g}")
    factors = llama3_factors(config.plain.frequencies, factor, original, low, high)
    scaling = OwnScaling(
        "llama3", factor=factor, original_length=original, low_freq_factor=low, high_freq_factor=high
    )
    return _scaled(config.plain, factors, scaling)


def proportional(config: ScalingConfig) -> RopeSpec:
    """Gemma 4's: exponents over the whole head, of which only the first pairs turn."""
    pairs = config.plain.n_pairs
    turning = int(config.partial_rotary_factor * config.plain.n_rot // 2)
    factor = config.parameters.number("factor", above=0) or 1.0
    factors = np.where(np.arange(pairs) < turning, factor, MAX_FACTOR)
    return replace(config.plain, own_factors=tuple(float(f) for f in factors))


FORMS: Mapping[str, Callable[[ScalingConfig], RopeSpec]] = {
    "default": plain,
    "linear": linear,
    "dynamic": dynamic,
    "yarn": yarn,
    "longrope": longrope,
    "su": longrope,
    "llama3": llama3,
    "proportional": proportional,
    "mrope": plain,
}
"""Every `rope_type` of transformers for a language model; `su` is LongRoPE's first name."""

WHOLE_HEAD = frozenset({"proportional"})
"""Forms in which `partial_rotary_factor` makes pairs stand still and does not shorten the rotated part."""


def _scaled(
    spec: RopeSpec,
    factors: FloatArray,
    scaling: OwnScaling,
    attention_factor: float = 1.0,
    train_length: int | None = None,
) -> RopeSpec:
    return replace(
        spec,
        own_factors=tuple(float(f) for f in factors),
        own_attention_factor=attention_factor,
        own_scaling=scaling,
        train_length=train_length or spec.train_length,
    )
