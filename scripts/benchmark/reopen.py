"""A document that was read once: how much sooner it is there again, and what keeping it takes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.bench import Bench
from benchmark.outcome import Outcome
from benchmark.page import table
from provision.failure import ProvisionError
from provision.progress import Progress
from ropewalk.engine import Engine, EngineOptions, ModelDescription
from ropewalk.sessions.snapshot_key import snapshot_key
from ropewalk.sessions.snapshot_shelf import BOUNDARY_TOKENS, SnapshotShelf
from ropewalk_plan import ContextPlan, GgufHeader, make_plan, rope_spec_from_gguf

LEAST_GAIN = 50.0
"""How many times sooner a document of 16k tokens has to be there again."""

_FULL_LENGTH = 16_384
_METHOD = "dprope"
_QUESTION = "\n\nQuestion: What is this text about?\nAnswer:"
_ANSWER_TOKENS = 16
_KV_TYPES = ("f16", "q8_0")
_CELLS = 256

OnTokens = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """One time that a prompt was made ready for its answer.

    Attributes:
        seconds: from its tokens to the logits of the last one.
        held_tokens: those that were not computed.
        answer: the greedy answer's tokens.
    """

    seconds: float
    held_tokens: int
    answer: tuple[int, ...]


@dataclass(frozen=True)
class Keeping:
    """What a snapshot takes.

    Attributes:
        kv_type: of keys and values.
        tokens: of the text.
        n_bytes: on the disk.
        seconds: to write, until the disk has it.
    """

    kv_type: str
    tokens: int
    n_bytes: int
    seconds: float


@dataclass(frozen=True)
class Reopening:
    """All that was measured.

    Attributes:
        fresh: reading everything.
        from_memory: going on from a snapshot whose file the system still has in memory.
        from_disk: the same where it has not; None where the system cannot be told to drop it.
        kept: what snapshots take, by the type of keys and values.
    """

    fresh: Reading
    from_memory: Reading
    from_disk: Reading | None
    kept: tuple[Keeping, ...]

    @property
    def gain(self) -> float:
        """How many times sooner."""
        return self.fresh.seconds / self.from_memory.seconds


def measure_reopen(
    bench: Bench, text: str, *, tokens: int, short_tokens: int, target_length: int, folder: Path
) -> Outcome:
    """Reads a document of so many tokens, keeps it, and opens it again in a new process.

    Args:
        bench: the model and the machine.
        text: long enough.
        tokens: of the document.
        short_tokens: of its beginning, which is kept for each type of keys and values.
        target_length: of the plan.
        folder: for the snapshots, which are removed at the end.

    Raises:
        ProvisionError: the text is too short, or a snapshot cannot be kept.
    """
    plan = make_plan(rope_spec_from_gguf(GgufHeader.read(bench.model)), _METHOD, target_length)
    load = os.getloadavg()[0]
    work = _Work(bench, plan, folder, text, tokens)
    try:
        with Progress("Reading, keeping and reopening") as progress:
            fresh, long = work.read("f16", tokens, progress.update)
            from_memory = work.reopen(tokens)
            from_disk = work.reopen(tokens) if work.forget() else None
            short = [work.read(kv_type, short_tokens, _ignore)[1] for kv_type in _KV_TYPES]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = Reopening(fresh, from_memory, from_disk, (long, *short))
    intro = (
        f"{bench.where} A document of {tokens:,} tokens and a short question; `{_METHOD}` to "
        f"{target_length:,}. Seconds from the prompt's tokens to the logits of its last one, each in a new "
        "process, without loading the model, and with finding, checking and restoring the snapshot. The "
        f"machine's load was {load:.1f} when this began."
    )
    failure = ""
    if tokens >= _FULL_LENGTH and found.gain < LEAST_GAIN:
        failure = (
            f"reopening is {found.gain:.0f} times as fast as reading, and has to be {LEAST_GAIN:.0f} times"
        )
    return Outcome(
        f"{intro}\n\n{reopening_table(found)}\n\n{keeping_table(found)}", asdict(found), failure=failure
    )


class _Work:
    """Readings of one document."""

    def __init__(self, bench: Bench, plan: ContextPlan, folder: Path, text: str, tokens: int) -> None:
        self._bench = bench
        self._plan = plan
        self._told: list[str] = []
        shutil.rmtree(folder, ignore_errors=True)
        self._shelf = SnapshotShelf(folder, 10**12, self._told.append)
        with self._engine("f16", _CELLS) as (engine, _, _):
            self._document = engine.tokenize(text)[:tokens]
            self._question = engine.tokenize(_QUESTION, add_special=False)
        if len(self._document) < tokens:
            raise ProvisionError(
                f"the text has {len(self._document):,} tokens, and {tokens:,} are to be read: name more files"
            )

    def read(self, kv_type: str, tokens: int, on_tokens: OnTokens) -> tuple[Reading, Keeping]:
        """Everything anew, and what keeping it took."""
        document = self._document[:tokens]
        prompt = [*document, *self._question]
        with self._engine(kv_type, len(prompt)) as (engine, model, options):
            engine.prefill(document[:1])  # what a process does once
            engine.drop_sequence(0)
            start = time.perf_counter()
            engine.prefill(document[:-BOUNDARY_TOKENS], on_tokens, reserve=len(prompt))
            read = time.perf_counter()
            key = snapshot_key(model, options, len(prompt))
            snapshot = self._shelf.put(engine, key, "a document")
            kept = time.perf_counter()
            engine.prefill(prompt, reserve=len(prompt))
            seconds = time.perf_counter() - kept + read - start
            if snapshot is None:
                raise ProvisionError(" ".join(self._told))
            keeping = Keeping(kv_type, snapshot.n_tokens, snapshot.n_bytes, kept - read)
            return Reading(seconds, 0, _answer(engine)), keeping

    def reopen(self, tokens: int) -> Reading:
        """The same prompt from the snapshot."""
        prompt = [*self._document[:tokens], *self._question]
        with self._engine("f16", len(prompt)) as (engine, model, options):
            engine.prefill(prompt[:1])
            engine.drop_sequence(0)
            start = time.perf_counter()
            found = self._shelf.best(snapshot_key(model, options, len(prompt)), prompt, n_ctx=model.n_ctx)
            if found is None or not self._shelf.restore(engine, found):
                raise ProvisionError(" ".join(["the snapshot was not restored", *self._told]))
            read = engine.prefill(prompt, reserve=len(prompt))
            return Reading(time.perf_counter() - start, read.cached_tokens, _answer(engine))

    def forget(self) -> bool:
        """Have the system drop the snapshots' files from memory; False where it cannot be told to."""
        if not hasattr(os, "posix_fadvise"):
            return False
        for path in self._shelf.folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return True

    @contextmanager
    def _engine(self, kv_type: str, tokens: int) -> Iterator[tuple[Engine, ModelDescription, EngineOptions]]:
        room = tokens + _ANSWER_TOKENS
        options = EngineOptions(
            n_ctx=-(-room // _CELLS) * _CELLS,
            threads=self._bench.threads,
            gpu_layers=0,
            kv_type=kv_type,
            plan=self._plan,
        )
        with Engine.start() as engine:
            yield engine, engine.load(self._bench.model, options), options


def _ignore(_done: float, _total: float) -> None:
    """Tell nobody."""


def _answer(engine: Engine) -> tuple[int, ...]:
    stream = engine.generate(_ANSWER_TOKENS, stop_at_eog=False)
    for _ in stream:
        pass
    return stream.result.token_ids


def reopening_table(found: Reopening) -> str:
    """A row for each way to be ready for the answer."""
    ways = [
        ("read", found.fresh),
        ("reopened, its file in memory", found.from_memory),
        ("reopened, from the disk", found.from_disk),
    ]
    rows = [
        [
            name,
            f"{reading.seconds:,.2f}",
            f"{reading.held_tokens:,}",
            f"{found.fresh.seconds / reading.seconds:,.0f}",
            "yes" if reading.answer == found.fresh.answer else "no",
        ]
        for name, reading in ways
        if reading is not None
    ]
    return table(
        ["the document is", "seconds", "tokens not computed", "times as fast", "the same answer"], rows
    )


def keeping_table(found: Reopening) -> str:
    """A row for each snapshot."""
    rows = [
        [
            f"{kept.kv_type}, {kept.tokens:,} tokens",
            f"{kept.n_bytes / 1e6:,.1f}",
            f"{kept.n_bytes / kept.tokens:,.0f}",
            f"{kept.seconds:.2f}",
        ]
        for kept in found.kept
    ]
    return table(["snapshot", "MB", "bytes a token", "seconds to keep"], rows)
