"""Upstream's converter in a process of its own: what it writes, how it ends, that it never stays behind."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file

from cli_running import environment
from converter_cases import MARKER, bring_code, write_bare_checkpoint
from ropewalk_convert import SourceError, converter, upstream_source
from ropewalk_convert.converter import OUTTYPES, convert_checkpoint
from ropewalk_convert.errors import ConverterError, ExtraMissingError
from ropewalk_convert.reporting_child import ReportingChild
from ropewalk_plan import GgufHeader
from test_reporting_child import is_running, wait_until_gone
from tiny_checkpoints import write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny {ftype} ß", "llama")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / ".out.{x}.part"
    path.touch()
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the processes that are started."""
    pids: list[int] = []

    class Watched(ReportingChild):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]  # whatever it is given
            pids.append(self.pid)

    monkeypatch.setattr(converter, "ReportingChild", Watched)
    return pids


def test_a_checkpoint_becomes_a_file(checkpoint: Path, out: Path) -> None:
    reports: list[tuple[int, int]] = []
    inode = out.stat().st_ino
    convert_checkpoint(
        checkpoint,
        out,
        outtype="f32",
        model_name="A Name",
        weight_bytes=1234,
        progress=lambda done, total: reports.append((done, total)),
    )

    assert out.stat().st_ino == inode
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    header = GgufHeader.read(out)
    assert header.value("general.name") == "A Name"
    assert header.value("llama.context_length") == 256
    weights = load_file(checkpoint / "model.safetensors")
    tensors = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(out).tensors}
    assert len(tensors) == len(weights)
    for name, original in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ):
        np.testing.assert_array_equal(tensors[name], weights[original])

    assert reports[0] == (0, 1234)
    assert reports[-1] == (out.stat().st_size - header.data_start,) * 2
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_code_of_a_checkpoint_is_not_executed_wherever_it_lies(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the current folder and on PYTHONPATH too, under names that Python itself imports."""
    folder = bring_code(write_bare_checkpoint(tmp_path / "old", "QWenLMHeadModel", model_type="qwen"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHONSTARTUP", str(folder / "evil.py"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with (
        caplog.at_level(logging.DEBUG, "ropewalk_convert"),
        pytest.raises(SourceError, match="old can only be read with Python code that it brings along, and"),
    ):
        convert_checkpoint(Path(), out)
    assert not (folder / MARKER).exists()
    assert any("Traceback" in line for line in caplog.messages)


class StopHereError(Exception):
    """What a caller raises to stop."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopHereError])
def test_who_stops_it_leaves_no_process(
    checkpoint: Path, out: Path, started: list[int], error: type[BaseException]
) -> None:
    def stop(done: int, total: int) -> None:
        assert is_running(started[0])
        raise error

    with pytest.raises(error):
        convert_checkpoint(checkpoint, out, progress=stop)
    assert not is_running(started[0])


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (signal.SIGKILL, "the memory ran out; close other"),
        (signal.SIGBUS, "its files changed or cannot be read"),
    ],
)
def test_one_that_is_killed_is_told_of(
    checkpoint: Path, out: Path, started: list[int], number: signal.Signals, why: str
) -> None:
    def kill(done: int, total: int) -> None:
        os.kill(started[0], number)

    with pytest.raises(
        ConverterError, match=f"was killed by {number.name} while .*, most likely because {why}"
    ):
        convert_checkpoint(checkpoint, out, progress=kill)


_OWNER = """
import sys
from pathlib import Path
from ropewalk_convert import converter

class Told(converter.ReportingChild):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.told = False

    def messages(self):
        for message in super().messages():
            if not self.told:
                print(self.pid, flush=True)
                self.told = True
            yield message

converter.ReportingChild = Told
try:
    converter.convert_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_owner(checkpoint: Path, out: Path, number: signal.Signals) -> None:
    """The signal goes to the whole group, as that of a terminal does."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(checkpoint), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert is_running(pid)
    os.killpg(owner.pid, number)
    stdout, stderr = owner.communicate()

    wait_until_gone(pid)
    assert stdout == ("interrupted\n" if number == signal.SIGINT else "")
    assert stderr == ""


def test_a_type_that_is_none_is_refused(checkpoint: Path, out: Path, started: list[int]) -> None:
    with pytest.raises(
        ConverterError, match=r"Q4_K_M is no type .*; choose one of auto, f32, f16, bf16, q8_0,"
    ):
        convert_checkpoint(checkpoint, out, outtype="Q4_K_M")
    assert not started


def test_the_types_are_those_of_upstreams_command() -> None:
    text = (upstream_source.converter_folder() / "convert_hf_to_gguf.py").read_text()
    listed = re.search(r'"--outtype", type=str, choices=\[(.*?)\]', text)
    assert listed is not None
    assert set(re.findall(r'"(\w+)"', listed[1])) == set(OUTTYPES)


def test_the_architectures_are_those_of_upstreams_map() -> None:
    text = (upstream_source.converter_folder() / "conversion" / "__init__.py").read_text()
    begun, _, _ = text.partition("MMPROJ_MODEL_MAP: ")
    names = re.findall(r'^    "(\S+)": "\w+",$', begun, re.MULTILINE)
    assert len(names) > 200
    assert upstream_source.known_architectures() == frozenset(names)
    assert {"LlamaForCausalLM", "QWenLMHeadModel"} < upstream_source.known_architectures()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"torch"}, "needs torch, which is not installed; run ./scripts/setup convert"),
        (
            {"torch", "transformers", "safetensors"},
            "needs torch, transformers and safetensors, which are not installed; run ./scripts/setup convert",
        ),
    ],
)
def test_without_the_extra_nothing_is_started(
    tmp_path: Path, started: list[int], monkeypatch: pytest.MonkeyPatch, missing: set[str], words: str
) -> None:
    find = importlib.util.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name in missing else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ExtraMissingError, match=words):
        convert_checkpoint(tmp_path, tmp_path / "out.gguf")
    assert not started


def test_a_library_without_the_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = ModuleSpec("llama_cpp", None, is_package=True)
    stock.submodule_search_locations = [str(tmp_path)]
    for found in (stock, None):
        monkeypatch.setattr(importlib.util, "find_spec", lambda _, spec=found: spec)
        with pytest.raises(
            ConverterError, match=r"does not carry llama\.cpp's converter.*run \./scripts/setup"
        ):
            upstream_source.converter_folder()
