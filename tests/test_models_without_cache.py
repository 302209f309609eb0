"""Models that hold no keys and values: what the library says of their memory, and of windows in it."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import pytest

from library_logits import LibraryRefusedError, LoadedContext
from ropewalk.backend import context_plan, plan_api
from tiny_models import add_hyperparameters, write_gguf_of, write_tiny_model
from tiny_other_memories import write_tiny_lfm2, write_tiny_mamba
from windowed_contexts import opened, windows_plan, with_plan

pytestmark = pytest.mark.usefixtures("patched_library")


def write_tiny_dream(path: Path) -> Path:
    """A diffusion model: a Llama by its tensors, which reads the whole text anew each time."""
    model = write_tiny_model(path)
    write_gguf_of("dream", path, model.tensors, lambda writer: add_hyperparameters(writer, model))
    return path


def kv_size(context: LoadedContext) -> int:
    """Of the C function."""
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = 512
    function = llama_cpp.llama_cpp._lib.llama_context_plan_kv_size
    function.restype, function.argtypes = plan_api.SIGNATURES["llama_context_plan_kv_size"]
    return int(function(context.model, parameters))


def test_no_memory_is_of_size_zero(tmp_path: Path) -> None:
    with opened(write_tiny_dream(tmp_path / "model.gguf"), 64) as context:
        assert not context.memory
        assert kv_size(context) == 0
        assert context_plan.last_error() == ""


@pytest.mark.parametrize(
    ("write", "arch"), [(write_tiny_mamba, "mamba"), (write_tiny_lfm2, "lfm2")], ids=["recurrent", "hybrid"]
)
def test_the_size_of_states_is_not_told(tmp_path: Path, write: object, arch: str) -> None:
    assert callable(write)
    with opened(write(tmp_path / "model.gguf"), 64) as context:
        assert context.memory
        assert kv_size(context) == -1
        assert f"the size of the memory of a {arch} model is not known" in context_plan.last_error()


def test_windows_of_what_is_not_cached_are_refused(tmp_path: Path) -> None:
    path = write_tiny_dream(tmp_path / "model.gguf")
    context_plan.last_error()
    with pytest.raises(LibraryRefusedError), opened(path, 64, prepare=with_plan(windows_plan((16, 0)))):
        pass
    assert (
        "attention windows, which the kind of memory of this dream model does not allow"
        in context_plan.last_error()
    )
