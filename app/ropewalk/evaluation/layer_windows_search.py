"""The search for layers that can do with a window: one by one, then a set of them, greedily.

What is measured follows from what was measured before and from nothing else: an interrupted search that is
begun again over the same measurements comes to where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ropewalk.evaluation.layer_windows import Calibration, Layers, Limits, Loss, Probe, loss_of

Measure = Callable[[Layers, Probe], float]
"""The log-probability of a probe's scored tokens, together, with windows in these layers."""

_HALF, _MOST = 1 / 2, 3 / 4
"""Of the layers tried at once, how many are tried next where they were too many: most of them, where the
shorter prompts have said that all go together."""

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
        """The mean of what was found: layers are ranked by it."""
        return fmean(loss.total for loss in (self.coarse, self.closer) if loss is not None)

    def may_join(self, limits: Limits) -> bool:
        """Whether a set is worth trying with it: no key drops too far by its window alone."""
        return max(loss.worst for loss in (self.coarse, self.closer) if loss is not None) <= limits.max_drop


@dataclass(frozen=True)
class SetTried:
    """A set of windowed layers.

    Attributes:
        layers: rising.
        loss: on the probes that it was measured on.
        probes: on how many it was to be; it is given up at the first key that drops too far.
        final: whether those are all.
        accepted: whether it is within the limits.
    """

    layers: Layers
    loss: Loss
    probes: int
    final: bool
    accepted: bool

    @property
    def complete(self) -> bool:
        """Whether it was measured on all that it was to be."""
        return self.loss.n_probes == self.probes


@dataclass
class Search:
    """What the search has found so far; whatever ends it, what was found by then stands here.

    Attributes:
        calibration: what is asked.
        limits: what may be lost.
        n_layer: of the model.
        singles: each layer by itself, in the order of the layers.
        sets: in the order in which they were tried.
        asked: what the set that is at work is measured on.
        done: whether it came to its end.
    """

    calibration: Calibration
    limits: Limits
    n_layer: int
    singles: list[LayerLoss] = field(default_factory=list)
    sets: list[SetTried] = field(default_factory=list)
    asked: tuple[Probe, ...] = ()
    done: bool = False

    @property
    def found(self) -> SetTried | None:
        """The largest set so far that is within the limits on all probes."""
        accepted = [tried for tried in self.sets if tried.accepted and tried.final]
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
        down to a single layer, which is left as it is. Sets are put together on the shorter probes; what came
        of that is measured on all of them, and put together anew, from most of its layers on, where it passes
        a limit there.
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
        queue: Layers = tuple(single.layer for single in self.order)
        probes, shorter = self.calibration.probes, self.calibration.shorter
        if shorter:
            queue = self._add_layers(queue, _HALF, shorter, measure)
        self._add_layers(queue, _MOST if shorter else _HALF, probes, measure)
        self.done = True

    def _is_doubtful(self, single: LayerLoss) -> bool:
        return single.may_join(self.limits) and single.coarse.total > self.limits.max_loss

    def _add_layers(
        self, queue: Sequence[int], share: float, probes: Sequence[Probe], measure: Measure
    ) -> Layers:
        """The layers of a queue that go together, in its order.

        Half of them are tried at once first, or with a `share` of `_MOST` all; where that is too much, that
        share of what was tried.
        """
        chosen: Layers = ()
        at_once = len(queue) if share == _MOST else max(1, len(queue) // 2)
        at = refused = 0
        while at < len(queue) and refused < _PATIENCE:
            at_once = min(at_once, len(queue) - at)
            added = tuple(queue[at : at + at_once])
            if self._try(tuple(sorted(chosen + added)), probes, measure).accepted:
                chosen, refused = chosen + added, 0
                at += at_once
                at_once = max(1, (len(queue) - at) // 2)
            elif at_once > 1:
                at_once = int(at_once * share)
            else:
                at += 1
                refused += 1
        return chosen

    def _try(self, layers: Layers, probes: Sequence[Probe], measure: Measure) -> SetTried:
        self.asked = tuple(probes)
        for n_probes in range(1, len(probes) + 1):
            loss = self._loss(layers, probes[:n_probes], measure)
            if loss.worst > self.limits.max_drop:
                break
        tried = SetTried(
            layers,
            loss,
            probes=len(probes),
            final=len(probes) == len(self.calibration.probes),
            accepted=loss.n_probes == len(probes) and loss.within(self.limits),
        )
        self.sets.append(tried)
        return tried

    def _loss(self, layers: Layers, probes: Sequence[Probe], measure: Measure) -> Loss:
        reference = {probe.name: measure((), probe) for probe in probes}
        windowed = {probe.name: measure(layers, probe) for probe in probes}
        return loss_of(self.calibration, probes, reference, windowed)
