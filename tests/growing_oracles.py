"""Oracles of methods that follow the length of the text, and of mirrored positions beside another method."""

from __future__ import annotations

import math

import numpy as np

from method_oracles import ORACLES, Oracle
from reference_transformer import Float64, Positions
from tiny_models import TinyModel

STEP = 1.25
"""Each step of a schedule ends at so many times the last one's end, rounded down."""


def step_end(train_length: int, target_length: int, length: int) -> int:
    """The end of the step that is in force for a text of `length` tokens."""
    end = train_length
    while end < min(length, target_length):
        end = min(target_length, int(end * STEP))
    return end


def first_mapped_pair(model: TinyModel) -> int:
    """Extra-PE's d_extra/2 - 1: the first pair that makes no full turn within L, less one."""
    return math.ceil(model.rope_dim / 2 * math.log(model.train_length / (2 * math.pi), model.rope_base)) - 1


def mirrored(oracle: Oracle) -> Oracle:
    """A method, and Extra-MPE's positions: pairs i >= d_extra/2 - 1 see q = m mod 2L, mirrored at L."""

    def positions(model: TinyModel, target: int, m: Float64) -> Positions:
        length = model.train_length
        q = m % (2 * length)
        near = oracle(model, target, m)
        far = oracle(model, target, np.where(q < length, q, 2 * length - q))
        mapped = np.arange(model.rope_dim // 2) >= first_mapped_pair(model)
        return Positions(np.where(mapped, far.angles, near.angles), near.attention_factor, near.query_factor)

    return positions


# transformers' dynamic NTK with factor 1 is NTK at the scale len/L, dynamic YaRN is YaRN at that scale
GROWING: dict[str, Oracle] = {
    "dynamic-ntk": ORACLES["ntk"],
    "dynamic-yarn": ORACLES["yarn"],
    "dynamic-yarn+logn": ORACLES["yarn+logn"],
}
"""Methods whose step in force is the static method at the step's end, in the place of the target length."""
