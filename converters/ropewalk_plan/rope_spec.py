"""`RopeSpec`: how a model rotates before any plan, its own scaling included."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ropewalk_plan.plan import PlanError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OwnScaling:
    """What a checkpoint's config, or a GGUF file's keys, say of the model's own scaling, as parameters.

    `RopeSpec.own_factors` says what that scaling does at full length; this says how it is made, so that
    methods can take their defaults from it.

    Attributes:
        kind: `linear`, `dynamic`, `yarn`, `longrope`, `llama3`, or `qwen-dynamic`.
        factor: the config's own number.
        original_length: L before that scaling, in tokens.
        long_factors: LongRoPE's long list, `n_rot/2` numbers.
        short_factors: its short list.
        short_attention_factor: the attention factor under the short list, where it has another one.
        low_freq_factor: Llama 3's: turns over the original length below which a pair is interpolated.
        high_freq_factor: Llama 3's: turns above which a pair is left alone.
        beta_fast: YaRN's: turns over the original length above which a pair is left alone.
        beta_slow: turns below which a pair is interpolated.
        truncate: whether YaRN rounds the pairs of these turns.
        logn: Qwen's `use_logn_attn`.
    """

    kind: str
    factor: float | None = None
    original_length: int | None = None
    long_factors: tuple[float, ...] = ()
    short_factors: tuple[float, ...] = ()
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_attention_factor: float | None = None
    logn: bool = False


@dataclass(frozen=True)
class RopeSpec:
    """A model's own rotation, which methods extend.

    Pair i turns by `theta_i = base^(-2i/n_rot) / own_factors[i]` radians per token.

    Attributes:
        architecture: GGUF's `general.architecture`.
        n_rot: rotated dimensions of a head (d in the papers); even.
        base: the rotary base.
        train_length: L in tokens, as the file states it.
        n_layer: number of layers.
        own_factors: `n_rot/2` frequency factors of the model's own scaling at full length; all 1.0
            for a plain model (the default).
        own_attention_factor: the model's own multiplier on rotated q and on rotated k.
        own_scaling: the parameters of that scaling where they are known.

    Raises:
        PlanError: a value no rotary model can have; the message names it.
    """

    architecture: str
    n_rot: int
    base: float
    train_length: int
    n_layer: int
    own_factors: tuple[float, ...] = field(default=())
    own_attention_factor: float = 1.0
    own_scaling: OwnScaling | None = None

    def __post_init__(self) -> None:
        """Fill in a plain model's factors and check every value."""
        if self.n_rot <= 0 or self.n_rot % 2:
            raise PlanError(
                f"n_rot (rotated dimensions of a head) is {self.n_rot}; it must be even and above 0"
            )
        if not (math.isfinite(self.base) and self.base > 1):
            raise PlanError(f"the rotary base is {self.base:g}; it must be a finite number above 1")
        if self.train_length <= 0:
            raise PlanError(f"train_length is {self.train_length}; it must be a positive number of tokens")
        if self.n_layer <= 0:
            raise PlanError(f"n_layer is {self.n_layer}; it must be above 0")
        if not self.own_factors:
            object.__setattr__(self, "own_factors", (1.0,) * self.n_pairs)
        if len(self.own_factors) != self.n_pairs:
            raise PlanError(f"own_factors has {len(self.own_factors)} numbers; n_rot/2 is {self.n_pairs}")
        if not all(math.isfinite(f) and f > 0 for f in self.own_factors):
            raise PlanError("own_factors must be finite and above 0")
        if not (math.isfinite(self.own_attention_factor) and self.own_attention_factor > 0):
            raise PlanError(
                f"own_attention_factor is {self.own_attention_factor}; it must be finite and above 0"
            )

    @property
    def n_pairs(self) -> int:
        """Number of rotary pairs, `n_rot/2`."""
        return self.n_rot // 2

    @property
    def is_plain(self) -> bool:
        """Whether the frequencies are the textbook's, without a scaling of the model's own."""
        return all(f == 1.0 for f in self.own_factors)

    @property
    def factors(self) -> FloatArray:
        """`own_factors` as a float64 array of shape [n_pairs]."""
        return np.asarray(self.own_factors, dtype=np.float64)

    @property
    def frequencies(self) -> FloatArray:
        """theta_i in radians per token, own scaling included, shape [n_pairs]."""
        exponents = -2.0 * np.arange(self.n_pairs, dtype=np.float64) / self.n_rot
        return np.power(self.base, exponents) / self.factors

    def pair_at_rotations(self, length: int, rotations: float) -> float:
        """The pair index, as a real number, at which `length` tokens make `rotations` turns.

        On a plain model this is the papers' `d ln(L / (2 pi r)) / (2 ln base)` (YaRN's correction
        dimension; Extra-PE's critical dimension with r = 1). On a model that scales already it is read
        off its effective frequencies, linearly in the logarithm between neighbouring pairs and with the
        plain slope beyond the first and the last.

        Args:
            length: tokens.
            rotations: r, full turns over that length.
        """
        slope = 2.0 * math.log(self.base) / self.n_rot
        if self.is_plain:
            return math.log(length / (rotations * 2.0 * math.pi)) / slope
        excess = np.log(self.frequencies * length / (2.0 * math.pi)) - math.log(rotations)
        above = np.flatnonzero(excess >= 0)
        if above.size == 0:
            return float(excess[0] / slope)
        last = int(above[-1])
        if last == self.n_pairs - 1:
            return float(last + excess[last] / slope)
        return float(last + excess[last] / (excess[last] - excess[last + 1]))
