"""Parity on a device, in a process of its own: `python -m checks.gpu_parity --depths 300 --gpu-layers 999`.

Prints a JSON object; `gpu.parity_problems` judges it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cpp
import numpy as np
import numpy.typing as npt

from library_logits import Mode, loaded
from method_oracles import ORACLES, none
from reference_transformer import Positions, reference_logits
from ropewalk.backend import library, native_log
from ropewalk_convert import bake
from tiny_models import Architecture, TinyModel, write_tiny_model

HEAD_SIZE = 64
"""What every GPU's flash attention has a kernel for."""

N_TOKENS = 300
_ALONE = 20  # of these, the last: one at a time, as they are when a model writes
_ARCHITECTURES: tuple[Architecture, ...] = ("llama", "qwen2")
_OFFLOADED = re.compile(r"offloaded (\d+/\d+) layers to GPU")


@dataclass(frozen=True)
class ParityRow:
    """One method in one mode at one depth.

    Attributes:
        arch: of the tiny model.
        mode: `f32`, `f16`, `f16-flash`, `q8_0-flash`.
        depth: the last token's position + 1.
        method: as `--method` spells it; "" for no plan.
        error: root mean square of the logits' differences from the float64 transformer.
        sharper: how many times larger the method makes attention scores, at most.
        ignored: what `error` would be if the library ignored the plan; 0 for no plan.
    """

    arch: str
    mode: str
    depth: int
    method: str
    error: float
    sharper: float = 1.0
    ignored: float = 0.0


def modes(gpu_layers: int) -> dict[str, Mode]:
    """The modes, by name."""

    def mode(kv_type: int, *, flash: bool = False) -> Mode:
        return Mode(kv_type=kv_type, flash_attention=flash, gpu_layers=gpu_layers)

    return {
        "f32": mode(llama_cpp.GGML_TYPE_F32),
        "f16": mode(llama_cpp.GGML_TYPE_F16),
        "f16-flash": mode(llama_cpp.GGML_TYPE_F16, flash=True),
        "q8_0-flash": mode(llama_cpp.GGML_TYPE_Q8_0, flash=True),
    }


def measure(depths: list[int], gpu_layers: int) -> Iterator[ParityRow]:
    """Every architecture, depth, mode and method, no plan first."""
    tokens = [int(token) for token in np.random.default_rng(5).integers(3, 360, N_TOKENS)]
    with TemporaryDirectory(prefix="gpu-parity-") as folder:
        for arch in _ARCHITECTURES:
            for depth in depths:
                yield from _at_depth(Path(folder), arch, depth, tokens, gpu_layers)


def logits(path: Path, tokens: list[int], start: int, mode: Mode) -> npt.NDArray[np.float32]:
    """Logits of all tokens, [tokens, vocabulary]: most in one batch, the last ones alone."""
    together = len(tokens) - _ALONE
    with loaded(path, n_ctx=start + len(tokens), mode=mode) as context:
        parts = [context.decode(tokens[:together], start)]
        parts += [context.decode(tokens[i : i + 1], start + i) for i in range(together, len(tokens))]
    return np.concatenate(parts)


def offloaded(gpu_layers: int) -> str:
    """How many layers of the tiny models went to a GPU, as the library's log tells; "" for none."""
    with TemporaryDirectory(prefix="gpu-parity-") as folder:
        path = _write_model(Path(folder), "llama", N_TOKENS).path
        with native_log.fresh() as log, loaded(path, n_ctx=8, mode=Mode(gpu_layers=gpu_layers)):
            found = [match[1] for line in log.lines() if (match := _OFFLOADED.search(line))]
    return "" if not found or found[0].startswith("0/") else found[0]


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--depths", required=True)
    parser.add_argument("--gpu-layers", type=int, required=True)
    arguments = parser.parse_args()
    library.initialize()
    rows = []
    for row in measure([int(depth) for depth in arguments.depths.split(",")], arguments.gpu_layers):
        rows.append(asdict(row))
        print(f"{row.arch} {row.mode} {row.depth} {row.method}: {row.error:.2e}", file=sys.stderr, flush=True)
    print(json.dumps({"offloaded": offloaded(arguments.gpu_layers), "rows": rows}))
    return 0


def _write_model(folder: Path, arch: Architecture, train_length: int) -> TinyModel:
    return write_tiny_model(
        folder / f"{arch}-{train_length}.gguf",
        arch=arch,
        head_dim=HEAD_SIZE,
        n_embd=2 * HEAD_SIZE,
        n_head=2,
        n_head_kv=1,
        train_length=train_length,
        query_deviation=1.0,
        seed=3,
    )


def _at_depth(
    folder: Path, arch: Architecture, depth: int, tokens: list[int], gpu_layers: int
) -> Iterator[ParityRow]:
    start = depth - len(tokens)
    train = (depth - len(tokens) // 2) // 4  # a period ends amid the tokens
    target = 4 * train
    model = _write_model(folder, arch, train)
    m = np.arange(start, depth, dtype=np.float64)
    plain = reference_logits(model, tokens, none(model, target, m))
    positions = {method: oracle(model, target, m) for method, oracle in ORACLES.items()}
    expected = {method: reference_logits(model, tokens, made) for method, made in positions.items()}
    files = {method: folder / f"{arch}-{method}-{depth}.gguf" for method in ORACLES}
    for method, path in files.items():
        bake(model.path, path, method=method, target_length=target)
    for name, mode in modes(gpu_layers).items():
        without = logits(model.path, tokens, start, mode)
        yield ParityRow(arch, name, depth, "", _error(without, plain))
        for method, path in files.items():
            got = logits(path, tokens, start, mode)
            yield ParityRow(
                *(arch, name, depth, method),
                error=_error(got, expected[method]),
                sharper=_sharper(positions[method]),
                ignored=_error(without, expected[method]),
            )


def _sharper(positions: Positions) -> float:
    factors = positions.query_factor
    return positions.attention_factor**2 * (1.0 if factors is None else float(factors.max()))


def _error(got: npt.NDArray[np.float32], expected: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((got - expected) ** 2)))


if __name__ == "__main__":
    sys.exit(main())
