"""What every verb that runs a model does first: start the engine and load the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ropewalk.cli.failures import InputFileError
from ropewalk.cli.options import RunOptions
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.engine import Engine, ModelDescription

FIRST_CONTEXT = 512
"""Tokens of the context a model is loaded with, before it is known how many are needed."""


@contextmanager
def loaded_model(
    model: Path, run: RunOptions, progress: ProgressReport
) -> Iterator[tuple[Engine, ModelDescription]]:
    """A started engine with the model loaded in a small context; closed when the block ends.

    Raises:
        InputFileError: there is no such file.
        EngineError: the engine cannot start, or load it.
    """
    require_file(model)
    with Engine.start() as engine:
        with progress.step(f"loading {model.name}", Measure()) as update:
            description = engine.load(
                model, run.engine_options(FIRST_CONTEXT), lambda done: update(done, 1.0)
            )
        yield engine, description


def require_file(path: Path) -> None:
    """Refuse a path that is no file.

    Raises:
        InputFileError: nothing is there, or a directory.
    """
    if path.is_dir():
        raise InputFileError(f"{path} is a directory; name a GGUF file in it.")
    if not path.exists():
        raise InputFileError(f"{path}: no such file; check the name.")
