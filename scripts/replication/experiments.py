"""What is run, in the order of what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

L = 256
"""The tiny model's train length."""


@dataclass(frozen=True)
class Contender:
    """A method with its options.

    Attributes:
        label: what tables call it.
        method: as `ropewalk bake` spells it.
        options: the method's.
    """

    label: str
    method: str
    options: Mapping[str, str] = field(default_factory=dict)


CONTENDERS = (
    Contender("none", "none"),
    Contender("PI", "pi"),
    Contender("NTK", "ntk"),
    Contender("YaRN", "yarn"),
    Contender("DPRoPE", "dprope"),
    Contender("DPRoPE 0.3", "dprope", {"threshold": "0.3"}),
    Contender("dynamic NTK", "dynamic-ntk"),
    Contender("LogN", "logn"),
    Contender("Extra-PE", "extra-pe"),
    Contender("Extra-MPE", "extra-mpe"),
)

SAME_WITHIN_L = ("none", "dynamic NTK", "LogN", "Extra-PE", "Extra-MPE")
"""What should leave every logit within L as it is."""

_FIRST_TUNED = ("Extra-PE", "YaRN", "PI", "NTK", "DPRoPE 0.3", "Extra-MPE", "none", "dynamic NTK")
_PERIODIC = ("Extra-PE", "Extra-MPE")


@dataclass(frozen=True)
class Experiment:
    """One model under one plan.

    Attributes:
        contender: the method.
        target: the plan's target length, and the length of the sequences learned from.
        steps: of fine-tuning; 0 for none.
        passkey_lengths: prompts' lengths.
        perplexity_lengths: windows' lengths.
        trials: for each of the five depths of each length.
    """

    contender: Contender
    target: int
    steps: int
    passkey_lengths: tuple[int, ...]
    perplexity_lengths: tuple[int, ...]
    trials: int = 8

    @property
    def name(self) -> str:
        """What a results file knows it by."""
        return f"{self.contender.label} x{self.target // L}, {self.steps} steps"


def experiments() -> tuple[Experiment, ...]:
    """All of them: untuned ones, then 100 steps at 4L, at other lengths, and more steps."""
    by_label = {contender.label: contender for contender in CONTENDERS}
    planned = [_untuned(contender, factor) for factor in (2, 4) for contender in CONTENDERS]
    planned += [_tuned(by_label[label], 4, 100) for label in _FIRST_TUNED]
    planned += [_untuned(contender, 10) for contender in CONTENDERS]
    planned += [_tuned(by_label[label], factor, 100) for factor in (2, 8) for label in _PERIODIC]
    planned += [_tuned(by_label[label], 4, 300) for label in _FIRST_TUNED]
    planned += [_tuned(by_label[label], 2, 100) for label in ("YaRN", "PI", "NTK", "none")]
    return tuple(planned)


def _untuned(contender: Contender, factor: int) -> Experiment:
    target = factor * L
    within = (L // 2, 3 * L // 4, L)
    return Experiment(contender, target, 0, (*within, target), (L // 2, L, target))


def _tuned(contender: Contender, factor: int, steps: int) -> Experiment:
    beyond = (2 * L, 4 * L, 6 * L, 10 * L)
    return Experiment(contender, factor * L, steps, (3 * L // 4, L, *beyond), (L // 2, L, *beyond, 16 * L))
