"""Quantizations as published GGUF files name them."""

from __future__ import annotations

import pytest

from ropewalk_convert.hub_quantization import ChoiceError, choose_file, is_companion, quantization_of


@pytest.mark.parametrize(
    ("file", "quantization"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-7b-instruct-q5_k_m-00001-of-00002.gguf", "Q5_K_M"),
        ("llama-2-7b.Q8_0.gguf", "Q8_0"),
        ("Q4_K_M/model-00001-of-00003.gguf", "Q4_K_M"),
        ("BF16/DeepSeek-R1-BF16-00001-of-00030.gguf", "BF16"),
        ("gemma-3-4b-it-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("gemma-3-4b-it-IQ4_NL.gguf", "IQ4_NL"),
        ("Mistral-7B-Instruct-v0.3-IQ3_XXS.gguf", "IQ3_XXS"),
        ("phi-4-Q3_K_XL.gguf", "Q3_K_XL"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
        ("SmolLM2-135M.f32.gguf", "F32"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("bitnet-TQ2_0.gguf", "TQ2_0"),
        ("model-Q4_0_4_4.gguf", "Q4_0_4_4"),
        ("Q8-trained-model.Q4_K_S_imatrix.gguf", "Q4_K_S"),
        ("model-q4.gguf", "Q4"),
        ("Qwen3-8B.gguf", None),
        ("v2_final-model16.gguf", None),
        ("deq4_0.gguf", None),
    ],
)
def test_the_quantization_of_a_name(file: str, quantization: str | None) -> None:
    assert quantization_of(file) == quantization


FILES = [
    "m-Q4_K_M.gguf",
    "m-UD-Q4_K_XL.gguf",
    "m-UD-Q4_K_M.gguf",
    "Q8_0/m-00001-of-00002.gguf",
    "m-f16.gguf",
    "mmproj-m-f16.gguf",
    "small-IQ1_S.gguf",
    "large-IQ1_S.gguf",
    "imatrix.gguf",
]


@pytest.mark.parametrize(
    ("quantization", "file"),
    [
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("q4_k_m", "m-Q4_K_M.gguf"),
        ("ud-q4_k_m", "m-UD-Q4_K_M.gguf"),
        ("Q4_K_XL", "m-UD-Q4_K_XL.gguf"),
        ("q8_0", "Q8_0/m-00001-of-00002.gguf"),
        ("F16", "m-f16.gguf"),
        ("fp16", "m-f16.gguf"),
    ],
)
def test_a_quantization_names_one_model(quantization: str, file: str) -> None:
    assert choose_file("a/b", FILES, quantization) == file


def test_none_and_several_are_told_apart() -> None:
    with pytest.raises(ChoiceError, match="a/b has no model in q2_k; name one") as none:
        choose_file("a/b", FILES, "q2_k")
    assert none.value.files == tuple(FILES)
    with pytest.raises(ChoiceError, match="a/b has 2 models in IQ1_S; name one") as several:
        choose_file("a/b", FILES, "iq1_s")
    assert several.value.files == ("small-IQ1_S.gguf", "large-IQ1_S.gguf")


def test_what_goes_with_a_model_is_none() -> None:
    assert [file for file in FILES if is_companion(file)] == ["mmproj-m-f16.gguf", "imatrix.gguf"]
    assert is_companion("sub/model.mmproj-Q8_0.gguf") and not is_companion("m-imatrix-Q4_K_M.gguf")
