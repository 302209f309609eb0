"""A plan in other programs' words: transformers' and vLLM's configs, llama.cpp's flags.

The decision looks at the plan's numbers, never at the name of the method that made them. Static factors of
any kind fit the `longrope` form of a config, whose two lists say, pair by pair, what divides the frequency.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

import numpy as np

from ropewalk_plan import architectures
from ropewalk_plan.native import NativeKeys, native_keys
from ropewalk_plan.own_rotation import ModelFacts
from ropewalk_plan.plan import ContextPlan, PositionKind
from ropewalk_plan.rope_spec import RopeSpec
from ropewalk_plan.rotation_in_force import attention_factor_in_force, factors_in_force
from ropewalk_plan.yarn_formula import yarn_attention_factor, yarn_factors

_STATIC_STEPS, _SHORT_AND_LONG = 1, 2
_F32_ROUNDING = 2.0**-22


class ExportError(ValueError):
    """A plan that another program cannot be told; the message says which part of it, and what to do."""


def transformers_config(plan: ContextPlan, spec: RopeSpec) -> dict[str, Any]:
    """The entries of a checkpoint's `config.json` that make transformers run `plan`.

    Written in the form that transformers 4 and 5 both read. Its `attention_factor` multiplies the cosines and
    sines, thus rotated q and rotated k, as a plan's does.

    Raises:
        ExportError: a part of the plan has no place in a config.
    """
    return {
        "max_position_embeddings": plan.target_length,
        "rope_theta": spec.base,
        "rope_scaling": _longrope(plan, spec, "transformers' config"),
    }


def vllm_arguments(plan: ContextPlan, spec: RopeSpec) -> str:
    """The arguments of `vllm serve` that make it run `plan`, quoted for a shell.

    vLLM's longrope passes over `attention_factor` and reads `short_mscale` and `long_mscale`.

    Raises:
        ExportError: a part of the plan has no place in its config.
    """
    parameters = _longrope(plan, spec, "vLLM's config")
    factor = parameters["attention_factor"]
    overrides = {
        "max_position_embeddings": plan.target_length,
        "rope_parameters": {
            "rope_theta": spec.base,
            **parameters,
            "short_mscale": factor,
            "long_mscale": factor,
        },
    }
    return f"--max-model-len {plan.target_length} --hf-overrides {shlex.quote(json.dumps(overrides))}"


def llama_cpp_arguments(plan: ContextPlan, spec: RopeSpec, facts: ModelFacts) -> str:
    """The flags that make a stock llama.cpp program run `plan` on the model's unchanged GGUF file.

    Raises:
        ExportError: there are no flags for it; the message says whether a baked GGUF file carries it.
    """
    said = native_keys(plan, spec, facts)
    ramp = _yarn_ramp(plan, spec)
    if (not isinstance(said, NativeKeys) or said.factors) and ramp is not None:
        return ramp
    if not isinstance(said, NativeKeys):
        raise ExportError(
            f"llama.cpp has no flags for this plan ({said.reason}); bake it into the GGUF file, "
            "for the patched library"
        )
    if said.factors:
        raise ExportError(
            "llama.cpp has no flag for frequency factors of single pairs; bake the plan into the GGUF file, "
            "which carries them and runs in stock llama.cpp"
        )
    if not spec.is_plain and said.floats:
        raise ExportError(
            "llama.cpp's flags act on top of what this model's file says of its own scaling; "
            "bake the plan into the GGUF file, which replaces that"
        )
    flags = ["--ctx-size", str(plan.target_length)]
    if said.scaling_type:
        flags += ["--rope-scaling", said.scaling_type]
    for key, flag in _FLAGS.items():
        if key in said.floats:
            flags += [flag, f"{said.floats[key]:.9g}"]
    if said.scaling_type == "yarn":
        flags += ["--yarn-orig-ctx", str(said.original_length)]
    return " ".join(flags) + _attention_flag(spec, said.floats.get(_ATTENTION_KEY, 1.0))


def _yarn_ramp(plan: ContextPlan, spec: RopeSpec) -> str | None:
    """Flags of YaRN with betas other than the 32 and 1 that a file's keys can say; None if it is not that.

    The betas are read off the factors: the turns made half a pair inside the ramp's two ends, which llama.cpp
    rounds outwards to these ends.
    """
    if (
        not spec.is_plain
        or len(plan.schedule) != _STATIC_STEPS
        or architectures.why_not_stock_yarn(spec.architecture)
    ):
        return None
    wanted = factors_in_force(plan, spec)
    scale = float(wanted[-1])
    ramp = np.flatnonzero((wanted > 1.0) & (wanted < scale))
    if scale <= 1.0 or ramp.size == 0 or _unsaid(plan):
        return None
    turns = (
        spec.base ** (-2.0 * (ramp[[0, -1]] + [-0.5, 0.5]) / spec.n_rot) * plan.train_length / (2.0 * np.pi)
    )
    fast, slow = (float(f"{beta:.6g}") for beta in turns)
    said = yarn_factors(spec, scale, plan.train_length, beta_fast=fast, beta_slow=slow)
    if not np.allclose(wanted, said, rtol=_F32_ROUNDING, atol=0.0):
        return None
    flags = (
        f"--ctx-size {plan.target_length} --rope-scaling yarn --rope-scale {scale:.9g} "
        f"--yarn-orig-ctx {plan.train_length} --yarn-beta-fast {fast:.6g} --yarn-beta-slow {slow:.6g}"
    )
    return flags + _attention_flag(spec, plan.attention_factor / yarn_attention_factor(scale))


def _attention_flag(spec: RopeSpec, correction: float) -> str:
    """A flag for another attention factor than YaRN's own; --yarn-attn-factor is overwritten under YaRN."""
    if abs(correction - 1.0) < _F32_ROUNDING:
        return ""
    return f" --override-kv {spec.architecture}.{_ATTENTION_KEY}=float:{correction:.9g}"


_ATTENTION_KEY = "rope.scaling.attn_factor"
_FLAGS = {"rope.scaling.factor": "--rope-scale", "rope.freq_base": "--rope-freq-base"}


def _longrope(plan: ContextPlan, spec: RopeSpec, where: str) -> dict[str, Any]:
    _check_sayable(plan, where)
    short, long = _lists(plan, spec, where)
    two_lists = len(plan.schedule) == _SHORT_AND_LONG
    return {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "attention_factor": attention_factor_in_force(plan, spec),
        "factor": plan.scale,
        "original_max_position_embeddings": plan.schedule[0].up_to_length if two_lists else plan.train_length,
    }


def _lists(plan: ContextPlan, spec: RopeSpec, where: str) -> tuple[list[float], list[float]]:
    if len(plan.schedule) <= _STATIC_STEPS:
        factors = factors_in_force(plan, spec).tolist()
        return factors, factors
    first, last = plan.schedule[0], plan.schedule[-1]
    if len(plan.schedule) > _SHORT_AND_LONG:
        raise ExportError(
            f"{where} has no place for a schedule of {len(plan.schedule)} steps: two lists are the most "
            "it can hold; use a static method"
        )
    if first.attention_factor != last.attention_factor:
        raise ExportError(
            f"{where} has one attention factor for all lengths, and this schedule has two; "
            "use a static method"
        )
    return list(first.frequency_factors), list(last.frequency_factors)


def _check_sayable(plan: ContextPlan, where: str) -> None:
    unsaid = _unsaid(plan)
    if unsaid:
        raise ExportError(f"{where} has no place for {' and '.join(unsaid)}; leave out what cannot be said")


def _unsaid(plan: ContextPlan) -> list[str]:
    unsaid = []
    if plan.position_map.kind is not PositionKind.IDENTITY:
        unsaid.append(f"the {plan.position_map.kind.value} position map")
    if plan.logn_length:
        unsaid.append("LogN's scaling of queries")
    if any(plan.windows):
        unsaid.append("windows for single layers")
    if plan.rope_layers is not None:
        unsaid.append("frequencies for some layers only")
    return unsaid
