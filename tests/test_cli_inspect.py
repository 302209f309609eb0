"""`ropewalk inspect`: memory against sums by hand, and what files say of themselves and of their making."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as capi
import pytest
from gguf import GGUFWriter
from hypothesis import given
from hypothesis import strategies as st

from cli_running import Outcome, run_process
from gguf_files import write_rope_keys
from ropewalk.backend import kv_sizes_child, library
from ropewalk.backend.context_params import ContextParams
from ropewalk.backend.estimates import cache_bytes
from ropewalk.backend.model import Model
from ropewalk.cli import kv_sizes
from ropewalk.cli.kv_sizes import KV_TYPES, table_lengths
from ropewalk.cli.run import run
from ropewalk.wording.files import file_type_name
from ropewalk_plan import GgufHeader
from split_models import write_split_model
from tiny_models import PIECES, TinyModel, add_hyperparameters, write_gguf_of, write_tiny_model
from tiny_other_memories import write_tiny_lfm2

Ropewalk = Callable[..., Outcome]

N_LAYER, N_KV_HEADS, HEAD = 3, 2, 32
BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
MICRO_BATCH, CELLS = 512, 256

_ENDS = ("token_embd", "output")
_F32, _F16 = 0, 1  # ggml's numbers

pytestmark = pytest.mark.usefixtures("patched_library")


@pytest.fixture
def ropewalk(capfd: pytest.CaptureFixture[str]) -> Ropewalk:
    """`ropewalk ARGUMENTS` in this process."""

    def command(*arguments: str | Path) -> Outcome:
        exit_code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(exit_code, captured.out, captured.err)

    return command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of whole blocks of 32 numbers, so that every cache type takes them."""
    path = tmp_path_factory.mktemp("inspect") / "model.gguf"
    write_tiny_model(
        path,
        n_layer=N_LAYER,
        n_embd=128,
        n_head=4,
        n_head_kv=N_KV_HEADS,
        head_dim=HEAD,
        train_length=1024,
    )
    return path


def inspected(ropewalk: Ropewalk, path: Path) -> dict[str, Any]:
    """What `--json` says; nothing else is printed."""
    outcome = ropewalk("inspect", path, "--json")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    said = json.loads(outcome.stdout)
    assert isinstance(said, dict)
    return said


def padded(tokens: int) -> int:
    """Cells that the library makes for so many tokens."""
    return -(-tokens // CELLS) * CELLS


def by_hand(length: int, kv_type: str, windows: Sequence[int] = (0,) * N_LAYER, sinks: int = 0) -> float:
    """Bytes of keys and values, layer by layer; a windowed layer has room for a micro-batch besides."""
    cells = [min(padded(length), padded(w + sinks + MICRO_BATCH)) if w else padded(length) for w in windows]
    return sum(cells) * 2 * N_KV_HEADS * HEAD * BYTES[kv_type]


class TestMemory:
    def test_a_plain_model(self, ropewalk: Ropewalk, model: Path) -> None:
        memory = inspected(ropewalk, model)["memory"]
        assert [row["length"] for row in memory["kv_cache"]] == [256, 512, 1024]
        for row in memory["kv_cache"]:
            assert {t: row[t] for t in KV_TYPES} == {t: by_hand(row["length"], t) for t in KV_TYPES}
            assert row["without_windows"] is None
        head_and_norm, per_layer = (
            2 * len(PIECES) * 128 + 128,
            2 * 128 * 128 + 2 * 64 * 128 + 3 * 96 * 128 + 256,
        )
        assert memory["weights"] == 4 * (head_and_norm + N_LAYER * per_layer)

    def test_windows(self, ropewalk: Ropewalk, model: Path, tmp_path: Path) -> None:
        target = tmp_path / "windowed.gguf"
        options = ("--method-option", "windows=100/0/700", "--method-option", "sinks=4")
        ropewalk("bake", model, target, "--method", "windows", "--target-length", "5000", *options)
        rows = inspected(ropewalk, target)["memory"]["kv_cache"]
        assert [row["length"] for row in rows] == [256, 512, 1024, 2048, 4096, 5000]
        for row in rows:
            for kv_type in KV_TYPES:
                length = row["length"]
                assert row[kv_type] == by_hand(length, kv_type, windows=(100, 0, 700), sinks=4), row
                assert row["without_windows"][kv_type] == by_hand(length, kv_type), row
        assert rows[-1]["f16"] < rows[-1]["without_windows"]["f16"]

    def test_a_stream_needs_no_more_however_long(
        self, ropewalk: Ropewalk, model: Path, tmp_path: Path
    ) -> None:
        target = tmp_path / "stream.gguf"
        options = ("--method-option", "window=200", "--method-option", "sinks=4")
        outcome = ropewalk(
            "bake", model, target, "--method", "streaming", "--target-length", "65536", *options
        )
        assert outcome.exit_code == 0, outcome.stderr
        rows = inspected(ropewalk, target)["memory"]["kv_cache"]
        assert rows[-1]["length"] == 65536
        assert {row["f16"] for row in rows if row["length"] >= 1024} == {
            by_hand(65536, "f16", windows=(200,) * N_LAYER, sinks=4)
        }

    def test_types_that_heads_do_not_fill(self, ropewalk: Ropewalk, tiny_llama: Path) -> None:
        """Heads of 16 numbers: the library refuses such a context, and so no size is told."""
        (row,) = inspected(ropewalk, tiny_llama)["memory"]["kv_cache"]
        assert (row["length"], row["q8_0"], row["q4_0"]) == (64, None, None)
        assert row["f16"] == 2 * 256 * 2 * 2 * 16 * 2
        (line,) = (x for x in ropewalk("inspect", tiny_llama).stdout.splitlines() if "(train length)" in x)
        assert line.split()[-4:] == ["65.5", "kB", "-", "-"]

    def test_a_large_model_is_not_read(self, ropewalk: Ropewalk, tmp_path: Path) -> None:
        """Llama-2-7B's shape, with a hole where 13 GB of weights would be."""
        path = tmp_path / "large.gguf"
        _write_hole(path)
        memory = inspected(ropewalk, path)["memory"]
        assert memory["weights"] > 12.9e9
        assert path.stat().st_blocks * 512 < 1e6
        row = memory["kv_cache"][-1]
        assert (row["length"], row["f16"]) == (4096, 32 * 2 * 4096 * 4096 * 2), "2 GiB, as is well known"

    @pytest.mark.real_model
    def test_the_real_model(self, ropewalk: Ropewalk, real_model: Path) -> None:
        """SmolLM2-135M: 30 layers, 3 heads of 64 numbers for keys and values."""
        said = inspected(ropewalk, real_model)
        for row in said["memory"]["kv_cache"]:
            assert row["f16"] == 30 * 2 * 3 * 64 * 2 * row["length"]
            assert row["q8_0"] == 30 * 2 * 6 * 34 * row["length"]
        assert said["memory"]["kv_cache"][-1]["length"] == 8192
        assert 0.95 * real_model.stat().st_size < said["memory"]["weights"] < real_model.stat().st_size
        assert (said["general"]["file_type_name"], said["general"]["license"]) == ("Q4_1", "apache-2.0")

    def test_without_weights_the_library_says_the_same(self, model: Path) -> None:
        sizes = []
        for without_weights in (False, True):
            loaded = Model.load(model, gpu_layers=0, without_weights=without_weights)
            sizes.append(
                [cache_bytes(loaded, ContextParams(n_ctx=n, kv_type="q8_0")) for n in (1, 300, 9999)]
            )
            loaded.close()
        assert sizes[0] == sizes[1] == [by_hand(n, "q8_0") for n in (1, 300, 9999)]


class TestNoTable:
    """The file is described all the same."""

    def sentence(self, ropewalk: Ropewalk, path: Path) -> str:
        outcome = ropewalk("inspect", path)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert "train length)" not in outcome.stdout
        assert "RoPE" in outcome.stdout
        memory = inspected(ropewalk, path)["memory"]
        assert memory["kv_cache"] is None
        assert memory["reason"] in outcome.stdout
        return str(memory["reason"])

    def test_hybrid(self, ropewalk: Ropewalk, tmp_path: Path) -> None:
        said = self.sentence(ropewalk, write_tiny_lfm2(tmp_path / "hybrid.gguf"))
        assert "the memory of a lfm2 model is not made of keys and values alone" in said

    def test_a_model_that_the_library_does_not_load(self, ropewalk: Ropewalk, tmp_path: Path) -> None:
        assert "cannot be loaded" in self.sentence(ropewalk, write_rope_keys(tmp_path / "keys.gguf"))

    def test_a_library_that_ends_its_process(
        self, ropewalk: Ropewalk, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = tmp_path / "ends.py"
        script.write_text(
            "import os, sys\n\n\ndef main(request, report):\n"
            "    sys.stderr.write('GGML_ASSERT failed\\n')\n    sys.stderr.flush()\n    os.abort()\n"
        )
        monkeypatch.setattr(kv_sizes, "_CHILD", script)
        assert "its process was killed by SIGABRT (GGML_ASSERT failed)" in self.sentence(ropewalk, model)

    def test_a_stock_library(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "_patch", lambda: ("", 0, ()))
        said: list[dict[str, Any]] = []
        request = kv_sizes_child.KvRequest(path=str(model), lengths=[64], kv_types=["f16"], windows=False)
        kv_sizes_child.main(request, said.append)
        (message,) = said
        assert "needs the patched llama.cpp, and a stock build is loaded" in message["reason"]


class TestOrigin:
    def test_what_was_baked(self, ropewalk: Ropewalk, model: Path, tmp_path: Path) -> None:
        target = tmp_path / "long.gguf"
        ropewalk("bake", model, target, "--method", "yarn+logn", "--target-length", "4096")
        said = inspected(ropewalk, target)
        assert (said["card"]["made_by"], said["card"]["base_model"]) == ("bake", "model.gguf")
        assert said["card"]["version"]
        text = ropewalk("inspect", target).stdout
        assert "`ropewalk bake`, version " in text
        assert "from model.gguf" in text
        for words in ("tokens ", "1,024 (train length)", "4,096 (target length)", "f16", "of weights"):
            assert words in text
        assert "without windows" not in text

    def test_a_plain_file_has_no_card(self, ropewalk: Ropewalk, model: Path) -> None:
        assert inspected(ropewalk, model)["card"] is None

    def test_general_keys(self, ropewalk: Ropewalk, tmp_path: Path) -> None:
        def keys(writer: GGUFWriter) -> None:
            writer.add_organization("Rope Makers")
            writer.add_license("mit")
            writer.add_size_label("70K")
            writer.add_description("Two lines\nand \x1b[31m a colour. " + "Long. " * 200)
            writer.add_quantization_version(2)
            writer.add_base_model_count(1)
            writer.add_base_model_name(0, "Base")
            writer.add_base_model_organization(0, "Their Makers")

        path = write_tiny_model(tmp_path / "model.gguf", extra_keys=keys).path
        text = ropewalk("inspect", path).stdout
        for words in ("tiny random model", "Rope Makers", "mit", "70K", "F32, quantization version 2"):
            assert words in text
        assert "Their Makers / Base" in text
        assert "Two lines and" in text and "\x1b" not in text and "..." in text
        general = inspected(ropewalk, path)["general"]
        assert general["base_models"] == [{"name": "Base", "organization": "Their Makers", "repo_url": None}]
        assert general["description"].startswith("Two lines\n"), "as it is"

    def test_file_types_are_named_as_the_library_names_them(self) -> None:
        names = [n for n in dir(capi) if n.startswith("LLAMA_FTYPE_") and n != "LLAMA_FTYPE_GUESSED"]
        assert len(names) > 30
        known = 0
        for name in names:
            plain = name.removeprefix("LLAMA_FTYPE_").removeprefix("ALL_").removeprefix("MOSTLY_")
            said = file_type_name(int(getattr(capi, name)))
            assert said in (plain, f"type {getattr(capi, name)}"), name
            known += said == plain
        assert known > 25
        assert file_type_name(capi.LLAMA_FTYPE_MOSTLY_Q8_0 + capi.LLAMA_FTYPE_GUESSED) == "Q8_0"
        assert file_type_name(999) == "type 999"


def test_a_split_model(ropewalk: Ropewalk, tmp_path: Path) -> None:
    model = write_split_model(tmp_path)
    assert len(model.parts) > 1
    said, alone = inspected(ropewalk, model.parts[0]), inspected(ropewalk, model.whole)
    assert said["files"] == [str(path) for path in model.parts]
    assert said["memory"] == alone["memory"]
    assert f"in {len(model.parts)} parts" in ropewalk("inspect", model.parts[0]).stdout


@pytest.mark.parametrize("name", ["mödel 模型.gguf", "$(x) 'q'.gguf"])
def test_odd_names_as_a_process_of_its_own(model: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    shutil.copyfile(model, path)
    outcome = run_process("inspect", path)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert name in outcome.stdout and "(train length)" in outcome.stdout


@given(st.integers(1, 2**31), st.integers(0, 2**31))
def test_the_lengths_of_a_table(train_length: int, more: int) -> None:
    target_length = train_length + more
    lengths = table_lengths(train_length, target_length)
    assert list(lengths) == sorted(set(lengths))
    assert len(lengths) <= 8
    assert {n for n in (train_length, target_length) if n <= 2**30} <= set(lengths)
    others = set(lengths) - {train_length, target_length}
    assert all(n.bit_count() == 1 and 256 <= n <= target_length for n in others)


def test_lengths_that_people_ask_for() -> None:
    assert table_lengths(8192, 8192) == (512, 1024, 2048, 4096, 8192)
    assert table_lengths(4096, 16384) == (1024, 2048, 4096, 8192, 16384)
    assert table_lengths(131072, 131072) == (4096, 8192, 16384, 32768, 65536, 131072)
    assert table_lengths(32768, 2**20) == (4096, 16384, 32768, 65536, 2**18, 2**20)


def _write_hole(path: Path) -> None:
    """A GGUF file of 13 GB that takes no room on the disk: tensors whose data were never written."""
    n_embd, n_ff, n_layer = 4096, 11008, 32
    shape = TinyModel(
        *(path, "llama", n_layer, n_embd, 32, 32, n_embd // 32, n_ff, 4096),
        *(10000.0, n_embd // 32, 1e-5, {}, PIECES),
    )
    write_gguf_of("llama", path, {}, lambda writer: add_hyperparameters(writer, shape))
    square, up, down, norm = (n_embd, n_embd), (n_embd, n_ff), (n_ff, n_embd), (n_embd,)
    block = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square)
    tensors: dict[str, tuple[int, ...]] = {f"{name}.weight": (n_embd, len(PIECES)) for name in _ENDS}
    tensors["output_norm.weight"] = norm
    for layer in range(n_layer):
        named = {**block, "ffn_gate": up, "ffn_up": up, "ffn_down": down, "attn_norm": norm, "ffn_norm": norm}
        tensors |= {f"blk.{layer}.{name}.weight": dims for name, dims in named.items()}
    table, at = b"", 0
    for name, dims in tensors.items():
        half = len(dims) > 1
        table += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(dims))
        table += struct.pack(f"<{len(dims)}QIQ", *dims, _F16 if half else _F32, at)
        at += math.prod(dims) * (2 if half else 4)
    keys = path.read_bytes()[: max(span.end for span in GgufHeader.read(path).keys.values())]
    head = bytearray(keys)
    struct.pack_into("<Q", head, 8, len(tensors))
    content = bytes(head) + table
    path.write_bytes(content)
    os.truncate(path, -(-len(content) // 32) * 32 + at)
