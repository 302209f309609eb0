"""A checkpoint beside the GGUF file made of it: what the file says of the checkpoint's method."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ropewalk_plan import architectures
from ropewalk_plan.checkpoint_own import CheckpointMethod
from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.gguf_keys import keys_of
from ropewalk_plan.not_executed import is_latent
from ropewalk_plan.own_rotation import (
    ModelFacts,
    model_facts_from_gguf,
    own_score_factor,
    rope_spec_from_gguf,
)
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import FloatArray, RopeSpec

_ROUNDINGS = 1e-6
"""Relative difference up to which frequencies are the same: bases and factors are F32 in a file, and computed
in F32 by llama.cpp's converter (seen: 2e-7)."""


@dataclass(frozen=True)
class ConvertedFile:
    """A GGUF file made of a checkpoint, and the checkpoint's rotation in the file's terms.

    Attributes:
        header: the file.
        spec: the rotation that its own keys say, as stock llama.cpp runs it.
        facts: what else of it decides how a plan is written.
        own: the checkpoint's effective rotation, in factors relative to the file's base.
    """

    header: GgufHeader
    spec: RopeSpec
    facts: ModelFacts
    own: RopeSpec

    @property
    def says_rotation(self) -> bool:
        """Whether the file's own keys say the checkpoint's rotation at full length."""
        same = np.allclose(self.own.frequencies, self.spec.frequencies, rtol=_ROUNDINGS, atol=0.0)
        return bool(same) and math.isclose(
            self.own.own_attention_factor, self.spec.own_attention_factor, rel_tol=_ROUNDINGS
        )

    @property
    def slides(self) -> bool:
        """Whether it has natively sliding layers."""
        return self.spec.architecture in architectures.SLIDING and (
            self.facts.sliding_window > 0
            or self.spec.architecture not in architectures.SLIDING_ONLY_WITH_WINDOW
        )

    def why_no_factor(self, factors: Iterable[float]) -> str:
        """Why a plan cannot hold these attention factors of the checkpoint's own; empty if it can.

        In transformers they are for what rotates, which in latent attention is a part of each head.
        """
        if not is_latent(self.header) or all(abs(factor - 1.0) <= _ROUNDINGS for factor in factors):
            return ""
        return (
            f"its scaling has an attention factor, which is for the rotated part of each head in this "
            f"{self.spec.architecture} model, and a plan's is for whole scores"
        )


def read_converted(own: CheckpointMethod, header: GgufHeader) -> ConvertedFile:
    """Read a file's own rotation, and say the checkpoint's in factors relative to the file's base.

    The file is believed where the checkpoint's config is no witness: it declares no scaling, and either the
    file has one nevertheless (from keys of the family's own), or the base or the rotated dimensions are not
    among what is read of it. Without a declared scaling, the longer of the two lengths counts: a converter
    knows some that configs do not say (HunYuan's, 262144 for a stated 32768).

    Raises:
        PlanError: the two rotate different numbers of dimensions or scale scores differently, the config
            scales a base that it does not say, or values that no rotary model can have.
    """
    spec, facts = rope_spec_from_gguf(header), model_facts_from_gguf(header)
    effective = own.spec
    if not own.scales and effective.own_scaling is None:
        length = max(spec.train_length, effective.train_length)
        file_scales = not spec.is_plain or spec.own_attention_factor != 1.0
        if file_scales or not own.says_base or spec.n_rot != effective.n_rot:
            effective = spec
        effective = replace(effective, train_length=length)
    elif not own.says_base and np.float32(spec.base) != np.float32(effective.base):
        raise PlanError(
            "the checkpoint's config has a scaling and no rope_theta, which the converted file says is "
            f"{spec.base:.10g}; write it into config.json, or convert it with --method none"
        )
    scores = own_score_factor(keys_of(header))
    latent = spec.architecture in architectures.SCALES_SCORES_TOO | architectures.MULTI_LATENT
    if latent and not math.isclose(scores, own.score_factor, rel_tol=_ROUNDINGS):
        raise PlanError(
            f"for its scaling, llama.cpp multiplies all attention scores of this {spec.architecture} "
            f"checkpoint by {scores**2:.4g} and transformers by {own.score_factor**2:.4g}, which no plan "
            "sets right; --method none converts it as llama.cpp alone would run it"
        )
    if spec.n_rot != effective.n_rot:
        raise PlanError(
            f"the checkpoint's config rotates {effective.n_rot} dimensions of a head and the converted file "
            f"{spec.n_rot}; --method none converts it without a plan"
        )
    return ConvertedFile(header, spec, facts, _on_base_of(effective, spec))


def _on_base_of(effective: RopeSpec, spec: RopeSpec) -> RopeSpec:
    """`effective` with the base, the name and the layers of `spec`, and the frequencies it has."""
    ratio = _base_ratio(effective, spec)
    scaling = effective.own_scaling
    if scaling is not None:
        scaling = replace(
            scaling,
            long_factors=_times(scaling.long_factors, ratio),
            short_factors=_times(scaling.short_factors, ratio),
        )
    return replace(
        effective,
        architecture=spec.architecture,
        base=spec.base,
        n_layer=spec.n_layer,
        own_factors=_times(effective.own_factors, ratio),
        own_scaling=scaling,
    )


def _base_ratio(effective: RopeSpec, spec: RopeSpec) -> FloatArray | None:
    """`(b_file / b_checkpoint)^(-2i/d)`; None where the two are the same F32 number, as a file holds it."""
    if np.float32(effective.base) == np.float32(spec.base):
        return None
    exponents = -2.0 * np.arange(spec.n_pairs, dtype=np.float64) / spec.n_rot
    return np.power(spec.base / effective.base, exponents)


def _times(factors: tuple[float, ...], ratio: FloatArray | None) -> tuple[float, ...]:
    if ratio is None or not factors:
        return factors
    return tuple(float(f) for f in np.asarray(factors) * ratio)
