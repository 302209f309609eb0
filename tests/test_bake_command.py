"""The command that `choose` writes: copied into a shell it bakes, whatever the file is called."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli_running import environment
from ropewalk.cli.bake_command import bake_command
from ropewalk.evaluation.labelled_plan import labelled_plan
from ropewalk_plan import GgufHeader, read_plan, rope_spec_from_gguf
from split_models import write_split_model
from tiny_models import write_tiny_model

TRAIN, TARGET = 64, 256


def command_for(model: Path, method: str = "dprope", **options: str) -> str:
    spec = rope_spec_from_gguf(GgufHeader.read(model))
    return bake_command(model, labelled_plan(spec, method, TARGET, None, options), TARGET, None)


@pytest.mark.skipif(os.name == "nt", reason="these names, and a POSIX shell")
@pytest.mark.parametrize(
    "name", ["it's a $HOME;`x`.gguf", "-dash.gguf", "--force.gguf", "two\nlines.gguf", "*.gguf"]
)
def test_a_shell_takes_it_with_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / name, arch="llama", train_length=TRAIN)
    command = command_for(Path(name), threshold="0.02")
    ours = shlex.join([sys.executable, "-m", "ropewalk"])
    told = subprocess.run(
        ["sh", "-c", f'ropewalk() {{ {ours} "$@"; }}\n{command}'],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    baked = tmp_path / f"{Path(name).stem}-dprope-{TARGET}.gguf"
    stored = read_plan(GgufHeader.read(baked))
    assert stored is not None
    assert (stored.plan.method, stored.plan.target_length) == ("dprope", TARGET)


def test_the_parts_of_a_split_model_keep_one_numbering(tmp_path: Path) -> None:
    first = write_split_model(tmp_path / "big").parts[0]
    stem = first.name.split("-00001-of-")[0]
    target = shlex.split(command_for(first))[3]
    assert Path(target).name == f"{stem}-dprope-{TARGET}.gguf"
