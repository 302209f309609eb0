"""Children that report: their messages, how they end, and that they never outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ropewalk_convert.reporting_child import ReportingChild

_PATIENCE = 20.0


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until_gone(pid: int) -> None:
    """Fails if the process is still there after a long time."""
    deadline = time.monotonic() + _PATIENCE
    while is_running(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def _script(folder: Path, body: str) -> Path:
    path = folder / "work_child.py"
    path.write_text(textwrap.dedent(body))
    return path


def test_messages_come_in_order_and_prints_do_not_disturb_them(tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        """
        import os, sys
        def main(request, report):
            for i in range(request["n"]):
                print("a stray line"); os.write(1, b"a native one\\n")
                report({"i": i, "text": "ß\\n", "paths": [p for p in sys.path if "ropewalk_convert" in p]})
        """,
    )
    with ReportingChild(script, {"n": 3}) as child:
        messages = list(child.messages())
        end = child.end()

    assert messages == [{"i": i, "text": "ß\n", "paths": []} for i in range(3)]
    assert end.code == 0
    assert end.log.count("a native one") == 3


def test_an_abort_and_an_exception_are_told_apart(tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        """
        import os, sys
        def main(request, report):
            print("about to end", file=sys.stderr, flush=True)
            if request["abort"]:
                os.abort()
            raise ValueError("no such thing")
        """,
    )
    ends = []
    for abort in (True, False):
        with ReportingChild(script, {"abort": abort}) as child:
            assert list(child.messages()) == []
            ends.append(child.end())

    assert [str(end) for end in ends] == ["was killed by SIGABRT", "ended with exit code 1"]
    assert [end.last_words for end in ends] == ["about to end", "ValueError: no such thing"]


_STARTS_ANOTHER = """
    import subprocess, sys, time
    def main(request, report):
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        report({"pid": other.pid})
        time.sleep(600)
    """


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_leaving_the_block_kills_it_and_what_it_started(tmp_path: Path, error: type[BaseException]) -> None:
    script = _script(tmp_path, _STARTS_ANOTHER)
    with pytest.raises(error), ReportingChild(script, {}) as child:
        pids = [child.pid, next(child.messages())["pid"]]
        assert all(map(is_running, pids))
        raise error

    assert not is_running(pids[0])
    wait_until_gone(pids[1])


def test_it_dies_with_its_owner(tmp_path: Path) -> None:
    script = _script(tmp_path, _STARTS_ANOTHER)
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from ropewalk_convert.reporting_child import ReportingChild\n"
            "with ReportingChild(Path(sys.argv[1]), {}) as child:\n"
            "    for message in child.messages():\n"
            "        print(child.pid, message['pid'], flush=True)\n",
            str(script),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pids = [int(word) for word in owner.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()

    for pid in pids:
        wait_until_gone(pid)
