"""The tiny trained model through the whole pipeline: convert, bake, passkey; and what it was trained on."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import transformers

from cli_running import run_process
from plain_conversion import converted
from ropewalk.evaluation.passkey_prompt import FILLER, INTRODUCTION, NEEDLE, QUESTION
from ropewalk.evaluation.shipped_text import shipped_text
from tiny_model.novels import NovelsError, read_novels
from tiny_model.texts import KEY_WEIGHT, TrainingTexts
from tiny_model.vocabulary import read_tokenizer

TINY_LLAMA = Path(__file__).parent / "data" / "tiny-llama"
L = 256
DEPTHS = "0,0.25,0.5,0.75,1"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint, converted."""
    return converted(TINY_LLAMA, tmp_path_factory.mktemp("tiny-llama") / "tiny.gguf")


def hits_by_length(model: Path, lengths: str, trials: int) -> Counter[int]:
    """How many of `5 * trials` prompts of each length `ropewalk passkey` gets an answer to."""
    found = model.with_suffix(".json")
    arguments = ("--lengths", lengths, "--depths", DEPTHS, "--trials", str(trials), "--threads", "1")
    outcome = run_process("passkey", model, *arguments, "--json", found, "--force")
    assert outcome.exit_code == 0, outcome.stderr
    results = json.loads(found.read_text(encoding="utf-8"))["results"]
    assert Counter(result["length"] for result in results) == Counter(
        {int(length): 5 * trials for length in lengths.split(",")}
    )
    return Counter(result["length"] for result in results if result["hit"])


@pytest.mark.usefixtures("patched_library")
def test_it_finds_keys_within_its_length_and_a_plan_carries_it_further(gguf: Path, tmp_path: Path) -> None:
    baked = tmp_path / "baked.gguf"
    options = ("--method-option", "threshold=0.3")
    outcome = run_process("bake", gguf, baked, "--method", "dprope", "--target-length", str(4 * L), *options)
    assert outcome.exit_code == 0, outcome.stderr
    plain = hits_by_length(gguf, f"128,{L},{4 * L}", 4)
    assert plain[128] + plain[L] >= 37
    assert plain[4 * L] <= 8
    assert hits_by_length(baked, str(4 * L), 4)[4 * L] >= plain[4 * L] + 4


def test_what_was_evaluated_is_what_is_stored() -> None:
    weights = (TINY_LLAMA / "model.safetensors").read_bytes()
    assert len(weights) < 4_000_000
    evaluation = json.loads((TINY_LLAMA / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["sha256"] == hashlib.sha256(weights).hexdigest()
    steps = [json.loads(line)["step"] for line in (TINY_LLAMA / "loss.jsonl").read_text("utf-8").splitlines()]
    assert steps == sorted(set(steps))


def test_its_tokenizer_has_the_prompts_words_and_digits_one_by_one() -> None:
    tokenizer = read_tokenizer(TINY_LLAMA)
    words = {
        word.strip(".?,")
        for text in (INTRODUCTION, FILLER, NEEDLE.format(key=""), QUESTION)
        for word in text.split()
    }
    assert {word: tokenizer.encode_as_pieces(word) for word in words if word} == {
        word: [f"▁{word}"] for word in words if word
    }
    assert tokenizer.encode_as_pieces("key 10437") == ["▁key", "▁", "1", "0", "4", "3", "7"]


def test_both_forms_of_its_tokenizer_agree() -> None:
    fast = transformers.AutoTokenizer.from_pretrained(TINY_LLAMA, local_files_only=True)
    tokenizer = read_tokenizer(TINY_LLAMA)
    for text in (shipped_text()[:5000], NEEDLE.format(key="12345") + "\n" + QUESTION, "ünïcode\n\n  two"):
        assert fast.encode(text, verbose=False) == [tokenizer.bos_id(), *tokenizer.encode(text)]


class TestTexts:
    NOVEL = re.sub("[0-9]", "", shipped_text()[:100_000])

    @pytest.fixture(scope="class")
    def texts(self) -> TrainingTexts:
        return TrainingTexts(read_tokenizer(TINY_LLAMA), [self.NOVEL], L, seed=3)

    def test_a_step_has_its_batch_whenever_it_is_asked_for(self, texts: TrainingTexts) -> None:
        again = TrainingTexts(read_tokenizer(TINY_LLAMA), [self.NOVEL], L, seed=3)
        one, other = texts.batch(5, 32), again.batch(5, 32)
        assert np.array_equal(one.inputs, other.inputs)
        assert np.array_equal(one.weights, other.weights)
        assert not np.array_equal(one.inputs, texts.batch(6, 32).inputs)
        assert np.array_equal(one.inputs[:, 1:], one.targets[:, :-1])

    def test_a_prompts_answer_counts_most_and_what_cannot_be_known_nothing(
        self, texts: TrainingTexts
    ) -> None:
        """The rows of prompts, read back: the key stands three times, and the last is the answer."""
        tokenizer = read_tokenizer(TINY_LLAMA)
        batch = texts.batch(0, 32)
        prompts = np.flatnonzero((batch.weights == KEY_WEIGHT).any(axis=1))
        assert len(prompts) == 20
        for row in prompts:
            pieces = [tokenizer.id_to_piece(int(token)) for token in batch.targets[row]]
            digits = [place for place, piece in enumerate(pieces) if piece.isdigit()][-15:]
            keys = ["".join(pieces[place] for place in digits[first : first + 5]) for first in (0, 5, 10)]
            assert len(set(keys)) == 1
            weights = batch.weights[row, digits]
            assert weights.tolist() == [0.0] * 5 + [KEY_WEIGHT / 2] * 5 + [KEY_WEIGHT] * 5
            text = tokenizer.decode([int(token) for token in batch.targets[row]])
            assert text.startswith(INTRODUCTION)
            assert text.rstrip().endswith(f"{QUESTION} {keys[0]}.")


class TestNovels:
    @staticmethod
    def vector(lines: list[str]) -> bytes:
        """A vector of lines as R serializes it (R internals, section 1.8), and as its databases keep it."""
        made = b"X\n" + struct.pack(">iii", 3, 0x40201, 0x30500) + struct.pack(">i", 5) + b"UTF-8"
        made += struct.pack(">ii", 16, len(lines))
        for line in lines:
            made += struct.pack(">ii", 0x40009, len(line.encode())) + line.encode()
        return struct.pack(">i", len(made)) + zlib.compress(made)

    def test_paragraphs_are_lines(self, tmp_path: Path) -> None:
        file = tmp_path / "Rdata.rdb"
        novels = [["A", "novel", "", "", "of two."], ["2"], ["3"], ["Persuasion"], ["5"], ["", "Zoë", ""]]
        file.write_bytes(b"".join(self.vector(novel) for novel in novels))
        assert read_novels(file) == ["A novel\nof two.", "2", "3", "Persuasion", "5", "Zoë"]

    @pytest.mark.parametrize(
        "content", [b"", b"no database at all", struct.pack(">i", 3) + zlib.compress(b"X\n!")]
    )
    def test_another_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "Rdata.rdb"
        file.write_bytes(content)
        with pytest.raises(NovelsError, match=r"Rdata\.rdb is not the data file of r-cran-janeaustenr"):
            read_novels(file)

    def test_a_missing_file_names_the_package(self, tmp_path: Path) -> None:
        with pytest.raises(NovelsError, match="install Debian's package r-cran-janeaustenr"):
            read_novels(tmp_path / "Rdata.rdb")
