"""Progress of the search for layers that can do with a window, with the time left."""

from __future__ import annotations

from contextlib import ExitStack

from ropewalk.cli.progress import ProgressReport, Tokens, Update
from ropewalk.evaluation.layer_windows import Layers, Probe
from ropewalk.evaluation.layer_windows_measure import Measurements
from ropewalk.evaluation.layer_windows_search import Search
from ropewalk.wording.quantities import count


class SearchProgress:
    """A step for all layers one by one, then one for each set of them.

    How many sets there will be follows from what they lose, so the time left is that of the set at work.
    """

    def __init__(self, progress: ProgressReport, search: Search, measurements: Measurements) -> None:
        """Nothing shown yet.

        Args:
            progress: where steps are shown.
            search: that is shown.
            measurements: what is known, which takes no time.
        """
        self._progress, self._search, self._measurements = progress, search, measurements
        self._stack = ExitStack()
        self._label = ""
        self._update: Update | None = None
        self._at: tuple[Layers, Probe] | None = None
        self._before = self._last = self._total = 0

    def update(self, layers: Layers, probe: Probe, done: int, total: int) -> None:
        """So many tokens of a probe are read under windows in these layers."""
        label = self._label_of(layers, probe)
        if label != self._label or self._update is None:
            self.close()
            self._label, self._before, self._last, self._at = label, 0, 0, None
            self._total = self._work_of(layers, probe)
            self._update = self._stack.enter_context(self._progress.step(label, Tokens()))
        if self._at != (layers, probe):
            self._at = (layers, probe)
            self._before += self._last
        self._last = total
        self._update(self._before + done, max(self._total, self._before + total))

    def close(self) -> None:
        """End the step at work; harmless where there is none."""
        self._stack.close()
        self._update = None

    def _is_coarse(self, layers: Layers, probe: Probe) -> bool:
        return len(layers) <= 1 and probe in self._search.calibration.coarse

    def _label_of(self, layers: Layers, probe: Probe) -> str:
        if self._is_coarse(layers, probe):
            return f"{count(self._search.n_layer, 'layer')}, one by one"
        if not layers:
            return f"without windows, {probe.name}"
        if len(layers) == 1:
            return f"layer {layers[0]} again, {probe.name}"
        return f"{len(layers)} layers together (set {len(self._search.sets) + 1})"

    def _work_of(self, layers: Layers, probe: Probe) -> int:
        """Tokens of a step that are not known yet."""
        if self._is_coarse(layers, probe):
            sets: list[Layers] = [(), *((layer,) for layer in range(self._search.n_layer))]
            return self._unknown(sets, self._search.calibration.coarse)
        if len(layers) <= 1:
            return probe.n_tokens
        return self._unknown([layers], self._search.asked)

    def _unknown(self, sets: list[Layers], probes: tuple[Probe, ...]) -> int:
        return sum(
            probe.n_tokens for layers in sets for probe in probes if not self._measurements.has(layers, probe)
        )
