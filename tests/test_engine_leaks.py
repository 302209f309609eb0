"""What an engine leaves behind when it is not started, not closed, or started again and again: nothing."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ropewalk.engine import Engine, EngineOptions, EngineTimeout, Patience

OPTIONS = EngineOptions(n_ctx=512, threads=1)
_PATIENCE = 20.0


def _count(of: str, process: int | str = "self") -> int:
    """Open files (`fd`) or threads (`task`) of a process."""
    return sum(1 for _ in Path(f"/proc/{process}/{of}").iterdir())


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    """Not even a zombie is left."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def _nothing_left() -> Iterator[None]:
    """No thread and no open file more than before, soon after the block."""
    gc.collect()
    files, threads = _count("fd"), set(threading.enumerate())
    yield
    gc.collect()
    _until(lambda: set(threading.enumerate()) <= threads, "threads are left")
    _until(lambda: _count("fd") <= files, "open files are left")


def test_an_engine_that_does_not_come_up_leaves_nothing() -> None:
    with _nothing_left():
        for _ in range(2):
            with pytest.raises(EngineTimeout):
                Engine.start(Patience(start_seconds=0.01))


def test_an_engine_that_is_dropped_takes_its_process_with_it(tiny_llama: Path) -> None:
    with _nothing_left():
        engine = Engine.start()
        engine.load(tiny_llama, OPTIONS)
        pid = engine.pid
        del engine
        gc.collect()
        _until(lambda: _is_gone(pid), "the process is left")


def test_an_answer_holds_its_engine(tiny_llama: Path) -> None:
    def answer() -> Iterator[object]:
        engine = Engine.start()
        engine.load(tiny_llama, OPTIONS)
        engine.prefill([5] * 20)
        return engine.generate(30, stop_at_eog=False)

    with _nothing_left():
        pieces = answer()
        gc.collect()
        assert len(list(pieces)) > 10
        del pieces


def test_many_models_one_after_the_other(tiny_llama: Path, tiny_qwen2: Path, tmp_path: Path) -> None:
    """In one process, whose open files and threads are counted, and in several."""
    with _nothing_left():
        for _ in range(2):
            with Engine.start() as engine:
                counted = []
                for turn in range(12):
                    options = EngineOptions(n_ctx=512, threads=1, vocabulary_only=turn % 3 == 2)
                    engine.load((tiny_llama, tiny_qwen2)[turn % 2], options)
                    if not options.vocabulary_only:
                        engine.prefill([5] * 20)
                        saved = engine.save_state(tmp_path / "state")
                        engine.resize(256 * (turn % 3 + 1))
                        engine.restore_state(tmp_path / "state", saved)
                        (tmp_path / "state").unlink()
                    counted.append((_count("fd", engine.pid), _count("task", engine.pid)))
                for counts in zip(*counted, strict=True):
                    assert max(counts[6:]) <= max(counts[:6])


def test_an_answer_collected_in_another_thread_does_not_hold_it_up(tiny_llama: Path) -> None:
    """It could be one of those that carry the messages, which must not wait for one."""
    with Engine.start(Patience(silence_seconds=3.0)) as engine:
        engine.load(tiny_llama, EngineOptions(n_ctx=60_000, threads=1))
        engine.prefill([5] * 20)
        generation = engine.generate(50_000, stop_at_eog=False)
        next(generation)
        os.kill(engine.pid, signal.SIGSTOP)  # so that nothing comes that could be waited for
        collector = threading.Thread(target=generation.close)
        collector.start()
        collector.join(_PATIENCE)
        os.kill(engine.pid, signal.SIGCONT)

        assert not collector.is_alive()
        assert engine.tokenize("a")
        assert engine.prefill([5] * 21).cached_tokens == 20
