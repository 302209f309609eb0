"""How far a conversion is, reported from a thread of its own; upstream writes as it always does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

_SECONDS_BETWEEN = 0.25


@dataclass(frozen=True)
class _Writing:
    """Weights being written: a file's descriptor, where in it they start, and how many bytes they are."""

    descriptor: int
    start: int
    total: int

    @property
    def done(self) -> int:
        return min(max(os.fstat(self.descriptor).st_size - self.start, 0), self.total)


class _TensorInfo(Protocol):
    nbytes: int


class _Writer(Protocol):
    """What is used of upstream's writer."""

    fout: list[IO[bytes]]
    tensors: list[dict[str, _TensorInfo]]
    data_alignment: int

    def ggml_pad(self, x: int, n: int) -> int: ...


class ConversionProgress:
    """Reports `{"stage": "reading"}`, then `{"stage": "writing", "done": bytes, "total": bytes}`.

    Between the two comes `{"stage": "header"}`, once: what stands before the tensors' data is in the file.

    Use it as a context manager around the conversion.
    """

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        """Nothing is reported yet.

        Args:
            report: sends a message.
        """
        self._report = report
        self._writing: _Writing | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> ConversionProgress:
        """Begin to report."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self._end()

    def follow(self, writer: type[Any], out: Path) -> None:
        """Have upstream's writer write to `out`, and report how much of it is there.

        Its path is fixed here because upstream fills in templates in the name that it is given, such as
        `{ftype}`, which a person's file may have in it without meaning one.

        Args:
            writer: upstream's `gguf.GGUFWriter`.
            out: the file.
        """
        write_header, write_infos, write_tensors = (
            writer.write_header_to_file,
            writer.write_ti_data_to_file,
            writer.write_tensors_to_file,
        )

        def header_to_file(file_writer: _Writer, path: Path | None = None) -> None:
            write_header(file_writer, out)

        def infos_to_file(file_writer: _Writer) -> None:
            write_infos(file_writer)
            (file,) = file_writer.fout
            file.flush()
            self._report({"stage": "header"})
            total = sum(
                file_writer.ggml_pad(info.nbytes, file_writer.data_alignment)
                for tensors in file_writer.tensors
                for info in tensors.values()
            )
            self._writing = _Writing(file.fileno(), file.tell(), total)

        def tensors_to_file(file_writer: _Writer, *, progress: bool = False) -> None:
            write_tensors(file_writer, progress=False)
            self._end()  # so that this is the last report
            if self._writing is not None:
                total = self._writing.total
                self._report({"stage": "writing", "done": total, "total": total})

        writer.write_header_to_file = header_to_file
        writer.write_ti_data_to_file = infos_to_file
        writer.write_tensors_to_file = tensors_to_file

    def _end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            writing = self._writing
            if writing is None:
                self._report({"stage": "reading"})
            else:
                with suppress(OSError):  # it was closed because of an error
                    self._report({"stage": "writing", "done": writing.done, "total": writing.total})
