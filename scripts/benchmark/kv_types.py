"""What keys and values of each type cost: perplexity, memory, and speed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.bench import Bench
from benchmark.jobs import OURS, LikelihoodJob, Setup, SpeedJob
from benchmark.outcome import Outcome
from benchmark.page import table
from benchmark.paired import Difference, Reading, difference
from benchmark.ratios import decode_speed, middle, prefill_speed, ratio
from benchmark.rounds import Rounds, Variant, measure_in_turns
from provision.failure import USAGE, ProvisionError
from provision.progress import Progress
from ropewalk.backend.model import Model
from ropewalk.wording.quantities import count

PROSE = (
    "README.md",
    "docs/methods.md",
    "docs/gguf-metadata.md",
    "docs/converting.md",
    "docs/building.md",
    "docs/several-machines.md",
    "docs/inspect.md",
    "docs/baking.md",
    "docs/gpu.md",
    "CONTRIBUTING.md",
    "patches/README.md",
)
"""The text that is read where none is named: this project's own pages, those of numbers left out."""

_MEBIBYTE = 1 << 20
_LEAST_CONTEXT = 8


@dataclass(frozen=True)
class KvMode:
    """How keys and values are kept and attended to."""

    kv_type: str
    flash_attention: bool

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.kv_type}, flash attention {'on' if self.flash_attention else 'off'}"


DEFAULT = KvMode("f16", False)
"""What the CPU does unless told otherwise."""

BASE = KvMode("f16", True)
"""What the others are compared with: a quantized cache needs flash attention too."""

MODES = (
    KvMode("f32", False),
    DEFAULT,
    BASE,
    *(KvMode(kv_type, True) for kv_type in ("q8_0", "q5_1", "q4_0")),
)


@dataclass(frozen=True)
class KvReading:
    """A text read with one mode.

    Attributes:
        reading: what came of each token.
        kv_bytes: of all KV caches.
    """

    reading: Reading
    kv_bytes: int


def measure_kv_types(
    bench: Bench,
    text: str,
    *,
    contexts: Sequence[int],
    text_tokens: int,
    pairs: int,
    tokens: int,
    decode_tokens: int,
) -> Outcome:
    """Reads a text with every mode in windows of each context's length, and times every mode in rounds.

    Args:
        bench: where.
        text: at least `text_tokens` tokens of it.
        contexts: tokens of a window.
        text_tokens: how much is read in windows; what makes no whole window is left out.
        pairs: rounds.
        tokens: read in each round.
        decode_tokens: written after them.

    Raises:
        ProvisionError: the text is too short, or a context too short or too long for it.
    """
    for context in contexts:
        if not _LEAST_CONTEXT <= context <= text_tokens:
            raise ProvisionError(
                f"--contexts is {context}; it must be from {_LEAST_CONTEXT} to {text_tokens:,}, "
                "which is what --text-tokens is",
                USAGE,
            )
    windows = {context: text_windows(bench.model, text, context, text_tokens) for context in contexts}
    readings = _read_all(bench, windows)
    rounds = _timed(bench, pairs, tokens, decode_tokens) if len(readings) == len(windows) else None
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    parts = [
        f"{bench.where} No plan. The first {text_tokens:,} tokens of a text (its SHA-256 begins {digest}) in "
        "windows, each read into an empty context. Log-likelihoods are compared token by token with "
        f"{BASE.name}, in the windows' second halves: nats a token, with a 95% interval; below 0 is worse."
    ]
    for context, by_name in readings.items():
        size = count(len(windows[context]), "window")
        parts += [f"**A context of {context:,} tokens**, {size}:", perplexity_table(by_name, context)]
    if rounds is not None:
        parts += [
            f"**Speed**, {tokens:,} tokens read and {decode_tokens} written after them; median and quartiles "
            f"of the ratios of {count(rounds.finished, 'round')}. Above 1 is faster.",
            speed_table(rounds),
        ]
    record = {
        "text_sha256": digest,
        "text_tokens": text_tokens,
        "perplexity": {str(context): _record(by_name, context) for context, by_name in readings.items()},
        "speed": rounds.to_json() if rounds is not None else None,
    }
    return Outcome("\n\n".join(parts), record, rounds is not None and rounds.complete)


def _timed(bench: Bench, pairs: int, tokens: int, decode_tokens: int) -> Rounds | None:
    """Every mode's speed; None where somebody interrupted before a round was finished."""
    jobs = [Variant(mode.name, OURS, _speed_job(bench, mode, tokens, decode_tokens)) for mode in MODES]
    try:
        return measure_in_turns(bench.libraries, jobs, pairs, "KV types, speed")
    except KeyboardInterrupt:
        return None


def text_windows(model_file: Path, text: str, context: int, text_tokens: int) -> npt.NDArray[np.int64]:
    """The first tokens of a text in whole windows, [windows, context].

    Where the model wants a start token, it takes the place of each window's first, as in `llama-perplexity`.

    Raises:
        ProvisionError: the text has fewer than `text_tokens`.
    """
    model = Model.load(model_file, gpu_layers=0)
    try:
        tokens = model.vocabulary.tokenize(text, add_special=False)
        start = model.vocabulary.tokenize(text)[:1]
    finally:
        model.close()
    if len(tokens) < text_tokens:
        raise ProvisionError(
            f"the text has {len(tokens):,} tokens, and {text_tokens:,} are to be read: name more files"
        )
    n_windows = text_tokens // context
    windows = np.asarray(tokens[: n_windows * context], dtype=np.int64).reshape(n_windows, context)
    if start != tokens[:1]:
        windows[:, 0] = start
    return windows


def _read_all(bench: Bench, windows: Mapping[int, npt.NDArray[np.int64]]) -> dict[int, dict[str, KvReading]]:
    """Each mode's reading of each context's windows, by context and by the mode's name.

    An interruption ends it and keeps the contexts that every mode has read.
    """
    found: dict[int, dict[str, KvReading]] = {}
    total = float(sum(each.size for each in windows.values()) * len(MODES))
    done = 0.0
    with Progress("KV types, perplexity") as progress:
        progress.update(0.0, total)
        try:
            for context, text in windows.items():
                by_name: dict[str, KvReading] = {}
                for mode in MODES:
                    progress.detail = f"{context:,} tokens: {mode.name}"

                    def report(work: float, before: float = done) -> None:
                        progress.update(before + work, total)

                    by_name[mode.name] = _read(bench, mode, text, report)
                    done += text.size
                found[context] = by_name
        except KeyboardInterrupt:
            if not found:
                raise
    return found


def _read(
    bench: Bench, mode: KvMode, windows: npt.NDArray[np.int64], on_work: Callable[[float], None]
) -> KvReading:
    with TemporaryDirectory(prefix="ropewalk-bench-") as folder:
        text, result = Path(folder, "windows.npy"), Path(folder, "result.npz")
        np.save(text, windows)
        job = LikelihoodJob(_setup(bench, mode, windows.shape[1]), str(text), str(result))
        answer = bench.libraries.run(OURS, job, on_work)
        with np.load(result) as arrays:
            reading = Reading(arrays["losses"], arrays["tops"])
    return KvReading(reading, int(answer["kv_bytes"]))


def _setup(bench: Bench, mode: KvMode, n_ctx: int) -> Setup:
    return replace(bench.setup(n_ctx, flash_attention=mode.flash_attention), kv_type=mode.kv_type)


def _speed_job(bench: Bench, mode: KvMode, tokens: int, decode_tokens: int) -> SpeedJob:
    return SpeedJob(_setup(bench, mode, tokens + decode_tokens), tokens, (tokens,), decode_tokens)


def perplexity_table(readings: Mapping[str, KvReading], context: int) -> str:
    """A row for each mode: memory, perplexity, and how it differs from `BASE` in the second halves."""
    halves = _second_halves(readings, context)
    rows = []
    for name, each in readings.items():
        other = _against_base(halves, name)
        compared = [other.text, f"{other.same_top:.2%}"] if name != BASE.name else ["", ""]
        rows.append(
            [
                name,
                f"{each.kv_bytes / _MEBIBYTE:.1f}",
                f"{halves[name].perplexity:.4f}",
                f"{each.reading.perplexity:.4f}",
                *compared,
            ]
        )
    head = ["", "KV cache, MiB", "perplexity, second halves", "perplexity, all tokens"]
    return table([*head, "log-likelihood, difference", "same most probable token"], rows)


def speed_table(rounds: Rounds) -> str:
    """A row for each mode: its speeds, and their ratios to those of `BASE` and `DEFAULT`."""
    metrics = (("prefill", prefill_speed), ("decode", decode_speed))
    head = ["", *(f"{what}, tokens/s" for what, _ in metrics)]
    head += [f"{what} against {base.name}" for base in (BASE, DEFAULT) for what, _ in metrics]
    rows = []
    for name in rounds.runs:
        row = [name, *(f"{middle(rounds, name, metric):.1f}" for _, metric in metrics)]
        for base in (BASE, DEFAULT):
            row += [
                ratio(rounds, name, base.name, metric).text if name != base.name else ""
                for _, metric in metrics
            ]
        rows.append(row)
    return table(head, rows)


def _record(readings: Mapping[str, KvReading], context: int) -> dict[str, dict[str, Any]]:
    halves = _second_halves(readings, context)
    return {
        name: {
            "kv_bytes": each.kv_bytes,
            "tokens_second_halves": halves[name].losses.size,
            "tokens_all": each.reading.losses.size,
            "perplexity_second_halves": halves[name].perplexity,
            "perplexity_all": each.reading.perplexity,
            "against_base": asdict(_against_base(halves, name)),
        }
        for name, each in readings.items()
    }


def _second_halves(readings: Mapping[str, KvReading], context: int) -> dict[str, Reading]:
    return {name: each.reading.second_half(context) for name, each in readings.items()}


def _against_base(halves: Mapping[str, Reading], name: str) -> Difference:
    return difference(halves[name], halves[BASE.name])
