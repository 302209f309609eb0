"""The quantizer's process: it can be killed at any moment, aborts alone, and never outlives its owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imatrix_files import write_gguf_imatrix
from quantizer_calls import wide_model
from ropewalk_convert import quantize_preview
from ropewalk_convert.errors import QuantizeError
from ropewalk_convert.quantization import Quantization
from ropewalk_convert.quantize import quantize
from test_reporting_child import is_running, wait_until_gone
from tiny_models import TinyModel

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks children up in /proc")

SLOW_TYPE = "IQ2_S"
"""Its tables alone take ggml seconds, so that there is time to get in between."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return wide_model(tmp_path_factory.mktemp("wide") / "wide.gguf", n_layer=1)


@pytest.fixture(scope="module")
def imatrix(model: TinyModel) -> Path:
    entries = {n: (np.ones(v.shape[1]), [1]) for n, v in model.tensors.items() if v.ndim == 2}
    return write_gguf_imatrix(model.path.with_name("imatrix.gguf"), entries)


def children_of(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_ctrl_c_ends_it_and_leaves_nothing(model: TinyModel, imatrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    seen: list[int] = []
    others = children_of(os.getpid())  # of other tests

    def interrupt(done: int, total: int) -> None:
        assert 0 < done < total
        assert out.exists()
        seen.extend(set(children_of(os.getpid())) - set(others))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(model.path, out, Quantization(SLOW_TYPE, imatrix=imatrix), interrupt)
    assert seen
    for pid in seen:
        wait_until_gone(pid)
    assert not out.exists()


def test_a_killed_quantizer_is_reported(model: TinyModel, imatrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    others = children_of(os.getpid())

    def kill(done: int, total: int) -> None:
        for pid in set(children_of(os.getpid())) - set(others):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(QuantizeError) as reported:
        quantize(model.path, out, Quantization(SLOW_TYPE, imatrix=imatrix), kill, source_called="the model")
    assert str(reported.value) == (
        "llama.cpp's quantizer was killed by SIGKILL while it made IQ2_S from the model, perhaps because "
        "memory ran out; try again with fewer threads, or with more memory free"
    )
    assert not out.exists()


def test_an_abort_is_reported_with_its_last_words(
    model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some types make ggml abort without importance, which our own checks would find out before."""
    monkeypatch.setattr(quantize_preview, "check_quantization", lambda _: None)
    monkeypatch.setattr(quantize_preview, "check_tensors", lambda *_: [])
    with pytest.raises(QuantizeError) as reported:
        quantize(model.path, tmp_path / "out.gguf", Quantization("F16", token_embedding_type="IQ2_XXS"))
    text = str(reported.value)
    assert "llama.cpp's quantizer was killed by SIGABRT while it made F16 from" in text
    assert "GGML_ASSERT(imatrix != NULL) failed" in text
    assert "\n" not in text
    assert list(tmp_path.iterdir()) == []


_OWNER = """
import sys
from pathlib import Path
from ropewalk_convert.quantization import Quantization
from ropewalk_convert.quantize import quantize
source, out, imatrix = map(Path, sys.argv[1:])
def show(done, total):
    print(done, total, flush=True)
quantize(source, out, Quantization("IQ2_S", imatrix=imatrix), show)
"""


def test_it_dies_with_its_owner(model: TinyModel, imatrix: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _OWNER, str(model.path), str(tmp_path / "out.gguf"), str(imatrix)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    done, total = map(int, owner.stdout.readline().split())
    assert done < total
    children = children_of(owner.pid)
    assert len(children) == 1
    assert is_running(children[0])
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait_until_gone(children[0])


def test_sigint_to_the_owner_ends_both(model: TinyModel, imatrix: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    command = [sys.executable, "-c", _OWNER, str(model.path), str(out), str(imatrix)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    owner.stdout.readline()
    children = children_of(owner.pid)
    owner.send_signal(signal.SIGINT)
    _, errors = owner.communicate()
    assert "KeyboardInterrupt" in errors
    assert children
    for pid in children:
        wait_until_gone(pid)
    assert not out.exists()
