"""What tests of windows and streaming do with the bare library: plans, refusals, saved states, sizes."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import llama_cpp
import numpy as np

from library_logits import Float32, LoadedContext, Mode, loaded
from ropewalk.backend import context_plan, native_log, plan_api
from ropewalk_plan import ContextPlan, ScheduleStep
from streaming_transformer import Stream

TRAIN_LENGTH = 64
TARGET_LENGTH = 256
MOST_EXACT = Mode()

_CACHE_LINE = re.compile(r"\(\s*(\d+) cells,\s*(\d+) layers,\s*(\d+)/(\d+) seqs\)")


def windows_plan(windows: Sequence[int], sinks: int = 0) -> ContextPlan:
    """Windows and nothing else."""
    return ContextPlan("test", TRAIN_LENGTH, TARGET_LENGTH, windows=tuple(windows), sinks=sinks)


def streaming_plan(stream: Stream, *, streaming: bool = True) -> ContextPlan:
    """The plan of a stream whose factors are given; its factors alone where `streaming` is false."""
    if stream.factors is None:
        raise ValueError("a streaming plan states its factors")
    step = ScheduleStep(TARGET_LENGTH, stream.factors, stream.attention_factor)
    plan = ContextPlan("test", TRAIN_LENGTH, TARGET_LENGTH, schedule=(step,))
    if not streaming:
        return plan
    return replace(plan, windows=stream.windows, sinks=stream.sinks, streaming=True)


def with_plan(plan: ContextPlan | None) -> Callable[[llama_cpp.llama_model_p], None]:
    """Sets the plan: `prepare` of `library_logits.loaded`."""
    return lambda handle: context_plan.set_plan(handle, plan)


def random_tokens(count: int, seed: int) -> list[int]:
    """Without the special ones; the tiny models share their vocabulary."""
    return [int(token) for token in np.random.default_rng(seed).integers(3, 360, count)]


def largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Over all logits."""
    return float(np.abs(a - b).max())


def assert_set_refuses(
    handle: llama_cpp.llama_model_p, params: plan_api.ContextPlanParams, sentence: str
) -> None:
    """The library itself refuses what `ContextPlan` would not say in the first place."""
    function = llama_cpp.llama_cpp._lib.llama_model_plan_set
    context_plan.last_error()
    assert function(ctypes.c_void_p(handle), ctypes.byref(params)) == -1
    assert sentence in context_plan.last_error()


@contextmanager
def opened(
    path: Path,
    n_ctx: int,
    mode: Mode = MOST_EXACT,
    prepare: Callable[[llama_cpp.llama_model_p], None] | None = None,
) -> Iterator[LoadedContext]:
    """`library_logits.loaded` on one thread, which these small graphs want, and without its log."""
    native_log.install()
    with loaded(path, n_ctx, mode, prepare) as context:
        llama_cpp.llama_set_n_threads(context.context, 1, 1)
        yield context


def opened_logits(path: Path, tokens: Sequence[int], mode: Mode = MOST_EXACT) -> Float32:
    """Logits of every token of one batch, [tokens, vocabulary], without a plan."""
    with opened(path, len(tokens), mode) as context:
        return context.decode(tokens)


@dataclass(frozen=True)
class Row:
    """One token of a batch: where it stands, and in which sequence."""

    token: int
    position: int
    sequence: int = 0


def try_decode(context: LoadedContext, rows: Sequence[Row]) -> int:
    """What `llama_decode` returns for one batch; every row's output is asked for."""
    batch = llama_cpp.llama_batch_init(len(rows), 0, 1)
    batch.n_tokens = len(rows)
    for i, row in enumerate(rows):
        batch.token[i] = row.token
        batch.pos[i] = row.position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = row.sequence
        batch.logits[i] = True
    status = int(llama_cpp.llama_decode(context.context, batch))
    llama_cpp.llama_batch_free(batch)
    return status


def decode_rows(context: LoadedContext, rows: Sequence[Row]) -> Float32:
    """Logits of every row of one batch, [rows, vocabulary]."""
    status = try_decode(context, rows)
    assert status == 0, f"llama_decode returned {status}: {context_plan.last_error()}"
    values = llama_cpp.llama_get_logits(context.context)
    return np.array(np.ctypeslib.as_array(values, shape=(len(rows), context.n_vocab)), dtype=np.float32)


def in_sequence(tokens: Iterable[int], start: int, sequence: int = 0) -> list[Row]:
    """The next tokens of a sequence."""
    return [Row(token, position, sequence) for position, token in enumerate(tokens, start)]


State = ctypes.Array[ctypes.c_uint8]


def saved(context: LoadedContext, sequence: int = 0) -> State:
    """One sequence's state."""
    size = llama_cpp.llama_state_seq_get_size(context.context, sequence)
    data: State = (ctypes.c_uint8 * size)()
    assert llama_cpp.llama_state_seq_get_data(context.context, data, size, sequence) == size
    return data


def restored(context: LoadedContext, data: State, sequence: int = 0) -> bool:
    """Whether the library took one sequence's state."""
    read = llama_cpp.llama_state_seq_set_data(context.context, data, len(data), sequence)
    return bool(read == len(data))


def saved_whole(context: LoadedContext) -> State:
    """The state of the whole context."""
    size = llama_cpp.llama_state_get_size(context.context)
    data: State = (ctypes.c_uint8 * size)()
    assert llama_cpp.llama_state_get_data(context.context, data, size) <= size
    return data


def restored_whole(context: LoadedContext, data: State) -> bool:
    """Whether the library took a whole context's state."""
    return bool(llama_cpp.llama_state_set_data(context.context, data, len(data)) > 0)


@dataclass(frozen=True, order=True)
class Cache:
    """One KV cache as the library logs it: cells per stream, layers that share it, streams."""

    cells: int
    layers: int
    streams: int


def logged_caches(lines: Iterable[str]) -> list[Cache]:
    """The KV caches that the log of making a context tells of, the smallest first."""
    found = [match for line in lines if (match := _CACHE_LINE.search(line))]
    return sorted(Cache(int(m[1]), int(m[2]), int(m[4])) for m in found)
