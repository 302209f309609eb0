"""Importance matrices: both forms, and files that are none."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from imatrix_files import legacy_imatrix, write_gguf_imatrix
from ropewalk_convert.errors import SourceError
from ropewalk_convert.imatrix import read_imatrix

SUMS = np.array([2.0, 8.0, 0.0, 6.0], np.float32)


def test_means_of_the_newer_form(tmp_path: Path) -> None:
    """Sums are divided by the counts, expert by expert; an expert that was never reached gets ones."""
    path = write_gguf_imatrix(
        tmp_path / "a.gguf",
        {"blk.0.ffn_up.weight": (SUMS, [2]), "blk.0.ffn_up_exps.weight": ([SUMS, SUMS, SUMS], [4, 0, 1])},
        datasets=["/home/somebody/texts/first.txt", "second.txt"],
        n_chunks=9,
    )
    matrix = read_imatrix(path)

    assert (matrix.dataset, matrix.n_chunks) == ("first.txt", 9)
    assert {name: values.tolist() for name, values in matrix.entries.items()} == {
        "blk.0.ffn_up.weight": [1, 4, 0, 3],
        "blk.0.ffn_up_exps.weight": [0.5, 2, 0, 1.5, 1, 1, 1, 1, 2, 8, 0, 6],
    }
    assert all(values.dtype == np.float32 for values in matrix.entries.values())


def test_means_of_the_older_form(tmp_path: Path) -> None:
    """Values are divided by the calls, where there were any."""
    path = tmp_path / "a.dat"
    path.write_bytes(
        legacy_imatrix({"one": (SUMS, 2), "other": (SUMS, 0)}, n_chunks=9, dataset="C:\\texts\\first.txt")
    )
    matrix = read_imatrix(path)

    assert (matrix.dataset, matrix.n_chunks) == ("first.txt", 9)
    assert {name: values.tolist() for name, values in matrix.entries.items()} == {
        "one": [1, 4, 0, 3],
        "other": [2, 8, 0, 6],
    }


@pytest.mark.parametrize(("n_chunks", "dataset"), [(None, None), (5, None), (5, "")])
def test_the_older_forms_end_may_be_missing(
    tmp_path: Path, n_chunks: int | None, dataset: str | None
) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(legacy_imatrix({"one": (SUMS, 1)}, n_chunks=n_chunks, dataset=dataset))
    matrix = read_imatrix(path)
    assert (matrix.n_chunks, matrix.dataset, list(matrix.entries)) == (n_chunks or 0, "", ["one"])


@settings(deadline=None, max_examples=40)
@given(
    sums=arrays.arrays(np.float32, (2, 5), elements=st.floats(0, 1e6, width=32)),
    counts=st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)),
)
def test_both_forms_of_the_same_numbers_agree(
    tmp_path_factory: pytest.TempPathFactory, sums: np.ndarray, counts: tuple[int, int]
) -> None:
    """The older form as llama-imatrix makes it: with the chunks of the larger count as the calls."""
    folder = tmp_path_factory.mktemp("forms")
    calls = -(-max(counts) // 512)
    older = folder / "a.dat"
    older.write_bytes(legacy_imatrix({"x": (sums / np.array(counts)[:, None] * calls, calls)}))
    newer = write_gguf_imatrix(folder / "a.gguf", {"x": (sums, counts)})
    np.testing.assert_allclose(
        read_imatrix(older).entries["x"], read_imatrix(newer).entries["x"], rtol=1e-6, atol=1e-30
    )


def _without_keys(path: Path) -> None:
    writer = GGUFWriter(str(path), "llama")
    writer.add_tensor("x.in_sum2", SUMS)
    writer.add_tensor("x.counts", SUMS[:1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_CUT = "it is cut short, or something else"
_WHOLE = legacy_imatrix({"one": (SUMS, 1), "two": (SUMS, 1)}, n_chunks=None, dataset=None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", _CUT),
        (b"\0\0\0\0", _CUT),
        (_WHOLE[:-1], _CUT),
        (_WHOLE[:30], _CUT),
        (b"PK\3\4" + bytes(1000), _CUT),
        (struct.pack("<ii", 1, -1) + bytes(100), _CUT),
        (struct.pack("<ii", 1, 2**31 - 1) + bytes(100), _CUT),
        (legacy_imatrix({"one": ([1.0, np.nan], 1)}), "its numbers for one are not finite"),
        (
            legacy_imatrix({"one": ([1.0, -1.0], 1)}),
            "its numbers for one are means of squares, and some are negative",
        ),
    ],
)
def test_files_that_are_none_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(content)
    with pytest.raises(SourceError) as refused:
        read_imatrix(path)
    assert str(refused.value) == (
        f"{path} is no importance matrix that can be used ({why}); name a file that llama-imatrix has written"
    )


def test_gguf_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    _without_keys(path)
    with pytest.raises(SourceError, match="it lacks llama-imatrix's keys"):
        read_imatrix(path)
    with pytest.raises(SourceError, match="it has no tensors of sums"):
        read_imatrix(write_gguf_imatrix(path, {}))
    with pytest.raises(SourceError, match="its sums and counts for x do not belong together"):
        read_imatrix(write_gguf_imatrix(path, {"x": (SUMS, [1, 1, 1])}))
    with pytest.raises(SourceError, match="its numbers for x are not finite"):
        read_imatrix(write_gguf_imatrix(path, {"x": ([np.inf, 1], [1])}))
    write_gguf_imatrix(path, {"x": (SUMS, [1])})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match="cut short"):
        read_imatrix(path)


def test_paths_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist; check the path of the importance matrix"):
        read_imatrix(tmp_path / "none.gguf")
    with pytest.raises(SourceError, match="is a folder; name a file"):
        read_imatrix(tmp_path)
