"""An engine's owner survives what happens to its model process: killed, stopped, cancelled at any moment.

Schedules are drawn; each of their requests ends with its result or the error that belongs to it, greedy
answers are those of an engine that was never disturbed, and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from ropewalk.engine import (
    Cancelled,
    Engine,
    EngineDied,
    EngineOptions,
    EngineTimeout,
    Patience,
    SavedState,
    client,
)
from ropewalk.engine.process import ModelProcess
from tiny_models import write_tiny_model

SCHEDULES = int(os.environ.get("ROPEWALK_SCHEDULES", "3"))
"""How many are drawn; some hundreds make a thorough check."""

OPTIONS = EngineOptions(n_ctx=512, threads=1, batch_size=16, ubatch_size=16, n_sequences=2)
TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. " * 3
ANSWER = 12

_DELAYS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)

Disturbance = Literal["nothing", "cancel", "kill", "stop"]


@dataclass(frozen=True)
class Step:
    """One request, and what happens after so many seconds."""

    what: str
    length: int
    sequence: int
    disturbance: Disturbance
    delay: float


def step(*disturbances: Disturbance) -> st.SearchStrategy[Step]:
    """A request to which one of these things happens."""
    return st.builds(
        Step,
        what=st.sampled_from(
            (
                "ask",
                "ask",
                "ask",
                "read",
                "glance",
                "copy",
                "drop",
                "save",
                "restore",
                "resize",
                "load",
                "start",
            )
        ),
        length=st.integers(1, 100),
        sequence=st.integers(0, 1),
        disturbance=st.sampled_from(disturbances),
        delay=st.sampled_from(_DELAYS),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes some milliseconds for a batch, so that things happen in the middle of it."""
    path = tmp_path_factory.mktemp("models") / "slow.gguf"
    return write_tiny_model(path, n_layer=4, n_embd=256, n_head=4, head_dim=64, n_ff=1024).path


@pytest.fixture(scope="module")
def undisturbed(model: Path) -> Iterator[Callable[[int], str]]:
    """The answer to the text's first tokens, by an engine to which nothing happens."""
    with Engine.start() as engine:
        engine.load(model, OPTIONS)
        tokens = engine.tokenize(TEXT)

        @functools.cache
        def answer(length: int) -> str:
            engine.drop_sequence(0)
            engine.prefill(tokens[:length])
            generation = engine.generate(ANSWER, stop_at_eog=False)
            return "".join(piece.text for piece in generation)

        yield answer


class Owner:
    """Makes requests of engines, one after the other, and starts another where one has died."""

    def __init__(
        self, model: Path, folder: Path, undisturbed: Callable[[int], str], patience: Patience
    ) -> None:
        self.model, self.folder, self.undisturbed, self.patience = model, folder, undisturbed, patience
        self.processes: list[ModelProcess] = []
        self.engine: Engine | None = None
        self.tokens: list[int] = []
        self.saved: dict[Path, SavedState] = {}
        self.names = 0

    def take(self, step: Step) -> None:
        """Takes a step, and checks how it ends."""
        if self.engine is not None and step.what == "start":
            self.close()
        with self._disturbed(step.disturbance, step.delay):
            try:
                if self.engine is None:
                    self.engine = Engine.start(self.patience)
                if self.engine.model is None or not self.tokens:
                    self.engine.load(self.model, OPTIONS)
                    self.tokens = self.engine.tokenize(TEXT)
                getattr(self, f"_{step.what}")(self.engine, step)
                event(f"{step.what}: done")
            except Cancelled:
                event(f"{step.what}: cancelled")
                assert step.disturbance == "cancel"
            except (EngineDied, EngineTimeout) as error:
                event(f"{step.what}: {type(error).__name__}")
                assert step.disturbance in ("kill", "stop")
                assert "\n" not in str(error)
                assert isinstance(error, EngineDied) or step.disturbance == "stop"
        if step.disturbance in ("kill", "stop"):
            self._bury()

    def close(self) -> None:
        """Ends the engine, and checks that nothing of it is left."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None
        for process in self.processes:
            with pytest.raises(ProcessLookupError):
                os.kill(process.pid, 0)
        self.processes.clear()

    def _bury(self) -> None:
        """After a kill that came too late for its step, every request is told so."""
        if self.engine is not None:
            with pytest.raises((EngineDied, EngineTimeout)):
                self.engine.tokenize("a")
        self.close()
        for path in set(self.folder.iterdir()) - set(self.saved):
            path.unlink()  # half a file of a killed process is its owner's to remove

    @contextlib.contextmanager
    def _disturbed(self, disturbance: Disturbance, delay: float) -> Iterator[None]:
        """Something happens to the newest process; when the block ends, it has."""

        def happen() -> None:
            if disturbance == "cancel" and self.engine is not None:
                self.engine.cancel()
            elif disturbance in ("kill", "stop"):
                while not self.processes:  # it is about to be started
                    threading.Event().wait(0.001)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(
                        self.processes[-1].pid, signal.SIGKILL if disturbance == "kill" else signal.SIGSTOP
                    )

        timer = threading.Timer(delay, happen)
        timer.start()
        try:
            yield
        finally:
            timer.join()

    def _ask(self, engine: Engine, step: Step) -> None:
        if engine.prefill(self.tokens[: step.length], sequence=step.sequence).cancelled:
            event("ask: cancelled while reading")
            return
        generation = engine.generate(ANSWER, stop_at_eog=False, sequence=step.sequence)
        text = "".join(piece.text for piece in generation)
        whole = self.undisturbed(step.length)
        if generation.result.reason == "cancelled":
            event("ask: cancelled while answering")
            assert whole.startswith(text.rstrip("\N{REPLACEMENT CHARACTER}"))
        else:
            assert text == whole

    def _read(self, engine: Engine, step: Step) -> None:
        result = engine.prefill(self.tokens[: step.length], sequence=step.sequence)
        assert result.prompt_tokens == step.length

    def _glance(self, engine: Engine, step: Step) -> None:
        """Reads the beginning of an answer, and lets go of it."""
        if not engine.prefill(self.tokens[: step.length], sequence=step.sequence).cancelled:
            generation = engine.generate(100, stop_at_eog=False, sequence=step.sequence)
            first = [piece.text for piece, _ in zip(generation, range(step.length % 5), strict=False)]
            generation.close()
            assert self.undisturbed(step.length).startswith(
                "".join(first).rstrip("\N{REPLACEMENT CHARACTER}")
            )

    def _copy(self, engine: Engine, step: Step) -> None:
        engine.copy_sequence(step.sequence, 1 - step.sequence)

    def _drop(self, engine: Engine, step: Step) -> None:
        engine.drop_sequence(step.sequence)

    def _save(self, engine: Engine, step: Step) -> None:
        if engine.prefill(self.tokens[: step.length], sequence=step.sequence).cancelled:
            return
        self.names += 1
        path = self.folder / f"{self.names}.state"
        try:
            self.saved[path] = engine.save_state(path, sequence=step.sequence)
        except Cancelled:
            assert not path.exists()
            raise

    def _restore(self, engine: Engine, step: Step) -> None:
        for path, saved in list(self.saved.items())[-1:]:
            assert engine.restore_state(path, saved, sequence=step.sequence) == len(saved.tokens)
            assert engine.reusable(self.tokens, sequence=step.sequence) == len(saved.tokens)

    def _resize(self, engine: Engine, step: Step) -> None:
        engine.resize(256 + step.length)

    def _load(self, engine: Engine, step: Step) -> None:
        engine.load(self.model, OPTIONS)

    def _start(self, engine: Engine, step: Step) -> None:
        assert engine.tokenize(TEXT) == self.tokens


def _run(
    schedule: list[Step],
    model: Path,
    undisturbed: Callable[[int], str],
    folder: Path,
    patience: Patience,
) -> None:
    states, temporary = folder / "states", folder / "temporary"
    for each in (states, temporary):
        each.mkdir(exist_ok=True)
        for path in each.iterdir():
            path.unlink()
    owner = Owner(model, states, undisturbed, patience)

    class Watched(ModelProcess):
        def __init__(self) -> None:
            super().__init__()
            owner.processes.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        patch.setattr(client, "ModelProcess", Watched)
        try:
            for step in schedule:
                owner.take(step)
            for sequence in range(2):  # and now that nothing happens any more
                owner.take(Step("ask", 90 + sequence, sequence, "nothing", 0.0))
        finally:
            owner.close()
    assert set(states.iterdir()) == set(owner.saved)
    assert not list(temporary.iterdir())


_SETTINGS = settings(
    max_examples=SCHEDULES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # what depends on the moment cannot be made smaller
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_SETTINGS
@given(
    schedule=st.lists(
        step("nothing", "nothing", "nothing", "cancel", "cancel", "cancel", "kill"), min_size=6, max_size=20
    )
)
def test_killed_and_cancelled_at_any_moment(
    schedule: list[Step], model: Path, undisturbed: Callable[[int], str], tmp_path: Path
) -> None:
    _run(schedule, model, undisturbed, tmp_path, Patience())


@settings(_SETTINGS, max_examples=max(2, SCHEDULES // 5))
@given(before=st.lists(step("nothing", "cancel"), min_size=1, max_size=5), stopped=step("stop"))
def test_stopped_at_any_moment(
    before: list[Step], stopped: Step, model: Path, undisturbed: Callable[[int], str], tmp_path: Path
) -> None:
    patience = Patience(start_seconds=5, silence_seconds=2)
    _run([*before, stopped], model, undisturbed, tmp_path, patience)
