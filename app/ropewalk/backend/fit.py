"""Whether what is needed on each device fits there, the longest context that does, and the refusal."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ropewalk.backend.buffer_sizes import HOST
from ropewalk.backend.errors import MemoryShortageError

CONTEXT_STEP = 256
"""llama.cpp rounds context lengths, and the cells of a KV cache, up to a multiple of this."""

_POSITIONS = 2**31
_GIGABYTE = 1e9


@dataclass(frozen=True)
class DeviceNeed:
    """Bytes on one device by what they are for.

    Attributes:
        device: ggml's name of it, `CPU` for the host.
        weights: of the model.
        kv_cache: keys and values of all tokens the context has room for.
        compute: working memory.
    """

    device: str
    weights: int
    kv_cache: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.compute


@dataclass(frozen=True)
class Need:
    """What a model with a context takes.

    Attributes:
        devices: the host first, then each device that has layers.
        estimated: whether sizes were computed by a formula, where the library did not tell them.
    """

    devices: tuple[DeviceNeed, ...]
    estimated: bool = False

    @property
    def total(self) -> int:
        """Bytes on all devices together."""
        return sum(device.total for device in self.devices)


@dataclass(frozen=True)
class Budget:
    """What a device has room for.

    Attributes:
        device: ggml's name of it.
        free: bytes that are free, or taken by what is about to be replaced.
        margin: bytes of them that are left alone.
        shares_host: whether its memory is the host's.
    """

    device: str
    free: int
    margin: int = 0
    shares_host: bool = False

    @property
    def usable(self) -> int:
        """Bytes that may be filled."""
        return max(0, self.free - self.margin)


@dataclass(frozen=True)
class Shortage:
    """A device that too much is needed on.

    Attributes:
        device: ggml's name of it.
        needed: bytes needed there.
        weights: how much of that is weights.
        usable: bytes that may be filled.
    """

    device: str
    needed: int
    weights: int
    usable: int


NeedOf = Callable[[int], Need]
"""What a context of so many tokens takes, the weights included; it does not fall as they grow."""


def shortage(need: Need, budgets: Sequence[Budget]) -> Shortage | None:
    """The first device, GPUs before the host, that has not enough room; None where all have."""
    room = {budget.device: budget for budget in budgets}
    host_needed, host_weights = 0, 0
    for device in reversed(need.devices):
        budget = room.get(device.device)
        if device.device == HOST or (budget is not None and budget.shares_host):
            host_needed += device.total
            host_weights += device.weights
        if budget is not None and device.device != HOST and device.total > budget.usable:
            return Shortage(device.device, device.total, device.weights, budget.usable)
    host = room.get(HOST)
    if host is not None and host_needed > host.usable:
        return Shortage(HOST, host_needed, host_weights, host.usable)
    return None


def largest_context(need_of: NeedOf, budgets: Sequence[Budget]) -> int:
    """The longest context that fits everywhere, in steps of 256 tokens; 0 for none, at most all positions."""
    lengths = range(CONTEXT_STEP, _POSITIONS, CONTEXT_STEP)
    n_fitting = bisect_right(lengths, False, key=lambda n_ctx: shortage(need_of(n_ctx), budgets) is not None)
    return lengths[n_fitting - 1] if n_fitting else 0


@dataclass(frozen=True)
class Alternatives:
    """What a person could ask for instead; each is left out where it does not help.

    Attributes:
        n_ctx: the longest context that fits.
        by_kv_type: the same with each smaller KV type.
        windowed: whether the plan has windows, which could be narrower.
        gpu_layers: how many layers the GPUs have room for; None where that is not asked.
    """

    n_ctx: int
    by_kv_type: Mapping[str, int]
    windowed: bool = False
    gpu_layers: int | None = None


def refusal(n_ctx: int, short: Shortage, instead: Alternatives) -> MemoryShortageError:
    """The error that says what does not fit where, and what would."""
    where = "memory" if short.device == HOST else f"memory on {short.device}"
    choices = []
    if instead.n_ctx:
        choices.append(f"ask for a context of at most {instead.n_ctx:,} tokens")
    helpful = {kv_type: length for kv_type, length in instead.by_kv_type.items() if length > instead.n_ctx}
    if helpful:
        lengths = (f"{kv_type} has room for {length:,}" for kv_type, length in helpful.items())
        choices.append(f"a smaller KV type ({', '.join(lengths)})")
    if instead.windowed:
        choices.append("narrower windows")
    if instead.gpu_layers is not None:
        choices.append(
            f"fewer layers on the GPU (--gpu-layers {instead.gpu_layers})"
            if instead.gpu_layers
            else "no layers on the GPU (--gpu-layers 0)"
        )
    if not choices:
        choices.append("a smaller model, or one with smaller weights, is needed")
    return MemoryShortageError(
        f"a context of {n_ctx:,} tokens needs {_gigabytes(short.needed)} of {where} "
        f"({_gigabytes(short.weights)} of it for the weights), and {_gigabytes(short.usable)} are free: "
        + _either(choices),
        needed=short.needed,
        free=short.usable,
        largest_n_ctx=instead.n_ctx,
    )


def _either(choices: Sequence[str]) -> str:
    if len(choices) == 1:
        return choices[0]
    return f"{', '.join(choices[:-1])}, or {choices[-1]}"


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / _GIGABYTE:.1f} GB"
