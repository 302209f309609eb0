"""The results file: what comes back, what is refused, and what a run may go on from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results_records import record
from ropewalk.evaluation.provenance import machine
from ropewalk.evaluation.results_file import (
    ModelIdentity,
    RecordedPlan,
    ResultsFileError,
    ResultsMismatch,
    check_resumable,
    read_results,
    write_results,
)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    old = record(results=({"hit": True, "seconds": 0.1 + 0.2},), summary=({"x": None},), complete=True)
    write_results(tmp_path / "r.json", old)
    back = read_results(tmp_path / "r.json")
    assert back == replace(old, settings={**old.settings, "lengths": [4000]})
    assert back.results[0]["seconds"] == 0.1 + 0.2
    check_resumable(back, old)


def test_the_object_has_the_keys_of_every_verb() -> None:
    assert list(record().as_json()) == [
        *("schema", "ropewalk", "test", "command", "date", "machine", "earlier", "model", "settings"),
        *("plans", "complete", "results", "summary"),
    ]


def test_what_json_has_no_word_for_is_null() -> None:
    rows = ({"a": float("nan"), "b": [1.5, float("inf")], "c": {"d": (float("-inf"), "x")}},)
    value = record(results=rows).as_json()
    assert value["results"] == [{"a": None, "b": [1.5, None], "c": {"d": [None, "x"]}}]
    json.dumps(value, allow_nan=False)


def _without(key: str) -> bytes:
    value = record().as_json()
    del value[key]
    return json.dumps(value).encode()


def _with(key: str, other: object) -> bytes:
    return json.dumps({**record().as_json(), key: other}).encode()


DAMAGED = [
    b"",
    b"{",
    json.dumps(record().as_json()).encode()[:-40],
    b"\xff\xfe\x00",
    b"[]",
    b"{}",
    b"[" * 100_000,
    *(_without(key) for key in ("test", "command", "model", "settings", "plans", "results", "complete")),
    _with("results", {}),
    _with("results", [1]),
    _with("plans", [{"plan": None}]),
    _with("plans", [{"label": "x", "plan": 3}]),
    _with("plans", ["none"]),
    _with("model", {"file": 3, "fingerprint": "x"}),
    _with("model", "model.gguf"),
    _with("complete", "yes"),
    _with("command", "ropewalk"),
    _with("schema", 2),
    _with("schema", "\x1b[31m1\n"),
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "r.json"
    file.write_bytes(content)
    with pytest.raises(ResultsFileError) as caught:
        read_results(file)
    sentence = str(caught.value)
    assert sentence.startswith(str(file)) and sentence.endswith(".") and sentence.isprintable()


def test_a_file_that_is_not_there_or_is_a_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ResultsFileError, match=r"no such file; --json FILE begins one\."):
        read_results(tmp_path / "no.json")
    with pytest.raises(ResultsFileError, match="cannot be read"):
        read_results(tmp_path)


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"test": "lines"}, "the test 'lines', not 'passkey'"),
    ({"model": ModelIdentity("other.gguf", "cd34" * 8)}, r"another model, other\.gguf .*not model\.gguf"),
    ({"plans": (RecordedPlan("none", None),)}, "is of none, not of none, dprope"),
    (
        {
            "plans": (
                RecordedPlan("none", None),
                RecordedPlan("dprope", {"method": "dprope", "schedule": [{"frequency_factors": [1.0, 4.0]}]}),
            )
        },
        r"another plan under the name dprope: schedule .*4\.0.*, not .*2\.0",
    ),
    ({"settings": {"lengths": [4000], "trials": 2, "seed": 7, "kv_type": "f16"}}, "seed 7, not 0"),
    ({"settings": {"lengths": [4000], "trials": 2, "seed": 0}}, "kv type unsaid, not f16"),
    (
        {"settings": {"lengths": [4000], "trials": 2, "seed": 0, "kv_type": "f16", "needle": "x"}},
        "needle x, not unsaid",
    ),
    (
        {"settings": {"lengths": list(range(4000)), "trials": 2, "seed": 0, "kv_type": "f16"}},
        r"lengths \[0, 1, .*…, not \[4000\]",
    ),
]


@pytest.mark.parametrize(("changes", "named"), OTHERS, ids=[named for _, named in OTHERS])
def test_another_measurement_is_refused_by_what_differs(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ResultsMismatch, match=named) as caught:
        check_resumable(record(**changes), record(), name="r.json")
    sentence = str(caught.value)
    assert sentence.startswith("r.json ") and sentence.endswith(".") and "\n" not in sentence
    assert len(sentence) < 300


def test_a_plan_that_lacks_what_is_nothing_is_told() -> None:
    """As of a file that somebody changed: `null` and nothing at all are not the same."""
    theirs = record(plans=(RecordedPlan("pi", {}),))
    with pytest.raises(ResultsMismatch, match="under the name pi: rope layers unsaid, not null"):
        check_resumable(theirs, record(plans=(RecordedPlan("pi", {"rope_layers": None}),)))


def test_of_what_differs_between_plans_the_word_is_named_before_the_list() -> None:
    def plan(target: int) -> RecordedPlan:
        return RecordedPlan("pi", {"schedule": [float(target)], "target_length": target})

    with pytest.raises(ResultsMismatch, match="under the name pi: target length 8000, not 16000;"):
        check_resumable(record(plans=(plan(8000),)), record(plans=(plan(16000),)))


def test_another_machine_and_version_may_go_on() -> None:
    check_resumable(record(machine={"system": "Darwin"}, ropewalk="0.0.9", command=()), record())


def test_a_model_whose_file_was_renamed_is_the_same() -> None:
    check_resumable(record(model=ModelIdentity("renamed.gguf", "ab12" * 8)), record())


def test_the_machine_says_nothing_about_people_or_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import platform
    import socket

    facts = machine()
    assert facts["processor"] and isinstance(facts["logical_processors"], int)
    said = json.dumps(facts)
    assert socket.gethostname() not in said and str(Path.home()) not in said
    assert platform.node() not in said
    assert getpass.getuser() not in said.split('"')


@pytest.mark.parametrize(("old", "new", "named"), [(1, 0, "is of last too,"), (0, 1, "is without last;")])
def test_of_long_lists_of_plans_the_one_that_differs_is_named(old: int, new: int, named: str) -> None:
    many = tuple(RecordedPlan(f"a method with a long name {i}", None) for i in range(40))
    last = (RecordedPlan("last", None),)
    with pytest.raises(ResultsMismatch, match=named):
        check_resumable(
            replace(record(), plans=many + last * old),
            replace(record(), plans=many + last * new),
        )
