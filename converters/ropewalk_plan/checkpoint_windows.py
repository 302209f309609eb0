"""The windows of a checkpoint's layers, where transformers has them and llama.cpp would leave them out.

llama.cpp executes the windows of the architectures in `architectures.SLIDING` itself. Of others its converter
says nothing, and every layer sees the whole text. What transformers does with them is read from the model's
code, release 5.23: each family has a rule of its own for which layers are meant, and their masks let a query
at position q see the key at k where `q - k < sliding_window`, which is a plan's window of the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ropewalk_plan.checkpoint_language import LanguageModel
from ropewalk_plan.config_values import ConfigValues
from ropewalk_plan.plan import MAX_WINDOW

_KEY = "sliding_window"
_SLIDING = "sliding_attention"

Rule = Callable[[ConfigValues, int], tuple[int, ...]]
"""From a config and the number of layers to the window of each layer, 0 for the whole text."""


def windows_of(model: LanguageModel) -> tuple[int, ...]:
    """The window of each layer as transformers runs the checkpoint, 0 for a layer that sees the whole text.

    Empty where no layer has one, where llama.cpp executes them itself, and for families that transformers
    does not know.

    Raises:
        PlanError: a value in the config that is no window, or layer types for another number of layers.
    """
    rule = _RULES.get(model.model_type)
    if rule is None:
        return ()
    windows = rule(model.config, model.n_layer())
    return windows if any(windows) else ()


def may_have_windows(model: LanguageModel) -> bool:
    """Whether layers may have windows, as far as a config tells that does not say its number of layers."""
    said_none = _KEY in model.config.values and model.config.values[_KEY] is None
    return model.model_type in _RULES and not said_none


def _window(config: ConfigValues, default: int = 0) -> int:
    """The width, 0 for none; a key that holds null says none, one that is not there leaves the default."""
    if _KEY not in config.values:
        return default
    value = config.number(_KEY)
    if value is None or value <= 0:
        return 0
    if value % 1 != 0:
        raise config.refusal(_KEY, "a whole number of tokens, or null")
    return int(value) if value <= MAX_WINDOW else 0  # beyond any text


def _types(config: ConfigValues, n_layer: int) -> list[str] | None:
    """The type of every layer, where the config lists them."""
    types = config.values.get("layer_types")
    if types is None:
        return None
    if not isinstance(types, list) or len(types) != n_layer:
        raise config.refusal("layer_types", f"a list of {n_layer} names, one for each layer")
    return types


def _by_types(
    config: ConfigValues, n_layer: int, window: int, slides: Callable[[int], bool]
) -> tuple[int, ...]:
    """`window` for the layers that the config's list calls sliding, or without one for those of the rule."""
    types = _types(config, n_layer)
    if types is not None:
        return tuple(window if kind == _SLIDING else 0 for kind in types)
    return tuple(window if slides(layer) else 0 for layer in range(n_layer))


def _in_every_layer(default: int = 0) -> Rule:
    """One mask for all layers: Mistral and what is made like it."""

    def rule(config: ConfigValues, n_layer: int) -> tuple[int, ...]:
        return (_window(config, default),) * n_layer

    return rule


def _in_every_layer_if_used(config: ConfigValues, n_layer: int) -> tuple[int, ...]:
    """Qwen 3's mixture of experts: in every layer, with the switch `use_sliding_window`."""
    return (_window(config, 4096) if config.flag("use_sliding_window") else 0,) * n_layer


def _in_upper_layers_if_used(max_window_layers: int) -> Rule:
    """Qwen 2 and 3: with the switch, in the layers from `max_window_layers` on."""

    def rule(config: ConfigValues, n_layer: int) -> tuple[int, ...]:
        window = _window(config, 4096) if config.flag("use_sliding_window") else 0
        first = _count(config, "max_window_layers", max_window_layers)
        return _by_types(config, n_layer, window, lambda layer: layer >= first)

    return rule


def _in_every_other_lower_layer_if_used(config: ConfigValues, n_layer: int) -> tuple[int, ...]:
    """Qwen 2's mixture of experts: with the switch, in every other layer below `max_window_layers`."""
    window = _window(config, 4096) if config.flag("use_sliding_window") else 0
    end = _count(config, "max_window_layers", 28)
    return _by_types(config, n_layer, window, lambda layer: layer % 2 == 0 and layer < end)


def _in_upper_layers(config: ConfigValues, n_layer: int) -> tuple[int, ...]:
    """dots.llm1: in the layers from `max_window_layers` on."""
    first = _count(config, "max_window_layers", 62)
    return _by_types(config, n_layer, _window(config, 4096), lambda layer: layer >= first)


def _in_layers_without_rope(config: ConfigValues, n_layer: int) -> tuple[int, ...]:
    """SmolLM 3: with the switch, in the layers that do not rotate."""
    window = _window(config) if config.flag("use_sliding_window") else 0
    interval = _count(config, "no_rope_layer_interval", 4)
    rotates = config.values.get("no_rope_layers")
    if rotates is None:
        rotates = [(layer + 1) % interval != 0 for layer in range(n_layer)]
    if not isinstance(rotates, list) or len(rotates) != n_layer:
        raise config.refusal("no_rope_layers", f"a list of {n_layer} numbers, one for each layer")
    turning = rotates
    return _by_types(config, n_layer, window, lambda layer: not turning[layer])


def _count(config: ConfigValues, key: str, default: int) -> int:
    value = config.number(key, at_least=0)
    return default if value is None else int(value)


_RULES: Mapping[str, Rule] = {
    "dots1": _in_upper_layers,
    "ministral3": _in_every_layer(),
    "mistral": _in_every_layer(4096),
    "mixtral": _in_every_layer(),
    "phi3": _in_every_layer(),
    "phi4_multimodal": _in_every_layer(),
    "phimoe": _in_every_layer(),
    "qwen2": _in_upper_layers_if_used(28),
    "qwen2_5_vl": _in_upper_layers_if_used(80),
    "qwen2_5_vl_text": _in_upper_layers_if_used(80),
    "qwen2_moe": _in_every_other_lower_layer_if_used,
    "qwen2_vl": _in_upper_layers_if_used(80),
    "qwen2_vl_text": _in_upper_layers_if_used(80),
    "qwen3": _in_upper_layers_if_used(28),
    "qwen3_moe": _in_every_layer_if_used,
    "smollm3": _in_layers_without_rope,
    "starcoder2": _in_every_layer(),
}
"""By `model_type`."""
