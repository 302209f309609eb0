"""Windows and streaming: which tokens a layer sees.

Symbols: w_l the window of layer l, the last so many tokens that a token sees, itself included (0 = all; shape
[n_layer]); n sinks, the first tokens, which windowed layers go on seeing; L the train length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ropewalk_plan.methods.method import Aspect, Extension, MethodInfo, PlanPart
from ropewalk_plan.methods.options import (
    OptionInfo,
    OptionValue,
    as_number,
    as_optional_number,
    as_optional_whole_numbers,
    choice_option,
    number_option,
    optional_number,
    whole_numbers_option,
)
from ropewalk_plan.plan import MAX_WINDOW, PlanError
from ropewalk_plan.streaming import widest_stream_window

STREAMING_SINKS = 4
_UNIFORM, _LAYER_WISE = "uniform", "layer-wise"
_ALL, _FULL = "all", "full"


def layer_wise_windows(window: int, target_length: int, n_layer: int) -> tuple[int, ...]:
    """Qwen's rule: `window` for the lowest layers, longer and longer windows above, all tokens for the top.

    Its paper gives no numbers. Here windows double from group to group, up to the first that would see all
    of L', which is 0. Groups have equal numbers of layers as far as these divide: layers of equal window
    share one cache, so there should be few.

    Args:
        window: tokens, above 0.
        target_length: L'.
        n_layer: layers.
    """
    widths = []
    while window < target_length:
        widths.append(window)
        window *= 2
    widths.append(0)
    n_groups = len(widths)
    if n_groups <= n_layer:
        return tuple(widths[layer * n_groups // n_layer] for layer in range(n_layer))
    if n_layer == 1:
        return (0,)
    return tuple(widths[layer * (n_groups - 1) // (n_layer - 1)] for layer in range(n_layer))


def build_windows(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """Window attention, in all layers or layer by layer (Qwen, Bai et al. 2023, Section 2.5).

    Positions stay the true ones, of sinks too, and frequencies are none of its business: the model's own
    scaling, where it has one, goes on as it is. Windows of 0 alone are no windows. Without `windows` they are
    L, so that no distance is one the model has not been trained on, and where L' is L they are off. Qwen's
    paper finds lower layers more sensitive to length; on a small model the rule has been seen to lose
    retrieval where windows on measured layers keep it, so it is not the default.

    With `rope_layers=full` the frequencies and the position map of the methods beside it are for the layers
    without a window alone: a window of at most L holds no distance that the model has not been trained on.

    Raises:
        PlanError: a list of another length than the model has layers, or of several numbers with
            `rule=layer-wise`; or `rope_layers=full` where every layer has a window.
    """
    n_layer = extension.spec.n_layer
    given = as_optional_whole_numbers(options, "windows")
    if given is None and not extension.extends:
        return PlanPart()
    widths = given or (extension.train_length,)
    told = "/".join(map(str, widths))
    if len(widths) not in (1, n_layer):
        raise PlanError(
            f"option windows is {told}, which is {len(widths)} numbers; it must be one number, or one for "
            f"each of the model's {n_layer} layers"
        )
    if options["rule"] == _LAYER_WISE:
        if len(widths) > 1 or widths[0] == 0:
            raise PlanError(
                f"option windows is {told}; with rule={_LAYER_WISE} it must be one number above 0, "
                " the window of the lowest layers"
            )
        windows = layer_wise_windows(widths[0], extension.target_length, n_layer)
    else:
        windows = widths if len(widths) == n_layer else widths * n_layer
    if not any(windows):
        return PlanPart()
    rope_layers = None
    if options["rope_layers"] == _FULL:
        rope_layers = tuple(layer for layer, window in enumerate(windows) if not window)
        if not rope_layers:
            raise PlanError(
                f"option rope_layers is {_FULL}, and every layer has a window; it must be {_ALL} here"
            )
    return PlanPart(windows=windows, rope_layers=rope_layers, sinks=int(as_number(options, "sinks")))


def build_streaming(extension: Extension, options: Mapping[str, OptionValue]) -> PlanPart:
    """StreamingLLM (Xiao et al. 2023, Section 3.2): sinks and a rolling window, in every layer.

    Positions are those within the cache, so that sinks stay just before the window and distances never leave
    what the model knows, however long the text. The paper's caches of sinks and window together are as long
    as L (its "4 + 2044"). Here the window moves in blocks (`ropewalk_plan.streaming`), within which the sinks
    fall back a little, so the default is the widest window that with sinks and block fills L; where L' is L
    that would hide tokens for nothing, and it is off.

    Raises:
        PlanError: no room for a window beside the sinks.
    """
    sinks = int(as_number(options, "sinks"))
    window = as_optional_number(options, "window")
    if window is None:
        if not extension.extends:
            return PlanPart()
        window = widest_stream_window(extension.train_length, sinks)
        if window < 1:
            raise PlanError(
                f"option sinks is {sinks}; it must be at least 2 below the train length, which is "
                f"{extension.train_length}, or window must be given"
            )
    return PlanPart(windows=(int(window),) * extension.spec.n_layer, sinks=sinks, streaming=True)


def _is_count(value: float) -> bool:
    return value == math.floor(value) and 0 <= value <= MAX_WINDOW


def _sinks_option(default: int, source: str) -> OptionInfo:
    return number_option("sinks", default, f"a whole number from 0 to {MAX_WINDOW}", source, _is_count)


WINDOWS = MethodInfo(
    name="windows",
    summary="lets each layer see only the last so many tokens, which also saves memory",
    source="Qwen, Bai et al. 2023, Section 2.5; window attention, Beltagy et al. 2020",
    sets=frozenset({Aspect.WINDOWS}),
    build=build_windows,
    options=(
        whole_numbers_option(
            "windows",
            "auto",
            "auto (L), a number of tokens, or one for each layer from the lowest, separated by slashes, "
            "commas or spaces; 0 = all",
            "ours: within L every distance is a trained one",
        ),
        choice_option(
            "rule",
            _UNIFORM,
            (_UNIFORM, _LAYER_WISE),
            "layer-wise is Qwen's: from windows at the lowest layers, doubling, to all tokens at the top",
        ),
        choice_option(
            "rope_layers",
            _ALL,
            (_ALL, _FULL),
            "ours: the layers that new frequencies are for; full = those without a window",
        ),
        _sinks_option(0, "Qwen has none"),
    ),
)

STREAMING = MethodInfo(
    name="streaming",
    summary="keeps the first tokens and a rolling window in every layer, with positions within the cache",
    source="StreamingLLM, Xiao et al. 2023, Section 3.2",
    sets=frozenset({Aspect.WINDOWS}),
    build=build_streaming,
    options=(
        optional_number(
            "window",
            "auto",
            "auto (the widest that keeps distances within L: L less the sinks and the block that the window "
            f"moves by, an eighth of it but at most 256) or a whole number of tokens from 1 to {MAX_WINDOW}",
            "Section 4: sinks and window fill the train length; the block is ours",
            lambda value: value >= 1 and _is_count(value),
        ),
        _sinks_option(STREAMING_SINKS, "Section 3.2; Table 2"),
    ),
    excludes={
        Aspect.POSITIONS: "streaming counts positions within its cache, which never reach the length "
        "from which a position map acts",
        Aspect.QUERIES: "streaming lets a query see ever the same number of tokens, while the scale of "
        "queries grows as if it saw all before it",
        Aspect.GROWTH: "streaming keeps distances within its cache however long the text is, while "
        "frequencies that follow the length would stretch them on and on",
    },
)
