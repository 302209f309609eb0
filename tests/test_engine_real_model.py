"""A short run of the real model: what a person gets from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ropewalk.engine import Engine, EngineOptions

pytestmark = pytest.mark.real_model

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "


def test_it_reads_once_and_answers_twice(real_model: Path) -> None:
    before = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    key = "The pass key is 71432. Remember it. 71432 is the pass key. "
    document = f"{before}{FILLER * 8}{key}{FILLER * 8}"
    with Engine.start() as engine:
        model = engine.load(real_model, EngineOptions(n_ctx=1024))
        assert (model.architecture, model.n_layer, model.train_length) == ("llama", 30, 8192)
        assert model.has_chat_template

        first = engine.tokenize(f"{document}What is the pass key? The pass key is")
        assert engine.prefill(first).cached_tokens == 0
        assert "71432" in "".join(piece.text for piece in engine.generate(8))

        second = engine.tokenize(f"{document}What color is the sky? The sky is")
        reread = engine.prefill(second)
        assert "blue" in "".join(piece.text for piece in engine.generate(4))
        assert reread.prompt_tokens - reread.cached_tokens < 16


def test_its_template_is_chatml(real_model: Path) -> None:
    with Engine.start() as engine:
        engine.load(real_model, EngineOptions(n_ctx=256))
        text = engine.apply_template([("system", "Be brief."), ("user", "Hello!")])

    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"
    )
