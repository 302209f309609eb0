"""Keys and values in a file: what goes on from them, what is refused, what is left when writing fails."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_cpp import llama_cpp as capi

from ropewalk.backend import block_checksums, state_file
from ropewalk.backend.context import Context, ContextParams, DecodeStatus
from ropewalk.backend.errors import StateFileError
from ropewalk.backend.model import Model
from ropewalk.backend.state_file import WrittenState, read_state, write_state
from ropewalk_plan import ContextPlan, ScheduleStep
from tiny_models import write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

TOKENS = [int(token) for token in np.random.default_rng(5).integers(3, 360, 200)]
PARAMS = ContextParams(n_ctx=512, n_batch=64, n_ubatch=64, threads=1)
FACTORS = tuple(float(f) for f in np.linspace(1.0, 4.0, 16))
PLANS = {
    "none": None,
    "factors": ContextPlan("test", 64, 512, schedule=(ScheduleStep(512, FACTORS, 1.1),)),
    "windows": ContextPlan("test", 64, 512, windows=(32, 48), sinks=4),
    "streaming": ContextPlan(
        "test", 64, 512, schedule=(ScheduleStep(512, FACTORS),), windows=(64, 64), sinks=4, streaming=True
    ),
}
BLOCK = 4096


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = Model.load(write_tiny_model(tmp_path_factory.mktemp("state") / "model.gguf", head_dim=32).path)
    yield model
    model.close()


@contextlib.contextmanager
def opened(
    model: Model, plan: ContextPlan | None = None, params: ContextParams = PARAMS
) -> Iterator[Context]:
    model.set_plan(plan)
    context = Context(model, params)
    try:
        yield context
    finally:
        context.close()


def read(context: Context, tokens: list[int]) -> np.ndarray:
    """Logits of the last one, [vocabulary]."""
    for at in range(0, len(tokens), context.n_batch):
        assert context.decode(tokens[at : at + context.n_batch]) is DecodeStatus.DONE
    logits: np.ndarray = context.logits()[-1]
    return logits


def silent(_share: float) -> None:
    """Is told and does nothing."""


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_state_that_was_read_goes_on_as_the_one_that_was_written(
    model: Model, plan: ContextPlan | None, kv_type: str, tmp_path: Path
) -> None:
    """Bit for bit, but under windows, whose cells stand in another order: sums are rounded otherwise."""
    params = dataclasses.replace(PARAMS, kv_type=kv_type)
    path = tmp_path / "Zustand äöü.bin"
    shares: list[float] = []
    with opened(model, plan, params) as context:
        read(context, TOKENS[:150])
        written = write_state(context, 0, path, shares.append, block_bytes=BLOCK)
        went_on = read(context, TOKENS[150:])
    with opened(model, plan, params) as context:
        read(context, TOKENS[:7])  # what is there gives way
        read_state(context, 0, path, written, shares.append)
        difference = float(np.abs(read(context, TOKENS[150:]) - went_on).max())
        assert difference <= (5e-4 if plan is not None and plan.windows else 0.0)
    data = path.read_bytes()
    assert written.n_bytes == len(data)
    blocks = [data[at : at + BLOCK] for at in range(0, len(data), BLOCK)]
    assert written.checksums == tuple(xxhash.xxh3_128_hexdigest(block) for block in blocks)
    end = shares.index(1.0) + 1
    assert len(shares) > end
    assert shares[:end] == sorted(shares[:end])
    assert shares[end:] == sorted(shares[end:])
    assert shares[-1] == 1.0


def test_windows_cannot_roll_back_after_a_restoration_and_plain_plans_can(
    model: Model, tmp_path: Path
) -> None:
    """Why snapshots are taken before a text's end: what a window still needs may be gone."""
    for name, can in (("none", True), ("factors", True), ("windows", False)):
        path = tmp_path / name
        with opened(model, PLANS[name]) as context:
            read(context, TOKENS[:150])
            written = write_state(context, 0, path, silent)
        with opened(model, PLANS[name]) as context:
            read_state(context, 0, path, written, silent)
            assert context.remove_from(60) is can
            if can:
                rolled_back = read(context, TOKENS[60:])
        if can:
            with opened(model, PLANS[name]) as context:
                assert np.abs(rolled_back - read(context, TOKENS)).max() < 1e-2


@dataclasses.dataclass(frozen=True)
class Saved:
    """A file, and what it goes on to."""

    data: bytes
    written: WrittenState


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    path = tmp_path_factory.mktemp("saved") / "state"
    with opened(model) as context:
        read(context, TOKENS[:100])
        written = write_state(context, 0, path, silent, block_bytes=BLOCK)
    return Saved(path.read_bytes(), written)


@pytest.fixture(scope="module")
def other(model: Model) -> Iterator[Context]:
    """A context for many attempts."""
    with opened(model) as context:
        yield context


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_no_changed_byte_and_no_cut_reaches_the_library(
    saved: Saved, other: Context, tmp_path: Path, data: st.DataObject
) -> None:
    changed = bytearray(saved.data)
    if data.draw(st.booleans()):
        del changed[data.draw(st.integers(0, len(changed) - 1)) :]
    else:
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "state"
    path.write_bytes(changed)
    read(other, TOKENS[:5])
    with pytest.raises(StateFileError, match="is damaged"):
        read_state(other, 0, path, saved.written, silent)
    assert other.length == 0


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("plan", "another context plan"),
        ("room", "not enough cells"),
        ("type", "mismatched key type"),
        ("flash attention", "V transposition"),
        ("missing", "No such file"),
        ("folder", "Is a directory"),
        ("empty", "is damaged"),
    ],
)
def test_what_the_library_does_not_take_leaves_the_sequence_empty(
    model: Model, saved: Saved, tmp_path: Path, what: str, match: str
) -> None:
    path = tmp_path / "state"
    written = saved.written
    if what == "folder":
        path.mkdir()
    elif what == "empty":
        path.touch()
        written = WrittenState(0, BLOCK, ())
    elif what != "missing":
        path.write_bytes(saved.data)
    if what == "room":
        with opened(model) as longer:
            read(longer, (TOKENS * 2)[:300])
            path.unlink()
            written = write_state(longer, 0, path, silent)
    if what == "plan":
        with opened(model, PLANS["factors"]) as context:
            read(context, TOKENS[:150])
            path.unlink()
            written = write_state(context, 0, path, silent)
    changes: dict[str, dict[str, object]] = {
        "room": {"n_ctx": 256},
        "type": {"kv_type": "f32"},
        "flash attention": {"flash_attention": "on"},
    }
    params = dataclasses.replace(PARAMS, **changes.get(what, {}))  # type: ignore[arg-type]
    steps = (ScheduleStep(512, FACTORS[::-1]),)
    plan = ContextPlan("test", 64, 512, schedule=steps) if what == "plan" else None
    with opened(model, plan, params) as context:
        expected = read(context, TOKENS[:50])
        with pytest.raises(StateFileError, match=match) as caught:
            read_state(context, 0, path, written, silent)
        assert "\n" not in str(caught.value)
        assert context.length == 0
        assert np.array_equal(read(context, TOKENS[:50]), expected)


@contextlib.contextmanager
def files_limited_to(n_bytes: int) -> Iterator[None]:
    """No file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1000, 50_000, "one byte less", "half a buffer less"])
def test_a_disk_that_fills_up_leaves_no_file_and_a_context_that_goes_on(
    model: Model, saved: Saved, tmp_path: Path, room: int | str
) -> None:
    sizes = {"one byte less": len(saved.data) - 1, "half a buffer less": len(saved.data) - 2048}
    path = tmp_path / "state"
    with opened(model) as context:
        read(context, TOKENS[:100])
        limit = sizes[room] if isinstance(room, str) else room
        with files_limited_to(limit), pytest.raises(StateFileError, match="cannot be written") as caught:
            write_state(context, 0, path, silent)
        assert "make room" in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        assert write_state(context, 0, path, silent, block_bytes=BLOCK) == saved.written


def test_an_error_when_the_disk_is_asked_to_keep_the_file(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with opened(model) as context:
        read(context, TOKENS[:100])
        with pytest.raises(StateFileError, match="Input/output error"):
            write_state(context, 0, tmp_path / "state", silent)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_slow_is_waited_for_and_told_of(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or not waited for, where that is to stop: the file is emptied, so that there is nothing to do."""
    path = tmp_path / "state"
    fsync = os.fsync
    go_on = threading.Event()

    def slow(descriptor: int) -> None:
        while not go_on.is_set() and os.fstat(descriptor).st_size:
            time.sleep(0.01)
        fsync(descriptor)

    def told(share: float) -> None:
        shares.append(share)
        if shares.count(0.9) == 3:
            go_on.set()

    monkeypatch.setattr(os, "fsync", slow)
    with opened(model) as context:
        read(context, TOKENS[:100])
        shares: list[float] = []
        written = write_state(context, 0, path, told)
        assert shares.count(0.9) >= 3
        assert written.n_bytes == path.stat().st_size
        go_on.clear()
        path.unlink()
        with pytest.raises(Stopped):
            write_state(context, 0, path, stopping_at(shares.index(0.9) + 2))
    assert not go_on.is_set()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_somebody_removes_meanwhile(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save = capi.llama_state_seq_save_file

    def removed(*arguments: object) -> int:
        shutil.rmtree(folder)
        return int(save(*arguments))

    monkeypatch.setattr(capi, "llama_state_seq_save_file", removed)
    with opened(model) as context:
        read(context, TOKENS[:100])
        with pytest.raises(StateFileError, match="No such file"):
            write_state(context, 0, folder / "state", silent)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_no_state(model: Model, tmp_path: Path) -> None:
    """Opening one would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with opened(model) as context, pytest.raises(StateFileError, match="no regular file"):
        read_state(context, 0, tmp_path / "pipe", WrittenState(100, 100, ("0" * 32,)), silent)


def test_a_name_that_is_taken_is_left_alone(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"somebody's")
    with opened(model) as context:
        read(context, TOKENS[:10])
        with pytest.raises(StateFileError, match="File exists"):
            write_state(context, 0, path, silent)
        with pytest.raises(StateFileError, match="No such file"):
            write_state(context, 0, tmp_path / "nowhere" / "state", silent)
    assert path.read_bytes() == b"somebody's"


class Stopped(Exception):
    """What a test's progress raises."""


def stopping_at(call: int) -> Callable[[float], None]:
    """Progress that raises at its so-manieth call, from 0."""
    calls = iter(range(1000))

    def progress(_share: float) -> None:
        if next(calls) == call:
            raise Stopped

    return progress


@pytest.mark.parametrize("call", range(6))
def test_writing_stops_wherever_its_progress_raises(model: Model, tmp_path: Path, call: int) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(model) as context:
        expected = read(context, TOKENS[:100])
        with pytest.raises(Stopped):
            write_state(context, 0, tmp_path / "state", stopping_at(call), block_bytes=BLOCK)
        assert list(tmp_path.iterdir()) == []
        assert resource.getrlimit(resource.RLIMIT_FSIZE) == limit
        assert context.remove_from(99)
        assert np.abs(read(context, TOKENS[99:100]) - expected).max() < 1e-2
        write_state(context, 0, tmp_path / "state", silent)


def test_the_library_itself_is_stopped_while_it_writes(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held up before its first byte until it is to stop, and would go on to the last."""
    save = capi.llama_state_seq_save_file
    written: list[int] = []

    def held_up(*arguments: object) -> int:
        while resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0:
            time.sleep(0.01)
        written.append(save(*arguments))
        return written[-1]

    with opened(model) as context:
        read(context, TOKENS[:100])
        with monkeypatch.context() as patched:
            patched.setattr(capi, "llama_state_seq_save_file", held_up)
            with pytest.raises(Stopped):
                write_state(context, 0, tmp_path / "state", stopping_at(2))
        assert written == [0]
        assert list(tmp_path.iterdir()) == []
        write_state(context, 0, tmp_path / "state", silent)


@pytest.mark.parametrize("call", range(4))
def test_reading_stops_wherever_its_progress_raises(
    saved: Saved, other: Context, tmp_path: Path, call: int
) -> None:
    path = tmp_path / "state"
    path.write_bytes(saved.data)
    read(other, TOKENS[:5])
    with pytest.raises(Stopped):
        read_state(other, 0, path, saved.written, stopping_at(call))
    assert other.length == 0


def test_blocks_where_the_system_reads_at_no_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(1).bytes(3_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    expected = tuple(
        xxhash.xxh3_128_hexdigest(data[at : at + 700_000]) for at in range(0, len(data), 700_000)
    )
    with path.open("rb") as file:
        assert block_checksums.checksums_of_blocks(file.fileno(), len(data), 700_000, silent) == expected
        monkeypatch.delattr(os, "preadv")
        assert block_checksums.checksums_of_blocks(file.fileno(), len(data), 700_000, silent) == expected
        with pytest.raises(OSError, match="ends before"):
            block_checksums.checksums_of_blocks(file.fileno(), len(data) + 1, 700_000, silent)


def test_a_system_without_limits_for_files_lets_the_library_finish(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_file, "resource", None)
    with opened(model) as context:
        read(context, TOKENS[:100])
        with pytest.raises(Stopped):
            write_state(context, 0, tmp_path / "state", stopping_at(0))
    assert list(tmp_path.iterdir()) == []
