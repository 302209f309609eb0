"""The plans that a search for windowed layers compares: the same but for the layers that have a window."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ropewalk.evaluation.labelled_plan import PLAIN, label_of
from ropewalk.evaluation.layer_windows import Layers
from ropewalk_plan import ContextPlan, PlanError, RopeSpec, make_plan
from ropewalk_plan.compose import SEPARATOR, parse_method
from ropewalk_plan.methods import Aspect

WINDOWS = "windows"
FULL, ALL = "full", "all"


@dataclass(frozen=True)
class WindowPlans:
    """Plans for one model and one target length, by the layers that have a window.

    Attributes:
        spec: the model's own rotation.
        method: what extends the model beside the windows; "" for nothing.
        options: its options, as text.
        target_length: L' in tokens.
        train_length: L in tokens.
        window: tokens that a windowed layer sees.
        sinks: first tokens that it sees besides.
        rope_layers: whether the method's frequencies are for `all` layers or for those that are `full`.
    """

    spec: RopeSpec
    method: str
    options: Mapping[str, str]
    target_length: int
    train_length: int
    window: int
    sinks: int
    rope_layers: str

    def __post_init__(self) -> None:
        """Check that the method can stand beside windows, by making the plans of no and of one layer.

        Raises:
            PlanError: it cannot, or it makes no plan for this model.
        """
        if self.method:
            for info in parse_method(self.method):
                if Aspect.WINDOWS in info.sets:
                    raise PlanError(
                        f"method {info.name} decides {Aspect.WINDOWS.value}, which is what is to be "
                        "measured; name a method of frequencies, or none"
                    )
        self.plan(())
        self.plan((0,))

    def method_of(self, layers: Layers) -> str:
        """As `--method` takes it."""
        if not layers:
            return self.method or PLAIN
        return SEPARATOR.join([*([self.method] if self._extends(layers) else []), WINDOWS])

    def options_of(self, layers: Layers) -> dict[str, str]:
        """As `--method-option` takes them."""
        options = dict(self.options) if self._extends(layers) else {}
        if layers:
            widths = [self.window if layer in layers else 0 for layer in range(self.spec.n_layer)]
            options |= {"windows": "/".join(map(str, widths)), "sinks": str(self.sinks)}
            if self._extends(layers) and self.rope_layers == FULL:
                options["rope_layers"] = FULL
        return options

    def label_of(self, layers: Layers) -> str:
        """A name in few words."""
        if not layers:
            return label_of(self.method or PLAIN, self.options)
        return f"{self.method_of(layers)}, {len(layers)} of {self.spec.n_layer} layers"

    def plan(self, layers: Layers) -> ContextPlan | None:
        """What is executed; None for the plain model."""
        method = self.method_of(layers)
        if method == PLAIN:
            return None
        return make_plan(self.spec, method, self.target_length, self.train_length, self.options_of(layers))

    def bake_command(self, layers: Layers, source: Path) -> tuple[str, ...]:
        """The arguments that write the plan of these layers into a copy of a file."""
        target = source.with_name(f"{source.stem}-{WINDOWS}{source.suffix}").name
        options = [
            part
            for name, value in self.options_of(layers).items()
            for part in ("--method-option", f"{name}={value}")
        ]
        lengths = ["--target-length", str(self.target_length)]
        if self.train_length != self.spec.train_length:
            lengths += ["--train-length", str(self.train_length)]
        return (
            "ropewalk",
            "bake",
            str(source),
            target,
            "--method",
            self.method_of(layers),
            *lengths,
            *options,
        )

    def _extends(self, layers: Layers) -> bool:
        """Whether the method has anything to do: where only full layers are turned, one must be left."""
        return bool(self.method) and not (self.rope_layers == FULL and len(layers) == self.spec.n_layer)


def command_text(command: tuple[str, ...]) -> str:
    """A command as a shell takes it."""
    return shlex.join(command)
