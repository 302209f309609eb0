"""`ropewalk pull`: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from huggingface_hub import constants

from cli_running import CommandLine, run_process, start_process
from hub_stand_in import COMMIT, HubStandIn, StandInRepo, point_at, running_hub
from ropewalk.cli.progress import Bytes

REPO = "somebody/model-GGUF"
ONE = b"GGUF" + bytes(range(256)) * 400


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    with running_hub() as stand_in:
        stand_in.repos[REPO] = StandInRepo({"model.Q4.gguf": ONE, "README.md": b"# A model"})
        point_at(stand_in, monkeypatch, tmp_path / "hf")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield stand_in


@pytest.fixture
def folder(hub: HubStandIn) -> Path:
    return platformdirs.user_cache_path("ropewalk") / "models" / "somebody--model-GGUF"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capfd)


def test_the_only_model_is_taken_and_its_path_printed(
    hub: HubStandIn, folder: Path, command: CommandLine
) -> None:
    outcome = command("pull", REPO)
    path = folder / "model.Q4.gguf"
    assert (outcome.exit_code, outcome.stdout) == (0, f"{path}\n")
    assert f"ropewalk chat {path}" in outcome.stderr
    assert path.read_bytes() == ONE


def test_a_named_model_that_is_there_is_said_without_a_network(
    hub: HubStandIn, folder: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("pull", REPO, "model.Q4.gguf")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in ((), ("--revision", COMMIT)):
        outcome = command("pull", REPO, "model.Q4.gguf", *revision)
        assert (outcome.exit_code, outcome.stdout) == (0, f"{folder / 'model.Q4.gguf'}\n")
        assert "nothing was fetched" in outcome.stderr
    assert hub.asked == []
    outcome = command("pull", REPO, "other.gguf")
    assert outcome.exit_code == 1
    assert "HF_HUB_OFFLINE" in outcome.sentence


def test_a_revision_is_asked_for_again_and_fetched_only_if_changed(
    hub: HubStandIn, folder: Path, command: CommandLine
) -> None:
    command("pull", REPO)
    assert "nothing was fetched" in command("pull", REPO, "--revision", "main").stderr
    hub.repos[REPO] = StandInRepo({"model.Q4.gguf": b"GGUF and more"}, commit="e" * 40)
    assert "nothing was fetched" in command("pull", REPO, "model.Q4.gguf").stderr
    outcome = command("pull", REPO, "model.Q4.gguf", "--revision", "v1", "--json")
    assert json.loads(outcome.stdout)["revision"] == "e" * 40
    assert (folder / "model.Q4.gguf").read_bytes() == b"GGUF and more"


def test_json_is_one_object(hub: HubStandIn, folder: Path, command: CommandLine) -> None:
    expected = {
        "path": str(folder / "model.Q4.gguf"),
        "repo": REPO,
        "file": "model.Q4.gguf",
        "quantization": "Q4",
        "revision": COMMIT,
        "bytes": len(ONE),
    }
    assert json.loads(command("pull", REPO, "--json").stdout) == expected
    assert json.loads(command("pull", REPO, "model.Q4.gguf", "--json").stdout) == expected


def test_many_models_are_listed_and_one_must_be_named(
    hub: HubStandIn, folder: Path, command: CommandLine
) -> None:
    hub.repos[REPO].files = {
        "model.Q4.gguf": ONE,
        "model.Q8.gguf": ONE * 2,
        "big/m-00001-of-00002.gguf": ONE,
        "big/m-00002-of-00002.gguf": ONE,
    }
    outcome = command("pull", REPO)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    lines = [line.split() for line in outcome.stderr.splitlines()]
    assert ["model.Q4.gguf", "Q4", "102.4", "kB"] in lines
    assert ["model.Q8.gguf", "Q8", "204.8", "kB"] in lines
    assert ["big/m-00001-of-00002.gguf", "-", "204.8", "kB", "in", "2", "parts"] in lines
    assert "3 GGUF models; name one" in outcome.stderr
    assert not folder.exists()
    outcome = command("pull", REPO, "big/m-00002-of-00002.gguf")
    assert outcome.stdout == f"{folder / 'big' / 'm-00001-of-00002.gguf'}\n"


MANY = {
    "m-Q4_K_M.gguf": ONE,
    "Q8_0/m-Q8_0-00001-of-00002.gguf": ONE,
    "Q8_0/m-Q8_0-00002-of-00002.gguf": ONE,
    "small-Q2_K.gguf": ONE,
    "large-Q2_K.gguf": ONE,
    "mmproj-Q4_K_M.gguf": ONE,
}


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ((REPO, "Q4_K_M"), "m-Q4_K_M.gguf"),
        ((f"{REPO}:q4_k_m",), "m-Q4_K_M.gguf"),
        ((f"{REPO}:Q8_0",), "Q8_0/m-Q8_0-00001-of-00002.gguf"),
    ],
)
def test_a_quantization_is_fetched_once_and_found_again_without_a_network(
    hub: HubStandIn,
    folder: Path,
    command: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    *,
    arguments: tuple[str, ...],
    file: str,
) -> None:
    hub.repos[REPO].files = MANY
    assert command("pull", *arguments).stdout == f"{folder / file}\n"
    assert (folder / file).read_bytes() == ONE
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = command("pull", *arguments)
    assert (again.exit_code, again.stdout) == (0, f"{folder / file}\n")
    assert "nothing was fetched" in again.stderr
    assert command("pull", REPO, file).stdout == f"{folder / file}\n"
    assert hub.asked == []


@pytest.mark.parametrize(
    ("quantization", "listed", "words"),
    [
        ("Q6_K", [*MANY], "has no model in Q6_K; name one of these"),
        ("q2_k", ["large-Q2_K.gguf", "small-Q2_K.gguf"], "has 2 models in Q2_K; name one of these"),
    ],
)
def test_a_quantization_that_names_not_one_model_leads_to_a_table(
    hub: HubStandIn, command: CommandLine, quantization: str, listed: list[str], words: str
) -> None:
    hub.repos[REPO].files = MANY
    outcome = command("pull", f"{REPO}:{quantization}")
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    head, *rows, sentence = outcome.stderr.splitlines()
    assert head.split() == ["file", "quantization", "size"]
    assert [row.split()[0] for row in rows] == sorted(name for name in listed if "00002-of" not in name)
    assert sentence.startswith("ropewalk: ") and words in sentence
    assert hub.ranges == []


def test_a_model_and_what_goes_with_it_are_one_model(
    hub: HubStandIn, folder: Path, command: CommandLine
) -> None:
    hub.repos[REPO].files = {"model.Q4.gguf": ONE, "mmproj-model-f16.gguf": ONE}
    assert command("pull", REPO).stdout == f"{folder / 'model.Q4.gguf'}\n"


def test_the_models_are_listed(hub: HubStandIn, command: CommandLine) -> None:
    hub.repos[REPO].files = MANY
    command("pull", REPO, "Q4_K_M")
    hub.asked.clear()
    outcome = command("pull", REPO, "--list")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    head, *rows = outcome.stdout.splitlines()
    assert head.split() == ["file", "quantization", "size", "in", "the", "cache"]
    assert len(rows) == 5
    assert " ".join(rows[0].split()) == "Q8_0/m-Q8_0-00001-of-00002.gguf Q8_0 204.8 kB in 2 parts no"
    assert " ".join(rows[2].split()) == "m-Q4_K_M.gguf Q4_K_M 102.4 kB yes"
    listed = json.loads(command("pull", REPO, "--list", "--json").stdout)
    assert (listed["repo"], listed["revision"], len(listed["models"])) == (REPO, COMMIT, 5)
    assert listed["models"][0] == {
        "file": "Q8_0/m-Q8_0-00001-of-00002.gguf",
        "quantization": "Q8_0",
        "bytes": 2 * len(ONE),
        "parts": 2,
        "in_cache": False,
    }
    assert listed["models"][2]["in_cache"] is True
    assert hub.ranges == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "words"),
    [
        ((), 2, "REPO"),
        (("model",), 2, "OWNER/NAME"),
        ((REPO, "../model.gguf"), 2, "../model.gguf"),
        ((f"{REPO}:",), 2, "OWNER/NAME:QUANTIZATION"),
        ((f"{REPO}:Q4", "model.Q4.gguf"), 2, "names a quantization already"),
        ((REPO, "Q4", "--list"), 2, "REPO alone"),
        (("nobody/nothing",), 1, "nobody/nothing"),
        ((REPO, "other.gguf"), 1, "it has model.Q4.gguf"),
        ((REPO, "--revision", "v9"), 1, "v9"),
        (("somebody/page",), 3, "not a GGUF file"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    hub: HubStandIn, command: CommandLine, arguments: tuple[str, ...], exit_code: int, words: str
) -> None:
    hub.repos["somebody/page"] = StandInRepo({"model.gguf": b"<html>"})
    outcome = command("pull", *arguments)
    assert (outcome.exit_code, outcome.stdout) == (exit_code, "")
    assert words in outcome.sentence
    assert list(platformdirs.user_cache_path("ropewalk").rglob("*.gguf")) == []


def test_a_process_without_a_hub_says_it_in_one_line(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    outcome = run_process("pull", REPO)
    assert outcome.exit_code == 1
    assert "cannot be reached" in outcome.sentence
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    outcome = run_process("pull", REPO)
    assert outcome.exit_code == 1
    assert "HF_HUB_OFFLINE" in outcome.sentence


def test_interrupted_it_says_so_and_goes_on_the_next_time(hub: HubStandIn, folder: Path) -> None:
    hub.seconds_per_block = 0.05
    process = start_process(["pull", REPO])
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size > 1000 for part in folder.glob(".*.part")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "ropewalk: Interrupted; the same command goes on where it stopped.\n"
    (part,) = folder.glob(".*.part")
    had = part.stat().st_size
    hub.seconds_per_block = 0.0
    hub.asked.clear()
    assert run_process("pull", REPO).exit_code == 0
    assert hub.ranges == [f"bytes={had}-"]
    assert (folder / "model.Q4.gguf").read_bytes() == ONE


def test_bytes_have_a_rate() -> None:
    assert Bytes().rate(3_140_000.0) == "3.1 MB/s"
