"""The windows that are measured: one for the lower layers, none for the others."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.depth_cost import Layers, window_cache
from provision.failure import USAGE, ProvisionError

WINDOWS = "windows"
"""The method's name."""


@dataclass(frozen=True)
class WindowPlan:
    """Windows in the lower layers of a model.

    Attributes:
        n_layer: layers of the model.
        lower: how many of them, from the lowest, have a window.
        window: tokens.
        sinks: tokens.
    """

    n_layer: int
    lower: int
    window: int
    sinks: int

    def __post_init__(self) -> None:
        """Check that there are such layers.

        Raises:
            ProvisionError: there are not.
        """
        if not 0 < self.lower <= self.n_layer:
            raise ProvisionError(f"--lower is {self.lower}; it must be from 1 to {self.n_layer}", USAGE)
        if self.window < 1 or self.sinks < 0:
            raise ProvisionError("--window must be at least 1 and --sinks at least 0", USAGE)

    @property
    def options(self) -> dict[str, str]:
        """As options of the method `windows`."""
        windows = [self.window] * self.lower + [0] * (self.n_layer - self.lower)
        return {"windows": "/".join(map(str, windows)), "sinks": str(self.sinks)}

    def layers(self, n_ctx: int, n_ubatch: int) -> Layers:
        """The cells of every layer's cache."""
        cache = window_cache(self.window, self.sinks, n_ubatch, n_ctx)
        return Layers((cache,) * self.lower + (n_ctx,) * (self.n_layer - self.lower))

    @property
    def sentence(self) -> str:
        """In words."""
        seen = f"{self.window:,} tokens and {self.sinks} sinks"
        return f"the lower {self.lower} of {self.n_layer} layers see {seen}"
