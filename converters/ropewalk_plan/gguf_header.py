"""Where everything lies in a GGUF file: keys, tensors and data, by byte position, without reading weights.

`gguf.GGUFReader` turns every vocabulary entry into several NumPy arrays, which takes seconds on a real
model, and reports damaged files by whatever exception it runs into. Here each key is a span of bytes
(decoded on demand, copied verbatim when a file is rewritten), and damage is one `GgufError`.
"""

from __future__ import annotations

import mmap
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFValueType

from ropewalk_plan.gguf_parser import (
    DEFAULT_ALIGNMENT,
    MAGIC,
    READABLE_VERSIONS,
    GgufError,
    KeySpan,
    Parser,
    TensorSpan,
    decode,
    padded,
)
from ropewalk_plan.split_model import (
    SPLIT_COUNT_KEY,
    SPLIT_NUMBER_KEY,
    SPLIT_TENSORS_KEY,
    PartName,
    part_paths,
)

__all__ = [
    "DEFAULT_ALIGNMENT",
    "MAGIC",
    "READABLE_VERSIONS",
    "GgufError",
    "GgufHeader",
    "KeySpan",
    "TensorSpan",
    "padded",
]


@dataclass(frozen=True)
class GgufHeader:
    """The layout of a GGUF file; of a split model, that of its first part, and the other parts with it.

    Attributes:
        path: the file.
        version: GGUF version.
        alignment: of tensor data, bytes.
        keys: by name, in the file's order.
        tensors: by name, in the file's order; those of other parts are in `files`.
        data_start: where tensor data starts.
        data_end: where the last tensor's data ends.
        n_bytes: the file's size.
        other_parts: of a split model, the parts after this one.
    """

    path: Path
    version: int
    alignment: int
    keys: dict[str, KeySpan]
    tensors: dict[str, TensorSpan]
    data_start: int
    data_end: int
    n_bytes: int
    other_parts: tuple[GgufHeader, ...] = ()
    _values: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, path: Path) -> GgufHeader:
        """Read the layout of a model: a file, or the first part of a split one, whose others lie beside it.

        Raises:
            GgufError: missing, unreadable, not GGUF, cut short, or of a version or byte order that
                cannot be read; a part other than the first, or one of which another is missing.
        """
        header = cls.read_file(path)
        count, number = header._split_number(SPLIT_COUNT_KEY), header._split_number(SPLIT_NUMBER_KEY)
        if count <= 1:
            return header
        name = PartName.of(path)
        if name is None or (name.number, name.count) != (number + 1, count):
            raise GgufError(
                f"{path} is part {number + 1} of a split model; give it back the name it had, "
                f"which ended in -{number + 1:05d}-of-{count:05d}.gguf"
            )
        paths = part_paths(path.parent, name.stem, count)
        if number > 0:
            raise GgufError(
                f"{path} is part {number + 1} of {count} of a split model; name the first, {paths[0]}"
            )
        for part in paths:
            if not part.exists():
                raise GgufError(
                    f"{part} is missing, one of {count} parts of a model; fetch it to where {path} is"
                )
        return cls._of_parts([header, *map(cls.read_file, paths[1:])])

    @classmethod
    def read_parts(cls, paths: Sequence[Path]) -> GgufHeader:
        """Read the layout of a split model whose parts are `paths`, in their order; or of a single file.

        Raises:
            GgufError: see `read`; a file is not the part that it should be, or tensors are missing.
        """
        return cls._of_parts([cls.read_file(path) for path in paths])

    @classmethod
    def _of_parts(cls, files: list[GgufHeader]) -> GgufHeader:
        if len(files) == 1:
            return files[0]
        for number, file in enumerate(files):
            found = (file._split_number(SPLIT_NUMBER_KEY), file._split_number(SPLIT_COUNT_KEY))
            if found != (number, len(files)):
                raise GgufError(
                    f"{file.path} is not part {number + 1} of {len(files)}, as its name says; fetch it again"
                )
        names = [name for file in files for name in file.tensors]
        expected = files[0]._split_number(SPLIT_TENSORS_KEY)
        if len(set(names)) != len(names) or len(names) != expected:
            raise GgufError(
                f"{files[0].path} and its other parts have {len(set(names))} different tensors, and should "
                f"have {expected}; they are not of one model: fetch them again"
            )
        return replace(files[0], other_parts=tuple(files[1:]))

    @classmethod
    def read_file(cls, path: Path, *, whole: bool = True) -> GgufHeader:
        """Read the layout of one file, whether or not it is a part of something.

        Args:
            path: the file.
            whole: refuse it where tensors' data is missing; not so while it is still being written.

        Raises:
            GgufError: see `read`.
        """
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise GgufError(f"{path} is no regular file; name a GGUF file on a disk")
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size < len(MAGIC):
                    raise GgufError(f"{path} is not a GGUF file: it has only {size} bytes")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    layout = Parser(path, data).layout(whole=whole)
            return cls(path=path, **{name.name: getattr(layout, name.name) for name in fields(layout)})
        except FileNotFoundError:
            raise GgufError(f"{path} does not exist; check the path") from None
        except IsADirectoryError:
            if (path / "config.json").is_file():
                raise GgufError(
                    f"{path} is a checkpoint's folder; `ropewalk convert` makes a GGUF file of it"
                ) from None
            raise GgufError(f"{path} is a folder; name a GGUF file in it") from None
        except OSError as error:
            raise GgufError(
                f"{path} cannot be read ({error.strerror or error}); check its permissions"
            ) from None

    @property
    def files(self) -> tuple[GgufHeader, ...]:
        """This file and, of a split model, its other parts."""
        return (self, *self.other_parts)

    @property
    def model_bytes(self) -> int:
        """The size of all files of the model."""
        return sum(file.n_bytes for file in self.files)

    def value(self, key: str) -> object | None:
        """The value of `key` as Python objects (arrays as lists), or None where the file has no such key."""
        span = self.keys.get(key)
        if span is None:
            return None
        if key not in self._values:
            with self.path.open("rb") as file:
                file.seek(span.value_start)
                raw = file.read(span.end - span.value_start)
            self._values[key] = decode(raw, span.type)
        return self._values[key]

    def types(self, key: str) -> tuple[int, ...]:
        """GGUF's number of the type of `key`, and for an array that of its elements; () for no such key."""
        span = self.keys.get(key)
        if span is None:
            return ()
        if span.type != GGUFValueType.ARRAY:
            return (span.type,)
        with self.path.open("rb") as file:
            file.seek(span.value_start)
            return (span.type, struct.unpack("<I", file.read(4))[0])

    def has_tensor(self, name: str) -> bool:
        """Whether the model has a tensor of this name."""
        return any(name in file.tensors for file in self.files)

    def tensor_f32(self, name: str) -> npt.NDArray[np.float32] | None:
        """A small F32 tensor's numbers, flat; None where the model has none of that name.

        Raises:
            GgufError: the tensor is not F32, or its data is not there yet.
        """
        for part in self.other_parts:
            if name in part.tensors:
                return part.tensor_f32(name)
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        if tensor.type != GGMLQuantizationType.F32 or tensor.n_bytes is None:
            raise GgufError(f"{self.path}: the tensor {name} is not F32, as llama.cpp requires it to be")
        with self.path.open("rb") as file:
            file.seek(self.data_start + tensor.offset)
            raw = file.read(tensor.n_bytes)
        if len(raw) < tensor.n_bytes:
            raise GgufError(f"{self.path} is cut short in its tensor {name}; fetch or copy the file again")
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)

    def _split_number(self, key: str) -> int:
        """A number about parts; 0 where the file has none."""
        value = self.value(key)
        return value if isinstance(value, int) else 0
