"""What `ropewalk convert` refuses: one sentence each, the exit code, and no work begun for it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from huggingface_hub import constants

from checkpoint_folders import INDEX, safetensors_bytes, write_folder, write_json
from cli_running import CommandLine
from copied_conversion import CONVERTED
from hub_stand_in import HubStandIn, StandInRepo, point_at, running_hub
from ropewalk_convert import converter, hub_download
from ropewalk_plan import GgufHeader
from shared_converter import share_converter
from tiny_checkpoints import write_checkpoint

CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
}
REPO = "somebody/model"
SECOND = "model-00002-of-00002.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole checkpoint, as far as can be seen without reading its weights."""
    return write_folder(tmp_path / "in" / "model", CONFIG, shards=2)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.gguf"


@pytest.fixture
def ropewalk(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process may be started, of the converter's or of the quantizer's."""

    def start(*arguments: object, **_: object) -> None:
        raise AssertionError(f"{arguments} was started")

    monkeypatch.setattr(subprocess, "Popen", start)


def refused(ropewalk: CommandLine, exit_code: int, source: Path | str, out: Path, *options: str) -> str:
    """The sentence that a refused conversion ends with; it leaves nothing."""
    outcome = ropewalk("convert", source, out, *options)
    assert (outcome.exit_code, outcome.stdout) == (exit_code, ""), outcome
    assert list(out.parent.iterdir()) == []
    return outcome.sentence


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    write_json(path, {**json.loads(path.read_text()), **values})


class TestRepositories:
    @pytest.fixture
    def hub(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
        with running_hub() as stand_in:
            point_at(stand_in, monkeypatch, tmp_path / "home")
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
            monkeypatch.setattr(hub_download, "PAUSES", (0.01,))
            yield stand_in

    def test_there_is_none(self, hub: HubStandIn, ropewalk: CommandLine, out: Path) -> None:
        said = refused(ropewalk, 1, REPO, out)
        assert REPO in said and "check the name" in said

    def test_gated(self, hub: HubStandIn, ropewalk: CommandLine, out: Path, folder: Path) -> None:
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        hub.repos[REPO] = StandInRepo(files, access="gated")
        said = refused(ropewalk, 1, REPO, out)
        assert REPO in said and "gated" in said and "HF_TOKEN" in said

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({"config.json": b"{}", "pytorch_model.bin": b"pickle"}, "pickle"),
            ({"config.json": b"{}", "README.md": b""}, "has no model weights"),
            ({"model.Q4_0.gguf": b"GGUF"}, "ropewalk pull"),
            ({"model.safetensors": bytes(100)}, "config.json"),
        ],
    )
    def test_without_what_can_be_converted(
        self, hub: HubStandIn, ropewalk: CommandLine, out: Path, files: dict[str, bytes], words: str
    ) -> None:
        hub.repos[REPO] = StandInRepo(files)
        said = refused(ropewalk, 3, REPO, out)
        assert REPO in said and words in said
        assert hub.ranges == []

    @pytest.mark.parametrize(
        ("config", "options", "words"),
        [
            ({"architectures": ["NobodyForCausalLM"]}, (), "NobodyForCausalLM"),
            ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, ("--method", "pi"), "RoPE"),
            ({"rope_scaling": {"rope_type": "unheard"}}, (), "unheard"),
        ],
    )
    @pytest.mark.usefixtures("no_children")
    def test_before_its_weights_are_fetched(
        self,
        *,
        hub: HubStandIn,
        ropewalk: CommandLine,
        folder: Path,
        config: dict[str, object],
        options: tuple[str, ...],
        words: str,
    ) -> None:
        change_config(folder, **config)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        hub.repos[REPO] = StandInRepo(files, in_git=[name for name in files if ".json" in name])
        (folder.parent / "out").mkdir()
        assert words in refused(ropewalk, 3, REPO, folder.parent / "out" / "out.gguf", *options)
        assert hub.ranges == []


@pytest.mark.usefixtures("no_children")
class TestFolders:
    def test_without_a_tokenizer(self, ropewalk: CommandLine, folder: Path, out: Path) -> None:
        (folder / "tokenizer.json").unlink()
        assert "has no tokenizer: it needs one of tokenizer.json" in refused(ropewalk, 3, folder, out)

    def test_a_shard_is_missing(self, ropewalk: CommandLine, folder: Path, out: Path) -> None:
        (folder / SECOND).unlink()
        assert SECOND in refused(ropewalk, 3, folder, out)

    @pytest.mark.parametrize("left", [0, 4, 100, -1])
    def test_a_shard_is_cut_short(self, ropewalk: CommandLine, folder: Path, out: Path, left: int) -> None:
        size = (folder / SECOND).stat().st_size
        os.truncate(folder / SECOND, left % size)
        said = refused(ropewalk, 3, folder, out)
        assert SECOND in said and "again" in said

    def test_a_shard_has_other_tensors_than_the_index_says(
        self, ropewalk: CommandLine, folder: Path, out: Path
    ) -> None:
        index = json.loads((folder / INDEX).read_text())
        index["weight_map"]["model.layers.7.mlp.up_proj.weight"] = SECOND
        write_json(folder / INDEX, index)
        assert "model.layers.7.mlp.up_proj.weight" in refused(ropewalk, 3, folder, out)

    def test_a_shard_that_is_none(self, ropewalk: CommandLine, folder: Path, out: Path) -> None:
        (folder / SECOND).write_bytes(safetensors_bytes(b"no JSON", b""))
        assert SECOND in refused(ropewalk, 3, folder, out)

    def test_weights_in_pickle_form(self, ropewalk: CommandLine, folder: Path, out: Path) -> None:
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
        assert "pickle" in refused(ropewalk, 3, folder, out)

    def test_no_weights(self, ropewalk: CommandLine, folder: Path, out: Path) -> None:
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        assert "safetensors" in refused(ropewalk, 3, folder, out)

    def test_an_architecture_upstream_does_not_know(
        self, ropewalk: CommandLine, folder: Path, out: Path
    ) -> None:
        change_config(folder, architectures=["NobodyForCausalLM"])
        said = refused(ropewalk, 3, folder, out)
        assert "does not know the architecture NobodyForCausalLM" in said

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"architectures": []}', b"\xff\xfe\x00", None])
    def test_a_config_that_cannot_be_read(
        self, ropewalk: CommandLine, folder: Path, out: Path, content: bytes | None
    ) -> None:
        path = folder / "config.json"
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        assert "config.json" in refused(ropewalk, 3, folder, out)

    def test_a_config_that_is_a_folder(self, ropewalk: CommandLine, folder: Path, out: Path) -> None:
        (folder / "config.json").unlink()
        (folder / "config.json").mkdir()
        assert "config.json" in refused(ropewalk, 3, folder, out)

    @pytest.mark.parametrize(
        "scaling",
        [{"rope_type": "unheard"}, {"type": "linear"}, {"rope_type": "yarn", "factor": -1.0}, "linear", 7],
    )
    def test_a_method_of_its_own_that_cannot_be_read(
        self, ropewalk: CommandLine, folder: Path, out: Path, scaling: object
    ) -> None:
        change_config(folder, rope_scaling=scaling)
        said = refused(ropewalk, 3, folder, out)
        assert "rope_scaling" in said and "--method none" in said

    def test_an_empty_folder(self, ropewalk: CommandLine, tmp_path: Path, out: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert "empty" in refused(ropewalk, 3, tmp_path / "empty", out)

    def test_a_folder_with_a_gguf_file(self, ropewalk: CommandLine, tmp_path: Path, out: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "model.gguf").write_bytes(b"GGUF")
        assert "`ropewalk bake`" in refused(ropewalk, 3, tmp_path / "other", out)

    @pytest.mark.parametrize("quantize", [(), ("--quantize", "Q4_0")])
    def test_not_enough_room(
        self,
        ropewalk: CommandLine,
        folder: Path,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        quantize: tuple[str, ...],
    ) -> None:
        """16 bits are two copies for a while: the converter's file, and the target."""
        weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        usage = shutil.disk_usage(out.parent)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * weights))
        said = refused(ropewalk, 4, folder, out, *quantize)
        assert f"{out} needs " in said and "make room, or write to another disk" in said

    @pytest.mark.parametrize(
        ("architecture", "config"),
        [
            ("GPT2LMHeadModel", {"model_type": "gpt2", "n_positions": 64, "n_embd": 8, "n_head": 2}),
            ("BloomForCausalLM", {"model_type": "bloom", "n_embed": 8, "n_head": 2, "seq_length": 64}),
            ("MambaForCausalLM", {"model_type": "mamba"}),
        ],
    )
    @pytest.mark.parametrize("method", ["pi", "dprope+windows", "streaming"])
    def test_a_method_for_a_model_that_does_not_rotate(
        self,
        *,
        ropewalk: CommandLine,
        tmp_path: Path,
        out: Path,
        architecture: str,
        config: dict[str, object],
        method: str,
    ) -> None:
        folder = write_folder(tmp_path / "still", {**config, "architectures": [architecture]})
        said = refused(ropewalk, 3, folder, out, "--method", method, "--target-length", "128")
        assert "still" in said and "RoPE" in said

    @pytest.mark.parametrize("missing", [{"torch"}, {"transformers", "sentencepiece"}])
    def test_without_the_extra(
        self,
        ropewalk: CommandLine,
        folder: Path,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        missing: set[str],
    ) -> None:
        find = importlib.util.find_spec

        def without(name: str, package: str | None = None) -> ModuleSpec | None:
            return None if name in missing else find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", without)
        said = refused(ropewalk, 1, folder, out)
        assert all(name in said for name in missing)
        assert said.endswith("run ./scripts/setup convert.")


@pytest.mark.usefixtures("no_children")
class TestQuantizing:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--quantize", "Q9_K"), "llama.cpp makes no files of the type 'Q9_K'; "),
            (("--quantize", "iq1_s"), "IQ1_S is made with an importance matrix only"),
            (("--quantize", "Q4_0", "--output-tensor-type", "Q99"), "Q99"),
            (("--quantize", "Q4_0", "--token-embedding-type", "x"), "'x'"),
            (("--quantize", "Q4_0", "--tensor-type", "ffn=Q99"), "Q99"),
            (("--quantize", "Q4_0", "--tensor-type", "(=Q8_0"), "("),
        ],
    )
    def test_a_type_that_is_none(
        self, ropewalk: CommandLine, folder: Path, out: Path, options: tuple[str, ...], words: str
    ) -> None:
        assert words in refused(ropewalk, 2, folder, out, *options)

    def test_an_importance_matrix_that_is_not_there(
        self, ropewalk: CommandLine, folder: Path, out: Path, tmp_path: Path
    ) -> None:
        missing = tmp_path / "missing.gguf"
        said = refused(ropewalk, 3, folder, out, "--quantize", "Q4_0", "--imatrix", str(missing))
        assert f"{missing} does not exist" in said

    def test_an_importance_matrix_that_is_none(
        self, ropewalk: CommandLine, folder: Path, out: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other.dat"
        other.write_bytes(b"nothing of the kind" * 20)
        said = refused(ropewalk, 3, folder, out, "--quantize", "Q4_0", "--imatrix", str(other))
        assert "other.dat" in said and "importance matrix" in said


class TestWhatTheHeaderTells:
    """Methods that an architecture cannot carry, refused before the weights are written."""

    @pytest.fixture(scope="class")
    def gemma2(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "gemma2", "gemma2")

    @pytest.fixture(scope="class")
    def header(self, gemma2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """What upstream's converter makes of it, without any weight."""
        path = tmp_path_factory.mktemp("converted") / "gemma2.gguf"
        with pytest.MonkeyPatch.context() as patch:
            share_converter(patch)
            converter.convert_checkpoint(gemma2, path)
        os.truncate(path, GgufHeader.read(path).data_start)
        return path

    @pytest.fixture(autouse=True)
    def only_the_header(self, header: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What goes on to the weights finds none, and fails in other words."""
        monkeypatch.setattr(converter, "_CHILD", Path(__file__).with_name("copied_conversion.py"))
        monkeypatch.setenv(CONVERTED, str(header))

    @pytest.mark.parametrize(
        ("options", "exit_code", "words"),
        [
            (("--method", "windows"), 3, "gives no windows to this gemma2 model: it has windows of its own"),
            (("--method", "pi+windows", "--quantize", "Q8_0"), 3, "it has windows of its own"),
        ],
    )
    def test_is_refused(
        self,
        *,
        ropewalk: CommandLine,
        gemma2: Path,
        out: Path,
        options: tuple[str, ...],
        exit_code: int,
        words: str,
    ) -> None:
        said = refused(ropewalk, exit_code, gemma2, out, *options, "--target-length", "1024")
        assert words in said

    def test_a_target_below_what_it_was_trained_on(
        self, ropewalk: CommandLine, gemma2: Path, out: Path
    ) -> None:
        assert "100" in refused(ropewalk, 2, gemma2, out, "--method", "pi", "--target-length", "100")

    def test_what_is_right_so_far_goes_on_to_the_weights(
        self, ropewalk: CommandLine, gemma2: Path, out: Path
    ) -> None:
        """So that it is the early check that refuses above."""
        said = refused(ropewalk, 1, gemma2, out, "--method", "pi", "--target-length", "1024")
        assert "made of gemma2 does not read back as it was written; check the disk" in said
