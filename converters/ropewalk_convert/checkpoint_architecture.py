"""Which architecture a checkpoint is, as llama.cpp's converter reads it from `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ropewalk_convert.errors import SourceError

_TEXT = "text_config"
_RENAMED = ("llm_config", "lm_config", "thinker_config", "language_config", "lfm")
"""Other names of it; the last that is there counts."""

_BY_THE_WHOLE = frozenset(
    {
        "StepVLForConditionalGeneration",
        "Sarashina2VisionForCausalLM",
        "Exaone4_5_ForConditionalGeneration",
        "Step3p7ForConditionalGeneration",
        "KimiK3ForConditionalGeneration",
    }
)
"""Those whose text part names another architecture than the one they are converted as."""

_NOTHING: Mapping[str, object] = MappingProxyType({})


def text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """The language model's part of a multi-modal config; empty where there is none."""
    part = config.get(_TEXT)
    for name in _RENAMED:
        if name in config:
            part = config[name]
            if name == "thinker_config":
                part = part.get(_TEXT) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else _NOTHING


def architecture(config: Mapping[str, object], path: Path) -> str:
    """The architecture that a checkpoint is converted as.

    Args:
        config: all of `config.json`.
        path: where it was read, for messages.

    Raises:
        SourceError: it names none.
    """
    own = _first(config.get("architectures"))
    if own is None and isinstance(
        ssm := config.get("ssm_cfg"), dict
    ):  # Mamba's own, before transformers had it
        own = f"{ssm.get('layer', 'Mamba')}ForCausalLM"
    if own in _BY_THE_WHOLE:
        return own
    name = _first(text_config(config).get("architectures")) or own
    if name is None:
        raise SourceError(
            f"{path} names no architecture; take a checkpoint whose config.json has `architectures`"
        )
    return name


def check_known(name: str, known: frozenset[str], path: Path) -> None:
    """Check that the converter knows an architecture.

    Raises:
        SourceError: it does not.
    """
    if name not in known:
        raise SourceError(
            f"{path}: llama.cpp's converter does not know the architecture {name}; "
            "take a model of one it knows, such as LlamaForCausalLM or Qwen3ForCausalLM"
        )


def _first(names: object) -> str | None:
    first = names[0] if isinstance(names, list) and names else None
    return first if isinstance(first, str) and first else None
