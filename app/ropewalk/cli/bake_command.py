"""The `ropewalk bake` command that writes a plan into a copy of a file, ready to be copied into a shell."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from ropewalk.evaluation.labelled_plan import LabelledPlan
from ropewalk_plan.split_model import PartName


def bake_command(model: Path, plan: LabelledPlan, target_length: int, train_length: int | None) -> str:
    """The command, quoted as the system's shell wants it.

    Args:
        model: the file; of a split model, its first part.
        plan: any but the plain model.
        target_length: L' in tokens.
        train_length: L where it was given; None for the file's.
    """
    part = PartName.of(model)
    stem = model.stem if part is None else part.stem  # the parts' numbers come behind it again
    target = model.with_name(f"{stem}-{plan.method}-{target_length}.gguf")
    words = ["ropewalk", "bake", _argument(model), _argument(target), "--method", plan.method]
    words += ["--target-length", str(target_length)]
    if train_length is not None:
        words += ["--train-length", str(train_length)]
    for name, value in plan.options.items():
        words += ["--method-option", f"{name}={value}"]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _argument(path: Path) -> str:
    """A path that is not taken for an option."""
    return os.path.join(os.curdir, path) if str(path).startswith("-") else str(path)  # noqa: PTH118  # Path drops it
