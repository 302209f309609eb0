"""`ropewalk plan`, as a person would type it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cli_running import CommandLine
from gguf_files import write_rope_keys

LLAMA2 = ("plan", "--head-dim", "128", "--rope-base", "10000", "--train-length", "4096")
TO_16K = ("--target-length", "16384")


@pytest.fixture
def ropewalk(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_rope_keys(tmp_path / "model.gguf", n_rot=64, base=100000.0, context_length=2048)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class TestText:
    def test_a_table_of_80_columns(self, ropewalk: CommandLine) -> None:
        outcome = ropewalk(*LLAMA2, *TO_16K, "--method", "dprope", "--compare", "pi,yarn")
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        tables = outcome.stdout.split("\n\n", 1)[1]
        assert max(map(len, tables.splitlines())) <= 80
        assert "interpolated   42 of 64 pairs: 1-2," in outcome.stdout
        assert "disturbance    22.94" in outcome.stdout
        for words in ("PAIRS", "30-63  471.2 to 54,410", "METHOD", "33.62        64 of 64", "1.1386"):
            assert words in outcome.stdout

    def test_a_gguf_file(self, ropewalk: CommandLine, model: Path) -> None:
        outcome = ropewalk("plan", model, "--target-length", "8192", "--method", "extra-pe+logn")
        assert outcome.exit_code == 0
        for words in (f"{model}: llama, 32 pairs", "base 100000", "periodic", "LogN", "fine-tuned", "no: "):
            assert words in outcome.stdout

    def test_drawn_in_the_terminal(self, ropewalk: CommandLine, model: Path) -> None:
        outcome = ropewalk("plan", model, "--target-length", "8192", "--method", "pi", "--plot", "-")
        assert "Attention score by distance, low frequencies (L: 2,048)" in outcome.stdout


class TestWindows:
    LAYERS = ("--layers", "30", "--head-dim", "64", "--rope-base", "100000", "--train-length", "8192")
    TWENTY = "windows=" + "/".join(["1024"] * 20 + ["0"] * 10)

    def test_what_they_leave_of_the_cache(self, ropewalk: CommandLine) -> None:
        """20 of 30 layers with 1,024 + 4 + 512 cells, rounded up to 1,792: 20 x 1,792 / 16,384 + 10 of 30."""
        outcome = ropewalk(
            *("plan", *self.LAYERS, *TO_16K, "--method", "windows"),
            *("--method-option", self.TWENTY, "--method-option", "sinks=4"),
        )
        assert "20 of 30 layers see the last 1,024 tokens and the first 4\n" in outcome.stdout
        assert "at 16,384 tokens about 41% of one without windows\n" in outcome.stdout
        assert "does not execute" not in outcome.stdout

    def test_a_stream_is_as_large_for_any_text(self, ropewalk: CommandLine) -> None:
        outcome = ropewalk("plan", *self.LAYERS, *TO_16K, "--method", "streaming")
        windows = (
            "30 of 30 layers see the last 7,932 tokens and the first 4, streaming in blocks of 256 tokens\n"
        )
        assert windows in outcome.stdout
        assert "7,936 tokens in each layer, however long the text\n" in outcome.stdout


class TestJson:
    def test_of_numbers(self, ropewalk: CommandLine) -> None:
        answer = json.loads(ropewalk(*LLAMA2, *TO_16K, "--method", "pi", "--json").stdout)
        assert answer["disturbance"]["mean"] == pytest.approx(33.67, rel=0.005)
        assert answer["frequency_factors"] == [4.0] * 64
        assert answer["model"] is None
        assert "compared" not in answer

    def test_a_checkpoint_is_the_same_model(self, ropewalk: CommandLine, checkpoint: Path) -> None:
        arguments = (*TO_16K, "--method", "yarn", "--json")
        of_numbers = json.loads(ropewalk(*LLAMA2, *arguments).stdout)
        of_checkpoint = json.loads(ropewalk("plan", checkpoint, *arguments).stdout)
        assert of_checkpoint.pop("model") == str(checkpoint)
        of_numbers.pop("model")
        assert of_checkpoint == of_numbers

    def test_compared(self, ropewalk: CommandLine) -> None:
        answer = json.loads(
            ropewalk(
                *(*LLAMA2, *TO_16K, "--method", "dprope", "--method-option", "interpolated_dims=64"),
                *("--compare", "pi,dprope:threshold=0.05:bins=180", "--json"),
            ).stdout
        )
        assert len(answer["interpolated_pairs"]) == 32
        pi, dprope = answer["compared"]
        assert pi["method"] == "pi"
        assert "threshold=0.05" in dprope["options"] and "bins=180" in dprope["options"]
        assert set(pi) == set(answer) - {"model", "compared"}


class TestPlot:
    @pytest.mark.parametrize(("name", "start"), [("plan.png", b"\x89PNG"), ("plan.SVG", b"<?xml")])
    def test_into_a_file(
        self, ropewalk: CommandLine, model: Path, tmp_path: Path, name: str, start: bytes
    ) -> None:
        target = tmp_path / name
        arguments = ("plan", model, "--target-length", "4096", "--method", "pi", "--plot", target)
        outcome = ropewalk(*arguments)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert target.read_bytes().startswith(start)
        refused = ropewalk(*arguments)
        assert refused.exit_code == 2
        assert "--force" in refused.sentence
        assert ropewalk(*arguments, "--force").exit_code == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["model.gguf", name])

    def test_without_matplotlib(
        self, ropewalk: CommandLine, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        for module in ("plan_plots", "picture_style"):
            monkeypatch.delitem(sys.modules, f"ropewalk.evaluation.{module}", raising=False)
        target = tmp_path / "plan.png"
        outcome = ropewalk("plan", model, "--target-length", "4096", "--method", "pi", "--plot", target)
        assert outcome.exit_code == 1
        assert "./scripts/setup plot" in outcome.sentence
        assert not target.exists()


class TestExport:
    def test_prints_nothing_else(self, ropewalk: CommandLine, model: Path) -> None:
        arguments = ("plan", model, "--target-length", "4096", "--method", "pi", "--export")
        config = json.loads(ropewalk(*arguments, "hf").stdout)
        assert config["rope_scaling"]["long_factor"] == [2.0] * 32
        assert ropewalk(*arguments, "vllm").stdout.startswith("--max-model-len 4096 --hf-overrides '{")
        flags = "--ctx-size 4096 --rope-scaling linear --rope-scale 2\n"
        assert ropewalk(*arguments, "llama.cpp").stdout == flags

    def test_says_what_cannot_be_said(self, ropewalk: CommandLine, model: Path) -> None:
        outcome = ropewalk("plan", model, "--target-length", "4096", "--method", "extra-pe", "--export", "hf")
        assert (outcome.exit_code, outcome.stdout) == (1, "")
        assert "periodic position map" in outcome.sentence


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"--head-dim": "127"}, "127"),
            ({"--head-dim": "0"}, "even and above 0"),
            ({"--rope-base": "1"}, "above 1"),
            ({"--rope-base": "nan"}, "finite"),
            ({"--train-length": "0"}, "--train-length"),
            ({"--train-length": "-5"}, "-5"),
            ({"--target-length": "0"}, "--target-length"),
            ({"--target-length": "4095"}, "target_length is 4095"),
            ({"--method": "alchemy"}, "alchemy"),
            ({"--method": "pi+yarn"}, "contradict"),
            ({"--method-option": "flavour=3"}, "flavour"),
            ({"--method": "windows", "--method-option": "windows=512/512/0"}, "32 layers"),
            ({"--method": "windows+streaming"}, "contradict"),
            ({"--method": "longrope"}, "factors"),
            ({"--method-option": "bins=1"}, "bins is '1'"),
            ({"--compare": "pi,alchemy"}, "alchemy"),
            ({"--compare": "pi,,yarn"}, "METHOD"),
            ({"--compare": "dprope:threshold"}, "dprope:threshold"),
            ({"--compare": "dprope:threshold=-1"}, "threshold"),
            ({"--plot": "plan.pdf"}, ".png or .svg"),
            ({"--plot": "no/such/folder/plan.png"}, "plan.png"),
            ({"--plot": "-", "--export": "hf"}, "--export"),
            ({"--compare": "pi", "--export": "hf"}, "--export"),
            ({"--export": "ollama"}, "ollama"),
        ],
    )
    def test_is_one_sentence_and_2(self, ropewalk: CommandLine, changes: dict[str, str], words: str) -> None:
        arguments = {
            **{"--head-dim": "128", "--rope-base": "10000", "--train-length": "4096"},
            **{"--target-length": "8192", "--method": "dprope"},
            **changes,
        }
        outcome = ropewalk("plan", *(text for pair in arguments.items() for text in pair))
        assert (outcome.exit_code, outcome.stdout) == (2, "")
        assert words in outcome.sentence

    def test_model_and_numbers(self, ropewalk: CommandLine, model: Path) -> None:
        wanted = ("--target-length", "8192", "--method", "pi")
        for arguments, words in (
            ((), "MODEL"),
            (("--head-dim", "64"), "--rope-base and --train-length must be given"),
            (("--head-dim", "64", "--train-length", "2048"), "--rope-base must be given"),
            ((model, "--head-dim", "64"), "--head-dim"),
            ((model, "--json", "--plot", "-"), "--json"),
        ):
            outcome = ropewalk("plan", *arguments, *wanted)
            assert outcome.exit_code == 2
            assert words in outcome.sentence

    def test_files_that_say_no_rotation(self, ropewalk: CommandLine, tmp_path: Path) -> None:
        wanted = ("--target-length", "8192", "--method", "pi")
        no_model = tmp_path / "story.gguf"
        no_model.write_text("in the end there was the thing")
        empty = tmp_path / "empty"
        empty.mkdir()
        for path in (no_model, empty, tmp_path / "missing.gguf"):
            outcome = ropewalk("plan", path, *wanted)
            assert (outcome.exit_code, outcome.stdout) == (3, "")
            assert path.name in outcome.sentence

    def test_a_baked_file(self, ropewalk: CommandLine, model: Path, tmp_path: Path) -> None:
        baked = tmp_path / "baked.gguf"
        wanted = ("--target-length", "4096", "--method", "pi")
        assert ropewalk("bake", model, baked, *wanted).exit_code == 0
        outcome = ropewalk("plan", baked, *wanted)
        assert outcome.exit_code == 3
        assert "carries a plan already (pi)" in outcome.sentence
