"""`ropewalk convert`: from a folder or a repository to a file that runs, and what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from huggingface_hub import constants

from checkpoint_folders import write_folder
from cli_running import CommandLine, run_process
from copied_conversion import CONVERTED
from hub_stand_in import COMMIT, HubStandIn, StandInRepo, point_at, running_hub
from library_logits import Mode, loaded
from ropewalk.backend import context_plan
from ropewalk_convert import converter, huggingface
from shared_converter import share_converter
from tiny_checkpoints import TRAIN_LENGTH, write_checkpoint
from tiny_models import write_tiny_model
from transformers_oracle import oracle_module

REPO = "somebody/Tiny-Model"
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without a scaling."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "Plain", "llama", shards=2)


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with dynamic NTK, which upstream's converter leaves out and no key of llama.cpp says."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "Dynamic", "llama", config=DYNAMIC)


@pytest.fixture
def ropewalk(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    share_converter(monkeypatch)
    return CommandLine(monkeypatch, capfd)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "made here.gguf"


def keys_of(path: Path) -> dict[str, Any]:
    """A file's keys, by the `gguf` package."""
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def types_of(path: Path) -> dict[str, str]:
    """The type of each tensor, by the `gguf` package."""
    return {tensor.name: GGMLQuantizationType(tensor.tensor_type).name for tensor in GGUFReader(path).tensors}


class TestFromAFolder:
    def test_its_own_method_is_kept(self, ropewalk: CommandLine, dynamic: Path, out: Path) -> None:
        outcome = ropewalk("convert", dynamic, out)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        for words in ("dynamic-ntk", "1,024 tokens (4 times)", "no: ", f"ropewalk chat '{out}'"):
            assert words in outcome.stdout
        keys = keys_of(out)
        assert keys["ropewalk.method"] == "dynamic-ntk"
        assert keys["ropewalk.target_length"] == 4 * TRAIN_LENGTH
        assert keys["llama.context_length"] == TRAIN_LENGTH, "for programs that do not know the plan"
        assert list(out.parent.iterdir()) == [out]

    def test_a_plain_one_needs_no_plan(self, ropewalk: CommandLine, plain: Path, out: Path) -> None:
        outcome = ropewalk("convert", plain, "-o", out)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert "none: llama.cpp's own keys say" in outcome.stdout
        assert f"{TRAIN_LENGTH} tokens" in outcome.stdout
        assert "ropewalk.schema" not in keys_of(out)
        assert set(types_of(out).values()) == {"F16", "F32"}

    def test_without_its_method(self, ropewalk: CommandLine, dynamic: Path, out: Path) -> None:
        outcome = ropewalk("convert", dynamic, out, "--method", "none", "--json")
        told = json.loads(outcome.stdout)
        assert (outcome.exit_code, told["plan"], told["context_length"]) == (0, None, TRAIN_LENGTH)
        assert "ropewalk.schema" not in keys_of(out)

    def test_another_method(self, ropewalk: CommandLine, plain: Path, out: Path) -> None:
        outcome = ropewalk(
            *("convert", plain, out, "--method", "extra-mpe", "--target-length", "1000"),
            *("--train-length", "200", "--json"),
        )
        assert outcome.exit_code == 0, outcome
        told = json.loads(outcome.stdout)
        assert told["notes"], "that it wants a fine-tuned model"
        keys = keys_of(out)
        assert keys["ropewalk.position.kind"] == "mirrored"
        assert keys["ropewalk.position.period"] == 400
        assert keys["ropewalk.position.first_pair"] == 3, "2 ceil(8 log_10000(200 / 2 pi)) / 2 - 1"
        assert (told["context_length"], keys["ropewalk.target_length"]) == (1000, 1000)

    def test_a_native_plan_is_said_in_llama_cpps_words(
        self, ropewalk: CommandLine, plain: Path, out: Path
    ) -> None:
        outcome = ropewalk("convert", plain, out, "--method", "yarn", "--target-length", "1024", "--json")
        assert json.loads(outcome.stdout)["plan"]["native"] is True
        keys = keys_of(out)
        assert keys["llama.rope.scaling.type"] == "yarn"
        assert keys["llama.rope.scaling.factor"] == 4.0
        assert keys["llama.rope.scaling.original_context_length"] == TRAIN_LENGTH
        assert keys["llama.context_length"] == 1024


class TestQuantized:
    def test_in_one_command_with_its_plan(self, ropewalk: CommandLine, dynamic: Path, out: Path) -> None:
        outcome = ropewalk(
            *("convert", dynamic, out, "--quantize", "q4_0", "--keep-output-tensor", "--threads", "1"),
            *("--token-embedding-type", "q8_0", "--tensor-type", "ffn_down=Q5_0", "--check", "--json"),
        )
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        told = json.loads(outcome.stdout)
        assert outcome.stdout.startswith("{\n") and outcome.stdout.endswith("\n}\n"), "nothing else"
        assert told["target"] == str(out)
        assert told["bytes"] == out.stat().st_size
        assert told["architecture"] == "llama"
        assert (told["plan"]["method"], told["context_length"]) == ("dynamic-ntk", 1024)
        types = types_of(out)
        assert types["output.weight"] == "F32", "as the checkpoint has it"
        assert types["token_embd.weight"] == "Q8_0"
        assert types["blk.1.ffn_down.weight"] == "Q5_0"
        assert types["blk.0.attn_q.weight"] == types["blk.1.ffn_up.weight"] == "Q4_0"
        assert list(out.parent.iterdir()) == [out]

    def test_what_the_quantizer_remarks_is_told(self, ropewalk: CommandLine, plain: Path, out: Path) -> None:
        """Rows of 64 numbers fill no blocks of 256."""
        outcome = ropewalk("convert", plain, out, "--quantize", "Q4_K_M", "--threads", "1")
        assert outcome.exit_code == 0
        assert "warning" in outcome.stdout and "blocks of 256" in outcome.stdout

    @pytest.mark.parametrize(("wanted", "types"), [("bf16", {"BF16", "F32"}), ("F32", {"F32"})])
    def test_types_that_are_no_quantization(
        self, ropewalk: CommandLine, plain: Path, out: Path, wanted: str, types: set[str]
    ) -> None:
        outcome = ropewalk("convert", plain, out, "--quantize", wanted)
        assert outcome.exit_code == 0, outcome
        assert set(types_of(out).values()) == types


class TestTheTarget:
    def test_one_that_exists_stays_without_force(
        self, ropewalk: CommandLine, plain: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out.write_bytes(b"precious")
        monkeypatch.delenv("ROPEWALK_TESTS_CONVERTER")  # nothing can be converted
        outcome = ropewalk("convert", plain, out)
        assert outcome.exit_code == 2
        assert outcome.sentence == f"{out} exists already; give another name, or --force to replace it."
        assert out.read_bytes() == b"precious"
        assert list(out.parent.iterdir()) == [out]

    def test_one_that_exists_is_replaced_with_force(
        self, ropewalk: CommandLine, plain: Path, out: Path
    ) -> None:
        out.write_bytes(b"precious")
        assert ropewalk("convert", plain, out, "--force").exit_code == 0
        assert keys_of(out)["general.architecture"] == "llama"
        assert list(out.parent.iterdir()) == [out]

    @pytest.mark.parametrize("name", ["missing/out.gguf", "Plain"])
    def test_where_no_file_can_be_made(self, ropewalk: CommandLine, plain: Path, name: str) -> None:
        target = plain.parent / name
        outcome = ropewalk("convert", plain, target, "--force")
        assert outcome.exit_code == 2
        assert str(target) in outcome.sentence

    def test_a_file_of_the_checkpoint_is_none(
        self, ropewalk: CommandLine, plain: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ROPEWALK_TESTS_CONVERTER")  # nothing can be converted
        cached = out.with_name("cached")  # as the hub's cache keeps them
        cached.mkdir()
        for path in plain.iterdir():
            (cached / path.name).symlink_to(path)
        link = out.with_name("link.gguf")
        link.symlink_to(plain / "config.json")
        before = {path: path.read_bytes() for path in plain.iterdir()}
        for folder in (plain, cached):
            for target in (*before, link):
                outcome = ropewalk("convert", folder, target, "--force")
                assert outcome.exit_code == 2
                assert outcome.sentence == (
                    f"{target} is a file of the checkpoint itself; give the new file another name."
                )
        assert {path: path.read_bytes() for path in plain.iterdir()} == before

    def test_a_gguf_file_beside_the_checkpoint_is_one(
        self, ropewalk: CommandLine, plain: Path, out: Path
    ) -> None:
        for path in plain.iterdir():
            (out.parent / path.name).symlink_to(path)
        out.write_bytes(b"made before")
        assert ropewalk("convert", out.parent, out, "--force").exit_code == 0
        assert keys_of(out)["general.architecture"] == "llama"


class TestTheCard:
    def test_inspect_says_what_it_was_made_from(
        self, ropewalk: CommandLine, dynamic: Path, out: Path
    ) -> None:
        assert ropewalk("convert", dynamic, out).exit_code == 0
        text = ropewalk("inspect", out).stdout
        assert "from Dynamic" in text and "`ropewalk convert`" in text and "dynamic-ntk" in text
        told = json.loads(ropewalk("inspect", out, "--json").stdout)
        assert told["plan"]["method"] == "dynamic-ntk"

    def test_it_cannot_be_unbaked(self, ropewalk: CommandLine, dynamic: Path, out: Path) -> None:
        """Its GGUF file without the plan was only a temporary one."""
        assert ropewalk("convert", dynamic, out).exit_code == 0
        outcome = ropewalk("unbake", out, out.with_name("back.gguf"))
        assert outcome.exit_code == 3
        assert "convert" in outcome.sentence
        assert list(out.parent.iterdir()) == [out]


class TestFromTheHub:
    @pytest.fixture
    def hub(self, dynamic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
        with running_hub() as stand_in:
            files = {path.name: path.read_bytes() for path in dynamic.iterdir()}
            stand_in.repos[REPO] = StandInRepo(files, in_git=[name for name in files if ".json" in name])
            point_at(stand_in, monkeypatch, tmp_path / "home")
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
            yield stand_in

    @pytest.mark.parametrize("revision", [(), ("--revision", "v1")])
    def test_a_repository(
        self, hub: HubStandIn, ropewalk: CommandLine, out: Path, revision: tuple[str, ...]
    ) -> None:
        outcome = ropewalk("convert", REPO, out, *revision, "--json")
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        told = json.loads(outcome.stdout)
        assert (told["source"], told["revision"]) == (REPO, COMMIT)
        assert told["plan"]["method"] == "dynamic-ntk"
        keys = keys_of(out)
        assert keys["general.name"] == "Tiny-Model", "not the commit, which the cache calls the folder by"
        assert keys["general.base_model.count"] == 1
        assert keys["general.base_model.0.name"] == "Tiny-Model"
        assert keys["general.base_model.0.organization"] == "somebody"
        assert keys["general.base_model.0.repo_url"].endswith(f"/{REPO}")
        assert (keys["ropewalk.base_model"], keys["ropewalk.base_model_revision"]) == (REPO, COMMIT)
        inspected = ropewalk("inspect", out).stdout
        assert REPO in inspected and COMMIT[:7] in inspected

    def test_what_its_name_says_is_said_of_it(
        self, hub: HubStandIn, ropewalk: CommandLine, dynamic: Path, out: Path
    ) -> None:
        """By upstream, of a folder of that name; not of the commit, which the cache's is named after."""
        folder = out.with_name("Llama-3-8B-Instruct")
        folder.symlink_to(dynamic)
        assert ropewalk("convert", folder, out).exit_code == 0
        expected = keys_of(out)
        assert (expected["general.basename"], expected["general.finetune"]) == ("Llama-3", "8b-Instruct")
        hub.repos["meta/Llama-3-8B-Instruct"] = hub.repos[REPO]
        assert ropewalk("convert", "meta/Llama-3-8B-Instruct", out, "--force").exit_code == 0
        keys = keys_of(out)
        for name in ("basename", "finetune", "version", "size_label"):
            assert keys.get(f"general.{name}") == expected.get(f"general.{name}")
        assert keys["general.name"] == folder.name

    def test_the_base_model_that_a_repository_names_itself_stays(
        self, hub: HubStandIn, ropewalk: CommandLine, out: Path
    ) -> None:
        readme = b"---\nlicense: mit\nbase_model: elder/Model\n---\n"
        files = {**hub.repos[REPO].files, "README.md": readme}
        hub.repos[REPO] = StandInRepo(files, in_git=[*files])
        assert ropewalk("convert", REPO, out).exit_code == 0
        keys = keys_of(out)
        assert keys["general.base_model.count"] == 1
        assert keys["general.base_model.0.organization"] == "Elder"
        assert keys["general.license"] == "mit"
        assert keys["ropewalk.base_model"] == REPO

    def test_the_second_time_nothing_is_fetched(
        self, hub: HubStandIn, ropewalk: CommandLine, out: Path
    ) -> None:
        assert ropewalk("convert", REPO, out).exit_code == 0
        first = out.read_bytes()
        hub.asked.clear()
        assert ropewalk("convert", REPO, out, "--force").exit_code == 0
        assert hub.ranges == []
        assert out.read_bytes() == first

    def test_what_is_wrong_with_it_is_told_of_the_repository(
        self, hub: HubStandIn, ropewalk: CommandLine, out: Path
    ) -> None:
        """Not of a folder in the cache, whether its weights are there or not."""
        whole = hub.repos[REPO].files
        config = {**json.loads(whole["config.json"]), "architectures": ["NobodyForCausalLM"]}
        for name, content, words in (
            ("config.json", json.dumps(config).encode(), "NobodyForCausalLM"),
            ("model.safetensors", whole["model.safetensors"][:-100], "model.safetensors"),
            ("tokenizer.model", b"\x0a\xff\x01nonsense", f"the tokenizer.model of {REPO} is damaged"),
        ):
            hub.repos[REPO] = StandInRepo({**whole, name: content}, in_git=[*whole])
            outcome = ropewalk("convert", REPO, out, "--revision", COMMIT)
            assert outcome.exit_code == 3, outcome
            assert words in outcome.sentence and REPO in outcome.sentence
            assert "snapshots" not in outcome.sentence
            shutil.rmtree(constants.HF_HUB_CACHE)

    def test_a_folder_that_is_not_there(
        self, hub: HubStandIn, ropewalk: CommandLine, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(out.parent)
        Path("models").mkdir()
        outcome = ropewalk("convert", "models/lama", out)
        assert outcome.exit_code == 1
        assert "there is no repository models/lama" in outcome.sentence
        assert outcome.sentence.endswith("(and models, a folder here, has no lama in it).")

    def test_an_unknown_revision(self, hub: HubStandIn, ropewalk: CommandLine, out: Path) -> None:
        outcome = ropewalk("convert", REPO, out, "--revision", "v2")
        assert outcome.exit_code == 1
        assert REPO in outcome.sentence and "v2" in outcome.sentence
        assert list(out.parent.iterdir()) == []

    def test_a_folder_of_that_name_comes_first(
        self, hub: HubStandIn, ropewalk: CommandLine, plain: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(out.parent)
        Path("somebody").mkdir()
        Path(REPO).symlink_to(plain)
        told = json.loads(ropewalk("convert", REPO, out, "--json").stdout)
        assert told["plan"] is None
        assert hub.asked == []


class TestWhatIsNoSource:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("model.gguf", "model.gguf is a file and no checkpoint's folder; `ropewalk bake` extends GGUF"),
            ("model.safetensors", "is a file and no checkpoint's folder; name its folder"),
            ("nothing", "nothing is no folder here, and no repository's OWNER/NAME either; check the name"),
            ("./some/where", "is no folder here, and no repository's OWNER/NAME either"),
            ("https://hub.invalid/Owner/Name/tree/main", "either; give the repository's name, Owner/Name"),
        ],
    )
    def test_is_told(
        self, ropewalk: CommandLine, out: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
    ) -> None:
        monkeypatch.chdir(out.parent)
        for file in ("model.gguf", "model.safetensors"):
            Path(file).write_bytes(b"GGUF")
        outcome = ropewalk("convert", name, out)
        assert (outcome.exit_code, outcome.stdout) == (3, "")
        assert words in outcome.sentence
        assert not out.exists()


def test_a_terminal_is_told_nothing_but_text(ropewalk: CommandLine, tmp_path: Path, out: Path) -> None:
    folder = write_folder(tmp_path / "evil", {"architectures": ["\x1b]0;owned\x07\x1b[31mLlama"]})
    outcome = ropewalk("convert", folder, out)
    assert outcome.exit_code == 3
    assert "?]0;owned??[31mLlama" in outcome.sentence
    assert outcome.stderr.removesuffix("\n").isprintable()


class TestWithoutTheConverter:
    """What it makes is there already, and copied."""

    @pytest.fixture(autouse=True)
    def converted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "converted.gguf"
        writer = GGUFWriter(path, "gpt2")
        writer.add_context_length(64)
        writer.add_block_count(1)
        writer.add_embedding_length(32)
        writer.add_head_count(2)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        monkeypatch.setattr(converter, "_CHILD", Path(__file__).with_name("copied_conversion.py"))
        monkeypatch.setenv(CONVERTED, str(path))
        return path

    @pytest.fixture
    def still(self, tmp_path: Path) -> Path:
        config = {"model_type": "gpt2", "n_positions": 64, "n_embd": 8, "n_head": 2}
        return write_folder(tmp_path / "still", {**config, "architectures": ["GPT2LMHeadModel"]})

    @pytest.fixture
    def ropewalk(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
        return CommandLine(monkeypatch, capfd)

    def test_a_model_that_does_not_rotate(self, ropewalk: CommandLine, still: Path, out: Path) -> None:
        outcome = ropewalk("convert", still, out)
        assert outcome.exit_code == 0, outcome
        assert "none: this model does not rotate" in outcome.stdout
        assert "ropewalk chat" not in outcome.stdout, "which cannot run it"

    def test_a_model_that_rotates_and_does_not_say_how_far(
        self, ropewalk: CommandLine, still: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing to keep is not the same as no rotation."""
        plain = write_tiny_model(out.with_name("plain.gguf")).path
        monkeypatch.setenv(CONVERTED, str(plain))
        outcome = ropewalk("convert", still, out)
        assert outcome.exit_code == 0, outcome
        assert "none: llama.cpp's own keys say how this model rotates" in outcome.stdout
        assert "ropewalk chat" in outcome.stdout

    def test_what_vanishes_is_not_called_by_its_hidden_name(
        self, ropewalk: CommandLine, still: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write: Callable[..., object] = vars(huggingface)["write_planned"]

        def vanished(source: Path, *arguments: object, **options: object) -> object:
            source.unlink()
            return write(source, *arguments, **options)

        monkeypatch.setattr(huggingface, "write_planned", vanished)
        outcome = ropewalk("convert", still, out)
        assert outcome.sentence.startswith("what was converted of still ")
        assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing argument 'SOURCE'"),
        (("", "OUT"), "SOURCE is empty; name a checkpoint's folder"),
        (("SOURCE", "OUT", "--target-length", "32k"), "'32k' is not written in digits; write 32768"),
        (("SOURCE", "OUT", "--quantize", "q4"), "'q4'; Q4_K_M is the usual one"),
        (("SOURCE",), "Missing OUT"),
        (("SOURCE", "OUT", "-o", "OUT"), "given twice"),
        (("SOURCE", "-"), "cannot go to stdout"),
        (("SOURCE", "OUT", "--revision", "main"), "--revision is for repositories"),
        (("SOURCE", "OUT", "--method", "none", "--target-length", "512"), "leave --target-length out"),
        (("SOURCE", "OUT", "--method", "KEEP", "--train-length", "128"), "--method keep takes no --train"),
        (("SOURCE", "OUT", "--train-length", "128"), "--method keep takes no --train-length"),
        (("SOURCE", "OUT", "--method-option", "a=1"), "--method keep takes no --method-option"),
        (("SOURCE", "OUT", "--method", "pi", "--method-option", "a"), "'a' is not NAME=VALUE"),
        (("SOURCE", "OUT", "--method", "alchemy"), "alchemy"),
        (("SOURCE", "OUT", "--method", "pi+ntk", "--target-length", "512"), "contradict"),
        (("SOURCE", "OUT", "--target-length", "0"), "--target-length"),
        (("SOURCE", "OUT", "--pure"), "--pure is for the quantizer: name a type with --quantize"),
        (("SOURCE", "OUT", "--threads", "2"), "--threads is for the quantizer"),
        (("SOURCE", "OUT", "--quantize", "Q4_0", "--tensor-type", "ffn"), "'ffn' is not PATTERN=TYPE"),
    ],
)
def test_usage_errors(
    ropewalk: CommandLine, plain: Path, out: Path, arguments: tuple[str, ...], words: str
) -> None:
    names = {"SOURCE": plain, "OUT": out}
    outcome = ropewalk("convert", *(names.get(argument, argument) for argument in arguments))
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert words in outcome.sentence
    assert list(out.parent.iterdir()) == []


@pytest.mark.usefixtures("patched_library")
def test_the_file_runs_as_transformers_runs_the_checkpoint(dynamic: Path, out: Path) -> None:
    """By the command itself, with nothing of the tests in between, and beyond the train length."""
    outcome = run_process("convert", dynamic, out, "--quantize", "F32")
    assert outcome.exit_code == 0, outcome.stderr
    n_tokens = keys_of(out)["ropewalk.rope.schedule_lengths"][4]  # where a step's factors are transformers'
    assert n_tokens > 2 * TRAIN_LENGTH
    tokens = [int(token) for token in np.random.default_rng(5).integers(3, 700, n_tokens)]
    torch, transformers = oracle_module("torch"), oracle_module("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        dynamic, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    )
    with torch.no_grad():
        expected = model.eval()(torch.tensor([tokens]), use_cache=False).logits[0].numpy()

    with loaded(out, n_ctx=n_tokens, mode=Mode(flash_attention=False)) as context:
        context_plan.reserve(context.context, n_tokens)
        logits = context.decode(tokens)
    assert np.abs(logits - expected).max() <= 1e-3


@pytest.mark.usefixtures("patched_library")
def test_it_can_be_asked(ropewalk: CommandLine, dynamic: Path, out: Path) -> None:
    assert ropewalk("convert", dynamic, out, "--quantize", "Q8_0").exit_code == 0
    text = out.with_name("text.txt")
    text.write_text("A rope is made in a ropewalk. " * 3)
    outcome = run_process("ask", out, text, "-q", "What is made there?", "--max-tokens", "4")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout
