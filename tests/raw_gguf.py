"""GGUF files put together byte by byte, in every way that the format allows; for tests of copying."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
TENSOR_F32, TENSOR_F16, TENSOR_Q8_0, TENSOR_UNKNOWN = 0, 1, 8, 999

Key = tuple[str, bytes]
"""A key and its type and value as they stand in a file."""


@dataclass(frozen=True)
class RawTensor:
    """A tensor: its name, its dimensions, ggml's number of its type, its bytes."""

    name: str
    shape: tuple[int, ...]
    type: int
    data: bytes


@dataclass(frozen=True)
class RawFile:
    """What a file consists of.

    Attributes:
        keys: in their order, without the alignment's.
        tensors: in their order.
        alignment: of tensors; said by a key where it is not 32.
        version: of GGUF.
        filler: the byte between the header and the data, and between tensors.
        tail: bytes after the last tensor.
    """

    keys: tuple[Key, ...]
    tensors: tuple[RawTensor, ...]
    alignment: int = 32
    version: int = 3
    filler: int = 0
    tail: bytes = b""

    def to_bytes(self) -> bytes:
        """The file."""
        keys = list(self.keys)
        if self.alignment != 32:
            keys.insert(len(keys) // 2, ("general.alignment", struct.pack("<II", U32, self.alignment)))
        data = b""
        infos = b""
        for tensor in self.tensors:
            data = self._padded(data)
            infos += text(tensor.name) + struct.pack("<I", len(tensor.shape))
            infos += b"".join(struct.pack("<Q", n) for n in tensor.shape)
            infos += struct.pack("<IQ", tensor.type, len(data))
            data += tensor.data
        head = b"GGUF" + struct.pack("<IQQ", self.version, len(self.tensors), len(keys))
        head += b"".join(text(name) + value for name, value in keys) + infos
        return (self._padded(head) if data else head) + data + self.tail

    def write(self, path: Path) -> Path:
        """Write it to `path`, and return that."""
        path.write_bytes(self.to_bytes())
        return path

    def _padded(self, data: bytes) -> bytes:
        return data + bytes([self.filler]) * (-len(data) % self.alignment)


def text(value: str | bytes) -> bytes:
    """A string as GGUF has it."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def string(name: str, value: str | bytes) -> Key:
    """A key that holds a string, which need not be UTF-8."""
    return name, struct.pack("<I", STRING) + text(value)


def u32(name: str, value: int) -> Key:
    """A key that holds a U32."""
    return name, struct.pack("<II", U32, value)


def f32(name: str, value: float) -> Key:
    """A key that holds an F32."""
    return name, struct.pack("<If", F32, value)


N_ROT = 16


def rope_keys(arch: str = "llama") -> list[Key]:
    """The keys without which no plan can be made: 8 pairs, 64 tokens, 2 layers."""
    return [
        string("general.architecture", arch),
        u32(f"{arch}.context_length", 64),
        u32(f"{arch}.block_count", 2),
        u32(f"{arch}.embedding_length", 4 * N_ROT),
        u32(f"{arch}.attention.head_count", 4),
        u32(f"{arch}.rope.dimension_count", N_ROT),
        f32(f"{arch}.rope.freq_base", 10000.0),
    ]


def vector(name: str, values: Sequence[float]) -> RawTensor:
    """An F32 tensor of one dimension."""
    return RawTensor(name, (len(values),), TENSOR_F32, struct.pack(f"<{len(values)}f", *values))


@st.composite
def scalings(draw: st.DrawFn, arch: str) -> list[Key]:
    """A scaling of the model's own, or none."""
    kind = draw(st.sampled_from(["", "linear", "yarn"]))
    if not kind:
        return []
    prefix = f"{arch}.rope.scaling"
    keys = [string(f"{prefix}.type", kind), f32(f"{prefix}.factor", 2.0)]
    return [*keys, u32(f"{prefix}.original_context_length", 32)] if kind == "yarn" else keys


_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@st.composite
def values(draw: st.DrawFn, depth: int = 0) -> tuple[int, bytes]:
    """A value of any type, with the type's number: nested, empty and not UTF-8 where that may be."""
    kind = draw(st.sampled_from([*_SCALARS, STRING, *([ARRAY] if depth < 3 else [])]))
    if kind == STRING:
        return kind, text(draw(st.binary(max_size=12)))
    if kind == ARRAY:
        elements = draw(st.lists(values(depth + 1), max_size=3))
        element_kind = elements[0][0] if elements else draw(st.sampled_from([*_SCALARS, STRING, ARRAY]))
        same = [raw for each, raw in elements if each == element_kind]
        return kind, struct.pack("<IQ", element_kind, len(same)) + b"".join(same)
    size = struct.calcsize(f"<{_SCALARS[kind]}")
    return kind, draw(st.binary(min_size=size, max_size=size)) if kind != BOOL else bytes(
        [draw(st.booleans())]
    )


@st.composite
def raw_files(draw: st.DrawFn) -> RawFile:
    """Models that can be extended, with whatever else a file may hold, in any order."""
    arch = draw(st.sampled_from(["llama", "qwen2"]))
    keys = [*rope_keys(arch), *draw(scalings(arch))]
    for name in draw(st.sets(st.sampled_from(["name", "organization", "description", "repo_url", "url"]))):
        keys.append(string(f"general.{name}", draw(st.binary(max_size=40))))
    for number, (kind, raw) in enumerate(draw(st.lists(values(), max_size=6))):
        keys.append((f"x.{number}", struct.pack("<I", kind) + raw))
    tensors = [
        RawTensor("a", (33,), TENSOR_F32, draw(st.binary(min_size=132, max_size=132))),
        RawTensor("b", (7, 3), TENSOR_F16, draw(st.binary(min_size=42, max_size=42))),
        RawTensor("c", (32, 2), TENSOR_Q8_0, draw(st.binary(min_size=68, max_size=68))),
    ]
    tensors = draw(st.lists(st.sampled_from(tensors), unique_by=lambda tensor: tensor.name))
    if draw(st.booleans()):
        factors = draw(st.lists(st.floats(1, 8, width=32), min_size=N_ROT // 2, max_size=N_ROT // 2))
        tensors.append(vector("rope_freqs.weight", factors))
    return RawFile(
        keys=tuple(draw(st.permutations(keys))),
        tensors=tuple(draw(st.permutations(tensors))),
        alignment=draw(st.sampled_from([1, 8, 32, 128, 4096])),
        version=draw(st.sampled_from([2, 3])),
        filler=draw(st.sampled_from([0, 0xAA])),
        tail=draw(st.one_of(st.binary(max_size=40), st.integers(0, 10_000).map(bytes), st.just(b"x" * 5000))),
    )
