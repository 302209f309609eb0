"""What is refused while only the header of a converted file is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGUFWriter

from checkpoint_folders import write_folder
from cli_running import CommandLine, environment
from copied_conversion import CONVERTED
from imatrix_files import write_gguf_imatrix
from ropewalk_convert import converter
from ropewalk_convert.early_checks import check_quantizable, check_tokens
from ropewalk_convert.errors import QuantizeError, SourceError
from ropewalk_convert.quantization import Quantization
from ropewalk_plan import GgufHeader
from tiny_models import TinyModel, write_tiny_model

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "model.gguf")


@pytest.fixture
def begun(model: TinyModel, tmp_path: Path) -> Path:
    """The beginning of the model: its header, and some of its weights."""
    header = GgufHeader.read(model.path)
    path = tmp_path / "begun.gguf"
    path.write_bytes(model.path.read_bytes()[: header.data_start + 1000])
    return path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """An importance matrix of another model."""
    return write_gguf_imatrix(tmp_path / "foreign.gguf", {"blk.0.ffn_up.weight": ([1.0] * 32, [1])})


REFUSED = [
    ({"tensor_types": (("atn_v", "F16"),)}, QuantizeError, "called anything like 'atn_v'"),
    ({"tensor_types": (("ffn{,3}", "F16"),)}, QuantizeError, "write another pattern"),
    ({"output_tensor_type": "Q6_K"}, QuantizeError, "rows of 64 numbers, which Q6_K cannot"),
    ({"imatrix": "foreign"}, SourceError, "foreign.gguf belongs to another model than somebody/model"),
]


@pytest.mark.parametrize(("wishes", "error", "why"), REFUSED)
def test_what_the_quantizer_would_refuse(
    begun: Path, foreign: Path, wishes: dict[str, object], error: type[Exception], why: str
) -> None:
    if "imatrix" in wishes:
        wishes = {"imatrix": foreign}
    before = sorted(begun.parent.iterdir())
    header = GgufHeader.read_file(begun, whole=False)
    wanted = Quantization("Q8_0", **wishes)  # type: ignore[arg-type]  # of the table above
    with pytest.raises(error, match=why):
        check_quantizable(header, begun.with_name("out.gguf"), wanted, "somebody/model")
    assert sorted(begun.parent.iterdir()) == before


def test_what_it_makes_is_not_refused(begun: Path) -> None:
    header = GgufHeader.read_file(begun, whole=False)
    wanted = Quantization("Q8_0", tensor_types=(("attn_v", "F16"),))
    check_quantizable(header, begun.with_name("out.gguf"), wanted, "somebody/model")
    assert list(begun.parent.iterdir()) == [begun]


def test_convert_asks_before_the_weights_are_there(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A converter that never gets further than this is told of as such, once it has ended."""
    monkeypatch.setattr(converter, "_CHILD", Path(__file__).with_name("copied_conversion.py"))
    monkeypatch.setenv(CONVERTED, str(begun))
    folder = write_folder(tmp_path / "model", CONFIG)
    out = tmp_path / "out" / "out.gguf"
    out.parent.mkdir()
    ropewalk = CommandLine(monkeypatch, capfd)
    outcome = ropewalk("convert", folder, out, "--quantize", "Q8_0", "--tensor-type", "atn_v=F16")
    assert outcome.exit_code == 1
    assert "no tensor of model is called anything like 'atn_v'" in outcome.sentence
    outcome = ropewalk("convert", folder, out, "--quantize", "Q8_0", "--tensor-type", "attn_v=F16")
    assert "does not read back" in outcome.sentence
    assert list(out.parent.iterdir()) == []


def vocabulary(path: Path, tokens: list[str], tokenizer: str = "gpt2") -> GgufHeader:
    """A file that has nothing but a vocabulary."""
    writer = GGUFWriter(path, "gpt2")
    writer.add_tokenizer_model(tokenizer)
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    return GgufHeader.read(path)


LOAD = """
import sys, llama_cpp
parameters = llama_cpp.llama_model_default_params()
parameters.vocab_only = True
sys.exit(0 if llama_cpp.llama_model_load_from_file(sys.argv[1].encode(), parameters) else 3)
"""


@pytest.mark.parametrize(
    ("tokens", "loads"),
    [
        (["a", "b", "ab", "\n", "\ufffd", "\ufffd"], False),
        (["a", "b", "ab", "\n", "", ""], True),
        (["a", "b", "ab", "\n", "[EMPTY_5]", ""], False),
        (["a", "b", "ab", "\n", "c"], True),
    ],
)
def test_tokens_that_llama_cpp_aborts_on_are_refused(tmp_path: Path, tokens: list[str], loads: bool) -> None:
    """Those, and no others: the library is asked."""
    header = vocabulary(tmp_path / "vocabulary.gguf", tokens)
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, header.path],
        env={**environment(), "GGML_NO_BACKTRACE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (loaded.returncode == 0) == loads, loaded.stderr
    if loads:
        check_tokens(header, "somebody/model")
    else:
        assert "id_to_token.size() == token_to_id.size()" in loaded.stderr
        with pytest.raises(
            SourceError, match=r"tokens 4 and 5 of somebody/model both become .* duplicate tokens"
        ):
            check_tokens(header, "somebody/model")


def test_a_model_without_tokens_has_no_two_of_a_name(tmp_path: Path) -> None:
    check_tokens(vocabulary(tmp_path / "none.gguf", ["a", "a"], "none"), "somebody/model")
