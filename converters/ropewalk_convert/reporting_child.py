"""A script of ours in a process of its own, which reports in JSON lines and dies with its owner.

Native code may abort, and neither it nor upstream's converter can be stopped half way: whoever runs them
runs them here, and kills them. The child side is this file, run as a script: it imports nothing of ours, so
that the script decides which packages it sees.

    with ReportingChild(Path("work_child.py"), {"source": "a.gguf"}) as child:
        for message in child.messages():
            ...
        end = child.end()

and in `work_child.py`, which is run by its path: `def main(request: Message, report: Report) -> None`.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias

Message: TypeAlias = dict[str, Any]
"""What JSON can say."""

Report: TypeAlias = Callable[[Message], None]
"""Sends a message to the owner, at once; from any thread."""

_LOG_LINES = 200
_REAP_SECONDS = 5.0


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended.

    Attributes:
        code: its exit code; negative for a signal, as in `subprocess`.
        log: the last lines that it and its native code printed, oldest first.
    """

    code: int
    log: tuple[str, ...]

    def __str__(self) -> str:
        """In words: `was killed by SIGABRT`."""
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = f"signal {-self.code}"
        return f"was killed by {name}"

    @property
    def last_words(self) -> str:
        """The last line that says something, "" if there is none."""
        return next((line.strip() for line in reversed(self.log) if line.strip()), "")


class ReportingChild:
    """A running child; leaving its `with` block kills it, whatever the reason.

    It leads a session of its own, so that Ctrl-C in a terminal reaches the owner alone, and it ends when the
    pipe to it closes, which happens when the owner dies, however that comes about.

    Attributes:
        pid: its process id.
    """

    def __init__(
        self, script: Path, request: Mapping[str, object], *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it.

        Args:
            script: the file whose `main(request, report)` it runs.
            request: what to do; whatever JSON can say.
            environment: variables to set besides those of this process.
        """
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # Without the first, an abort in ggml may wait for a debugger.
            env={**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONUTF8": "1", **(environment or {})},
        )
        self.pid = self._process.pid
        self._request = request
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_reader = threading.Thread(target=self._read_log, name="log of a child", daemon=True)
        self._log_reader.start()

    def __enter__(self) -> ReportingChild:
        """The child itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill what still runs, and reap it."""
        self._kill()
        self._process.wait()
        self._log_reader.join(_REAP_SECONDS)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()

    def messages(self) -> Iterator[Message]:
        """What it reports, as it comes, until it ends.

        Raises:
            ValueError: a line of it is no JSON object.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it is gone already, which the end says
            self._process.stdin.write(json.dumps(self._request).encode() + b"\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.endswith(b"\n"):  # else it was killed while it wrote
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError(f"no message: {line!r}")
                yield message

    def end(self) -> ChildEnd:
        """How it ended; for after the last message."""
        code = self._process.wait()
        self._log_reader.join(_REAP_SECONDS)
        return ChildEnd(code, tuple(self._log))

    def _kill(self) -> None:
        if self._process.poll() is not None:
            return
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.pid, signal.SIGKILL)  # and whatever it has started
            else:
                self._process.kill()

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                self._log.append(line.decode("utf-8", "replace").rstrip())


def _main() -> None:
    """The child's side: run the `main` of the script named on the command line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's business
    own_folder = str(Path(__file__).parent)
    sys.path[:] = [entry for entry in sys.path if entry != own_folder]  # its modules are no top-level names
    incoming, outgoing = _take_standard_streams()
    request = json.loads(incoming.readline() or "null")
    if request is None:
        return
    threading.Thread(target=_end_with_owner, args=(incoming,), name="owner", daemon=True).start()
    runpy.run_path(sys.argv[1])["main"](request, _Reporter(outgoing).report)


def _take_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Private copies of stdin and stdout; what is left reads nothing and writes to stderr, the log."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def _end_with_owner(incoming: BinaryIO) -> None:
    """Ends this process, and what it has started, when the owner's side of the pipe closes."""
    with suppress(OSError):
        while incoming.read(1 << 10):
            pass
    _end_at_once()


def _end_at_once() -> None:
    with suppress(OSError):
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
    os._exit(1)


class _Reporter:
    def __init__(self, outgoing: BinaryIO) -> None:
        self._outgoing = outgoing
        self._lock = threading.Lock()

    def report(self, message: Message) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self._outgoing.write(line)
                self._outgoing.flush()
        except OSError:
            _end_at_once()  # the owner is gone


if __name__ == "__main__":
    _main()
