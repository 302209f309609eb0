"""A checkpoint's folder before any work: whole ones are described, and each lack ends in a sentence."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from checkpoint_folders import INDEX, arrays, write_folder, write_json
from ropewalk_convert.checkpoint_files import (
    CheckpointFiles,
    check_without_weights,
    converted_bytes,
    read_checkpoint_files,
)
from ropewalk_convert.errors import SourceError
from ropewalk_convert.upstream_source import converter_folder

Change = Callable[[Path], object]
Arrays = dict[str, npt.NDArray[np.generic]]

N_PARAMETERS = 16 * 8 + 2 * (8 * 8 + 8)
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1000000\n"


def refusal(folder: Path) -> str:
    """The sentence with which a folder is refused."""
    with pytest.raises(SourceError) as caught:
        read_checkpoint_files(folder)
    sentence = str(caught.value)
    assert str(folder) in sentence and "\n" not in sentence
    return sentence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "checkpoint")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "checkpoint", shards=3)


class TestWhole:
    def test_one_file(self, folder: Path) -> None:
        files = read_checkpoint_files(folder)
        assert (files.folder, files.architecture, files.config) == (
            folder,
            "LlamaForCausalLM",
            folder / "config.json",
        )
        assert files.weights == (folder / "model.safetensors",)
        assert files.n_parameters == N_PARAMETERS
        assert files.weight_bytes == (folder / "model.safetensors").stat().st_size

    def test_shards_with_an_index(self, sharded: Path) -> None:
        (sharded / "model-extra.safetensors").write_text("the index does not name it")
        files = read_checkpoint_files(sharded)
        assert files.weights == tuple(sharded / f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3))
        assert files.n_parameters == N_PARAMETERS

    def test_shards_without_an_index(self, sharded: Path) -> None:
        """Upstream takes every model*.safetensors then."""
        (sharded / INDEX).unlink()
        assert len(read_checkpoint_files(sharded).weights) == 3
        (sharded / "model-00001-of-00003.safetensors").rename(sharded / "model-first.safetensors")
        assert "model-00001-of-00003.safetensors is missing" in refusal(sharded)
        for part in sharded.glob("model-0*"):
            part.rename(part.with_name(f"model{part.name[9:11]}.safetensors"))
        assert len(read_checkpoint_files(sharded).weights) == 3

    def test_the_hub_caches_links(self, folder: Path, tmp_path: Path) -> None:
        """Whose files lie in another folder."""
        blobs = tmp_path / "blobs"
        blobs.mkdir()
        for path in list(folder.iterdir()):
            path.rename(blobs / path.name)
            path.symlink_to(blobs / path.name)
        assert read_checkpoint_files(folder).n_parameters == N_PARAMETERS
        (blobs / "model.safetensors").unlink()
        assert "model.safetensors is a link that leads nowhere" in refusal(folder)

    @pytest.mark.parametrize(
        "names",
        [
            ("tokenizer.model",),
            ("vocab.json", "merges.txt"),
            ("qwen.tiktoken",),
            ("tekken.json",),
            ("spiece.model",),
        ],
    )
    def test_tokenizers(self, folder: Path, names: tuple[str, ...]) -> None:
        (folder / "tokenizer.json").unlink()
        assert "no tokenizer: it needs one of tokenizer.json, tokenizer.model" in refusal(folder)
        for name in names:
            assert "no tokenizer" in refusal(folder)
            (folder / name).write_text("{}")
        read_checkpoint_files(folder)

    def test_no_tokenizer_where_the_converter_has_one(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path, {"architectures": ["MambaForCausalLM"]})
        (folder / "tokenizer.json").unlink()
        assert read_checkpoint_files(folder).architecture == "MambaForCausalLM"


class TestArchitecture:
    @pytest.mark.parametrize(
        ("config", "name"),
        [
            ({"architectures": ["Qwen3ForCausalLM", "LlamaForCausalLM"]}, "Qwen3ForCausalLM"),
            (
                {
                    "architectures": ["LlavaForConditionalGeneration"],
                    "text_config": {"architectures": ["MistralForCausalLM"]},
                },
                "MistralForCausalLM",
            ),
            (
                {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"architectures": None}},
                "Gemma3ForConditionalGeneration",
            ),
            (
                {
                    "architectures": ["InternVLChatModel"],
                    "llm_config": {"architectures": ["Qwen2ForCausalLM"]},
                },
                "Qwen2ForCausalLM",
            ),
            (
                {
                    "architectures": ["Qwen2_5OmniModel"],
                    "thinker_config": {"text_config": {"architectures": ["Qwen2Model"]}},
                },
                "Qwen2Model",
            ),
            (
                {
                    "architectures": ["StepVLForConditionalGeneration"],
                    "text_config": {"architectures": ["Step1ForCausalLM"]},
                },
                "StepVLForConditionalGeneration",
            ),
            ({"architectures": None, "ssm_cfg": {"layer": "Mamba2"}}, "Mamba2ForCausalLM"),
            ({"architectures": [], "ssm_cfg": {}}, "MambaForCausalLM"),
        ],
    )
    def test_as_upstream_reads_it(self, tmp_path: Path, config: Mapping[str, object], name: str) -> None:
        folder = write_folder(tmp_path, config)
        assert read_checkpoint_files(folder).architecture == name
        assert _upstreams(config) == name

    def test_unknown(self, tmp_path: Path) -> None:
        sentence = refusal(write_folder(tmp_path, {"architectures": ["FlutterForCausalLM"]}))
        assert "does not know the architecture FlutterForCausalLM" in sentence

    @pytest.mark.parametrize("value", [None, [], "LlamaForCausalLM", [3], {}, [""]])
    def test_none(self, tmp_path: Path, value: object) -> None:
        assert "names no architecture" in refusal(write_folder(tmp_path, {"architectures": value}))


def _upstreams(config: Mapping[str, object]) -> str:
    """What upstream's own functions make of a config, taken from its source without importing torch."""
    source = (converter_folder() / "conversion" / "base.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    model_base = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ModelBase")
    wanted = [n for n in tree.body if getattr(n, "name", "") in ("ModelType", "get_model_architecture")]
    (load,) = (n for n in model_base.body if getattr(n, "name", "") == "load_hparams")
    assert isinstance(load, ast.FunctionDef)
    renames = [n for n in load.body if isinstance(n, ast.If) and "in config" in ast.unparse(n.test)]
    assert len(renames) == 5
    space: dict[str, object] = {"config": {**config}}
    module = ast.Module([*ast.parse("from __future__ import annotations\nfrom enum import IntEnum").body], [])
    module.body += [*wanted, *ast.parse("pass").body, *[n for n in renames if _key(n) in config]]
    module.body += ast.parse("name = get_model_architecture(config, ModelType.TEXT)").body
    exec(compile(module, "upstream", "exec"), space)
    return str(space["name"])


def _key(node: ast.If) -> str:
    assert isinstance(node.test, ast.Compare)
    return str(ast.literal_eval(node.test.left))


class TestMissing:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda at: (at / "config.json").unlink(), "config.json is missing"),
            (lambda at: (at / "config.json").write_text("[]"), "config.json is no JSON object"),
            (lambda at: (at / "config.json").write_text('{"a": '), "config.json is not JSON"),
            (lambda at: (at / "config.json").write_bytes(b"\xff"), "config.json is not JSON"),
            (
                lambda at: (at / "model.safetensors").unlink(),
                "holds no weights: neither model.safetensors nor",
            ),
            (lambda at: (at / "model.safetensors").write_text(LFS_POINTER), "git-lfs' pointer"),
            (lambda at: (at / "tokenizer.json").write_text(LFS_POINTER), "git-lfs' pointer"),
            (lambda at: save_file({}, at / "model.safetensors"), "holds no weights"),
        ],
    )
    def test_a_file(self, folder: Path, change: Change, words: str) -> None:
        change(folder)
        assert words in refusal(folder)

    @pytest.mark.parametrize("cut", [1, 300])
    def test_a_shard_cut_short_or_grown(self, sharded: Path, cut: int) -> None:
        shard = sharded / "model-00002-of-00003.safetensors"
        whole = shard.read_bytes()
        shard.write_bytes(whole[:-cut])
        assert f"{shard} is cut short: it has {len(whole) - cut} bytes" in refusal(sharded)
        shard.write_bytes(whole + bytes(cut))
        assert (
            f"longer than it should be: it has {len(whole) + cut} bytes and its header says {len(whole)}"
            in (refusal(sharded))
        )

    def test_shards(self, sharded: Path) -> None:
        (sharded / "model-00002-of-00003.safetensors").unlink()
        assert "model-00002-of-00003.safetensors is missing, which model.safetensors.index" in refusal(
            sharded
        )
        (sharded / "model-00003-of-00003.safetensors").unlink()
        assert "model-00002-of-00003.safetensors and 1 more is missing" in refusal(sharded)

    @pytest.mark.parametrize(
        "name", ["../model.safetensors", "/model.safetensors", "a\\..\\model.safetensors"]
    )
    def test_names_that_lead_out(self, sharded: Path, name: str) -> None:
        save_file(arrays(), sharded.parent / "model.safetensors")
        write_json(sharded / INDEX, {"weight_map": dict.fromkeys(arrays(), name)})
        assert "no safetensors file in its folder" in refusal(sharded)

    @pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": ["model.safetensors"]}])
    def test_an_index_without_a_map(self, sharded: Path, index: object) -> None:
        write_json(sharded / INDEX, index)
        assert "has no weight_map" in refusal(sharded)

    def test_index_and_shards_that_contradict_each_other(self, sharded: Path) -> None:
        written = json.loads((sharded / INDEX).read_text())
        weight_map = written["weight_map"]
        name, other = "model.embed_tokens.weight", "model-00003-of-00003.safetensors"
        assert weight_map[name] != other
        write_json(sharded / INDEX, {"weight_map": {**weight_map, name: other}})
        assert f"{other} has not the tensor {name}" in refusal(sharded)
        write_json(sharded / INDEX, {"weight_map": {k: v for k, v in weight_map.items() if k != name}})
        assert f"{weight_map[name]} holds the tensor {name}, which {INDEX} does not say" in refusal(sharded)
        write_json(sharded / INDEX, {"weight_map": {**weight_map, "lm_head.weight": other}})
        assert f"{other} has not the tensor lm_head.weight" in refusal(sharded)

    def test_two_models_in_a_folder(self, folder: Path) -> None:
        save_file(arrays(), folder / "model-old.safetensors")
        assert "and so does" in refusal(folder)


class TestOtherKinds:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("pytorch_model.bin", "pickle form only (pytorch_model.bin), which can run code"),
            ("pytorch_model-00001-of-00002.bin", "pickle form only"),
            ("model.pt", "pickle form only"),
            ("weights.pth", "pickle form only"),
            ("last.ckpt", "pickle form only"),
            ("training_args.bin", "holds no weights"),
            ("adapter_config.json", "holds only an adapter"),
            ("model.gguf", "use `ropewalk bake`"),
            ("consolidated.safetensors", "Mistral's own form"),
        ],
    )
    def test_instead_of_weights(self, folder: Path, name: str, words: str) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(b"\x80\x04.")
        assert words in refusal(folder)

    @pytest.mark.parametrize("below", ["model", "snapshots/0123abcd"])
    def test_one_further_down_is_named(self, tmp_path: Path, below: str) -> None:
        folder = write_folder(tmp_path / below)
        assert refusal(tmp_path) == f"{tmp_path} has no config.json, but {folder} has one; name that folder"

    def test_an_adapter_has_no_config(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("{}")
        save_file(arrays(), tmp_path / "adapter_model.safetensors")
        assert "holds only an adapter" in refusal(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        assert "does not exist" in refusal(tmp_path / "nowhere")
        (tmp_path / "file").touch()
        assert "is no folder" in refusal(tmp_path / "file")

    def test_types_that_are_not_read(self, folder: Path) -> None:
        save_file({**arrays(), "packed.weight": np.ones(4, np.uint32)}, folder / "model.safetensors")
        assert "packed.weight as U32" in refusal(folder)


class TestModelCard:
    """Its head is YAML, which the converter reads: a few lines of it can say as much as a library."""

    BOMB = "a0: &a0 [lol, lol]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 11)
    )

    def test_one_that_would_fill_the_memory(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path / "model")
        (folder / "README.md").write_text(f"---\n{self.BOMB}tags: *a10\n---\n")
        assert "README.md has a head that refers back to itself too often" in refusal(folder)
        with pytest.raises(SourceError, match=r"mend it, or remove the file"):
            check_without_weights(folder)

    def test_those_that_people_write(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path / "model")
        text = f"```yaml\n{self.BOMB}```\n" + "* a point & another\n" * 30
        for head in (
            "---\nlicense: mit\nbase: &b x/y\nmodel: *b\n---\n",
            "",
            "---\nname: R&D **best**\n---\n",
        ):
            (folder / "README.md").write_text(head + text)
            read_checkpoint_files(folder)


class TestWithoutWeights:
    """What is known before gigabytes are fetched."""

    def test_a_sound_one(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        assert check_without_weights(folder) == "LlamaForCausalLM"

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda at: (at / "tokenizer.json").unlink(), "no tokenizer"),
            (lambda at: (at / "config.json").unlink(), "config.json is missing"),
            (lambda at: (at / "config.json").rename(at / "adapter_config.json"), "holds only an adapter"),
            (lambda at: write_json(at / "config.json", {"architectures": ["X"]}), "does not know"),
            (lambda at: write_folder(at, {"quantization_config": {"quant_method": "awq"}}), "with awq"),
        ],
    )
    def test_refused(self, folder: Path, change: Change, words: str) -> None:
        change(folder)
        (folder / "model.safetensors").unlink()
        with pytest.raises(SourceError, match=words):
            check_without_weights(folder)


class TestQuantized:
    @pytest.mark.parametrize(
        ("quantization", "words"),
        [
            ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantized with bitsandbytes"),
            ({"quant_method": "awq", "bits": 4}, "quantized with awq"),
            ({"quant_method": "mxfp4"}, "quantized with mxfp4"),
            ({"quant_method": "gptq", "bits": 3}, "GPTQ to 3 bits"),
            ({"quant_method": "gptq", "bits": 4}, None),
            ({"quant_method": "fp8", "weight_block_size": [128, 128]}, None),
            ({"quant_method": "bitnet"}, None),
            ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, None),
            ({}, None),
            (
                {"quant_method": "compressed-tensors", "format": "marlin-24", "config_groups": {"a": {}}},
                "compressed-tensors as marlin-24",
            ),
            (
                {
                    "quant_method": "compressed-tensors",
                    "format": "float-quantized",
                    "config_groups": {
                        "a": {"weights": {"strategy": "channel", "num_bits": 8, "type": "float"}}
                    },
                },
                None,
            ),
            (
                {
                    "quant_method": "compressed-tensors",
                    "format": "float-quantized",
                    "config_groups": {"a": {"weights": {"strategy": "tensor"}}},
                },
                "as float-quantized by tensor",
            ),
            (
                {
                    "quant_method": "compressed-tensors",
                    "format": "pack-quantized",
                    "config_groups": {
                        "a": {"weights": {"strategy": "group", "num_bits": 4, "group_size": 32}}
                    },
                },
                None,
            ),
            (
                {
                    "quant_method": "compressed-tensors",
                    "format": "pack-quantized",
                    "config_groups": {"a": {}, "b": {}},
                },
                "in 2 ways at once",
            ),
        ],
    )
    def test_methods(self, tmp_path: Path, quantization: object, words: str | None) -> None:
        folder = write_folder(tmp_path, {"quantization_config": quantization})
        if words is None:
            read_checkpoint_files(folder)
        else:
            sentence = refusal(folder)
            assert words in sentence and "--quantize" in sentence

    def test_in_the_text_part(self, tmp_path: Path) -> None:
        text = {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "awq"}}
        assert "quantized with awq" in refusal(write_folder(tmp_path, {"text_config": text}))

    def test_said_by_the_producer_alone(self, folder: Path) -> None:
        write_json(folder / "hf_quant_config.json", {"producer": {"name": "modelopt"}})
        read_checkpoint_files(folder)
        write_json(folder / "hf_quant_config.json", {"producer": {"name": "Quark"}})
        assert "quantized with quark" in refusal(folder)

    def test_weights_are_counted_one_by_one(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path, {"quantization_config": {"quant_method": "gptq", "bits": 4}})
        layer = "model.layers.0.mlp.up_proj"
        packed: Arrays = {
            f"{layer}.qweight": np.zeros((4, 32), np.int32),  # 32 x 32 of four bits
            f"{layer}.qzeros": np.zeros((1, 4), np.int32),
            f"{layer}.scales": np.zeros((1, 32), np.float16),
        }
        save_file({**arrays(), **packed}, folder / "model.safetensors")
        assert "GPTQ without a g_idx" in refusal(folder)
        save_file(
            {**arrays(), **packed, f"{layer}.g_idx": np.zeros(32, np.int32)}, folder / "model.safetensors"
        )
        assert read_checkpoint_files(folder).n_parameters == N_PARAMETERS + 32 * 32

    def test_mxfp4_of_the_model_that_is_made_so(self, tmp_path: Path) -> None:
        quantized = {"quantization_config": {"quant_method": "mxfp4"}}
        folder = write_folder(tmp_path, {"architectures": ["GptOssForCausalLM"], **quantized})
        experts = "model.layers.0.mlp.experts.down_proj"
        blocks = {f"{experts}_blocks": (8, 64, 32, 16), f"{experts}_scales": (8, 64, 32)}
        save_file(
            {**arrays(), **{name: np.zeros(shape, np.uint8) for name, shape in blocks.items()}},
            folder / "model.safetensors",
        )
        files = read_checkpoint_files(folder)
        n_packed = 8 * 64 * 32 * 32
        assert files.n_parameters == N_PARAMETERS + n_packed
        without = _weights_only(read_checkpoint_files(write_folder(tmp_path / "plain")), "f32")
        grown = _weights_only(files, "f32") - without
        assert n_packed * 17 / 32 < grown < n_packed * 0.6, "they stay four bits, and their scales"


def _weights_only(files: CheckpointFiles, outtype: str) -> int:
    return converted_bytes(files, outtype) - 3 * files.vocabulary_bytes


class TestConvertedSize:
    def test_follows_the_type(self, tmp_path: Path) -> None:
        folder = write_folder(tmp_path)
        shapes = {"model.embed_tokens.weight": (1000, 512), "model.layers.0.mlp.up_proj.weight": (2048, 512)}
        save_file({name: np.zeros(s, np.float32) for name, s in shapes.items()}, folder / "model.safetensors")
        files = read_checkpoint_files(folder)
        n = files.n_parameters
        assert n == 3048 * 512
        for outtype, each in (("auto", 2), ("f16", 2), ("bf16", 2), ("f32", 4), ("q8_0", 34 / 32)):
            assert each * n < converted_bytes(files, outtype) < each * n + 100_000, outtype
        with pytest.raises(ValueError, match="q4_k"):
            converted_bytes(files, "q4_k")

    def test_counts_the_vocabulary(self, folder: Path) -> None:
        before = converted_bytes(read_checkpoint_files(folder), "f16")
        tokens = {f"token {i}": i for i in range(5000)}
        write_json(folder / "tokenizer.json", {"model": {"vocab": tokens}})
        grown = converted_bytes(read_checkpoint_files(folder), "f16") - before
        needed = sum(len(token) + 8 + 4 + 4 for token in tokens)  # text with its length, score, type
        assert grown > needed

    def test_an_output_that_is_to_stay_f32(self, folder: Path) -> None:
        """As a config of HunYuan 4 can say."""
        written = load_file(folder / "model.safetensors")
        head = {"lm_head.weight": np.zeros((64, 512), np.float16)}
        save_file({**written, **head}, folder / "model.safetensors")
        before = converted_bytes(read_checkpoint_files(folder), "f16")
        config = json.loads((folder / "config.json").read_text())
        write_json(folder / "config.json", {**config, "enable_lm_head_fp32": True})
        assert converted_bytes(read_checkpoint_files(folder), "f16") - before >= 2 * 64 * 512

    def test_what_stays_f32(self, folder: Path) -> None:
        written = load_file(folder / "model.safetensors")
        before = converted_bytes(read_checkpoint_files(folder), "f16")
        router = {"model.layers.0.mlp.gate.weight": np.zeros((64, 512), np.float16)}
        save_file({**written, **router}, folder / "model.safetensors")
        assert converted_bytes(read_checkpoint_files(folder), "f16") - before >= 4 * 64 * 512
