"""What a model's file brings to its chat template: the template itself, and the special tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFWriter

from ropewalk.backend.model import Model
from ropewalk.backend.special_tokens import special_tokens
from ropewalk.backend.vocabulary_model import VocabularyModel
from tiny_models import CHATML_TEMPLATE, PIECES, write_tiny_model


def _loaded(path: Path, whole: bool) -> Model | VocabularyModel:
    return Model.load(path, gpu_layers=0) if whole else VocabularyModel.load(path)


@pytest.mark.parametrize("whole", [True, False])
def test_the_default_one_of_several_templates_is_used(tmp_path: Path, whole: bool) -> None:
    def name_others(writer: GGUFWriter) -> None:
        writer.add_array("tokenizer.chat_templates", ["rag", "tool_use"])
        writer.add_string("tokenizer.chat_template.rag", "RAG")
        writer.add_string("tokenizer.chat_template.tool_use", "TOOLS")

    several = write_tiny_model(tmp_path / "a.gguf", chat_template=CHATML_TEMPLATE, extra_keys=name_others)
    model = _loaded(several.path, whole)
    assert model.chat_template == CHATML_TEMPLATE
    model.close()

    without = _loaded(write_tiny_model(tmp_path / "b.gguf", extra_keys=name_others).path, whole)
    assert without.chat_template is None
    without.close()


@pytest.mark.parametrize("whole", [True, False])
def test_special_tokens_are_those_that_the_file_names(tmp_path: Path, whole: bool) -> None:
    def name_tokens(writer: GGUFWriter) -> None:
        writer.add_pad_token_id(len(PIECES) - 1)
        writer.add_sep_token_id(1 << 20)  # there is none

    model = _loaded(write_tiny_model(tmp_path / "t.gguf", extra_keys=name_tokens).path, whole)
    found = special_tokens(model.vocabulary, model.meta)
    model.close()

    assert found == {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<|im_end|>",
    }
