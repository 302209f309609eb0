"""The tables of types, against the library; what is refused before any work."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from quantizer_calls import call, changes_of, logs_of, wide_model
from ropewalk.backend.library import ggml
from ropewalk_convert.errors import QuantizeError, SourceError
from ropewalk_convert.quantization import (
    Quantization,
    check_quantization,
    largest_quantized_bytes,
    parse_quantization_type,
)
from ropewalk_convert.quantization_types import (
    ALIASES,
    FILE_TYPES,
    MADE_WITH_IMPORTANCE,
    TENSOR_TYPES,
    TENSORS_WITH_IMPORTANCE,
)

NOT_MADE = {"GUESSED": "no type", "NVFP4": "llama.cpp's quantizer refuses it as an invalid output file type"}


def test_every_type_of_the_library_is_in_the_table() -> None:
    from llama_cpp import llama_cpp as capi

    prefixes = ("LLAMA_FTYPE_MOSTLY_", "LLAMA_FTYPE_ALL_", "LLAMA_FTYPE_")
    known = {}
    for constant in dir(capi):
        prefix = next((each for each in prefixes if constant.startswith(each)), None)
        if prefix is not None:
            known[constant.removeprefix(prefix)] = getattr(capi, constant)

    assert len(known) > 30
    made = {name: number for name, number in known.items() if name not in NOT_MADE}
    assert made == {name: entry.number for name, entry in FILE_TYPES.items()}


def test_tensor_types_are_those_of_ggml() -> None:
    name_of, block_of, bytes_of = (
        ggml("ggml_type_name", ctypes.c_char_p, ctypes.c_int),
        ggml("ggml_blck_size", ctypes.c_int64, ctypes.c_int),
        ggml("ggml_type_size", ctypes.c_size_t, ctypes.c_int),
    )
    for name, entry in TENSOR_TYPES.items():
        stored = (name_of(entry.number).decode(), block_of(entry.number), bytes_of(entry.number))
        assert (stored[0].upper(), *stored[1:]) == (name, entry.block, entry.block_bytes)


def test_base_types_and_the_need_of_importance_are_the_librarys(tmp_path: Path) -> None:
    """A dry run of each type says what the tensors become, and whether an importance matrix is needed."""
    model = wide_model(tmp_path / "wide.gguf")
    entries = list(FILE_TYPES.values())
    mixed, pure = (
        logs_of([call(model.path, model.path, e.number, dry_run=True, pure=p) for e in entries])
        for p in (False, True)
    )

    for entry, mixed_log, pure_log in zip(entries, mixed, pure, strict=True):
        assert changes_of(pure_log)["blk.1.attn_q.weight"].after == entry.base.name, entry
        for log, is_pure in ((mixed_log, False), (pure_log, True)):
            needs = any("will require an imatrix" in line for line in log)
            assert needs == _refused_without_importance(Quantization(entry.name, pure=is_pure)), entry
    assert set(MADE_WITH_IMPORTANCE) <= set(FILE_TYPES)


def _refused_without_importance(wanted: Quantization) -> bool:
    try:
        check_quantization(wanted)
    except QuantizeError as error:
        assert "importance matrix" in str(error)
        return True
    return False


def test_names_are_understood_in_any_case() -> None:
    for name in FILE_TYPES:
        assert parse_quantization_type(name.lower()) == parse_quantization_type(f" {name.title()}") == name
    for short, long in ALIASES.items():
        assert parse_quantization_type(short.swapcase()) == long
    wanted = Quantization("q4_k", output_tensor_type="q6_k", tensor_types=((r"FFN_[A-Z]\D", "iq4_nl"),))
    assert (wanted.type, wanted.output_tensor_type) == ("Q4_K_M", "Q6_K")
    assert wanted.tensor_types == ((r"ffn_[a-z]\D", "IQ4_NL"),), "tensors' names are in lower case"


@pytest.mark.parametrize("name", ["NVFP4", "Q4", "", "Q4_0_4_4", "15"])
def test_another_name_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(QuantizeError) as refused:
        parse_quantization_type(name)
    assert repr(name) in str(refused.value)
    assert all(known in str(refused.value) for known in FILE_TYPES)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Quantization("IQ2_XS"), "IQ2_XS is made with an importance matrix only"),
        (Quantization("Q4_0", output_tensor_type="iq2_xxs"), "IQ2_XXS is made with an importance matrix"),
        (Quantization("Q8_0", tensor_types=(("ffn", "IQ1_S"),)), "IQ1_S is made with an importance matrix"),
        (Quantization("Q4_0", keep_output_tensor=True, output_tensor_type="Q8_0"), "cannot both be kept"),
        (Quantization("F16", tensor_types=(("ffn", "Q8_0"),)), "with quantized types only, not with F16"),
        (Quantization("Q8_0", tensor_types=(("ffn(", "Q8_0"),)), "'ffn\\(' is no regular expression"),
        *(
            (
                Quantization("Q8_0", tensor_types=((pattern, "F16"),)),
                "which llama.cpp's regular expressions do",
            )
            for pattern in (
                "(?<=attn_)v",
                "(?<!attn_)v",
                "(?P<v>v)",
                "(?i)v",
                r"\Ablk",
                r"weight\Z",
                "[[:alpha:]]",
            )
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(wanted: Quantization, why: str) -> None:
    with pytest.raises(QuantizeError, match=why):
        check_quantization(wanted)


@pytest.mark.parametrize("pattern", ["(?:attn|ffn)_(?=v)", "(?!output).*", r"[.]attn_v\.", "[^:]:*$"])
def test_what_both_languages_say_alike_is_taken(pattern: str) -> None:
    assert check_quantization(Quantization("Q8_0", tensor_types=((pattern, "F16"),))) is None


def test_an_importance_matrix_is_read_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist; check the path of the importance matrix"):
        check_quantization(Quantization("Q4_K_M", imatrix=tmp_path / "none.gguf"))


def test_a_single_tensors_type_has_to_be_known() -> None:
    with pytest.raises(QuantizeError, match="no tensors of the type 'Q4_K_M'; choose one of F32, F16"):
        Quantization("Q8_0", token_embedding_type="Q4_K_M")
    assert set(TENSOR_TYPES) >= TENSORS_WITH_IMPORTANCE


def test_the_bound_covers_every_type(tmp_path: Path) -> None:
    """On a model that the blocks fit, and on one whose rows are no multiples of 64."""
    models = [
        wide_model(tmp_path / "wide.gguf"),
        wide_model(tmp_path / "narrow.gguf", n_embd=224, head_dim=56, n_ff=480),
    ]
    entries = [entry for entry in FILE_TYPES.values() if entry.name != "Q1_0"]  # refuses the second
    logs = iter(logs_of([call(m.path, m.path, e.number, dry_run=True) for m in models for e in entries]))
    for model in models:
        n_parameters = sum(values.size for values in model.tensors.values())
        for entry in entries:
            needed = sum(change.n_bytes for change in changes_of(next(logs)).values())
            bound = largest_quantized_bytes(n_parameters, Quantization(entry.name, imatrix=model.path))
            widest = max(8.5, entry.base.bits_per_weight)
            assert needed <= bound - (32 << 20) <= 1.02 * n_parameters * widest / 8
