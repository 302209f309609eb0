"""--json, --png, --html, --resume and --force, on a verb that counts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from cli_running import CommandLine, Outcome
from results_records import record
from ropewalk.cli.evaluation_outputs import EvaluationOutputs, evaluation_outputs
from ropewalk.cli.verbs import VerbGroup
from ropewalk.engine import DoesNotFitError, EngineDied
from ropewalk.evaluation.report import Report
from ropewalk.evaluation.results_file import RecordedPlan, ResultsRecord, read_results, write_results

REPORT = Report(
    summary=lambda record: [{"sum": sum(row["number"] for row in record.results)}],
    text=lambda record, colour, blocks: f"text of {len(record.results)}, colour {colour}",
    picture=lambda record, picture_format: f"{picture_format} of {len(record.results)}".encode(),
    page=lambda record: f"page of {len(record.results)}, sum {record.summary[0]['sum']}",
)


class Counting:
    """A verb that measures the numbers 0 to 4, and can be stopped at one of them."""

    def __init__(self) -> None:
        self.measured: list[int] = []
        self.stop_at: int | None = None
        self.error: BaseException = KeyboardInterrupt()
        self.seen: Callable[[], None] = lambda: None

    def command(self) -> click.Command:
        @click.command("count")
        @click.argument("model", type=click.Path(path_type=Path))
        @click.option("--seed", type=int, default=0)
        @evaluation_outputs
        def count(*, model: Path, seed: int, outputs: EvaluationOutputs) -> None:
            with outputs.recording(
                test="counting",
                model=model,
                settings={"seed": seed},
                plans=[RecordedPlan("none", None)],
                report=REPORT,
                total=5,
            ) as recording:
                for number in range(len(recording.results), 5):
                    if number == self.stop_at:
                        raise self.error
                    self.measured.append(number)
                    recording.add({"number": number})
                    self.seen()

        return count


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.touch()
    return path


@pytest.fixture
def count(
    counting: Counting, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    monkeypatch.setattr(VerbGroup, "get_command", lambda *_: counting.command())
    line = CommandLine(monkeypatch, capfd)
    return lambda *arguments: line("count", model, *arguments)


def test_everything_is_put_out(count: Callable[..., Outcome], model: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("r.json", "r.svg", "r.html")]
    outcome = count("--json", files[0], "--png", files[1], "--html", files[2])
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout == "text of 5, colour False\n"
    value = json.loads(files[0].read_text())
    assert value["complete"] is True and value["summary"] == [{"sum": 10}]
    assert value["results"] == [{"number": number} for number in range(5)]
    assert value["command"] == [
        *("ropewalk", "count", str(model), "--json", str(files[0]), "--png", str(files[1])),
        *("--html", str(files[2])),
    ]
    assert value["model"] == {"file": "model.gguf", "fingerprint": ""}
    assert files[1].read_text() == "svg of 5" and files[2].read_text() == "page of 5, sum 10"


def test_the_object_alone_stands_on_stdout(count: Callable[..., Outcome]) -> None:
    outcome = count("--json", "-")
    assert json.loads(outcome.stdout)["complete"] is True
    assert outcome.stderr == "text of 5, colour False\n"


def test_each_result_is_in_the_file_when_the_next_is_measured(
    count: Callable[..., Outcome], counting: Counting, tmp_path: Path
) -> None:
    file = tmp_path / "r.json"
    sizes: list[int] = []
    counting.seen = lambda: sizes.append(len(read_results(file).results))
    count("--json", file)
    assert sizes == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("option", ["--json", "--png", "--html"])
def test_a_file_that_exists_is_refused_before_anything_is_measured(
    count: Callable[..., Outcome], counting: Counting, tmp_path: Path, option: str
) -> None:
    file = tmp_path / {"--json": "r.json", "--png": "r.png", "--html": "r.html"}[option]
    file.write_text("mine")
    outcome = count(option, file)
    assert outcome.exit_code == 2 and f"{file} exists; --force replaces it" in outcome.sentence
    assert option in outcome.sentence
    assert file.read_text() == "mine" and counting.measured == []
    assert count(option, file, "--force").exit_code == 0
    assert file.read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--png", "r.jpg"], "r.jpg does not end in .png or .svg"),
        (["--png", "-"], "does not end in .png or .svg"),
        (["--html", "r.json"], "r.json does not end in .html or .htm"),
        (["--json", "r.svg", "--png", "r.svg"], "--json and --png name the same file"),
        (["--json", "r.html", "--html", "./r.html"], "--json and --html name the same file"),
        (["--json", "nowhere/r.json"], "check its directory"),
        (["--html", "nowhere/r.html"], "check its directory"),
    ],
)
def test_targets_that_cannot_be_are_refused(
    *,
    count: Callable[..., Outcome],
    counting: Counting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = count(*arguments)
    assert outcome.exit_code == 2 and said in outcome.sentence
    assert counting.measured == []


def test_a_picture_without_matplotlib_is_refused_at_once(
    count: Callable[..., Outcome], counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = count("--png", tmp_path / "r.png", "--json", tmp_path / "r.json")
    assert outcome.exit_code == 1
    assert "./scripts/setup plot" in outcome.sentence and "leave --png out" in outcome.sentence
    assert counting.measured == [] and not (tmp_path / "r.json").exists()


def test_interrupted_and_resumed(count: Callable[..., Outcome], counting: Counting, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    counting.stop_at = 3
    outcome = count("--json", file, "--html", tmp_path / "r.html")
    assert outcome.exit_code == 130
    assert outcome.sentence == f"Interrupted with 3 of 5 results, kept in {file}; --resume {file} goes on."
    assert outcome.stdout == "text of 3, colour False\n"
    first = read_results(file)
    assert first.complete is False and first.summary == ({"sum": 3},)
    assert (tmp_path / "r.html").read_text() == "page of 3, sum 3"
    counting.stop_at, counting.measured = None, []
    outcome = count("--resume", file)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert counting.measured == [3, 4]
    second = read_results(file)
    assert second.complete and [row["number"] for row in second.results] == [0, 1, 2, 3, 4]
    assert list(second.earlier) == [first.provenance]
    counting.measured = []
    assert count("--resume", file).stdout == "text of 5, colour False\n"
    assert counting.measured == [], "nothing was left to measure"
    assert read_results(file) == second, "and it says when and where it was measured still"


def test_resumed_into_another_file_the_first_stays(
    count: Callable[..., Outcome], counting: Counting, tmp_path: Path
) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    counting.stop_at = 2
    count("--json", first)
    before = first.read_bytes()
    counting.stop_at = None
    assert count("--resume", first, "--json", second).exit_code == 0
    assert first.read_bytes() == before and len(read_results(second).results) == 5
    assert count("--resume", first, "--json", second).exit_code == 2, "the other file exists by now"
    assert count("--resume", first, "--json", first).exit_code == 0, "the same may be named twice"
    assert count("--resume", second, "--json", "-").exit_code == 0


def test_an_error_in_the_middle_leaves_what_was_measured(
    count: Callable[..., Outcome], counting: Counting, tmp_path: Path
) -> None:
    file = tmp_path / "r.json"
    counting.stop_at, counting.error = 2, OSError(5, "Input/output error")
    assert count("--json", file).exit_code == 1
    assert len(read_results(file).results) == 2 and not read_results(file).complete


@pytest.mark.parametrize("keeps", [True, False])
def test_an_engine_that_fails_in_the_middle_costs_no_result(
    *, count: Callable[..., Outcome], counting: Counting, tmp_path: Path, keeps: bool
) -> None:
    file = tmp_path / "r.json"
    counting.stop_at, counting.error = 2, EngineDied("was killed by SIGKILL")
    outcome = count("--json", file) if keeps else count()
    assert outcome.exit_code == 1 and outcome.stdout == "text of 2, colour False\n"
    assert "was killed by SIGKILL" in outcome.sentence and "2 of 5 results had come" in outcome.sentence
    assert (f"kept in {file}; --resume {file} goes on" in outcome.sentence) is keeps
    counting.stop_at = None
    if keeps:
        assert read_results(file).summary == ({"sum": 1},) and not read_results(file).complete
        assert count("--resume", file).exit_code == 0 and read_results(file).complete


def test_a_context_that_does_not_fit_ends_with_its_own_code(
    count: Callable[..., Outcome], counting: Counting, tmp_path: Path
) -> None:
    counting.error = DoesNotFitError("ask for at most 320 tokens", needed=2, free=1, largest_n_ctx=320)
    for stop_at in (0, 2):
        counting.stop_at = stop_at
        outcome = count("--json", tmp_path / "r.json")
        assert outcome.exit_code == 4 and "at most 320 tokens" in outcome.sentence


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_bytes_that_are_no_text_are_in_no_way(
    *,
    counting: Counting,
    count: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    model = tmp_path / "model\udcff.gguf"
    model.touch()
    files = [tmp_path / name for name in ("r.json", "r.html")]
    outcome = CommandLine(monkeypatch, capfd)("count", model, "--json", files[0], "--html", files[1])
    assert (outcome.exit_code, outcome.stderr) == (0, "") and counting.measured == [0, 1, 2, 3, 4]
    assert json.loads(files[0].read_bytes().decode())["model"]["file"] == "model?.gguf"
    assert count("--json", tmp_path / f"{'x' * 250}.json").exit_code == 0, "as long as names can be"


def test_a_reader_that_has_had_enough_costs_no_file(
    count: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("ropewalk.cli.evaluation_outputs.click.echo", closed)
    files = [tmp_path / name for name in ("r.json", "r.svg", "r.html")]
    outcome = count("--json", files[0], "--png", files[1], "--html", files[2])
    assert (outcome.exit_code, outcome.stderr) == (1, "")
    assert read_results(files[0]).complete and all(file.exists() for file in files)


def test_nothing_measured_nothing_written(
    count: Callable[..., Outcome], counting: Counting, tmp_path: Path
) -> None:
    counting.stop_at = 0
    outcome = count("--json", tmp_path / "r.json", "--html", tmp_path / "r.html")
    assert outcome.exit_code == 130 and outcome.sentence == "Interrupted with 0 of 5 results."
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(
    ("content", "exit_code", "said"),
    [
        (None, 3, "no such file; --json FILE begins one"),
        (b"{", 3, "is damaged or no results file"),
        (b'{"results": []}', 3, "is no results file"),
        (record(test="counting"), 2, "is of another model"),
        (record(), 2, "is of the test 'passkey', not 'counting'"),
    ],
)
def test_a_file_that_cannot_be_gone_on_from_is_one_sentence(
    *,
    count: Callable[..., Outcome],
    counting: Counting,
    tmp_path: Path,
    content: bytes | ResultsRecord | None,
    exit_code: int,
    said: str,
) -> None:
    file = tmp_path / "r.json"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        write_results(file, content)
    before = file.read_bytes() if content is not None else None
    outcome = count("--resume", file)
    assert outcome.exit_code == exit_code and said in outcome.sentence
    assert str(file) in outcome.sentence and counting.measured == []
    assert (file.read_bytes() if file.exists() else None) == before


def test_another_seed_is_refused(count: Callable[..., Outcome], counting: Counting, tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    counting.stop_at = 2
    count("--json", file)
    outcome = count("--resume", file, "--seed", "1")
    assert outcome.exit_code == 2 and "was made with seed 0, not 1" in outcome.sentence


def test_a_page_that_cannot_be_written_costs_the_page_and_nothing_else(
    count: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ropewalk.cli.evaluation_outputs.write_whole", full)
    file, page = tmp_path / "r.json", tmp_path / "r.html"
    outcome: Any = count("--json", file, "--html", page)
    assert outcome.exit_code == 1 and outcome.stdout == "text of 5, colour False\n"
    assert outcome.sentence == f"{page} could not be written (No space left on device)."
    assert read_results(file).complete
