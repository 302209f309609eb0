"""Results files' content for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ropewalk.evaluation.results_file import ModelIdentity, RecordedPlan, ResultsRecord

MACHINE: dict[str, str | int] = {
    "system": "Linux",
    "architecture": "x86_64",
    "processor": "A Processor",
    "logical_processors": 2,
    "llama_cpp_python": "0.3.36+ropewalk.1",
}


def record(**changes: Any) -> ResultsRecord:  # noqa: ANN401  # any field
    """A record of two plans, with no results unless `changes` brings some."""
    whole = ResultsRecord(
        test="passkey",
        command=("ropewalk", "passkey", "model.gguf", "--lengths", "4000"),
        model=ModelIdentity("model.gguf", "ab12" * 8),
        settings={"lengths": (4000,), "trials": 2, "seed": 0, "kv_type": "f16"},
        plans=(
            RecordedPlan("none", None),
            RecordedPlan("dprope", {"method": "dprope", "schedule": [{"frequency_factors": [1.0, 2.0]}]}),
        ),
        ropewalk="0.1.0",
        date="2026-01-02T03:04:05+00:00",
        machine=MACHINE,
    )
    return replace(whole, **changes)
