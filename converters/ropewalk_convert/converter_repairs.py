"""What upstream's converter stumbles over in configs that it could convert, put right before it reads them.

It was written for an earlier transformers, whose configs kept the keys of `config.json`, and it fails on a
scaling that it has no tensor for instead of leaving it to others, as it does with those it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

_KEPT_NO_MORE = ("rotary_pct",)  # transformers 5 has it in `rope_parameters`, under another name
_SCALINGS = ("rope_parameters", "rope_scaling")
_ORIGINAL = "original_max_position_embeddings"

Hparams = dict[str, Any]


class _ModelBase(Protocol):
    load_hparams: Callable[[Path, bool], Hparams]


def repair_hparams(base: _ModelBase, has_factors: Callable[[str], bool]) -> None:
    """Have upstream's `ModelBase.load_hparams` return repaired values.

    Args:
        base: upstream's `conversion.base.ModelBase`.
        has_factors: whether GGUF has `rope_freqs.weight` for an architecture, by transformers' name.
    """
    load = base.load_hparams

    def load_repaired(dir_model: Path, is_mistral_format: bool) -> Hparams:
        hparams = load(dir_model, is_mistral_format)
        return hparams if is_mistral_format else repaired(hparams, dir_model, has_factors)

    base.load_hparams = staticmethod(load_repaired)


def repaired(hparams: Hparams, folder: Path, has_factors: Callable[[str], bool]) -> Hparams:
    """The values of a config as upstream needs them.

    Keys that transformers dropped come back from `config.json`. YaRN without the length before it counts from
    `max_position_embeddings`, as in transformers. Llama 3's scaling is left out where there is no tensor for
    its factors: a plan says it, or with `--method none` nobody.

    Args:
        hparams: what upstream's `load_hparams` returned.
        folder: the checkpoint's.
        has_factors: see `repair_hparams`.
    """
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = hparams.get("architectures") or ()
    return _repaired(hparams, raw, llama3=all(has_factors(name) for name in names))


def _repaired(hparams: Hparams, raw: Hparams, *, llama3: bool) -> Hparams:
    dropped = {key: raw[key] for key in _KEPT_NO_MORE if key in raw and key not in hparams}
    made = {**hparams, **dropped}
    for key in _SCALINGS:
        scaling = made.get(key)
        if isinstance(scaling, dict):
            made[key] = _scaling(scaling, made, llama3=llama3)
    text = made.get("text_config")
    if isinstance(text, dict):
        made["text_config"] = _repaired(text, {}, llama3=llama3)
    return made


def _scaling(scaling: Hparams, hparams: Hparams, *, llama3: bool) -> Hparams:
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "yarn" and scaling.get(_ORIGINAL) is None:
        before = hparams.get(_ORIGINAL) or hparams.get("max_position_embeddings")
        return scaling if before is None else {**scaling, _ORIGINAL: before}
    if kind == "llama3" and not llama3:
        return {key: value for key, value in scaling.items() if key not in ("rope_type", "type")}
    return scaling
