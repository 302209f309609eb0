"""The search for layers that can do with a window: one by one, then a set of them, greedily.

What is measured follows from what was measured before and from nothing else: an interrupted search that is
begun again over the same measurements comes to where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ropewalk.evaluation.layer_windows import Calibration, Layers, Limits, Loss, Probe, loss_of

Measure = Callable[[Layers, Probe], float]
"""The log-probability of a probe's scored tokens, together, with windows in these layers."""

_PATIENCE = 3
"""Layers in a row that do not go into the set, after which the search ends: those that follow lose more."""


@dataclass(frozen=True)
class LayerLoss:
    """What one layer's window alone loses.

    Attributes:
        layer: from 0.
        coarse: on the cheapest probe.
        closer: on a longer one; None where that was not looked at.
    """

    layer: int
    coarse: Loss
    closer: Loss | None = None

    @property
    def loss(self) -> float:
        """The larger of what was found: layers are ranked by it."""
        return max([self.coarse.total, *([self.closer.total] if self.closer else [])])

    def may_join(self, limits: Limits) -> bool:
        """Whether a set is worth trying with it: no key drops too far by its window alone."""
        return max(loss.worst for loss in (self.coarse, self.closer) if loss is not None) <= limits.max_drop


@dataclass(frozen=True)
class SetTried:
    """A set of windowed layers.

    Attributes:
        layers: rising.
        loss: on the probes that it was measured on.
        complete: whether those were all: it is given up at the first key that drops too far.
        accepted: whether it is within the limits.
    """

    layers: Layers
    loss: Loss
    complete: bool
    accepted: bool


@dataclass
class Search:
    """What the search has found so far; whatever ends it, what was found by then stands here.

    Attributes:
        calibration: what is asked.
        limits: what may be lost.
        n_layer: of the model.
        singles: each layer by itself, in the order of the layers.
        sets: in the order in which they were tried.
        done: whether it came to its end.
    """

    calibration: Calibration
    limits: Limits
    n_layer: int
    singles: list[LayerLoss] = field(default_factory=list)
    sets: list[SetTried] = field(default_factory=list)
    done: bool = False

    @property
    def found(self) -> SetTried | None:
        """The largest set within the limits so far."""
        accepted = [tried for tried in self.sets if tried.accepted]
        return accepted[-1] if accepted else None

    @property
    def order(self) -> list[LayerLoss]:
        """Layers that may get a window, the most tolerant first."""
        joining = [single for single in self.singles if single.may_join(self.limits)]
        return sorted(joining, key=lambda single: (single.loss, single.layer))

    def run(self, measure: Measure) -> None:
        """Search to the end; what `measure` raises ends it before.

        First every layer by itself on the cheapest probe, then those that lose more than a set may lose, but
        not so much that they are out of the question, on a longer one. Then layers are added from the most
        tolerant on, half of those that are left at once: where a set passes a limit, half as many are tried,
        down to a single layer, which is left as it is. Each set is measured on all probes, the cheapest
        first.
        """
        self.singles.clear()
        self.sets.clear()
        self.done = False
        for layer in range(self.n_layer):
            self.singles.append(LayerLoss(layer, self._loss((layer,), self.calibration.coarse, measure)))
        for single in list(self.singles):
            if self.calibration.closer and self._is_doubtful(single):
                closer = self._loss((single.layer,), self.calibration.closer, measure)
                self.singles[single.layer] = LayerLoss(single.layer, single.coarse, closer)
        self._add_layers([single.layer for single in self.order], measure)
        self.done = True

    def _is_doubtful(self, single: LayerLoss) -> bool:
        return single.may_join(self.limits) and single.coarse.total > self.limits.max_loss

    def _add_layers(self, queue: Sequence[int], measure: Measure) -> None:
        chosen: Layers = ()
        at, at_once, refused = 0, max(1, len(queue) // 2), 0
        while at < len(queue) and refused < _PATIENCE:
            at_once = min(at_once, len(queue) - at)
            tried = self._try(tuple(sorted({*chosen, *queue[at : at + at_once]})), measure)
            if tried.accepted:
                chosen, refused = tried.layers, 0
                at += at_once
                at_once = max(1, (len(queue) - at) // 2)
            elif at_once > 1:
                at_once //= 2
            else:
                at += 1
                refused += 1

    def _try(self, layers: Layers, measure: Measure) -> SetTried:
        probes: list[Probe] = []
        for probe in self.calibration.probes:
            probes.append(probe)
            loss = self._loss(layers, probes, measure)
            if loss.worst > self.limits.max_drop:
                break
        complete = len(probes) == len(self.calibration.probes)
        tried = SetTried(layers, loss, complete, accepted=complete and loss.within(self.limits))
        self.sets.append(tried)
        return tried

    def _loss(self, layers: Layers, probes: Sequence[Probe], measure: Measure) -> Loss:
        reference = {probe.name: measure((), probe) for probe in probes}
        windowed = {probe.name: measure(layers, probe) for probe in probes}
        return loss_of(self.calibration, probes, reference, windowed)
