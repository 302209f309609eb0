"""The numbers in quantized files, against the `gguf` package's NumPy code and what the bits allow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType, GGUFReader, quants

from imatrix_files import legacy_imatrix, write_gguf_imatrix
from quantizer_calls import call, logs_of, wide_model
from ropewalk_convert.quantization_types import FILE_TYPES, TENSORS_WITH_IMPORTANCE
from tiny_models import TinyModel

Array = npt.NDArray[np.float32]

BIT_EQUAL = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0")
"""File types whose base type the `gguf` package can write itself (MXFP4 is tried as a single tensor's)."""

NOT_GAUSSIAN = ("F32", "F16", "BF16", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0")
"""File types that are no compression of arbitrary weights (what `gguf` cannot read yet is among them)."""

_SLOW_CODEBOOKS = ("IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS")
"""Base types for which ggml prepares tables for seconds at first; IQ2_XXS stands for them."""

PURE_TYPES = {
    entry.base.name: entry
    for entry in reversed(FILE_TYPES.values())
    if entry.base.name not in (*_SLOW_CODEBOOKS, "MXFP4")
}
"""A file type for each base type."""

MATRICES = ("blk.0.ffn_up.weight", "blk.0.ffn_down.weight")

_OTHERS_AS_F16 = [["attn|ffn_gate|token_embd|output", int(GGMLQuantizationType.F16)]]
"""Single types that leave `MATRICES` to be quantized: the codebook types take their time."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return wide_model(tmp_path_factory.mktemp("wide") / "wide.gguf", n_layer=1, n_ff=256)


@pytest.fixture(scope="module")
def flat_importance(model: TinyModel) -> Path:
    """Every input matters as much as the others."""
    entries = {
        name: (np.ones(values.shape[1]), 1) for name, values in model.tensors.items() if values.ndim == 2
    }
    path = model.path.with_name("flat.dat")
    path.write_bytes(legacy_imatrix(entries))
    return path


@pytest.fixture(scope="module")
def pure_files(model: TinyModel, flat_importance: Path) -> dict[str, Path]:
    """The model in each type, every matrix in the type's base."""
    entries = list(PURE_TYPES.values())
    files = {entry.name: model.path.with_name(f"{entry.name}.gguf") for entry in entries}
    importance = {
        entry.name: str(flat_importance) for entry in entries if entry.base.name in TENSORS_WITH_IMPORTANCE
    }
    logs_of(
        [
            call(
                model.path,
                files[e.name],
                e.number,
                pure=True,
                imatrix=importance.get(e.name),
                tensor_types=_OTHERS_AS_F16,
            )
            for e in entries
        ]
    )
    return files


def _stored(path: Path) -> dict[str, tuple[GGMLQuantizationType, npt.NDArray[np.uint8]]]:
    return {
        tensor.name: (GGMLQuantizationType(tensor.tensor_type), np.array(tensor.data))
        for tensor in GGUFReader(path).tensors
    }


@pytest.mark.parametrize("name", BIT_EQUAL)
def test_types_that_numpy_writes_too_are_the_same_bits(
    model: TinyModel, pure_files: dict[str, Path], name: str
) -> None:
    stored = _stored(pure_files[name])
    for tensor in MATRICES:
        kind, data = stored[tensor]
        assert kind.name == FILE_TYPES[name].base.name
        assert data.tobytes() == quants.quantize(model.tensors[tensor], kind).tobytes(), tensor


def test_f32_is_the_model_itself(model: TinyModel, pure_files: dict[str, Path]) -> None:
    stored = _stored(pure_files["F32"])
    assert stored.keys() == model.tensors.keys()
    assert all(data.tobytes() == model.tensors[name].tobytes() for name, (_, data) in stored.items())


def test_mxfp4_is_the_same_bits_too(model: TinyModel, tmp_path: Path) -> None:
    out, kind = tmp_path / "out.gguf", GGMLQuantizationType.MXFP4
    logs_of([call(model.path, out, FILE_TYPES["Q8_0"].number, tensor_types=[["ffn_down", int(kind)]])])
    stored = _stored(out)["blk.0.ffn_down.weight"]
    assert stored[0] is kind
    assert stored[1].tobytes() == quants.quantize(model.tensors["blk.0.ffn_down.weight"], kind).tobytes()


@pytest.mark.parametrize("name", sorted({entry.name for entry in PURE_TYPES.values()} - set(NOT_GAUSSIAN)))
def test_errors_are_near_what_the_bits_allow(
    model: TinyModel, pure_files: dict[str, Path], name: str
) -> None:
    """No code of b bits per sample reproduces Gaussian samples better than with an RMS error of 2^-b of
    their deviation (Shannon's rate-distortion bound); codes for small blocks stay within a factor of it.
    """
    base = FILE_TYPES[name].base
    stored = _stored(pure_files[name])
    for tensor in MATRICES:
        weights = model.tensors[tensor]
        kind, data = stored[tensor]
        assert kind.name == base.name
        error = quants.dequantize(data, kind).reshape(weights.shape) - weights
        share = float(np.sqrt(np.mean(error**2)) / np.std(weights)) * 2**base.bits_per_weight
        assert 1.0 < share < 2.6, (tensor, share)


def _importance(rng: np.random.Generator, columns: int) -> Array:
    """A few inputs that matter a hundred times as much as the others."""
    return np.where(rng.random(columns) < 0.1, 100.0, 1.0).astype(np.float32)


@pytest.mark.parametrize("name", ["Q4_K_S", "IQ3_XXS", "Q4_0"])
def test_importance_serves_the_inputs_that_matter(
    model: TinyModel, flat_importance: Path, tmp_path: Path, name: str
) -> None:
    """Both forms of one matrix make the same file, with a smaller weighted error than without importance."""
    rng = np.random.default_rng(3)
    means = {n: _importance(rng, v.shape[1]) for n, v in model.tensors.items() if v.ndim == 2}
    newer = write_gguf_imatrix(tmp_path / "newer.gguf", {n: (8 * m, [8]) for n, m in means.items()})
    older = tmp_path / "older.dat"
    older.write_bytes(legacy_imatrix({n: (4 * m, 4) for n, m in means.items()}))
    files = [tmp_path / f"{i}.gguf" for i in range(3)]
    logs_of(
        [
            call(
                model.path,
                file,
                FILE_TYPES[name].number,
                pure=True,
                imatrix=str(matrix),
                tensor_types=_OTHERS_AS_F16,
            )
            for file, matrix in zip(files, (newer, older, flat_importance), strict=True)
        ]
    )
    by_newer, by_older, by_flat = map(_stored, files)

    for tensor in MATRICES:
        assert by_newer[tensor][1].tobytes() == by_older[tensor][1].tobytes()
        weighted, flat = (
            np.mean(
                means[tensor]
                * (quants.dequantize(data, kind).reshape(model.tensors[tensor].shape) - model.tensors[tensor])
                ** 2
            )
            for kind, data in (by_newer[tensor], by_flat[tensor])
        )
        assert weighted < 0.95 * flat, (tensor, weighted / flat)
