"""A plan put on a transformers model, and taken off it again."""

from __future__ import annotations

from transformers import PreTrainedModel

from finetuning.planned_attention import register_attention
from finetuning.planned_rotation import PlannedRotation
from ropewalk_plan import ContextPlan, PlanError, RopeSpec


def apply_plan(model: PreTrainedModel, plan: ContextPlan | None, spec: RopeSpec) -> None:
    """Let a model execute `plan`, in the place of the one before.

    Its rotary module is exchanged where the plan changes angles, and its attention is one that transformers
    was told of where the plan changes queries or windows; the weights are not touched.

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
    body.rotary_emb = own if plan is None or not plan.schedule else PlannedRotation(plan, spec)
    special = plan is not None and (plan.logn_length or any(plan.windows))
    model.set_attn_implementation(register_attention(plan) if plan is not None and special else "sdpa")


def reserve(model: PreTrainedModel, length: int) -> None:
    """Say how long the sequence is going to be, for plans whose frequencies follow the length."""
    if isinstance(model.model.rotary_emb, PlannedRotation):
        model.model.rotary_emb.reserved_length = length


def _check(plan: ContextPlan, model: PreTrainedModel, spec: RopeSpec) -> None:
    if plan.streaming:
        raise PlanError("a streaming plan counts positions within its cache, and texts cannot be learned so")
    if plan.rope_layers is not None:
        raise PlanError("the plan concerns some layers' rotation, and the layers of this model share theirs")
    layer_types = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        raise PlanError(f"the model has layers of several kinds ({', '.join(sorted(layer_types))})")
    if plan.schedule and plan.n_pairs != spec.n_pairs:
        raise PlanError(f"the plan has {plan.n_pairs} pairs, and the model {spec.n_pairs}")
