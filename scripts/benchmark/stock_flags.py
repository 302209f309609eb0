"""What the unpatched library's own flags compute, and whether our plans of the same name compute that, too.

`--rope-scaling linear` is PI and `--rope-scaling yarn` is YaRN; a result measured under our plan is the
flags' result where the logits agree.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.bench import Bench
from benchmark.identity import compare
from benchmark.jobs import OURS, STOCK, LogitsJob, NativeScaling, Setup
from benchmark.outcome import Outcome
from benchmark.page import table
from provision.failure import USAGE, ProvisionError
from provision.progress import Progress
from tiny_models import write_tiny_model

_PLANS = (("pi", "linear"), ("yarn", "yarn"))
_SCALES = (2, 4)
_PREFILL, _DECODE = 512, 16
_N_UBATCH = 128
_BOUND = 1e-3
"""Largest difference of a logit, with F32 weights and cache, that is rounding: the library multiplies
the base up from pair to pair in F32, we store each factor. Of quantized weights there is no bound."""


def measure_stock_flags(bench: Bench) -> Outcome:
    """Compares logits under `pi` and `yarn` plans with the unpatched library's under its flags.

    Raises:
        ProvisionError: there is no unpatched library to compare with.
    """
    if not bench.against_stock:
        raise ProvisionError("stock-flags needs the unpatched library: add --against-stock", USAGE)
    rows: list[list[str]] = []
    record: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="ropewalk-bench-") as folder, Progress("Stock's flags") as progress:
        made = write_tiny_model(Path(folder) / "tiny random llama.gguf", n_embd=128, head_dim=32)
        tiny = dataclasses.replace(bench, model=made.path)
        cases = [(where, *plan, scale) for where in (tiny, bench) for plan in _PLANS for scale in _SCALES]
        for number, (where, method, flag, scale) in enumerate(cases):
            progress.update(number, len(cases))
            length = where.train_length
            kv_type = "f32" if where is tiny else "f16"
            ours = where.setup(_PREFILL + _DECODE, method, scale * length)
            stock = where.setup(_PREFILL + _DECODE)
            stock = dataclasses.replace(stock, native_scaling=NativeScaling(flag, float(scale), length))
            difference, identical = compare(
                _logits(bench, OURS, dataclasses.replace(ours, kv_type=kv_type), Path(folder)),
                _logits(bench, STOCK, dataclasses.replace(stock, kv_type=kv_type), Path(folder)),
            )
            flags = f"--rope-scaling {flag} --rope-scale {scale} --yarn-orig-ctx {length}"
            name = where.model.name
            rows.append([name, f"`{flags}`", method, f"{difference:.2g}", "yes" if identical else "no"])
            record.append(
                {
                    "model": name,
                    "method": method,
                    "flags": flags,
                    "largest_difference": difference,
                    "bit_identical": identical,
                    "bound": _BOUND if where is tiny else None,
                }
            )
    unlike = [case for case in record if case["bound"] and case["largest_difference"] > case["bound"]]
    failure = f"the plan {unlike[0]['method']} is not what {unlike[0]['flags']} computes" if unlike else ""
    head = ["", "the unpatched library with", "our plan", "largest difference", "every bit"]
    intro = (
        f"Logits of {_PREFILL} tokens read and {_DECODE} written. {bench.where} The tiny model has F32 "
        f"weights and cache: there the bound is {_BOUND:g}."
    )
    return Outcome(f"{intro}\n\n{table(head, rows)}", {"comparisons": record}, failure=failure)


def _logits(bench: Bench, library: str, setup: Setup, folder: Path) -> npt.NDArray[np.float32]:
    file = folder / f"{library}.npy"
    setup = dataclasses.replace(setup, n_ubatch=_N_UBATCH)
    bench.libraries.run(library, LogitsJob(setup, _PREFILL, _DECODE, str(file)))
    logits: npt.NDArray[np.float32] = np.load(file)
    return logits
