"""A plan put on a transformers model, and taken off it again."""

from __future__ import annotations

from transformers import PreTrainedModel

from finetuning.planned_attention import register_attention
from finetuning.planned_rotation import PlannedRotation, RotatedByItself
from ropewalk_plan import ContextPlan, PlanError, RopeSpec


def apply_plan(model: PreTrainedModel, plan: ContextPlan | None, spec: RopeSpec) -> None:
    """Let a model execute `plan`, in the place of the one before.

    Its rotary module is exchanged where the plan changes angles (that of single layers where it concerns
    those), and its attention is one that transformers was told of where the plan changes queries or windows;
    the weights are not touched.

    Args:
        model: a causal language model of transformers whose body, `model.model`, has one `rotary_emb` for all
            layers.
        plan: what `make_plan` made; None for the model as it came.
        spec: the model's own rotation.

    Raises:
        PlanError: a plan or a model that cannot be served; the message says why.
    """
    body = model.model
    own = getattr(body, "own_rotation", None) or getattr(body, "rotary_emb", None)
    if own is None:
        raise PlanError(f"a {model.config.model_type} model has no rotary module that its layers share")
    if plan is not None:
        _check(plan, model, spec)
    body.own_rotation = own  # found again when the plan is taken off
    body.rotary_emb = own
    for layer in body.layers:
        if isinstance(layer.self_attn, RotatedByItself):
            layer.self_attn = layer.self_attn.attention
    if plan is not None and plan.schedule:
        rotation = PlannedRotation(plan, spec)
        if plan.rope_layers is None:
            body.rotary_emb = rotation
        for number in plan.rope_layers or ():
            body.layers[number].self_attn = RotatedByItself(body.layers[number].self_attn, rotation)
    special = plan is not None and (plan.logn_length or any(plan.windows))
    model.set_attn_implementation(register_attention(plan) if plan is not None and special else "sdpa")


def reserve(model: PreTrainedModel, length: int) -> None:
    """Say how long the sequence is going to be, for plans whose frequencies follow the length."""
    for module in model.model.modules():
        if isinstance(module, PlannedRotation):
            module.reserved_length = length


def _check(plan: ContextPlan, model: PreTrainedModel, spec: RopeSpec) -> None:
    if plan.streaming:
        raise PlanError("a streaming plan counts positions within its cache, and texts cannot be learned so")
    layer_types = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        raise PlanError(f"the model has layers of several kinds ({', '.join(sorted(layer_types))})")
    if plan.schedule and plan.n_pairs != spec.n_pairs:
        raise PlanError(f"the plan has {plan.n_pairs} pairs, and the model {spec.n_pairs}")
