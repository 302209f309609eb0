"""The bench's KV types: perplexity against a transformer in float64, the pairing, the tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmark.child import Libraries
from benchmark.jobs import OURS, Job, Json, LikelihoodJob, Piece, Setup, Speed, SpeedJob
from benchmark.kv_types import BASE, DEFAULT, MODES, PROSE, text_windows
from benchmark.likelihoods import negative_log_likelihoods, read_windows
from benchmark.paired import Reading, difference
from reference_transformer import plain_positions, reference_logits
from ropewalk.backend.model import Model
from test_scripts_bench_runs import run
from tiny_models import TinyModel, write_tiny_model

CONTEXT, N_WINDOWS = 48, 3
LETTERS = "the king and the thing in a ring; 'where', said he, is one 7 or two? "


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Its heads have 32 numbers, a block of every quantized type."""
    return write_tiny_model(
        tmp_path_factory.mktemp("models") / "tiny.gguf", n_embd=128, head_dim=32, train_length=1024
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = np.random.default_rng(0).permutation((LETTERS * 40).split())
    path.write_text(" ".join(words), encoding="utf-8")
    return path


@pytest.fixture
def small(model: TinyModel, text: Path) -> tuple[object, ...]:
    return ("--model", model.path, "--threads", 1, "--text", text)


def windows_of(model: TinyModel) -> npt.NDArray[np.int64]:
    return np.random.default_rng(1).integers(3, model.n_vocab, (N_WINDOWS, CONTEXT))


def read(model: TinyModel, folder: Path, windows: npt.NDArray[np.int64], **setup: object) -> Reading:
    np.save(folder / "windows.npy", windows)
    options: dict[str, object] = {"model": str(model.path), "n_ctx": 256, "threads": 1, **setup}
    made = Setup(**options)  # type: ignore[arg-type]
    job = LikelihoodJob(made, str(folder / "windows.npy"), str(folder / "out.npz"))
    done: list[float] = []
    read_windows(job, done.append)
    assert done == sorted(done) and done[-1] == windows.size
    with np.load(folder / "out.npz") as arrays:
        return Reading(arrays["losses"], arrays["tops"])


def softmax_losses(model: TinyModel, tokens: Sequence[int]) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Of one window, by the definition: -log of the softmax at the token that follows."""
    logits = reference_logits(model, tokens, plain_positions(model, len(tokens)))[:-1]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    losses = [-np.log(row[token]) for row, token in zip(probabilities, tokens[1:], strict=True)]
    return np.array(losses), [int(row.argmax()) for row in probabilities]


@pytest.mark.usefixtures("patched_library")
def test_likelihoods_are_those_of_a_transformer_in_float64(model: TinyModel, tmp_path: Path) -> None:
    """In micro-batches that do not divide a window; no window knows of the one before it."""
    windows = windows_of(model)
    found = read(model, tmp_path, windows, kv_type="f32", n_ubatch=13)
    assert found.losses.dtype == np.float64
    assert found.losses.shape == found.tops.shape == (N_WINDOWS, CONTEXT - 1)
    for i, window in enumerate(windows.tolist()):
        losses, tops = softmax_losses(model, window)
        np.testing.assert_allclose(found.losses[i], losses, atol=2e-4)
        assert found.tops[i].tolist() == tops
    everything = np.concatenate([softmax_losses(model, window)[0] for window in windows.tolist()])
    assert found.perplexity == pytest.approx(np.exp(np.mean(everything)), rel=1e-4)


@pytest.mark.usefixtures("patched_library")
def test_coarser_types_are_further_from_float64(model: TinyModel, tmp_path: Path) -> None:
    windows = windows_of(model)
    exact = np.stack([softmax_losses(model, window)[0] for window in windows.tolist()])
    errors = [
        np.abs(
            read(model, tmp_path, windows, kv_type=mode.kv_type, flash_attention=mode.flash_attention).losses
            - exact
        ).mean()
        for mode in MODES
        if mode != BASE
    ]
    assert errors == sorted(errors), "f32, f16, q8_0, q5_1, q4_0"
    assert errors[-1] > 10 * errors[0]


def test_likelihoods_of_large_logits_do_not_overflow() -> None:
    """More rows than are widened at once, in float32 as the library has them."""
    logits = np.random.default_rng(2).normal(0, 3, (150, 7)).astype(np.float32)
    following = np.random.default_rng(3).integers(0, 7, 150).tolist()
    wide = logits.astype(np.float64)
    plain = [np.log(np.exp(row).sum()) - row[token] for row, token in zip(wide, following, strict=True)]
    np.testing.assert_allclose(negative_log_likelihoods(logits, following), plain, rtol=1e-12)
    shifted = logits.astype(np.float64) + 5000.0
    np.testing.assert_allclose(negative_log_likelihoods(shifted, following), plain, atol=1e-9)


def test_the_second_half_is_that_of_llama_perplexity() -> None:
    """Of 8 tokens, the logits of numbers 4, 5 and 6 are looked at, which foresee 5, 6 and 7 (from 0)."""
    losses = np.arange(1.0, 8.0)[None, :].repeat(2, axis=0)  # each that of the token of its number
    half = Reading(losses, losses.astype(np.int64)).second_half(8)
    assert half.losses.tolist() == [[5.0, 6.0, 7.0]] * 2
    assert half.perplexity == pytest.approx(np.exp(6.0))


def readings_apart(planted: float, seed: int, n_tokens: int = 4096) -> tuple[Reading, Reading]:
    """Two readings whose losses vary by nats, and differ by noise of 0.05 and by what is planted."""
    random = np.random.default_rng(seed)
    base = random.gamma(1.0, 3.0, (2, n_tokens))
    tops = random.integers(0, 1000, (2, n_tokens))
    other = base + planted + random.normal(0, 0.05, base.shape)
    return Reading(other, tops), Reading(base, tops)


def test_pairing_finds_a_small_difference_that_unpaired_means_would_hide() -> None:
    worse, base = readings_apart(0.01, 4)
    found = difference(worse, base)
    assert found.mean == pytest.approx(-0.01, abs=0.002)  # worse: below 0
    assert abs(found.mean) > 3 * found.half_width
    unpaired = 1.96 * np.hypot(worse.losses.std(), base.losses.std()) / base.losses.size**0.5
    assert abs(found.mean) < unpaired / 5
    assert found.text.startswith("-0.0")
    better = difference(base, worse)
    assert better.mean == -found.mean
    assert better.half_width == pytest.approx(found.half_width)


def test_an_interval_holds_the_truth_nineteen_times_out_of_twenty() -> None:
    """Where neighbours are disturbed alike too, as an interval over single tokens would not."""
    held = single = 0
    for seed in range(400):
        reading, base = readings_apart(0.0, seed, 1024)
        noise = np.random.default_rng(10_000 + seed).normal(0, 0.1, (2, 128)).repeat(8, axis=1)
        found = difference(Reading(reading.losses + noise, reading.tops), base)
        gains = base.losses - reading.losses - noise
        held += abs(found.mean) <= found.half_width
        single += abs(gains.mean()) <= 1.96 * gains.std() / gains.size**0.5
    assert 0.90 * 400 <= held <= 0.99 * 400
    assert single < 0.75 * 400


def test_the_share_of_places_with_the_same_most_probable_token() -> None:
    losses = np.zeros((1, 8))
    tops = np.arange(8)[None, :]
    changed = tops.copy()
    changed[0, 3] = 99
    assert difference(Reading(losses, changed), Reading(losses, tops)).same_top == 7 / 8


@pytest.mark.usefixtures("patched_library")
def test_windows_are_a_texts_first_tokens_each_after_a_start_token(model: TinyModel, text: Path) -> None:
    content = text.read_text(encoding="utf-8")
    windows = text_windows(model.path, content, 40, 100)
    assert windows.shape == (2, 40)
    loaded = Model.load(model.path, gpu_layers=0)
    try:
        tokens = loaded.vocabulary.tokenize(content, add_special=False)
    finally:
        loaded.close()
    assert windows[:, 0].tolist() == [1, 1]  # <s>
    assert windows[:, 1:].tolist() == [tokens[1:40], tokens[41:80]]


@pytest.mark.usefixtures("patched_library")
def test_every_type_is_measured_and_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small: tuple[object, ...],
    tmp_path: Path,
) -> None:
    sizes = ("--contexts", 256, "--text-tokens", 600, "--pairs", 1, "--tokens", 64, "--decode-tokens", 2)
    assert run(monkeypatch, "kv-types", *small, *sizes, "--json", tmp_path / "out.json") == 0
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["kv-types"]
    names = [mode.name for mode in MODES]
    measured = record["perplexity"]["256"]
    assert list(measured) == names
    numbers = 2 * 2 * 2 * 32  # layers, keys and values, heads, numbers of a head
    for mode, bytes_each in zip(MODES, (4, 2, 2, 34 / 32, 24 / 32, 18 / 32), strict=True):
        one = measured[mode.name]
        assert one["kv_bytes"] == pytest.approx(256 * numbers * bytes_each, abs=0.006 * (1 << 20))
        assert one["tokens_all"] == 2 * 255
        assert one["tokens_second_halves"] == 2 * 127
        assert one["perplexity_all"] > 1
    assert measured[BASE.name]["against_base"] == {"mean": 0.0, "half_width": 0.0, "same_top": 1.0}
    assert measured["q4_0, flash attention on"]["against_base"]["half_width"] > 0
    assert list(record["speed"]["runs"]) == names
    out = capsys.readouterr().out
    assert "--text text.txt --contexts 256 --text-tokens 600" in out
    assert "**A context of 256 tokens**, 2 windows:" in out
    assert str(tmp_path) not in out
    lines = out.splitlines()
    rows = [line for line in lines if line.startswith(tuple(f"| {name} |" for name in names))]
    assert len(rows) == 2 * len(MODES)
    assert {line.count("|") for line in rows[: len(MODES)]} == {7}
    assert f"| decode against {DEFAULT.name} |" in out


@pytest.mark.parametrize("n_runs", [len(MODES) + 1, 2 * len(MODES) + 1])
@pytest.mark.usefixtures("patched_library")
def test_an_interruption_keeps_the_contexts_that_were_read(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small: tuple[object, ...],
    n_runs: int,
) -> None:
    """While another context is read, or in the first round of speed; children are played here."""
    runs: list[Job] = []

    def played(_: Libraries, library: str, job: Job, on_work: object = None) -> Json:
        runs.append(job)
        if len(runs) > n_runs:
            raise KeyboardInterrupt
        if isinstance(job, SpeedJob):
            return asdict(Speed((Piece(0, 64, 1.0),), (Piece(64, 2, 1.0),), 0, 0))
        assert isinstance(job, LikelihoodJob)
        losses = np.ones(np.load(job.windows_file)[:, 1:].shape)
        np.savez(job.file, losses=losses, tops=losses.astype(np.int64))
        return {"kv_bytes": 1 << 20}

    monkeypatch.setattr(Libraries, "check", lambda _: {OURS: {"build": "played"}})
    monkeypatch.setattr(Libraries, "run", played)
    sizes = ("--contexts", 16, 32, "--text-tokens", 64, "--tokens", 64, "--decode-tokens", 2)
    assert run(monkeypatch, "kv-types", *small, *sizes) == 130
    told = capsys.readouterr()
    assert "**A context of 16 tokens**, 4 windows:" in told.out
    assert ("**A context of 32 tokens**" in told.out) == (n_runs > 2 * len(MODES))
    assert "**Speed**" not in told.out
    assert "| 1.0 | 2.7183 | 2.7183 | +0.00000 ± 0.00000 | 100.00% |" in told.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--text-tokens", 100_000), "name more files"),
        (("--contexts", 4), "--contexts is 4; it must be from 8 to 8,192"),
        (("--contexts", 20_000), "--contexts is 20000; it must be from 8 to 8,192"),
    ],
)
@pytest.mark.usefixtures("patched_library")
def test_what_cannot_be_read_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    small: tuple[object, ...],
    arguments: tuple[object, ...],
    told: str,
) -> None:
    assert run(monkeypatch, "kv-types", *small, *arguments) != 0
    assert told in capsys.readouterr().err


def test_the_text_is_there() -> None:
    root = Path(__file__).resolve().parents[1]
    assert sum(len((root / name).read_text(encoding="utf-8")) for name in PROSE) > 8192 * 6
