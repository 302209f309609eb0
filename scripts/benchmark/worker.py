"""The child process that measures one thing: a job as a line of JSON on stdin, lines of JSON on stdout.

Each line out is `{"work": done}`, `{"error": sentence}` or, last, `{"result": ...}`. It ends with its parent:
when stdin closes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as capi

from benchmark.graph_nodes import count_nodes
from benchmark.jobs import AboutJob, Job, Json, LikelihoodJob, LogitsJob, NodesJob, SpeedJob, job_from_json
from benchmark.likelihoods import read_windows
from benchmark.loaded_model import RefusedError, loaded_model
from benchmark.speed import measure_speed
from ropewalk.backend import library
from ropewalk.backend.errors import PlanRefusedError
from ropewalk_plan import PlanError


def main() -> int:
    """Do the job."""
    job = job_from_json(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = _result(job)
    except (RefusedError, PlanRefusedError, PlanError, library.LibraryNotPatchedError) as error:
        _say({"error": str(error)})
        return 1
    _say({"result": result})
    return 0


def _result(job: Job) -> Json:
    if isinstance(job, SpeedJob):
        return asdict(measure_speed(job, lambda done: _say({"work": done})))
    if isinstance(job, NodesJob):
        return [graph.operations for graph in count_nodes(job.setup, job.prefill_tokens)]
    if isinstance(job, LogitsJob):
        return _keep_logits(job)
    if isinstance(job, LikelihoodJob):
        return read_windows(job, lambda done: _say({"work": done}))
    assert isinstance(job, AboutJob)
    info = library.library_info()
    known = any(hasattr(capi._lib, name) for name in ("llama_context_plan_build", "llama_model_plan_set"))
    return {
        "patched": info.patched,
        "unpatched": not known,
        "build": info.build,
        "system_info": info.system_info,
    }


def _keep_logits(job: LogitsJob) -> int:
    """Prefill in one batch (of several micro-batches where `n_ubatch` is smaller), then token by token."""
    with loaded_model(job.setup) as model:
        model.decode(model.tokens(0, job.prefill_tokens), 0, all_logits=True)
        rows = [model.logits(job.prefill_tokens)]
        for position in range(job.prefill_tokens, job.prefill_tokens + job.decode_tokens):
            model.decode(model.tokens(position, 1), position)
            rows.append(model.logits(1))
    np.save(job.file, np.concatenate(rows))
    return sum(map(len, rows))


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
