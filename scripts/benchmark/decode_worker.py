"""A child process that holds a text read to some depth, and writes tokens when it is told to, timing them.

The first line on stdin is `{"setup": ..., "prefill_tokens": n}`, each further one `{"tokens": k}`. Lines out
are `{"work": tokens read}`, `{"ready": true}`, `{"seconds": s}` for k tokens, or `{"error": sentence}`. It
ends when stdin closes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmark.jobs import Setup
from benchmark.loaded_model import RefusedError, loaded_model
from ropewalk.backend.errors import PlanRefusedError
from ropewalk_plan import PlanError


def main() -> int:
    """Read, then write as told."""
    job = json.loads(sys.stdin.readline())
    setup = Setup(**job["setup"])
    try:
        with loaded_model(setup) as model:
            depth = 0
            while depth < job["prefill_tokens"]:
                size = min(setup.n_ubatch, job["prefill_tokens"] - depth)
                model.decode(model.tokens(depth, size), depth)
                depth += size
                _say({"work": depth})
            _say({"ready": True})
            for line in sys.stdin:
                count = json.loads(line)["tokens"]
                begin = time.perf_counter()
                for position in range(depth, depth + count):
                    model.decode(model.tokens(position, 1), position)
                depth += count
                _say({"seconds": time.perf_counter() - begin})
    except (RefusedError, PlanRefusedError, PlanError) as error:
        _say({"error": str(error)})
        return 1
    return 0


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    sys.exit(main())
