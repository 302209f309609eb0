"""The real model, baked and asked through the engine: short enough for every run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.passkey import passkey_tasks
from ropewalk.evaluation.retrieval_run import context_length, run_tasks
from ropewalk_convert import bake

pytestmark = [pytest.mark.real_model, pytest.mark.usefixtures("patched_library")]

TARGET_LENGTH = 16_384
IDENTITY_TOKENS = 256


@pytest.fixture(scope="module")
def baked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


def baked(real_model: Path, folder: Path, method: str) -> Path:
    target = folder / f"{method}.gguf"
    if not target.exists():
        bake(real_model, target, method=method, target_length=TARGET_LENGTH)
    return target


@pytest.mark.parametrize("method", ["dprope", "extra-mpe", "dprope+logn"])
def test_a_baked_file_says_how_far_it_reaches_and_finds_a_passkey(
    real_model: Path, baked_folder: Path, method: str
) -> None:
    with Engine.start() as engine:
        model = engine.load(baked(real_model, baked_folder, method), EngineOptions(n_ctx=512))
        assert (model.train_length, model.target_length) == (8192, TARGET_LENGTH)
        assert model.native == (method == "dprope")  # the architecture reads factors, and nothing else
        tasks = passkey_tasks(engine, [600], [0.5], trials=1)
        engine.resize(context_length(tasks))
        (result,) = run_tasks(engine, tasks, method=method)
    assert 600 - 25 <= result.prompt_tokens <= 600 + 25  # a filler sentence
    assert result.hit, result.answer


@pytest.mark.parametrize("method", ["extra-pe", "extra-mpe", "logn"])
def test_below_the_train_length_no_bit_changes(real_model: Path, baked_folder: Path, method: str) -> None:
    with Engine.start() as engine:
        model = engine.load(baked(real_model, baked_folder, method), EngineOptions(n_ctx=IDENTITY_TOKENS))
        tokens = [(7919 * i + 17) % model.vocab_size for i in range(IDENTITY_TOKENS)]
        result = engine.check_identity(tokens)
    assert result.n_tokens == IDENTITY_TOKENS
    assert result.bit_identical
    assert result.max_difference == 0.0


def test_factors_change_the_logits_of_the_real_model(real_model: Path, baked_folder: Path) -> None:
    """The counterpart: the same comparison sees a plan that is meant to be seen."""
    with Engine.start() as engine:
        model = engine.load(
            baked(real_model, baked_folder, "dprope+logn"), EngineOptions(n_ctx=IDENTITY_TOKENS)
        )
        tokens = [(7919 * i + 17) % model.vocab_size for i in range(IDENTITY_TOKENS)]
        assert engine.check_identity(tokens).max_difference > 0.01
