"""A GGUF file's own words about its rotation and plan, read without running it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ropewalk.cli.failures import InputFileError
from ropewalk.wording.errors import one_line
from ropewalk_plan import GgufHeader, PlanError, RopeSpec, StoredPlan, read_plan, rope_spec_from_gguf


@dataclass(frozen=True)
class ModelWords:
    """What a file says.

    Attributes:
        header: all it says.
        spec: the rotation that the file's own keys say.
        stored: its plan, None if it has none.
    """

    header: GgufHeader
    spec: RopeSpec
    stored: StoredPlan | None


def read_model_words(path: Path) -> ModelWords:
    """Read what a GGUF file says about its context.

    Raises:
        InputFileError: it is missing, no whole GGUF file, has no RoPE, or a plan of an unknown schema.
    """
    try:
        header = GgufHeader.read(path)
        return ModelWords(header, rope_spec_from_gguf(header), read_plan(header))
    except PlanError as error:
        message = one_line(str(error))
        raise InputFileError(message if str(path) in message else f"{path}: {message}") from error
