"""Which layers can do with a window: what is asked of them, and what a set of windowed layers loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

Layers = tuple[int, ...]
"""Layers with a window, rising; all others see the whole text. () is what the others are compared with."""

ProbeKind = Literal["key", "text"]


@dataclass(frozen=True)
class Probe:
    """One text of which the last tokens are scored.

    Attributes:
        name: tells it from the others of a calibration.
        kind: `key`, a passkey prompt with its right answer; `text`, a stretch of real text.
        length: tokens asked for.
        depth: where the key lies; None for a text.
        n_tokens: tokens there are, the scored ones included.
        n_scored: tokens at the end whose log-probability is wanted.
    """

    name: str
    kind: ProbeKind
    length: int
    depth: float | None
    n_tokens: int
    n_scored: int


@dataclass(frozen=True)
class Calibration:
    """What every set of layers is asked.

    Attributes:
        probes: the cheapest first.
    """

    probes: tuple[Probe, ...]

    @property
    def keys(self) -> tuple[Probe, ...]:
        """The passkey prompts."""
        return tuple(probe for probe in self.probes if probe.kind == "key")

    @property
    def tokens_of_a_key(self) -> float:
        """Scored tokens of a passkey prompt: a stretch of text that long counts as much as one key."""
        return fmean(probe.n_scored for probe in self.keys)

    @property
    def coarse(self) -> tuple[Probe, ...]:
        """The first look at each layer: the cheapest key."""
        return self.keys[:1]

    @property
    def shorter(self) -> tuple[Probe, ...]:
        """Those that are not of the longest length, on which sets are put together."""
        longest = max(probe.length for probe in self.probes)
        return tuple(probe for probe in self.probes if probe.length < longest)

    @property
    def closer(self) -> tuple[Probe, ...]:
        """The second look, at doubtful layers: the cheapest key in a longer prompt."""
        longer = [probe for probe in self.keys if probe.length > self.keys[0].length]
        return tuple(longer[:1])


@dataclass(frozen=True)
class Limits:
    """What a set of windowed layers may lose.

    Attributes:
        max_loss: `Loss.total`, in nats.
        max_drop: of any one key, in nats.
    """

    max_loss: float
    max_drop: float


@dataclass(frozen=True)
class Loss:
    """By how much windows make the right tokens less likely; negative where they make them likelier.

    Attributes:
        keys: mean drop of the log-probability of a key, all its tokens together, in nats.
        text: mean drop of that of a stretch of text as long as a key, in nats.
        worst: the largest drop of one key.
        n_probes: probes that this is of.
    """

    keys: float
    text: float
    worst: float
    n_probes: int

    @property
    def total(self) -> float:
        """What is compared with `Limits.max_loss`."""
        return self.keys + self.text

    def within(self, limits: Limits) -> bool:
        """Whether no limit is passed."""
        return self.total <= limits.max_loss and self.worst <= limits.max_drop


def loss_of(
    calibration: Calibration,
    probes: Sequence[Probe],
    reference: Mapping[str, float],
    windowed: Mapping[str, float],
) -> Loss:
    """What windows lose on some probes.

    Args:
        calibration: that the probes are of.
        probes: at least one.
        reference: log-probability of the scored tokens of each probe, by its name, without windows.
        windowed: the same with them.
    """
    drops = {probe: reference[probe.name] - windowed[probe.name] for probe in probes}
    keys = [drop for probe, drop in drops.items() if probe.kind == "key"]
    texts = [
        drop / probe.n_scored * calibration.tokens_of_a_key
        for probe, drop in drops.items()
        if probe.kind == "text"
    ]
    return Loss(
        keys=fmean(keys) if keys else 0.0,
        text=fmean(texts) if texts else 0.0,
        worst=max(keys, default=0.0),
        n_probes=len(drops),
    )
