"""What upstream's converter is asked to convert: whatever is wrong with a checkpoint ends as a sentence."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from converter_cases import (
    MARKER,
    Conversion,
    add_tensor,
    bring_code,
    changed_copy,
    convert_all,
    job,
    write_bare_checkpoint,
)
from ropewalk_plan import GgufHeader
from tiny_checkpoints import write_checkpoint

_RANKS = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
_NO_TOKENIZERS = ("AutoModelForCausalLM", "LlamaForCausalLM", "RagRetriever", "pipeline")
"""What else is in transformers; the first three would load models, the last would run one."""
_TOKENIZER = ("tokenizer*", "special_tokens_map.json")


class _LeavesMarker:
    """What a pickle that runs something is made of."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def conversions(folder: Path) -> dict[str, Conversion]:
    llama = write_checkpoint(folder / "llama", "llama", shards=2)
    qwen2 = write_checkpoint(folder / "qwen2", "qwen2")
    made = [llama, qwen2]

    def changed(name: str, *without: str, of: Path = llama, **config: object) -> Path:
        made.append(changed_copy(of, folder / name, *without, config=config or None))
        return made[-1]

    def bare(name: str, architecture: str, **config: object) -> Path:
        made.append(write_bare_checkpoint(folder / name, architecture, **config))
        return made[-1]

    bring_code(changed("code-not-needed"))
    bring_code(changed("code-beside-a-class", "tokenizer.model"), tokenizer_class="LlamaTokenizer")
    shutil.copyfile(
        llama / "tokenizer.json",
        bring_code(bare("minimax", "MiniMaxM2ForCausalLM", model_type="minimax_m2", rotary_dim=4))
        / "tokenizer.json",
    )
    bring_code(changed("code-for-its-tokenizer", "tokenizer.model"))
    for name in (*_NO_TOKENIZERS, "none"):
        settings = changed(f"tokenizer-{name}", "tokenizer.model") / "tokenizer_config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "tokenizer_class": name}))
    for name, architecture, values in (
        ("old-qwen", "QWenLMHeadModel", {"model_type": "qwen"}),
        ("chatglm", "ChatGLMModel", {"model_type": "chatglm", "padded_vocab_size": 600}),
        ("dream", "DreamModel", {"model_type": "dream"}),
        ("llada", "LLaDAModelLM", {"model_type": "llada"}),
        ("nemotron", "NemotronHForCausalLM", {"model_type": "nemotron_h"}),
    ):
        bring_code(bare(name, architecture, **values))
    first_qwens: tuple[tuple[str, bytes, dict[str, object]], ...] = (
        ("qwen-of-bytes", _RANKS, {}),
        ("qwen-that-sees", _RANKS, {"visual": {}}),
        ("qwen-cut-short", _RANKS[:1000], {}),
        ("qwen-without-its-end", _RANKS[: _RANKS.index(b" 250")] + b" 250\n", {}),
    )
    for name, ranks, more in first_qwens:
        qwen = bring_code(bare(name, "QWenLMHeadModel", model_type="qwen", **more))
        (qwen / "qwen.tiktoken").write_bytes(ranks)
    pickled = changed("pickled", "*.safetensors", "*.index.json")
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(_LeavesMarker(pickled / MARKER)))
    changed("unknown", architectures=["NobodyForCausalLM"])
    changed("no-architecture", architectures=None)
    made.append(write_checkpoint(folder / "unknown-tokenizer", "olmo2"))
    changed("too-many-tokens", "tokenizer.model", of=qwen2)
    changed("no-tokenizer", *_TOKENIZER)
    changed("no-vocabulary", *_TOKENIZER, of=qwen2)
    bare(
        "no-model", "GemmaForCausalLM", model_type="gemma", num_key_value_heads=1, max_position_embeddings=64
    )
    cut = changed("cut")
    os.truncate(cut / "model-00002-of-00002.safetensors", 5000)
    barely = changed("barely-begun")
    os.truncate(barely / "model-00002-of-00002.safetensors", 100)
    changed("lost-shard", "model-00002*")
    index = changed("wrong-index") / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}))
    changed("quantized", quantization_config={"quant_method": "awq", "bits": 4})
    add_tensor(changed("surplus", of=qwen2), "model.layers.0.flux.weight")
    (changed("damaged-card") / "README.md").write_text("---\ntitle: one: two\n---\n")
    (changed("damaged-tokenizer") / "tokenizer.model").write_bytes(b"\x0a\xff\x01nonsense")
    (changed("damaged-config") / "config.json").write_text('{"architectures": [')
    changed("no-config", "config.json")
    changed("impossible", num_hidden_layers=None)
    del_layers = changed("no-layers", model_type="unheard-of") / "config.json"
    values = json.loads(del_layers.read_text())
    del values["num_hidden_layers"]
    del_layers.write_text(json.dumps(values))

    jobs = {path.name: job(path, folder / f"{path.name}.gguf") for path in made}
    trusted = bring_code(write_bare_checkpoint(folder / "trusted", "QWenLMHeadModel", model_type="qwen"))
    jobs["trusted"] = job(trusted, folder / "unused", trusting=True)
    jobs["again"] = job(llama, folder / "{ftype} {0} {x}.gguf", outtype="f16", model_name="Näme")
    jobs["same-name"] = job(
        folder / "code-not-needed", folder / "named.gguf", outtype="f16", model_name="Näme"
    )
    jobs["too-large"] = job(llama, folder / "large.gguf", file_limit=100_000)
    jobs["no-room-for-keys"] = job(llama, folder / "keys.gguf", file_limit=4096)
    return convert_all(jobs, folder / "home")


_SENTENCES = {
    "code-for-its-tokenizer": (
        "source",
        "code-for-its-tokenizer can only be read with Python code that it brings along, and code from a "
        "checkpoint is never run; look for a version of it in transformers' own format, often with -hf at "
        "the end of its name, or for a GGUF file of it, which `ropewalk bake` can extend",
    ),
    **dict.fromkeys(
        ("old-qwen", "qwen-that-sees", "chatglm", "dream", "llada", "nemotron"),
        ("source", "code from a checkpoint is never run"),
    ),
    "qwen-of-bytes": (
        "source",
        "the tokenizer of qwen-of-bytes splits text in a way that llama.cpp does not",
    ),
    "qwen-cut-short": (
        "source",
        "the tokenizer of qwen-cut-short is damaged (qwen.tiktoken has no token and rank in line",
    ),
    "qwen-without-its-end": ("source", "is damaged (qwen.tiktoken is not whole); fetch it anew"),
    "pickled": ("source", "pickled has weights in pickle form, which can run code when it is read"),
    "unknown": (
        "source",
        "unknown is of the architecture NobodyForCausalLM, which llama.cpp's converter does",
    ),
    "no-architecture": ("source", "the config.json of no-architecture does not say which architecture it is"),
    "unknown-tokenizer": ("source", "the tokenizer of unknown-tokenizer splits text in a way that llama.cpp"),
    "too-many-tokens": ("source", "the tokenizer of too-many-tokens has more tokens than the vocab_size"),
    "no-tokenizer": ("source", "no-tokenizer lacks the files of its tokenizer; fetch them"),
    "no-vocabulary": ("source", "no-vocabulary lacks the files of its tokenizer; fetch them"),
    "no-model": ("source", "no-model lacks the files of its tokenizer (tokenizer.model); fetch them"),
    "cut": ("source", "a weights file of cut is cut short or damaged; fetch it anew"),
    "barely-begun": ("source", "a weights file of barely-begun is cut short or damaged; fetch it anew"),
    "lost-shard": ("source", "lost-shard lacks model-00002-of-00002.safetensors; fetch it"),
    "wrong-index": ("source", "the weights of wrong-index are not those that its index lists; fetch"),
    "quantized": ("source", "are quantized in a way that llama.cpp's converter cannot read"),
    "surplus": ("converter", "has no place for the tensor model.layers.0.flux.weight of surplus; check"),
    "damaged-tokenizer": ("source", "the tokenizer.model of damaged-tokenizer is damaged"),
    "damaged-card": ("source", "the head of the README.md of damaged-card is damaged (ScannerError: mapping"),
    "damaged-config": ("source", "a file of damaged-config is damaged (JSONDecodeError"),
    "no-config": ("source", "no-config lacks config.json; fetch it"),
    "no-layers": ("source", "the config.json of no-layers lacks n_layers or num_hidden_layers or n_layer or"),
    "impossible": ("converter", "llama.cpp's converter failed on impossible (TypeError: 'NoneType' object"),
    "too-large": ("space", " filled up, or takes no file this large, while llama was converted; make room"),
    "no-room-for-keys": ("space", " takes no file as large as llama becomes; write to another disk"),
}


def test_what_is_wrong_ends_as_a_sentence(conversions: dict[str, Conversion]) -> None:
    for name, (kind, words) in _SENTENCES.items():
        error = conversions[name].error
        assert error.get("kind") == kind, (name, error)
        assert words in error["message"], name
        assert "\n" not in error["message"], name
        assert "Traceback" not in error["message"], name
    failed = {name for name, conversion in conversions.items() if conversion.error}
    assert failed == {*_SENTENCES, "minimax"}


def test_code_of_a_checkpoint_is_never_executed(conversions: dict[str, Conversion], folder: Path) -> None:
    """It is by transformers alone, asked as upstream asks it: the marker can be trusted."""
    assert (folder / "trusted" / MARKER).exists()
    brought = {path.parent for path in folder.glob("*/evil.py")} | {folder / "pickled"}
    assert len(brought) == 15
    assert [path.name for path in brought if (path / MARKER).exists()] == ["trusted"]


def test_a_checkpoint_that_brings_code_it_can_do_without_is_converted(
    conversions: dict[str, Conversion],
) -> None:
    assert conversions["same-name"].out.read_bytes() == conversions["again"].out.read_bytes()
    assert not conversions["code-beside-a-class"].error
    assert (
        "vocab_size" in conversions["minimax"].error["message"]
    )  # it got as far as the class of transformers


def test_classes_that_are_no_tokenizers_are_not_run(conversions: dict[str, Conversion]) -> None:
    """It is as if they were not there: what the vocabulary's file says counts."""
    plain = conversions["tokenizer-none"]
    for name in _NO_TOKENIZERS:
        made = conversions[f"tokenizer-{name}"]
        assert made.error == plain.error, made.error


def test_the_name_of_the_file_is_taken_as_it_is(conversions: dict[str, Conversion]) -> None:
    header = GgufHeader.read(conversions["again"].out)
    assert header.value("general.name") == "Näme"
    assert GgufHeader.read(conversions["llama"].out).value("general.name") == "Llama"


def test_progress_ends_with_all_bytes_of_the_weights(conversions: dict[str, Conversion]) -> None:
    *_, last = conversions["llama"].progress
    size = conversions["llama"].out.stat().st_size
    header = GgufHeader.read(conversions["llama"].out)
    assert last == {"stage": "writing", "done": size - header.data_start, "total": size - header.data_start}
