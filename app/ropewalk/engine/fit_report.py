"""What `fit_child.py` finds out: whether a model with contexts of some lengths fits, in bytes by device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeviceRoom:
    """A device and what it has room for.

    Attributes:
        device: ggml's name of it, `CPU` for the host.
        description: the vendor's name for it, an RPC server's address; "" for the host.
        free: bytes that are free.
        margin: bytes of them that are left alone.
    """

    device: str
    description: str
    free: int
    margin: int


@dataclass(frozen=True)
class DeviceTake:
    """Bytes that are needed on a device."""

    device: str
    weights: int
    kv_cache: int
    compute: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.compute


@dataclass(frozen=True)
class FitRow:
    """A context of a length, with a KV type.

    Attributes:
        kv_type: type of cached keys and values.
        n_ctx: tokens.
        gpu_layers: layers on the GPUs, the output counted as one.
        devices: the host first.
        short_of: the device that has not enough room; None where it fits.
        estimated: whether sizes are by a formula, where the library did not tell them.
    """

    kv_type: str
    n_ctx: int
    gpu_layers: int
    devices: tuple[DeviceTake, ...]
    short_of: str | None
    estimated: bool

    @property
    def total(self) -> int:
        """Bytes on all devices."""
        return sum(device.total for device in self.devices)


@dataclass(frozen=True)
class LongestContext:
    """The longest context that fits, with a KV type; 0 where none does."""

    kv_type: str
    n_ctx: int


@dataclass(frozen=True)
class FittedModel:
    """The model, under the plan that it would be run with.

    Attributes:
        n_layer: number of layers.
        size_bytes: of all weights.
        train_length: L in tokens.
        target_length: L' in tokens.
        streams: whether texts of any length will do.
    """

    n_layer: int
    size_bytes: int
    train_length: int
    target_length: int
    streams: bool


@dataclass(frozen=True)
class FitReport:
    """What fits.

    Attributes:
        model: the model.
        n_ctx: the length that was asked for; the target length where none was.
        rooms: the host first.
        n_layers: layers of the model, the output counted as one.
        rows: by KV type and length, in the order that was asked for; none for a type that the model's heads
            cannot be cached in.
        longest: by KV type.
    """

    model: FittedModel
    n_ctx: int
    rooms: tuple[DeviceRoom, ...]
    n_layers: int
    rows: tuple[FitRow, ...]
    longest: tuple[LongestContext, ...]
