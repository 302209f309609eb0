"""Fine-tuning under a plan: torch computes what the patched library does, learns, and is converted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import finetune
from cli_running import CommandLine
from finetuning.long_texts import LongTexts
from finetuning.planned_model import apply_plan, reserve
from library_logits import Float32
from plain_conversion import converted
from ropewalk_convert.quantization import Quantization
from ropewalk_plan import ContextPlan, make_plan, rope_spec_from_checkpoint
from shared_converter import share_converter
from tiny_checkpoints import write_checkpoint
from tiny_model.training import Schedule, train
from windowed_contexts import opened, with_plan

pytestmark = pytest.mark.usefixtures("patched_library")

L, TARGET = 64, 256
TOKENS = [1, *(int(token) for token in np.random.default_rng(5).integers(3, 700, TARGET - 1))]
BOUND = 1e-3
"""Of two programs that add in another order, in logits of a few units."""

METHODS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "pi": {},
    "ntk": {},
    "yarn": {},
    "dprope": {"threshold": "0.05"},
    "extra-pe": {},
    "extra-mpe": {},
    "dynamic-ntk": {"factor": "2"},
    "logn": {},
    "windows": {"windows": "40", "sinks": "3"},
    "yarn+logn": {},
    "dynamic-ntk+logn+windows": {"windows": "40"},
    "yarn+windows": {"windows": "40/0/40/0", "rope_layers": "full"},
}
TEXT = "It was a bright cold day, and the clocks of the town were striking one after the other. " * 60


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random checkpoint of four layers and L tokens, and the GGUF file made of it."""
    folder = tmp_path_factory.mktemp("finetune")
    config = {"num_hidden_layers": 4, "max_position_embeddings": L}
    checkpoint = write_checkpoint(folder / "checkpoint", request.param, config=config)
    return checkpoint, converted(checkpoint, folder / "plain.gguf", Quantization("F32"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 256 tokens."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "random", "llama")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "natural.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def _plan(checkpoint: Path, method: str, options: Mapping[str, str], target: int = TARGET) -> ContextPlan:
    return make_plan(rope_spec_from_checkpoint(checkpoint), method, target, options=options)


def _in_torch(checkpoint: Path, plan: ContextPlan | None) -> Float32:
    model = finetune.load_model(checkpoint)
    apply_plan(model, plan, rope_spec_from_checkpoint(checkpoint))
    with torch.no_grad():
        logits: Float32 = model(torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()
    return logits


def _in_the_library(gguf: Path, plan: ContextPlan | None) -> Float32:
    with opened(gguf, TARGET, prepare=with_plan(plan)) as context:
        return context.decode(TOKENS)


@pytest.mark.parametrize("method", METHODS)
def test_torch_computes_what_the_library_does(pair: tuple[Path, Path], method: str) -> None:
    """All logits of one pass over four times L; a schedule is at its last step in both."""
    checkpoint, gguf = pair
    plan = _plan(checkpoint, method, METHODS[method])
    in_torch = _in_torch(checkpoint, plan)
    assert float(np.abs(in_torch - _in_the_library(gguf, plan)).max()) < BOUND
    if method != "none":
        assert float(np.abs(in_torch - _in_the_library(gguf, None)).max()) > 100 * BOUND


def test_a_reserved_length_decides_the_step(checkpoint: Path) -> None:
    """Short texts are turned as the longest the sequence will be, once that is said."""
    spec = rope_spec_from_checkpoint(checkpoint)
    plan = make_plan(spec, "dynamic-ntk", 4 * spec.train_length)
    model = finetune.load_model(checkpoint)
    tokens = torch.tensor([TOKENS[:100]])
    with torch.no_grad():
        plain = model(tokens, use_cache=False).logits
        apply_plan(model, plan, spec)
        short = model(tokens, use_cache=False).logits
        reserve(model, 4 * spec.train_length)
        long = model(tokens, use_cache=False).logits
        apply_plan(model, None, spec)
        taken_off = model(tokens, use_cache=False).logits
    assert torch.equal(plain, short)
    assert float((plain - long).abs().max()) > 0.1
    assert torch.equal(plain, taken_off)


def test_training_lowers_the_loss_and_goes_on_where_it_stopped(checkpoint: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    texts = LongTexts(tokenizer, TEXT, 384, seed=1)
    spec = rope_spec_from_checkpoint(checkpoint)

    def trained(state: Path, *stops: int) -> transformers.PreTrainedModel:
        for steps in stops:
            model = finetune.load_model(checkpoint)
            apply_plan(model, make_plan(spec, "extra-pe", 384), spec)
            schedule = Schedule(steps, batch_size=2, learning_rate=1e-3, warm_up=1, end_share=1.0)
            train(model, texts, schedule, state=state, log=state.with_suffix(".log"), log_every=1)
        return model

    whole, halves = trained(tmp_path / "whole", 12), trained(tmp_path / "halves", 5, 12)
    weights = dict(halves.named_parameters())
    assert all(torch.equal(weight, weights[name]) for name, weight in whole.named_parameters())
    lines = [json.loads(line) for line in (tmp_path / "whole.log").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["natural"] < lines[0]["natural"] - 1  # a text of one sentence is soon learned


def test_what_is_saved_is_converted_with_the_method(
    checkpoint: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """End to end: other weights, the config as it was, and the plan that it was trained under."""
    share_converter(monkeypatch)
    out = tmp_path / "tuned"
    arguments = f"{checkpoint} --method extra-pe --target-length 512 --text {text} --out {out} --steps 2"
    assert finetune.main([*arguments.split(), "--batch-size", "2", "--threads", "1"]) == 0
    capfd.readouterr()
    assert (out / "config.json").read_bytes() == (checkpoint / "config.json").read_bytes()
    before, after = load_file(checkpoint / "model.safetensors"), load_file(out / "model.safetensors")
    assert {name: weight.dtype for name, weight in before.items()} == {n: w.dtype for n, w in after.items()}
    assert all(not torch.equal(before[name], after[name]) for name in before)
    note = json.loads((out / finetune.NOTE).read_text(encoding="utf-8"))
    assert (note["method"], note["train_length"], note["target_length"]) == ("extra-pe", 256, 512)
    assert not (out / "state").exists()

    gguf = tmp_path / "tuned.gguf"
    ropewalk = CommandLine(monkeypatch, capfd)
    lengths = ("--train-length", "256", "--target-length", "512")
    assert ropewalk("convert", out, gguf, "--method", "extra-pe", *lengths).exit_code == 0
    stored = json.loads(ropewalk("inspect", gguf, "--json").stdout)["plan"]
    assert (stored["method"], stored["train_length"], stored["target_length"]) == ("extra-pe", 256, 512)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--method streaming --target-length 512", "streaming plan"),
        ("--method pi --target-length 65536", "give a longer text or a shorter target length"),
        ("--method pi --target-length 128", "target_length is 128; it must be at least"),
        ("--method hope --target-length 512", "method 'hope' is unknown"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    *,
    checkpoint: Path,
    text: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    options: str,
    sentence: str,
) -> None:
    arguments = f"{checkpoint} {options} --text {text} --out {tmp_path / 'out'} --steps 1"
    assert finetune.main(arguments.split()) == 3
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("finetune: ")
    assert sentence in said[0]
    assert not (tmp_path / "out").exists()
