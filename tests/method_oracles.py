"""What each method makes of positions, read from its paper's equation in float64; an oracle for the library.

Nothing here imports the code under test. Symbols: d = n_rot, theta_i = base^(-2i/d), L the train length,
s = L'/L, m the position from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from reference_transformer import Float64, Positions, plain_frequencies
from tiny_models import TinyModel

Oracle = Callable[[TinyModel, int, Float64], Positions]
"""(model, target length L', positions m) -> what the method makes of them."""


def none(model: TinyModel, target: int, m: Float64) -> Positions:
    """RoPE as trained."""
    del target
    return Positions(np.outer(m, plain_frequencies(model)))


def pi(model: TinyModel, target: int, m: Float64) -> Positions:
    """Chen et al. 2023, equation 4: f'(x, m) = f(x, m L / L')."""
    return Positions(np.outer(m * model.train_length / target, plain_frequencies(model)))


def ntk(model: TinyModel, target: int, m: Float64) -> Positions:
    """bloc97 2023: base' = base * s^(d/(d-2))."""
    d = model.rope_dim
    base = model.rope_base * (target / model.train_length) ** (d / (d - 2))
    return Positions(np.outer(m, base ** (-2.0 * np.arange(d // 2) / d)))


def yarn(model: TinyModel, target: int, m: Float64) -> Positions:
    """Peng et al. 2023, sections 3.2 and 3.4, with the published code's ramp over the pair index."""
    d, s = model.rope_dim, target / model.train_length

    def pair_of(rotations: float) -> float:
        return d * math.log(model.train_length / (rotations * 2 * math.pi)) / (2 * math.log(model.rope_base))

    low, high = max(math.floor(pair_of(32)), 0), min(math.ceil(pair_of(1)), d - 1)
    ramp = np.clip((np.arange(d // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    theta = plain_frequencies(model)
    return Positions(np.outer(m, theta / s * ramp + theta * (1 - ramp)), 0.1 * math.log(s) + 1.0)


def dprope(model: TinyModel, target: int, m: Float64) -> Positions:
    """Wu et al. 2024, equations 6 to 9, token by token: interpolate where extrapolation disturbs more."""
    theta = plain_frequencies(model)
    scale = target / model.train_length
    chosen = [t / scale if _interpolates(t, model.train_length, target) else t for t in theta]
    return Positions(np.outer(m, chosen))


def extra_pe(model: TinyModel, target: int, m: Float64) -> Positions:
    """Extra-PE: pairs i >= d_extra/2 - 1 see m mod L."""
    del target
    return _mapped(model, m, m % model.train_length)


def extra_mpe(model: TinyModel, target: int, m: Float64) -> Positions:
    """Extra-MPE: those pairs see q = m mod 2L, mirrored at L."""
    del target
    q = m % (2 * model.train_length)
    return _mapped(model, m, np.where(q < model.train_length, q, 2 * model.train_length - q))


def with_logn(oracle: Oracle) -> Oracle:
    """Su 2023: q at position m times log_L(m + 1) where m + 1 > L."""

    def scaled(model: TinyModel, target: int, m: Float64) -> Positions:
        positions = oracle(model, target, m)
        factor = np.maximum(1.0, np.log(m + 1.0) / math.log(model.train_length))
        return Positions(positions.angles, positions.attention_factor, factor)

    return scaled


ORACLES: dict[str, Oracle] = {
    "pi": pi,
    "ntk": ntk,
    "yarn": yarn,
    "dprope": dprope,
    "extra-pe": extra_pe,
    "extra-mpe": extra_mpe,
    "logn": with_logn(none),
    "dprope+logn": with_logn(dprope),
    "yarn+logn": with_logn(yarn),
    "extra-pe+logn": with_logn(extra_pe),
}


def _mapped(model: TinyModel, m: Float64, p: Float64) -> Positions:
    d = model.rope_dim
    d_extra = 2 * math.ceil(d / 2 * math.log(model.train_length / (2 * math.pi), model.rope_base))
    mapped = np.arange(d // 2) >= d_extra // 2 - 1
    theta = plain_frequencies(model)
    return Positions(np.where(mapped, np.outer(p, theta), np.outer(m, theta)))


def _interpolates(theta: float, train: int, target: int, bins: int = 360, threshold: float = 1e-4) -> bool:
    original = _histogram(theta, train, bins)
    extrapolated = _histogram(theta, target, bins)
    interpolated = _histogram(theta * train / target, target, bins)
    return _divergence(original, extrapolated) > _divergence(original, interpolated) + threshold


def _histogram(theta: float, length: int, bins: int) -> list[float]:
    counts = [0] * bins
    for position in range(length):
        angle = (position * theta) % (2 * math.pi)
        counts[min(int(angle / (2 * math.pi) * bins), bins - 1)] += 1
    return [count / length for count in counts]


def _divergence(p: list[float], q: list[float], epsilon: float = 1e-8) -> float:
    return sum((a + epsilon) * math.log((a + epsilon) / (b + epsilon)) for a, b in zip(p, q, strict=True))
