"""`CheckpointMethod`: what a checkpoint does about its context, read from its `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ropewalk_plan.checkpoint import (
    NothingToKeepError,
    declares_method,
    rope_spec_of,
    says_base,
    score_factor,
    stated_length,
)
from ropewalk_plan.checkpoint_language import language_model
from ropewalk_plan.checkpoint_models import ONE_ROTATION
from ropewalk_plan.checkpoint_windows import may_have_windows, windows_of
from ropewalk_plan.config_values import MissingKeyError, read_config
from ropewalk_plan.rope_spec import RopeSpec


@dataclass(frozen=True)
class CheckpointMethod:
    """What a checkpoint does about its context, as transformers runs it.

    Attributes:
        spec: its rotation, its own scaling at full length included.
        windows: tokens each layer sees, 0 for all; empty for no windows, and where llama.cpp executes them
            itself for the architecture.
        stated_length: the tokens that its config says it is for; 0 where it says no more than
            `spec.train_length`.
        says_base: whether the rotary base is known, from the config or by the family.
        one_rotation: whether natively sliding layers, where it has some, rotate as the others do.
        score_factor: what whole queries and whole keys are multiplied by besides their rotation, if the model
            is one of latent attention.
    """

    spec: RopeSpec
    windows: tuple[int, ...] = ()
    stated_length: int = 0
    says_base: bool = True
    one_rotation: bool = False
    score_factor: float = 1.0

    @property
    def scales(self) -> bool:
        """Whether a scaling of its own is in force within its full length."""
        return not self.spec.is_plain or self.spec.own_attention_factor != 1.0


def read_checkpoint_method(folder_or_config: Path) -> CheckpointMethod:
    """Read a checkpoint's own method from its `config.json`.

    Args:
        folder_or_config: a checkpoint's folder, or its `config.json`.

    Raises:
        NoRotationError: the model has no RoPE, so that there is nothing to keep and nothing to extend.
        NothingToKeepError: the config declares no method, and leaves out what another one would need.
        PlanError: what `rope_spec_from_checkpoint` raises, or a window that is none.
    """
    model = language_model(read_config(folder_or_config))
    try:
        return CheckpointMethod(
            spec=rope_spec_of(model),
            windows=windows_of(model),
            stated_length=stated_length(model),
            says_base=says_base(model),
            one_rotation=model.model_type in ONE_ROTATION,
            score_factor=score_factor(model),
        )
    except MissingKeyError as error:
        if declares_method(model) or may_have_windows(model):
            raise
        raise NothingToKeepError(str(error)) from error
