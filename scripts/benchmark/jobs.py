"""What is measured in a child process, and what comes back: plain data, as JSON on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Any  # what json reads and writes

OURS, STOCK = "patched", "unpatched"
"""The two libraries: the one that is installed, and the one without the patch."""


@dataclass(frozen=True)
class NativeScaling:
    """The library's own context extension, as its tools' flags ask for it.

    Attributes:
        kind: `linear` or `yarn`.
        scale: L'/L.
        original_length: L.
    """

    kind: str
    scale: float
    original_length: int


@dataclass(frozen=True)
class Setup:
    """A model and a context, the same for both libraries but for the plan.

    Attributes:
        model: the GGUF file.
        n_ctx: tokens of context.
        threads: CPU threads, for prefill and decode.
        flash_attention: whether it is on.
        kv_type: `f32`, `f16`, `q8_0`, `q5_1` or `q4_0`, for keys and values.
        n_ubatch: tokens computed at once, and decoded at once in a prefill.
        method: of the plan that is set on the model, as `ropewalk --method` spells it; "" for no plan.
        target_length: the plan's, in tokens.
        options: the method's.
        native_scaling: flags of the library's own in place of a plan.
    """

    model: str
    n_ctx: int
    threads: int
    flash_attention: bool = False
    kv_type: str = "f16"
    n_ubatch: int = 512
    method: str = ""
    target_length: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    native_scaling: NativeScaling | None = None


@dataclass(frozen=True)
class SpeedJob:
    """Read a text in chunks of `n_ubatch`, and write single tokens at some depths on the way.

    Attributes:
        setup: where.
        prefill_tokens: tokens that are read.
        stops: after how many tokens read it writes, rising; the last is `prefill_tokens`.
        decode_tokens: tokens written at the last stop; a quarter as many at the others.
    """

    setup: Setup
    prefill_tokens: int
    stops: tuple[int, ...]
    decode_tokens: int

    def written_at(self, stop: int) -> int:
        """Tokens written at a stop."""
        return self.decode_tokens if stop == self.stops[-1] else max(1, self.decode_tokens // 4)

    @property
    def length(self) -> int:
        """Tokens in the context at the end."""
        return self.prefill_tokens + sum(map(self.written_at, self.stops))


@dataclass(frozen=True)
class NodesJob:
    """Count the nodes of the graphs of a batch and of a single token."""

    setup: Setup
    prefill_tokens: int


@dataclass(frozen=True)
class LogitsJob:
    """Keep the logits of every token of a prefill and of single tokens after it: float32, in a .npy file."""

    setup: Setup
    prefill_tokens: int
    decode_tokens: int
    file: str


@dataclass(frozen=True)
class LikelihoodJob:
    """Read windows of a text, each into an empty context, and keep every token's likelihood.

    Attributes:
        setup: where.
        windows_file: token numbers [windows, tokens], a .npy file.
        file: the .npz file that is written (see `likelihoods.read_windows`).
    """

    setup: Setup
    windows_file: str
    file: str


@dataclass(frozen=True)
class AboutJob:
    """Which library is loaded."""


Job = SpeedJob | NodesJob | LogitsJob | LikelihoodJob | AboutJob
_KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (SpeedJob, NodesJob, LogitsJob, LikelihoodJob, AboutJob)
}


@dataclass(frozen=True)
class Piece:
    """Tokens that were timed together.

    Attributes:
        depth: tokens in the context before them.
        tokens: how many.
        seconds: how long they took.
    """

    depth: int
    tokens: int
    seconds: float

    @property
    def seconds_per_token(self) -> float:
        """The cost of one."""
        return self.seconds / self.tokens


@dataclass(frozen=True)
class Speed:
    """One run of a `SpeedJob`.

    Attributes:
        prefill: the chunks that were read, in order.
        decode: the stretches that were written, each of single tokens, in order.
        kv_bytes: of all KV caches, as the library logs them.
        peak_bytes: the process's largest resident size, the model's pages included.
    """

    prefill: tuple[Piece, ...]
    decode: tuple[Piece, ...]
    kv_bytes: int
    peak_bytes: int

    @property
    def prefill_speed(self) -> float:
        """Tokens read per second."""
        return sum(piece.tokens for piece in self.prefill) / sum(piece.seconds for piece in self.prefill)

    @property
    def decode_speed(self) -> float:
        """Tokens written per second at the last stop."""
        return self.decode[-1].tokens / self.decode[-1].seconds

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Speed:
        """From what a child sent."""
        prefill, decode = (tuple(Piece(**piece) for piece in value[name]) for name in ("prefill", "decode"))
        return cls(prefill, decode, int(value["kv_bytes"]), int(value["peak_bytes"]))


def job_to_json(job: Job) -> dict[str, Any]:
    """A job as a JSON object."""
    return {"kind": type(job).__name__, **asdict(job)}


def job_from_json(value: Mapping[str, Any]) -> Job:
    """The job that `job_to_json` wrote."""
    fields = {name: item for name, item in value.items() if name != "kind"}
    if "setup" in fields:
        setup = dict(fields["setup"])
        scaling = setup.get("native_scaling")
        setup["native_scaling"] = None if scaling is None else NativeScaling(**scaling)
        fields["setup"] = Setup(**setup)
    if "stops" in fields:
        fields["stops"] = tuple(fields["stops"])
    job: Job = _KINDS[value["kind"]](**fields)
    return job
