"""Without a plan, the patched library computes what the unpatched one does: every bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from benchmark.bench import Bench
from benchmark.jobs import OURS, STOCK, LogitsJob, Setup
from benchmark.outcome import Outcome
from benchmark.page import table
from provision.failure import USAGE, ProvisionError
from provision.progress import Progress
from tiny_models import Architecture, write_tiny_model

_PREFILL, _DECODE = 300, 16
_N_UBATCH = 128  # so that a prefill is computed in several pieces


@dataclasses.dataclass(frozen=True)
class Mode:
    """How the library computes."""

    kv_type: str
    flash_attention: bool

    @property
    def name(self) -> str:
        """In the table."""
        state = "on" if self.flash_attention else "off"
        return f"{self.kv_type.upper()} keys and values, flash attention {state}"


MODES = (Mode("f32", False), Mode("f16", False), Mode("f16", True), Mode("q8_0", True))


def measure_identity(bench: Bench) -> Outcome:
    """Compares the logits of prefill and decode of the real model and of tiny random ones, in every mode.

    Raises:
        ProvisionError: there is no unpatched library to compare with.
    """
    if not bench.against_stock:
        raise ProvisionError("identity is that with the unpatched library: add --against-stock", USAGE)
    rows: list[list[str]] = []
    record: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="ropewalk-bench-") as folder, Progress("Identity") as progress:
        models = list(_models(bench.model, Path(folder)))
        for number, (model, mode) in enumerate((model, mode) for model in models for mode in MODES):
            progress.update(number, len(models) * len(MODES))
            both = [_logits(bench, library, model, mode, Path(folder)) for library in (OURS, STOCK)]
            difference, identical = compare(both[0], both[1])
            tokens = f"{_PREFILL} + {_DECODE}"
            rows.append([model.name, mode.name, tokens, f"{difference:g}", "yes" if identical else "no"])
            record.append(
                {
                    "model": model.name,
                    **dataclasses.asdict(mode),
                    "logits": int(both[0].size),
                    "largest_difference": difference,
                    "bit_identical": identical,
                }
            )
    unlike = [row for row in rows if row[-1] == "no"]
    failure = f"without a plan {unlike[0][0]} is not bit-identical ({unlike[0][1]})" if unlike else ""
    text = table(["", "mode", "tokens read + written", "largest difference", "every bit"], rows)
    intro = "Logits of every token without a plan, ours against the unpatched library."
    return Outcome(f"{intro}\n\n{text}", {"comparisons": record}, failure=failure)


def compare(ours: npt.NDArray[np.float32], stock: npt.NDArray[np.float32]) -> tuple[float, bool]:
    """The largest difference of two arrays of logits, and whether every bit is the same.

    Raises:
        ProvisionError: they have different shapes, or no number in them.
    """
    if ours.shape != stock.shape or ours.size == 0 or not np.isfinite(stock).all():
        raise ProvisionError(
            f"logits of shapes {ours.shape} and {stock.shape} cannot be compared: report this"
        )
    same = np.array_equal(ours.view(np.uint32), stock.view(np.uint32))
    return float(np.abs(ours - stock).max()), bool(same)


def _models(real: Path, folder: Path) -> Iterator[Path]:
    yield real
    for arch in get_args(Architecture):
        # heads of 32, so that keys can be quantized too
        yield write_tiny_model(
            folder / f"tiny random {arch}.gguf", arch=arch, n_embd=128, head_dim=32, train_length=1024
        ).path


def _logits(bench: Bench, library: str, model: Path, mode: Mode, folder: Path) -> npt.NDArray[np.float32]:
    file = folder / f"{library}.npy"
    setup = Setup(
        model=str(model),
        n_ctx=2 * _N_UBATCH + _PREFILL,
        threads=bench.threads,
        flash_attention=mode.flash_attention,
        kv_type=mode.kv_type,
        n_ubatch=_N_UBATCH,
    )
    bench.libraries.run(library, LogitsJob(setup, _PREFILL, _DECODE, str(file)))
    logits: npt.NDArray[np.float32] = np.load(file)
    return logits
