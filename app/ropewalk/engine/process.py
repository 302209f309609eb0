"""The model process as seen from its owner: starting it, its log, how it ended."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import IO, cast

from ropewalk.backend.rpc_server import RpcAddress
from ropewalk.engine.errors import EngineDied

_LOG_LINES = 40
_REAP_SECONDS = 5.0
_SHUTDOWN_SECONDS = 5.0
_TERMINATE_SECONDS = 2.0
_SIGKILL = getattr(signal, "SIGKILL", 9)  # Windows has none
_FROM_OUTSIDE = (-_SIGKILL, -signal.SIGTERM)

# How llama.cpp's RPC client says that a server is gone or failed, before it ends the process.
_LOST_RPC_SERVER = "Remote RPC server crashed"

# What `python -m` would do, but without the current directory on the path: a stray `json.py` in it
# must not be imported. (`python -P` does this, from 3.11 on.)
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; from ropewalk.engine.child import main; main()"
)


class ModelProcess:
    """A running model process.

    It is the leader of a session of its own, so that Ctrl-C in a terminal reaches the owner alone.

    Attributes:
        rpc_servers: the other machines that its model is spread over.
    """

    def __init__(self) -> None:
        """Starts it."""
        self._popen: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},  # else an abort may wait for a debugger
        )
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._log_reader = threading.Thread(target=self._read_log, name="model log", daemon=True)
        self._log_reader.start()
        self._ended_because: str | None = None
        self.rpc_servers: tuple[RpcAddress, ...] = ()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    @property
    def requests(self) -> IO[bytes]:
        """Its stdin."""
        assert self._popen.stdin is not None
        return self._popen.stdin

    @property
    def events(self) -> IO[bytes]:
        """Its stdout."""
        assert self._popen.stdout is not None
        return self._popen.stdout

    def kill(self, because: str) -> None:
        """Ends it at once.

        Args:
            because: what to tell whoever finds it dead.
        """
        if self._popen.poll() is None:
            self._ended_because = self._ended_because or because
            self._popen.kill()

    def death(self) -> EngineDied:
        """Why it is gone; what has closed its stdout but lingers is killed."""
        try:
            self._popen.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill("closed its output and hung")
            self._wait_for_end()
        self._log_reader.join(_REAP_SECONDS)
        code, log = self._popen.returncode, tuple(self._log)
        if any(_LOST_RPC_SERVER in line for line in log):
            return EngineDied(f"lost the RPC server {' or '.join(map(str, self.rpc_servers))}", log)
        # Killed from outside, it had no time to say why: its last line is about something else.
        last_words = "" if code in _FROM_OUTSIDE or not log else log[-1]
        how = "has not ended, though it was killed" if code is None else _end(code)
        return EngineDied(self._ended_because or how, log, last_words)

    def close(self) -> None:
        """Waits for it to end, after it was told to; else terminates it, else kills it."""
        for timeout, escalate in (
            (_SHUTDOWN_SECONDS, self._popen.terminate),
            (_TERMINATE_SECONDS, self._popen.kill),
        ):
            try:
                self._popen.wait(timeout)
                break
            except subprocess.TimeoutExpired:
                escalate()
            except BaseException:  # Ctrl-C while waiting
                self._popen.kill()
                raise
        self._wait_for_end()
        self._log_reader.join(_REAP_SECONDS)

    def _wait_for_end(self) -> None:
        """Waits for what is to end at once, but for a while only: a driver or a lost disk may hold it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(_REAP_SECONDS)

    def _read_log(self) -> None:
        assert self._popen.stderr is not None
        with io.BufferedReader(cast(io.RawIOBase, self._popen.stderr)) as lines:
            for line in lines:
                self._log.append(line.decode("utf-8", "replace").rstrip())
        self._wait_for_end()  # else one that is abandoned stays as a zombie


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", perhaps because memory ran out" if -code == _SIGKILL else ""
    return f"was killed by {name}{hint}"
