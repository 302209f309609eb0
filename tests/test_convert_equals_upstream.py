"""A conversion without a method is upstream's own, tensor for tensor and key for key, but for our keys.

Upstream's is made by the converter in the pinned source, not by the copy of it that the wheel carries.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoint_cases import CASES
from ropewalk_plan.gguf_header import GgufHeader
from shared_conversions import SharedConversions
from tiny_checkpoints import MODEL_TYPES
from upstream_conversion import UpstreamRun, start_upstream

OURS = "ropewalk."


@pytest.fixture(scope="module")
def upstream(
    shared_conversions: SharedConversions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, UpstreamRun]]:
    """Upstream's converter, at work on all architectures; and the folder where it leaves `NAME.gguf`."""
    folder = tmp_path_factory.mktemp("upstream")
    commands = [
        [
            str(shared_conversions.checkpoint(name)),
            *("--outfile", str(folder / f"{name}.gguf")),
            *("--outtype", CASES[name].outtype),
        ]
        for name in MODEL_TYPES
    ]
    run = start_upstream(commands, folder / "log")
    try:
        yield folder, run
    finally:
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_a_conversion_without_a_method_is_upstreams(
    name: str, shared_conversions: SharedConversions, upstream: tuple[Path, UpstreamRun]
) -> None:
    made = shared_conversions.converted(name)
    folder, run = upstream
    run.wait()
    expected = folder / f"{name}.gguf"

    kept = {key: value for key, value in keys(made).items() if not key.startswith(OURS)}
    assert list(kept) == list(keys(expected))  # in the same order
    assert [key for key, value in keys(expected).items() if kept[key] != value] == []
    assert {"general.architecture", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"} < set(kept)
    ours, theirs = tensors(made), tensors(expected)
    assert list(ours) == list(theirs)
    assert [tensor for tensor in theirs if ours[tensor] != theirs[tensor]] == []
    assert sum(len(data) for _, data in theirs.values()) > 0.9 * rest_of(expected)


def rest_of(path: Path) -> int:
    """Bytes of a file that come after its header."""
    return path.stat().st_size - GgufHeader.read(path).data_start


def keys(path: Path) -> dict[str, tuple[object, bytes]]:
    """Each key's type and its value, as they are in the file."""
    header, data = GgufHeader.read(path), path.read_bytes()
    return {
        name: (header.types(name), data[span.value_start : span.end]) for name, span in header.keys.items()
    }


def tensors(path: Path) -> dict[str, tuple[object, bytes]]:
    """Each tensor's type and shape, and its bytes."""
    header, data = GgufHeader.read(path), path.read_bytes()
    found: dict[str, tuple[object, bytes]] = {}
    for name, span in header.tensors.items():
        assert span.n_bytes is not None, f"{name} is of a type that is not known"
        start = header.data_start + span.offset
        found[name] = ((span.type, span.shape), data[start : start + span.n_bytes])
    return found
