"""The part of a checkpoint's config that describes its language model."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk_plan.checkpoint_models import ModelDefaults, architecture_of, defaults_of
from ropewalk_plan.config_values import ConfigValues

_SECTIONS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal configs keep their language model's."""


@dataclass(frozen=True)
class LanguageModel:
    """The part of a config that describes the language model.

    Attributes:
        config: its values, those of the whole checkpoint where it has none of its own.
        model_type: transformers' name of it.
        architecture: GGUF's name of the checkpoint.
    """

    config: ConfigValues
    model_type: str
    architecture: str

    @property
    def defaults(self) -> ModelDefaults:
        """What transformers takes for keys that are left out."""
        return defaults_of(self.model_type)

    def n_layer(self) -> int:
        """The number of layers.

        Raises:
            PlanError: the config does not say it, or it is no number of layers.
        """
        layers = self.config.whole("num_hidden_layers", "n_layer", "n_layers", "num_layers")
        if layers is None:
            raise self.config.missing("num_hidden_layers", "it must be a whole number above 0")
        return layers


def language_model(whole: ConfigValues) -> LanguageModel:
    """The language model of a checkpoint's config, which may be that of something larger.

    Raises:
        PlanError: the config does not name its `model_type`.
    """
    model_type = whole.text("model_type")
    if model_type is None:
        raise whole.missing("model_type", "name a checkpoint that transformers can load")
    config, text_type = whole, model_type
    part = whole.section(*_SECTIONS)
    while part is not None:
        config = ConfigValues(config.path, {**config.values, **part.values})
        text_type = part.text("model_type") or text_type
        part = part.section(*_SECTIONS)
    return LanguageModel(config, text_type, architecture_of(model_type, text_type))
