"""A disk that fills up while a text is kept: the answer goes on, a sentence is said, nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_running import environment
from full_disk import _ALONE, Means, means_here
from tiny_models import write_tiny_model

SCRIPT = Path(__file__).with_name("snapshot_on_full_disk.py")


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("means", means_here())
def test_a_text_is_not_kept_and_answered_about_all_the_same(means: Means, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model.gguf", head_dim=32).path
    disk = tmp_path / "disk"
    disk.mkdir()
    environ = environment()
    environ["PYTHONPATH"] += os.pathsep + str(SCRIPT.parent)
    command = [sys.executable, str(SCRIPT), means, str(disk), str(model)]
    done = subprocess.run(
        [*_ALONE, *command] if means == "mounted" else command,
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    full, roomy = said["runs"]
    (sentence,) = said["told"]
    assert "What was read of a text is not kept" in sentence
    assert ("No space left on device" if means == "mounted" else "File too large") in sentence
    assert "\n" not in sentence
    assert (full["kept"], full["left"]) == (False, [])
    assert roomy["kept"] is True
    assert len(roomy["left"]) == 3
    assert full["answer"] == roomy["answer"]
