"""Context plans: what a context extension changes in a model, how methods make it, and how files store it."""

from ropewalk_plan.checkpoint import rope_spec_from_checkpoint
from ropewalk_plan.compose import finetuning_notes, make_plan
from ropewalk_plan.gguf_header import GgufError, GgufHeader
from ropewalk_plan.metadata import FileChanges, StoredPlan, plan_to_metadata, read_plan
from ropewalk_plan.methods import METHODS, MethodInfo, OptionInfo
from ropewalk_plan.own_rotation import ModelFacts, model_facts_from_gguf, rope_spec_from_gguf
from ropewalk_plan.plan import (
    SCHEMA,
    ContextPlan,
    PlanError,
    PositionKind,
    PositionMap,
    ScheduleStep,
)
from ropewalk_plan.rope_spec import OwnScaling, RopeSpec

__all__ = [
    "METHODS",
    "SCHEMA",
    "ContextPlan",
    "FileChanges",
    "GgufError",
    "GgufHeader",
    "MethodInfo",
    "ModelFacts",
    "OptionInfo",
    "OwnScaling",
    "PlanError",
    "PositionKind",
    "PositionMap",
    "RopeSpec",
    "ScheduleStep",
    "StoredPlan",
    "finetuning_notes",
    "make_plan",
    "model_facts_from_gguf",
    "plan_to_metadata",
    "read_plan",
    "rope_spec_from_checkpoint",
    "rope_spec_from_gguf",
]
