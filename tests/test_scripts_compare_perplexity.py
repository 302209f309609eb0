"""The comparison with llama.cpp's own tool: what both are told, and what is read of what they say."""

from __future__ import annotations

import itertools
import json
import stat
import sys
from pathlib import Path

import click
import pytest

import compare_perplexity
from checks import perplexity_tool
from checks.perplexity_tool import CASES, Case, Compared, Subject, by_ropewalk, by_tool, our_arguments
from provision.failure import ProvisionError
from ropewalk.cli.perplexity import perplexity_command
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.perplexity_windows import sliding_stretches, truncated_stretches


@pytest.fixture
def subject(tiny_llama: Path) -> Subject:
    return Subject(tiny_llama, 128, 1)


def stand_in(folder: Path, *lines: str, exit_code: int = 0) -> Path:
    """A program that writes down its arguments and says these lines."""
    path = folder / "llama-perplexity"
    arguments = folder / "arguments.json"
    path.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"json.dump(sys.argv[1:], open({str(arguments)!r}, 'w'))\n"
        f"print({chr(10).join(lines)!r})\nsys.exit({exit_code})\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_tools_last_word_is_read(subject: Subject, tmp_path: Path) -> None:
    tool = stand_in(
        tmp_path,
        "perplexity: calculating perplexity over 2 chunks, n_ctx=512, batch_size=512, n_seq=1",
        "[1]9.8,[2]12.5,",
        "Final estimate: PPL = 12.5034 +/- 0.30123",
    )
    case = Case(512, 2, method=("yarn", 2), flags=("--rope-scaling", "yarn"))
    assert by_tool(tool, subject, Path("text.txt"), case) == 12.5034
    told = json.loads((tmp_path / "arguments.json").read_text())
    for pair in (("-c", "512"), ("-b", "512"), ("--rope-scaling", "yarn"), ("--yarn-orig-ctx", "128")):
        assert pair in itertools.pairwise(told)
    assert "--ppl-stride" not in told


def test_sliding_its_last_number_is_read(subject: Subject, tmp_path: Path) -> None:
    tool = stand_in(tmp_path, "computing over 3 chunks, n_ctx=1024", "[1]9.8000,[2]12.5000,[3]11.2500,")
    assert by_tool(tool, subject, Path("text.txt"), Case(1024, 3, stride=256)) == 11.25
    told = json.loads((tmp_path / "arguments.json").read_text())
    assert ("-c", "896") in itertools.pairwise(told)  # to which it adds half of a stride
    assert ("--ppl-stride", "256") in itertools.pairwise(told)


def test_what_goes_wrong_is_said(subject: Subject, tmp_path: Path) -> None:
    text, case = Path("text.txt"), Case(512, 2)
    with pytest.raises(ProvisionError, match="read 5 windows where 2 were meant"):
        by_tool(stand_in(tmp_path, "perplexity over 5 chunks"), subject, text, case)
    with pytest.raises(ProvisionError, match="read no windows"):
        by_tool(stand_in(tmp_path, "nothing"), subject, text, case)
    with pytest.raises(ProvisionError, match="llama-perplexity failed: out of memory"):
        by_tool(stand_in(tmp_path, "loading", "out of memory", exit_code=1), subject, text, case)


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("case", [Case(128, 2, stride=32), Case(64, 1, method=("pi", 2))])
def test_ours_reads_as_many_windows(subject: Subject, tmp_path: Path, case: Case) -> None:
    text = tmp_path / "text.txt"
    with Engine.start() as engine:
        engine.load(subject.model, EngineOptions(n_ctx=0, vocabulary_only=True))
        text.write_text(compare_perplexity._text(engine, case))
    assert by_ropewalk(subject, text, case) > 10


def test_ours_must_have_read_as_many(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    said = json.dumps({"summary": [{"windows": 1, "perplexity": 9.5}]})
    monkeypatch.setattr(perplexity_tool, "_run", lambda *_command, **_how: said)
    assert by_ropewalk(subject, Path("text.txt"), Case(64, 1)) == 9.5
    with pytest.raises(ProvisionError, match="read 1 windows where 9 were meant"):
        by_ropewalk(subject, Path("text.txt"), Case(64, 9))


@pytest.mark.parametrize("case", CASES)
def test_every_case_is_one_that_both_can_read(case: Case, subject: Subject) -> None:
    """As many windows, by the tool's own count of them and by ours."""
    n, c, s = case.n_tokens, case.context, case.stride
    if s is None:
        assert n // c == case.windows
        assert len(truncated_stretches(n, c, 0, None)) == case.windows
    else:
        assert (n - c + s - 1) // s == case.windows  # perplexity_v2's n_chunk_max
        assert len(sliding_stretches(n, c, s, 0, None)) == case.windows
        assert c % 256 == 0  # else the library rounds it up
    assert n >= 2 * c  # else it refuses
    verb, *arguments = our_arguments(subject, Path("text.txt"), case)
    assert verb == perplexity_command.name
    assert perplexity_command.make_context(verb, list(arguments), parent=click.Context(click.Group()))


def test_the_page_says_both_and_by_how_much_they_differ() -> None:
    compared = [Compared(CASES[0], 20.0, 20.02), Compared(CASES[1], 10.0, 9.8)]
    text = compare_perplexity._section(compared, Path("m.gguf"), 1)
    assert "| 20.0000 | 20.0200 | +0.100% |" in text
    assert "| 10.0000 | 9.8000 | -2.000% |" in text
    assert "The largest difference is 2.000%" in text
    assert perplexity_tool.ALIKE == 0.005
