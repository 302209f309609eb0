"""Safetensors headers: what the safetensors library reads is read alike, and damage ends in a sentence."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from checkpoint_folders import safetensors_bytes
from ropewalk_convert.errors import SourceError
from ropewalk_convert.safetensors_header import read_safetensors_header

_ENOUGH_BYTES = 20_000_000
"""Far below what the shapes and lengths claim that damaged headers here do."""

_ONE = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def _as_library(path: Path) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    """What the library says of a file; None where it refuses it."""
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  # no dict
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError):
        return None


def _as_ours(path: Path) -> dict[str, tuple[str, tuple[int, ...]]] | None:
    try:
        return {tensor.name: (tensor.dtype, tensor.shape) for tensor in read_safetensors_header(path).tensors}
    except SourceError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return None


def test_what_the_library_writes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "half": np.ones((3, 5), np.float16),
        "bytes": np.zeros((2, 1, 7), np.uint8),
        "scalar": np.array(1.0, np.float32),
        "nothing": np.zeros((0, 4), np.float64),
        "wide": np.zeros(3, np.int64),
    }
    save_file(arrays, path, {"format": "pt"})
    header = read_safetensors_header(path)
    assert {tensor.name: tensor.shape for tensor in header.tensors} == {n: a.shape for n, a in arrays.items()}
    assert {tensor.name: tensor.n_numbers for tensor in header.tensors} == {
        n: a.size for n, a in arrays.items()
    }
    assert header.file_bytes == path.stat().st_size
    assert _as_ours(path) == _as_library(path)


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"", b"", "not JSON"),
        (b"[1, 2]", b"", "no JSON object"),
        (b"\xff\xfe", b"", "not JSON"),
        (b"{" * 50_000, b"", "not JSON"),
        (b"[" * 50_000, b"", "nested too deeply"),
        (b'{"a": 1, "a": 2}', b"", "'a' is there twice"),
        ({"a": 3}, b"", "what it says of a is no object"),
        ({"a": {"dtype": "F7", "shape": [], "data_offsets": [0, 1]}}, b"x", "unknown type F7"),
        ({"a": {"dtype": "U8", "shape": [-1], "data_offsets": [0, 1]}}, b"x", "no list of sizes"),
        ({"a": {"dtype": "U8", "shape": [True], "data_offsets": [0, 1]}}, b"x", "no list of sizes"),
        ({"a": {"dtype": "U8", "shape": [1.0], "data_offsets": [0, 1]}}, b"x", "no list of sizes"),
        ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 0]}}, b"x", "no place in the data"),
        ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"x", "no place in the data"),
        ({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}}, b"xx", "not as many bytes"),
        (
            {"a": {"dtype": "U8", "shape": [10**18, 10**18], "data_offsets": [0, 1]}},
            b"x",
            "not as many bytes",
        ),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, b"x" * 12, "leaves a gap"),
        ({**_ONE, "b": {"dtype": "U8", "shape": [1], "data_offsets": [7, 8]}}, b"x" * 8, "overlaps"),
    ],
)
def test_wrong_headers(tmp_path: Path, header: object, data: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes(header, data))
    with pytest.raises(SourceError, match=words) as caught:
        read_safetensors_header(path)
    assert str(path) in str(caught.value)
    assert _as_library(path) is None or words.endswith("there twice"), "the library refuses it too"


def test_sizes_are_named(tmp_path: Path) -> None:
    whole = safetensors_bytes(_ONE, b"x" * 8)
    path = tmp_path / "model.safetensors"
    for content, how in ((whole[:-3], "is cut short"), (whole + b"zz", "is longer than it should be")):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=f"{how}: it has {len(content)} bytes .* says {len(whole)};"):
            read_safetensors_header(path)
    path.write_bytes(whole[:20])
    with pytest.raises(SourceError, match=f"cut short: it has 20 bytes .* needs {len(whole) - 8}"):
        read_safetensors_header(path)
    path.write_bytes(b"PK\x03\x04 a zip file, say")
    with pytest.raises(SourceError, match="is not a safetensors file"):
        read_safetensors_header(path)


_SIZES = st.one_of(st.integers(-2, 9), st.sampled_from([2**31, 2**63, 2**64, 10**30]), st.none(), st.floats())
_ENTRIES: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "U8", "F4", "F6_E2M3", "BOOL", "C64", "U65", 3]),
            "shape": st.one_of(st.lists(_SIZES, max_size=4), st.none()),
            "data_offsets": st.lists(_SIZES, max_size=3),
        }
    ),
    st.recursive(st.none() | st.booleans() | st.integers(), lambda inner: st.lists(inner, max_size=3)),
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """A sound file with bytes changed, cut off or added."""
    shapes = draw(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4))
    header, end = {}, 0
    for i, shape in enumerate(shapes):
        size = int(np.prod(shape, dtype=int))
        header[f"t{i}"] = {"dtype": "U8", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    content = bytearray(safetensors_bytes(header, bytes(end)))
    for _ in range(draw(st.integers(0, 3))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    kept = draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    return bytes(content[:kept]) + draw(st.sampled_from([b"", b"", b"\0"]))


@given(
    st.one_of(
        _damaged(),
        st.binary(max_size=64),
        st.builds(
            safetensors_bytes,
            st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), _ENTRIES, max_size=3),
            st.binary(max_size=12),
        ),
    )
)
def test_damage_is_a_sentence_or_no_damage(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """What is read is what the library reads, and what it refuses is refused, but for odd metadata."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        ours = _as_ours(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < _ENOUGH_BYTES
    library = _as_library(path)
    if library is not None:
        assert ours == library
    elif ours is not None:
        assert b"__metadata__" in content
