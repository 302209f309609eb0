"""How large a model's KV cache would be: asked of the library in a process of its own, without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ropewalk.backend
from ropewalk.wording.files import shortened
from ropewalk_convert.reporting_child import ReportingChild
from ropewalk_plan import GgufHeader, StoredPlan

KV_TYPES = ("f16", "q8_0", "q4_0")
"""Cache types that sizes are told for."""

_CHILD = Path(ropewalk.backend.__file__).with_name("kv_sizes_child.py")
_LARGEST_LENGTH = 2**30
_FEW = 6
_SHORTEST, _OF_SHORT_MODELS = 4096, 5

Sizes = Mapping[str, Sequence[int | None]]


@dataclass(frozen=True)
class KvSizes:
    """Bytes of keys and values, as the contexts of `ask` and `chat` hold them.

    Attributes:
        lengths: context lengths in tokens.
        sizes: by KV type, for each length; None for a type that the library does not cache for this model.
        plain: the same without the plan's windows; None for a plan without windows.
        reason: why there are no sizes; "" where there are some.
    """

    lengths: tuple[int, ...]
    sizes: Sizes = field(default_factory=dict)
    plain: Sizes | None = None
    reason: str = ""


def table_lengths(train_length: int, target_length: int) -> tuple[int, ...]:
    """Some context lengths: the two, and powers of two up to the longer one, of which a few are enough."""
    longest = max(train_length, target_length)
    powers = [2**n for n in range(8, longest.bit_length()) if 2**n <= longest]
    powers = [power for power in powers if power >= _SHORTEST or power in powers[-_OF_SHORT_MODELS:]]
    while len(powers) > _FEW:
        powers = powers[::-2][::-1]
    return tuple(n for n in sorted({train_length, target_length, *powers}) if n <= _LARGEST_LENGTH)


def read_kv_sizes(header: GgufHeader, train_length: int, stored: StoredPlan | None) -> KvSizes:
    """Ask the library for the sizes; whatever it does, this comes back.

    Args:
        header: the model's file.
        train_length: L in tokens.
        stored: its plan.
    """
    plan = None if stored is None else stored.plan
    lengths = table_lengths(train_length, train_length if plan is None else plan.target_length)
    request = {
        "path": str(header.path),
        "lengths": lengths,
        "kv_types": KV_TYPES,
        "windows": plan is not None and any(plan.windows),
    }
    with ReportingChild(_CHILD, request) as child:
        for message in child.messages():
            if "reason" in message:
                return KvSizes(lengths, reason=str(message["reason"]))
            return KvSizes(lengths, message["sizes"], message["plain"])
        end = child.end()
    said = f" ({shortened(end.last_words)})" if end.last_words else ""
    return KvSizes(lengths, reason=f"the library could not be asked, its process {end}{said}")
