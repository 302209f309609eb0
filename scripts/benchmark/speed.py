"""One run: a text read in chunks, and tokens written at some depths, timed."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmark.jobs import Piece, Speed, SpeedJob
from benchmark.loaded_model import LoadedModel, loaded_model
from benchmark.peak_memory import peak_bytes

_WARM_UP = 32  # tokens: every page of the weights is read once before anything is timed
_DEPTH_OF_DOUBLE_COST = 4096.0  # about, on the demo model: it only steers the estimate of the time left


def measure_speed(job: SpeedJob, on_work: Callable[[float], None]) -> Speed:
    """Runs a job.

    Args:
        job: what to read and write.
        on_work: told the work that is done (see `work_of`).
    """
    with loaded_model(job.setup) as model:
        for start, count in ((0, _WARM_UP), (_WARM_UP, 1), (_WARM_UP + 1, 1)):
            model.decode(model.tokens(start, count), start)
        model.clear()
        prefill: list[Piece] = []
        decode: list[Piece] = []
        depth = read = 0
        done = 0.0
        for stop in job.stops:
            while read < stop:
                count = min(job.setup.n_ubatch, stop - read)
                prefill.append(_timed(model, depth, count, 1))
                read, depth, done = read + count, depth + count, done + _work(depth, count)
                on_work(done)
            count = job.written_at(stop)
            decode.append(_timed(model, depth, 1, count))
            depth, done = depth + count, done + _work(depth, count)
            on_work(done)
        return Speed(tuple(prefill), tuple(decode), model.kv_bytes, peak_bytes())


def work_of(job: SpeedJob) -> float:
    """All the work of a job, about proportional to the time it takes."""
    return _work(job.length / 2, job.length)


def _work(depth: float, count: int) -> float:
    return count * (1.0 + depth / _DEPTH_OF_DOUBLE_COST)


def _timed(model: LoadedModel, depth: int, size: int, times: int) -> Piece:
    """So many batches of a size, one after the other."""
    batches = [(start, model.tokens(start, size)) for start in range(depth, depth + size * times, size)]
    begin = time.perf_counter()
    for start, tokens in batches:
        model.decode(tokens, start)
    return Piece(depth, size * times, time.perf_counter() - begin)
