"""A model's own rotation from its Hugging Face checkpoint: `config.json` is all that is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ropewalk_plan import architectures
from ropewalk_plan.checkpoint_language import LanguageModel, language_model
from ropewalk_plan.checkpoint_models import DEFAULTS, ROTATE_BY_LAYER_TYPE
from ropewalk_plan.checkpoint_scaling import FORMS, WHOLE_HEAD, ScalingConfig
from ropewalk_plan.checkpoint_scores import score_factor_of
from ropewalk_plan.config_values import ConfigValues, read_config
from ropewalk_plan.plan import PlanError
from ropewalk_plan.rope_spec import OwnScaling, RopeSpec

_BASE = ("rope_theta", "global_rope_theta", "rope_global_theta", "rotary_emb_base")
_LENGTH = (
    "max_position_embeddings",
    "model_max_length",
    "max_seq_len",
    "n_positions",
    "seq_length",
    "max_sequence_length",
)
_QWENS_FLAGS = ("use_dynamic_ntk", "use_logn_attn")
_WHOLE_CONTEXT = ("full_attention", "main")
"""The names that `rope_parameters` per layer type gives the layers that see the whole context."""

_NO_SCALING = ("default", "mrope")

_NO_ROPE = frozenset({"nope", "none", "alibi", "absolute", "learned", "relative_key", "relative_key_query"})


class NoRotationError(PlanError):
    """A checkpoint whose model does not rotate its positions: it has no method to keep or to extend."""


class NothingToKeepError(NoRotationError):
    """A checkpoint without a method of its own, whose config does not say enough for another one."""


def rope_spec_from_checkpoint(folder_or_config_json: Path) -> RopeSpec:
    """A checkpoint's rotation as transformers would run it, its own scaling at full length included.

    The layers that see the whole context count, where others rotate in a way of their own. The train length
    is how far the checkpoint's own method reaches: `max_position_embeddings`; for linear scaling, YaRN and
    LongRoPE at least `factor` times the length before, where the config says that; for checkpoints that have
    it (Qwen's first) `seq_length`. (A GGUF file made of it may say less: llama.cpp's converter writes
    `max_position_embeddings` whatever the scaling is. `rope_spec_from_gguf` goes by the file, and keeping a
    checkpoint's method sets the file right.)
    Dynamic NTK acts only beyond it, so the factors are then 1 and the parameters in `own_scaling`.

    Args:
        folder_or_config_json: a checkpoint's folder, or its `config.json`.

    Raises:
        NoRotationError: the model has no RoPE.
        PlanError: no such file, not JSON, a key missing, a value that no rotary model can have, or a
            `rope_type` that transformers does not know; the message names file, key, value and what
            is allowed.
    """
    return rope_spec_of(language_model(read_config(folder_or_config_json)))


def rope_spec_of(model: LanguageModel) -> RopeSpec:
    """The same of a config that is read already."""
    _check_rotates(model)
    parameters = _rope_parameters(model.config)
    kind = _rope_type(parameters, model)
    partial_rotary_factor = _partial_rotary_factor(parameters, model)
    trained = ("seq_length",) if model.config.first_of(*_QWENS_FLAGS) else ()
    plain = RopeSpec(
        architecture=model.architecture,
        n_rot=_rotated_dimensions(model, kind, partial_rotary_factor),
        base=_base(parameters, model),
        train_length=_length(model, *trained, *_LENGTH),
        n_layer=model.n_layer(),
    )
    scaling = ScalingConfig(
        parameters,
        plain,
        model.config.whole("original_max_position_embeddings") or model.defaults.original_length,
        partial_rotary_factor,
        by_layer_type=parameters.inside.count(".") > 1 or model.model_type in ROTATE_BY_LAYER_TYPE,
        sequence_length=model.config.whole("max_sequence_length") if kind == "linear" else None,
    )
    return _with_qwens_flags(FORMS[kind](scaling), model.config)


def stated_length(model: LanguageModel) -> int:
    """The tokens that the config says its model is for, whatever it was trained on.

    Raises:
        PlanError: it does not say.
    """
    return _length(model, *_LENGTH)


def declares_method(model: LanguageModel) -> bool:
    """Whether the config has a scaling of its own, or asks for dynamic NTK or LogN by Qwen's flags."""
    kind = _rope_type(_rope_parameters(model.config), model)
    return kind not in _NO_SCALING or any(model.config.flag(key) for key in _QWENS_FLAGS)


def score_factor(model: LanguageModel) -> float:
    """What whole queries and whole keys are multiplied by besides their rotation; see `checkpoint_scores`."""
    parameters = _rope_parameters(model.config)
    scales = _rope_type(parameters, model) not in _NO_SCALING
    return score_factor_of(parameters) if scales else 1.0


def says_base(model: LanguageModel) -> bool:
    """Whether the rotary base is known: said by the config, or transformers' own for the family."""
    config = model.config
    return (
        model.model_type in DEFAULTS
        or _rope_parameters(config).first_of("rope_theta") is not None
        or config.first_of(*_BASE) is not None
    )


def _length(model: LanguageModel, *keys: str) -> int:
    length = model.config.whole(*keys) or model.defaults.max_position_embeddings
    if length is None:
        raise model.config.missing("max_position_embeddings", "it must be a positive number of tokens")
    return length


def _check_rotates(model: LanguageModel) -> None:
    config = model.config
    if model.architecture in architectures.WITHOUT_ROPE:
        raise NoRotationError(
            f"{config.path}: the architecture {model.architecture} has no RoPE; "
            "choose a model that rotates its positions"
        )
    if config.text("position_embedding_type") in _NO_ROPE:
        refused = config.refusal("position_embedding_type", "rope for a model that rotates its positions")
        raise NoRotationError(str(refused))
    if config.values.get("alibi") is True:
        raise NoRotationError(str(config.refusal("alibi", "false for a model that rotates its positions")))


def _rope_parameters(config: ConfigValues) -> ConfigValues:
    """The parameters of the layers that see the whole context; empty where the config has none.

    Where a config has both the old and the new key, the old one counts, as for transformers.
    """
    given = (config.section(key) for key in ("rope_scaling", "rope_parameters"))
    parameters = next((section for section in given if section is not None and section.values), None)
    if parameters is None:
        return ConfigValues(config.path, {})
    for name in _WHOLE_CONTEXT:
        if name in parameters.values:
            section = parameters.section(name)
            if section is None:
                raise parameters.refusal(name, "an object: the layers that see the whole context must rotate")
            return section
    if all(isinstance(value, dict) for value in parameters.values.values()):
        return parameters.section(*parameters.values) or parameters
    return parameters


def _rope_type(parameters: ConfigValues, model: LanguageModel) -> str:
    kind = parameters.text("rope_type", "type") or "default"
    if kind not in FORMS:
        key = parameters.first_of("rope_type", "type") or "rope_type"
        raise parameters.refusal(key, f"one of {', '.join(FORMS)}")
    if kind == "yarn" and parameters.first_of("long_factor") and model.architecture == "phi3":
        return "longrope"  # Phi-3's first configs call it so
    return kind


def _base(parameters: ConfigValues, model: LanguageModel) -> float:
    base = parameters.number("rope_theta", above=1) or model.config.number(*_BASE, above=1)
    if base is None:
        if not architectures.is_known(model.architecture) and not parameters.values:
            raise model.config.missing(
                "rope_theta", "it must be a number above 1 for a model that rotates its positions"
            )
        base = model.defaults.rope_theta
    return base * (model.config.number("rope_ratio", above=0) or 1.0)


def _partial_rotary_factor(parameters: ConfigValues, model: LanguageModel) -> float:
    names = ("partial_rotary_factor", "rotary_pct", "rope_pct", "rope_percent")
    value = parameters.number(names[0], above=0) or model.config.number(*names, above=0)
    if value is None:
        return model.defaults.partial_rotary_factor
    if value > 1:
        holder = parameters if parameters.first_of(names[0]) else model.config
        raise holder.refusal(holder.first_of(*names) or names[0], "a share of a head, above 0 and at most 1")
    return value


def _rotated_dimensions(model: LanguageModel, kind: str, partial_rotary_factor: float) -> int:
    """The rotated dimensions of a head, even; multi-latent attention keeps them apart from the others."""
    config = model.config
    apart = config.first_of("qk_rope_head_dim", "rotary_dim")
    if apart is not None:
        n_rot = config.whole(apart) or 0
        source = apart
    else:
        head, source = _head_dimensions(model)
        n_rot = head if kind in WHOLE_HEAD else int(head * partial_rotary_factor)
    if n_rot <= 0 or n_rot % 2:
        share = "" if partial_rotary_factor == 1.0 else f" (of a share of {partial_rotary_factor:g})"
        raise PlanError(
            f"{config.path}: {source} gives {n_rot} rotated dimensions of a head{share}; "
            "they must be even and above 0"
        )
    return n_rot


def _head_dimensions(model: LanguageModel) -> tuple[int, str]:
    """A head's dimensions in the layers that see the whole context, and what says so."""
    config, defaults = model.config, model.defaults
    key = config.first_of("global_head_dim")
    if key is None and defaults.full_head_dim is not None:
        return defaults.full_head_dim, f"model_type {model.model_type}"
    key = key or config.first_of("head_dim", "kv_channels", "attention_head_dim")
    if key is not None:
        return config.whole(key) or 0, key
    if defaults.head_dim is not None:
        return defaults.head_dim, f"model_type {model.model_type}"
    hidden = config.whole("hidden_size", "n_embd", "d_model", "dim")
    heads = config.whole("num_attention_heads", "n_head", "n_heads")
    if hidden is None:
        raise config.missing("hidden_size", "it, or head_dim, must be there")
    if heads is None:
        raise config.missing("num_attention_heads", "it, or head_dim, must be there")
    return hidden // heads, "hidden_size / num_attention_heads"


def _with_qwens_flags(spec: RopeSpec, config: ConfigValues) -> RopeSpec:
    """Qwen's first checkpoints: dynamic NTK in their own form, and LogN, both beyond `seq_length`."""
    logn = config.flag("use_logn_attn")
    if config.flag("use_dynamic_ntk"):
        return replace(
            spec, own_scaling=OwnScaling("qwen-dynamic", original_length=spec.train_length, logn=logn)
        )
    if not logn:
        return spec
    scaling = spec.own_scaling or OwnScaling("default", original_length=spec.train_length)
    return replace(spec, own_scaling=replace(scaling, logn=True))
