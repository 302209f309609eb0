"""How well a model foresees a text, token by token: a text in windows, each read into an empty context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from benchmark.jobs import Json, LikelihoodJob
from benchmark.loaded_model import LoadedModel, loaded_model

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_ROWS = 64  # whose logits are widened to float64 at once: a whole micro-batch's would be large


def read_windows(job: LikelihoodJob, on_work: Callable[[float], None]) -> Json:
    """Runs a job: reads every window, and keeps what came of each token in the job's file.

    Args:
        job: the windows' file has token numbers [windows, tokens]; the one that is written has `losses`
            (float64, nats: the negative log-likelihood of every token but a window's first, given all before
            it in the window) and `tops` (the token that was the most probable one there), both
            [windows, tokens - 1].
        on_work: told the tokens that were read.

    Returns:
        `kv_bytes`: of all KV caches.
    """
    windows: Int64 = np.load(job.windows_file)
    losses, tops = [], []
    with loaded_model(job.setup) as model:
        for number, window in enumerate(windows):
            done = number * len(window)
            window_losses, window_tops = _read(model, window.tolist(), job.setup.n_ubatch, done, on_work)
            losses.append(window_losses)
            tops.append(window_tops)
        np.savez(job.file, losses=np.stack(losses), tops=np.stack(tops))
        return {"kv_bytes": model.kv_bytes}


def _read(
    model: LoadedModel, tokens: Sequence[int], size: int, done: int, on_work: Callable[[float], None]
) -> tuple[Float64, Int64]:
    model.clear()
    losses: list[Float64] = []
    tops: list[Int64] = []
    for start in range(0, len(tokens), size):
        batch = tokens[start : start + size]
        model.decode(batch, start, all_logits=True)
        following = tokens[start + 1 : start + 1 + len(batch)]
        logits = model.logits(len(batch))[: len(following)]
        losses.append(negative_log_likelihoods(logits, following))
        tops.append(np.argmax(logits, axis=1))
        on_work(float(done + start + len(batch)))
    return np.concatenate(losses), np.concatenate(tops)


def negative_log_likelihoods(logits: npt.NDArray[np.floating], following: Sequence[int]) -> Float64:
    """Nats, of each token that follows, in float64; logits [tokens, vocabulary]."""
    chosen = np.asarray(following, dtype=np.int64)
    losses = np.empty(len(chosen))
    for first in range(0, len(chosen), _ROWS):
        rows = logits[first : first + _ROWS].astype(np.float64)
        top = rows.max(axis=1)
        of_chosen = rows[np.arange(len(rows)), chosen[first : first + _ROWS]]
        rows -= top[:, None]
        sums = np.log(np.exp(rows, out=rows).sum(axis=1)) + top
        losses[first : first + _ROWS] = sums - of_chosen
    return losses
