"""A conversion interrupted, killed, or short of disk: the target is absent or whole, and a rerun works."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli_running import CommandLine, environment
from full_disk import ROOMY, FullDisk, Means, Stage, means_here, run_on_full_disk
from held_conversion import GO_ON
from interrupted_runs import MARK, Ended, Run, make, started_with, still_there
from ropewalk_plan import GgufHeader, read_plan
from shared_converter import share_converter
from tiny_checkpoints import write_checkpoint

TARGET = "out.gguf"
PRECIOUS = "what was there before"
MOMENTS = 3
LAST_LINES = 120
"""About as many as there are from when the target has its name until the temporary files are gone."""

PATIENCE = 120.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a method that needs a plan of ours."""
    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    folder = tmp_path_factory.mktemp("checkpoints") / "Dynamic"
    return write_checkpoint(folder, "llama", config={"rope_parameters": scaling})


@pytest.fixture(scope="module")
def shared() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        share_converter(patch)
        yield patch


def last_line(stderr: str) -> str:
    """The sentence at the end; slow machines may have told of progress before."""
    assert "Traceback" not in stderr
    *before, last = stderr.splitlines()
    assert all(line.startswith(("converting ", "quantizing ", "writing ")) for line in before), stderr
    return last


@dataclass(frozen=True)
class Whole:
    """A run that nobody interrupted.

    Attributes:
        arguments: of the command, but for the target.
        lines: that it took.
        checksum: of what it made.
    """

    arguments: tuple[str, ...]
    lines: int
    checksum: str

    def run(self, folder: Path, moment: int = 0, number: int = 0, *, existing: bool = False) -> Run:
        """The same, to be interrupted."""
        before = ((TARGET, PRECIOUS),) if existing else ()
        return Run((*self.arguments, str(folder / TARGET)), str(folder), moment, number, before)


class TestAtRandomMoments:
    """Between any two lines of ours: what is checked, all children at work, and the very last steps."""

    @pytest.fixture(scope="class")
    def whole(
        self, checkpoint: Path, shared: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
    ) -> Whole:
        folder, notes = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("notes")
        arguments = ("convert", str(checkpoint), "--quantize", "Q8_0", "--threads", "1", "--check", "--force")
        (ended,) = make([Run((*arguments, "-o", str(folder / TARGET)), str(folder))], notes)
        assert (ended.code, list(ended.files)) == (0, [TARGET]), ended.stderr
        return Whole((*arguments, "-o"), ended.lines, ended.files[TARGET])

    @pytest.mark.parametrize("existing", [False, True])
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_the_target_is_what_it_was_or_whole(
        self, whole: Whole, tmp_path: Path, number: signal.Signals, existing: bool
    ) -> None:
        folder, notes = tmp_path / "out", tmp_path / "notes"
        folder.mkdir()
        notes.mkdir()
        choice = random.Random(f"{number.name} {existing}")
        moments = sorted(choice.randrange(2, whole.lines) for _ in range(MOMENTS))
        runs = [whole.run(folder, moment, number, existing=existing) for moment in moments]
        reached = 0
        for run, ended in zip(runs, make(runs, notes), strict=True):
            assert ended.where or ended.code == 0, (
                run,
                ended,
            )  # the children's messages are not always as many
            reached += bool(ended.where)
            self.check(ended, whole, number, existing)
        assert reached >= MOMENTS - 1
        for path in folder.iterdir():
            if not path.stat().st_size:  # which may be about to be locked, and is left alone for a minute
                os.utime(path, (time.time() - 300,) * 2)
        (ended,) = make([whole.run(folder)], notes)
        assert (ended.code, ended.files) == (0, {TARGET: whole.checksum})

    def test_when_the_target_has_its_name_the_rest_goes(self, whole: Whole, tmp_path: Path) -> None:
        """Without `--force`, by which a file gets its name in another way."""
        folder, notes = tmp_path / "out", tmp_path / "notes"
        notes.mkdir()
        folder.mkdir()
        plain = [argument for argument in whole.arguments if argument not in ("--force", "--check")]
        runs = [
            Run((*plain, str(folder / TARGET)), str(folder), moment, signal.SIGINT, since=TARGET)
            for moment in range(1, LAST_LINES, LAST_LINES // MOMENTS)
        ]
        for run in runs:
            (ended,) = make([run], notes)
            assert ended.where, ended
            assert ended.code in (0, 130), ended
            assert ended.files == {TARGET: whole.checksum}, ended
            assert ended.processes == (), ended
            (folder / TARGET).unlink()

    def check(self, ended: Ended, whole: Whole, number: signal.Signals, existing: bool) -> None:
        assert ended.processes == (), ended
        before = {hashlib.sha256(PRECIOUS.encode()).hexdigest()} if existing else {None}
        assert ended.files.get(TARGET) in {*before, whole.checksum}, ended
        if ended.where and number == signal.SIGINT:
            assert set(ended.files) <= {TARGET}, ended
            if ended.code == 0:  # it was done already
                assert (ended.files, ended.stderr) == ({TARGET: whole.checksum}, ""), ended
            else:
                assert ended.code == 130, ended
                assert last_line(ended.stderr) == "ropewalk: Interrupted.", ended
        elif ended.where:
            assert (ended.code, ended.stderr) == (-signal.SIGKILL, ""), ended


class TestInTheMidstOfTheConverter:
    """Upstream's converter itself, stopped when the keys are written and the weights are not."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        path = tmp_path / "out"
        path.mkdir()
        return path

    def start(self, checkpoint: Path, folder: Path, *, held: bool = True) -> subprocess.Popen[str]:
        """The command; it leads a group, as at a terminal."""
        held_conversion = Path(__file__).with_name("held_conversion.py")
        script = (
            "import sys; from pathlib import Path; from ropewalk_convert import converter\n"
            f"if {held}: converter._CHILD = Path({str(held_conversion)!r})\n"
            "from ropewalk.cli.main import main; sys.exit(main())"
        )
        return subprocess.Popen(
            [sys.executable, "-c", script, "convert", str(checkpoint), str(folder / TARGET)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(), MARK: str(folder), GO_ON: str(folder / "never")},
            start_new_session=True,
        )

    def wait_until_written_to(self, process: subprocess.Popen[str], folder: Path) -> Path:
        deadline = time.monotonic() + PATIENCE
        while not (begun := [path for path in folder.iterdir() if path.stat().st_size]):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (part,) = begun
        return part

    def test_interrupted(self, checkpoint: Path, folder: Path) -> None:
        process = self.start(checkpoint, folder)
        part = self.wait_until_written_to(process, folder)
        assert part.name.endswith(".part")
        assert len(started_with(str(folder))) >= 2
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate()
        assert (process.returncode, stdout) == (130, "")
        assert last_line(stderr) == "ropewalk: Interrupted."
        assert list(folder.iterdir()) == []
        assert still_there(str(folder)) == []

    def test_interrupted_while_it_only_begins(self, checkpoint: Path, folder: Path) -> None:
        process = self.start(checkpoint, folder, held=False)
        deadline = time.monotonic() + PATIENCE
        while len(started_with(str(folder))) < 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.Random("begins").random())
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate()
        assert process.returncode == 130
        assert last_line(stderr) == "ropewalk: Interrupted."
        assert list(folder.iterdir()) == []
        assert still_there(str(folder)) == []

    def test_killed(
        self,
        checkpoint: Path,
        folder: Path,
        shared: pytest.MonkeyPatch,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """Nobody is left to tidy up: the children end by themselves, and the next run removes the rest."""
        process = self.start(checkpoint, folder)
        part = self.wait_until_written_to(process, folder)
        process.kill()
        process.communicate()
        assert still_there(str(folder)) == []
        assert list(folder.iterdir()) == [part]
        assert part.stat().st_size > 0

        assert CommandLine(monkeypatch, capfd)("convert", checkpoint, folder / TARGET).exit_code == 0
        assert [path.name for path in folder.iterdir()] == [TARGET]
        assert read_plan(GgufHeader.read(folder / TARGET)) is not None


class TestFullDisk:
    @pytest.fixture(scope="class")
    def converted(
        self, checkpoint: Path, shared: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
    ) -> Path:
        folder = tmp_path_factory.mktemp("converted")
        arguments = ("convert", str(checkpoint), str(folder / TARGET), "--method", "none")
        (ended,) = make([Run(arguments, str(folder))], tmp_path_factory.mktemp("notes"))
        assert ended.code == 0, ended.stderr
        return folder / TARGET

    def run(
        self,
        checkpoint: Path,
        converted: Path,
        folder: Path,
        means: Means,
        *,
        full_at: Stage,
        room: int = ROOMY,
    ) -> FullDisk:
        disk = folder / "disk"
        disk.mkdir()
        arguments = ["convert", str(checkpoint), str(disk / TARGET), "--quantize", "Q8_0", "--threads", "1"]
        outcome = run_on_full_disk(means, disk, arguments, converted=converted, full_at=full_at, room=room)
        assert outcome.code == 4
        assert outcome.left == ()
        assert (outcome.again, outcome.made) == (0, (TARGET,))
        return outcome

    @pytest.mark.parametrize("means", means_here())
    def test_too_little_room_is_known_before(
        self, checkpoint: Path, converted: Path, tmp_path: Path, means: Means
    ) -> None:
        """There is not even room for what the converter writes first, and it is not what complains."""
        room = converted.stat().st_size // 2
        said = last_line(self.run(checkpoint, converted, tmp_path, means, full_at="", room=room).stderr)
        assert f"{TARGET} needs " in said
        assert said.endswith(" free; make room, or write to another disk.")

    def test_it_fills_up_while_upstreams_converter_writes(
        self, checkpoint: Path, converted: Path, tmp_path: Path
    ) -> None:
        outcome = self.run(checkpoint, converted, tmp_path, means_here()[0], full_at="converting")
        assert re.search(
            "disk of .* filled up.* while .* was converted|takes no file as large", last_line(outcome.stderr)
        )

    @pytest.mark.parametrize("full_at", ["quantizing", "writing"])
    def test_it_fills_up_later(
        self, checkpoint: Path, converted: Path, tmp_path: Path, full_at: Stage
    ) -> None:
        outcome = self.run(checkpoint, converted, tmp_path, means_here()[0], full_at=full_at)
        assert f"the disk filled up while {tmp_path / 'disk' / TARGET} was" in last_line(outcome.stderr)

    def test_it_fills_up_where_nothing_can_be_mounted(
        self, checkpoint: Path, converted: Path, tmp_path: Path
    ) -> None:
        """What stands for a small disk there tells the same."""
        outcome = self.run(checkpoint, converted, tmp_path, "limited", full_at="writing")
        assert f"the disk filled up while {tmp_path / 'disk' / TARGET} was" in last_line(outcome.stderr)
