"""What a snapshot belongs to: it may only be restored where a fresh reading would compute the same."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version

import xxhash

from ropewalk.engine import EngineOptions, ModelDescription
from ropewalk.sessions.fingerprint import ModelFingerprint, model_fingerprint
from ropewalk.wording.files import shortened
from ropewalk_plan.plan import ContextPlan

NO_PLAN = "none"
_WINDOWED = "windowed-"
_SCHEMA = 1  # of what is in a snapshot's folder
_CELLS = 256  # the library rounds a context's length up to a multiple of it
_UNQUANTIZED = ("f32", "f16")


@dataclass(frozen=True)
class SnapshotKey:
    """What a text was read with.

    Attributes:
        model: fingerprint of the model.
        plan: digest of the context plan in force (see `plan_digest`).
        kv_type: of the cached keys and values.
        flash_attention: as asked for; it decides how values are laid out.
        step: which factors were in force, where they depend on the length: the step of the plan's schedule,
            or whether the file's own long factors were.
        library: the library that computed, and the version of what a snapshot's folder holds.
        model_name: the model's file, for people.
    """

    model: str
    plan: str
    kv_type: str
    flash_attention: str
    step: int
    library: str
    model_name: str = field(default="", compare=False)

    @property
    def rolls_back(self) -> bool:
        """Whether a restored text can be cut anywhere: not where windows have let go of what is needed."""
        return not self.plan.startswith(_WINDOWED)

    @property
    def digest(self) -> str:
        """A digest of all that is compared, as 32 hexadecimal digits."""
        values = dataclasses.asdict(self)
        del values["model_name"]
        return _digest(values)


def snapshot_key(
    model: ModelDescription,
    options: EngineOptions,
    length: int,
    fingerprint: ModelFingerprint | None = None,
) -> SnapshotKey:
    """The key of a text that is to be read by a loaded model.

    Args:
        model: as loaded, in the context that the text is to be read in.
        options: as it was loaded with.
        length: tokens that the factors are put in force for while it is read: what `Engine.prefill` reserves.
        fingerprint: of the model's file; None to find it.

    Raises:
        GgufError: the model's file cannot be read any more.
    """
    fingerprint = fingerprint or model_fingerprint(model.path)
    reserved = length if options.kv_type in _UNQUANTIZED else model.n_ctx  # quantized keys cannot be turned
    return SnapshotKey(
        model=fingerprint.digest,
        plan=plan_digest(model.plan),
        kv_type=options.kv_type,
        flash_attention=options.flash_attention,
        step=_step(model, fingerprint, reserved),
        library=library_version(),
        model_name=shortened(model.path.name),
    )


def plan_digest(plan: ContextPlan | None) -> str:
    """A digest of every number of a plan, which begins with `windowed-` where it cannot roll back."""
    if plan is None:
        return NO_PLAN
    values = dataclasses.asdict(plan)
    del values["method"], values["options"]  # for people: they decide nothing
    return f"{_WINDOWED if any(plan.windows) else ''}{_digest(values)}"


def library_version() -> str:
    """The library, its patch, and this package's own version of snapshots."""
    try:
        library = version("llama-cpp-python")
    except PackageNotFoundError:
        library = "unknown"
    return f"{library}, snapshots {_SCHEMA}"


def _step(model: ModelDescription, fingerprint: ModelFingerprint, reserved: int) -> int:
    if model.plan is not None and model.plan.schedule and not model.native:
        steps = model.plan.schedule
        return next((i for i, step in enumerate(steps) if reserved <= step.up_to_length), len(steps) - 1)
    n_ctx = -(-model.n_ctx // _CELLS) * _CELLS
    return int(0 < fingerprint.long_above < n_ctx)


def _digest(values: object) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=_plain)
    return xxhash.xxh3_128_hexdigest(text.encode())


def _plain(value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    raise TypeError(f"{type(value).__name__} is no part of a key")
