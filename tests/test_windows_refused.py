"""Where windows mean nothing or cannot be: refused by the library in one sentence, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import pytest

from library_logits import LibraryRefusedError
from ropewalk.backend import context_plan
from ropewalk.backend.errors import PlanRefusedError
from ropewalk_plan import ContextPlan
from tiny_gemma3 import write_tiny_gemma3
from tiny_models import write_tiny_model
from tiny_other_memories import write_tiny_lfm2, write_tiny_mamba, write_tiny_qwen2vl
from windowed_contexts import (
    assert_set_refuses,
    in_sequence,
    opened,
    opened_logits,
    random_tokens,
    try_decode,
    windows_plan,
    with_plan,
)

pytestmark = pytest.mark.usefixtures("patched_library")

TOKENS = random_tokens(20, seed=91)


def refusal(path: Path, plan: ContextPlan) -> str:
    """The sentence, from the model or from the context; the model runs before and after without the plan."""
    sentences = []

    def attempt(handle: llama_cpp.llama_model_p) -> None:
        try:
            context_plan.set_plan(handle, plan)
        except PlanRefusedError as refused:
            sentences.append(str(refused))

    before = opened_logits(path, TOKENS)
    context_plan.last_error()
    try:
        with opened(path, 64, prepare=attempt) as context:
            assert sentences, "the plan was taken"
            assert (context.decode(TOKENS) == before).all(), "a refused plan changes nothing"
    except LibraryRefusedError:
        sentences.append(context_plan.last_error())
    assert len(sentences) == 1
    return sentences[0]


def test_a_list_for_another_number_of_layers(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", n_layer=2).path
    for windows in ((16,), (16, 0, 16)):
        sentence = refusal(path, windows_plan(windows))
        assert f"windows for {len(windows)} layers, but the model has 2" in sentence


@pytest.mark.parametrize("windows", [(), (0, 0)])
def test_sinks_without_windows(tmp_path: Path, windows: tuple[int, ...]) -> None:
    path = write_tiny_model(tmp_path / "model.gguf", n_layer=2).path
    params = context_plan.to_params(windows_plan(windows))
    params.n_sinks = 4
    with opened(path, 64, prepare=lambda handle: assert_set_refuses(handle, params, "4 sinks")):
        pass


def test_a_model_with_sliding_layers_of_its_own(tmp_path: Path) -> None:
    path = write_tiny_gemma3(tmp_path / "model.gguf").path
    sentence = refusal(path, windows_plan((16, 0, 16, 0)))
    assert "gemma3" in sentence
    assert "window" in sentence


def test_a_recurrent_model(tmp_path: Path) -> None:
    assert "mamba" in refusal(write_tiny_mamba(tmp_path / "model.gguf"), windows_plan((16, 0)))


def test_a_hybrid_model(tmp_path: Path) -> None:
    assert "lfm2" in refusal(write_tiny_lfm2(tmp_path / "model.gguf"), windows_plan((0, 16)))


def test_a_model_with_several_positions_for_each_token(tmp_path: Path) -> None:
    assert "qwen2vl" in refusal(write_tiny_qwen2vl(tmp_path / "model.gguf"), windows_plan((16, 0)))


def test_windows_of_nothing_are_no_windows(tmp_path: Path) -> None:
    """A list of zeros is every layer dense: taken, and executed as such."""
    path = write_tiny_model(tmp_path / "model.gguf", n_layer=2).path
    with opened(path, 64, prepare=with_plan(windows_plan((0, 0)))) as context:
        assert (context.decode(TOKENS) == opened_logits(path, TOKENS)).all()


def test_a_batch_that_leaves_out_positions_is_refused(tmp_path: Path) -> None:
    """llama.cpp's own rule, which windows rely on: the next token stands next."""
    path = write_tiny_model(tmp_path / "model.gguf", n_layer=2).path
    with opened(path, 64, prepare=with_plan(windows_plan((8, 0)))) as context:
        context.decode(TOKENS)
        assert try_decode(context, in_sequence([5], 25)) == -1
        assert try_decode(context, in_sequence([5], 20)) == 0
