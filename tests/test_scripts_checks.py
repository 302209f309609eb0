"""What the checks of the patch conclude from what they see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checks import architectures, report, rope_symbols, sanitizers, upstream_tests
from checks.architecture_plans import CASES, N_TOKENS, TARGET_LENGTH, TRAIN_LENGTH, PlanCase
from checks.rope_symbols import ObjectFile
from checks.trees import Tree, mirror
from checks.upstream_tests import Ending, UpstreamTest
from provision.failure import ProvisionError


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def test_a_tree_is_brought_up_to_date_in_place(tmp_path: Path) -> None:
    target = _write(tmp_path / "kept", {"same.c": "1", "src/old.c": "2", "src/gone.c": "3"})
    os.utime(target / "same.c", (1, 1))
    mirror(_write(tmp_path / "fresh", {"same.c": "1", "src/old.c": "two", "new/one.c": "4"}), target)
    files = {str(path.relative_to(target)): path.read_text() for path in target.rglob("*") if path.is_file()}
    assert files == {"same.c": "1", "src/old.c": "two", "new/one.c": "4"}
    assert (target / "same.c").stat().st_mtime == 1, "a file that is the same must not be compiled again"


def test_a_section_of_the_page_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- begin a -->\nold\n<!-- end a -->\n\n<!-- begin b -->\n<!-- end b -->\nlast\n")
    report.put(page, "a", "new\n")
    report.put(page, "b", "two\nlines")
    assert page.read_text() == (
        "# A\n<!-- begin a -->\nnew\n<!-- end a -->\n\n<!-- begin b -->\ntwo\nlines\n<!-- end b -->\nlast\n"
    )
    with pytest.raises(ProvisionError, match="begin c"):
        report.put(page, "c", "text")


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert report.table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |"


def test_the_page_has_a_place_for_every_check() -> None:
    import check_patch

    text = (Path(__file__).parents[1] / "docs" / "checks.md").read_text(encoding="utf-8")
    for name in check_patch.CHECKS:
        assert text.count(f"<!-- begin {name} -->\n") == 1
        assert text.count(f"<!-- end {name} -->\n") == 1


@pytest.mark.parametrize(
    ("hidden", "expected"), [(True, ((), ("ggml_rope_ext",))), (False, (("ggml_rope_ext",), ()))]
)
def test_what_a_compiled_model_calls_is_read(
    hidden: bool, expected: tuple[tuple[str, ...], tuple[str, ...]], tmp_path: Path
) -> None:
    """A unity batch of one model file whose graph calls `ggml_rope_ext`, with and without the member."""
    member = "void ggml_rope_ext(int) const;" if hidden else ""
    model = _write(
        tmp_path / "models",
        {
            "a.cpp": 'extern "C" void ggml_rope_ext(int);\n'
            f"struct llm_graph_context {{ {member} void build() const; }};\n"
            "void llm_graph_context::build() const { ggml_rope_ext(1); }\n"
        },
    )
    batch = _write(tmp_path / "Unity", {"unity_0_cxx.cxx": f'#include "{model}/a.cpp"\n'}) / "unity_0_cxx.cxx"
    compiled = batch.with_name("unity_0_cxx.cxx.o")
    subprocess.run(["c++", "-c", str(batch), "-o", str(compiled)], check=True)
    assert rope_symbols.read_object(compiled, tmp_path) == ObjectFile(
        "unity_0_cxx.cxx", ("a.cpp",), *expected
    )


MEMBERS = ("ggml_rope_ext",)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        (
            [ObjectFile("unity_0", ("a.cpp", "b.cpp"), ("ggml_rope_ext",), MEMBERS)],
            "unity_0 calls ggml_rope_ext",
        ),
        ([ObjectFile("unity_0", ("a.cpp",), (), MEMBERS)], "no object file of b.cpp"),
        ([ObjectFile("unity_0", ("a.cpp", "b.cpp"), (), ())], "is this the patched tree"),
        ([ObjectFile("unity_0", ("a.cpp", "b.cpp"), (), MEMBERS)], "nm was misread"),
    ],
)
def test_what_a_model_object_must_not_refer_to(objects: list[ObjectFile], said: str) -> None:
    assert any(said in problem for problem in rope_symbols.problems(objects, ["a.cpp", "b.cpp"]))


def test_models_that_call_the_members_alone_are_right() -> None:
    objects = [
        ObjectFile("unity_0", ("a.cpp", "b.cpp"), (), MEMBERS),
        ObjectFile("llama-plan-runtime.cpp", (), ("ggml_rope_ext",), ()),
    ]
    assert rope_symbols.problems(objects, ["a.cpp", "b.cpp"]) == []
    assert "0 of them refer" in rope_symbols.section(objects, ["a.cpp", "b.cpp"], [])


def trial(cases: dict[str, Any] | None = None, **changes: object) -> dict[str, Any]:
    """What a model without a scaling of its own gives where everything is right."""
    firsts: dict[str, int | None] = {case.name: case.first for case in CASES}
    right = {name: {"first": first, "digest": name} for name, first in firsts.items()}
    right["schedule"]["digest"] = "factors"
    given: dict[str, Any] = {"scaling": [], "causal": True, "plain": "p", "stock": True, "restored": True}
    return {**given, "pairs": 8, "cases": {**right, **(cases or {})}, **changes}


def test_a_model_under_which_everything_is_right_has_no_problem() -> None:
    assert architectures.problems(trial()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cases": {"identity": {"first": 7, "digest": "d"}}}, "identity: changes position 7"),
        ({"cases": {"factors": {"first": None, "digest": "factors"}}}, "factors: changes nothing"),
        ({"cases": {"logn": {"first": TRAIN_LENGTH - 1, "digest": "d"}}}, f"before {TRAIN_LENGTH}"),
        ({"cases": {"schedule": {"first": 1, "digest": "d"}}}, "not equal to factors"),
        ({"cases": {"logn": {"refused": ""}}}, "without a sentence"),
        ({"stock": False}, "not what the unpatched library computes"),
        ({"restored": False}, "not what it was before"),
        ({"failed": "ended with -6"}, "ended with -6"),
    ],
)
def test_what_is_wrong_with_a_model_is_said(changes: dict[str, Any], said: str) -> None:
    found = architectures.problems(trial(**changes))
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"cases": {"logn": {"refused": "the architecture attends by itself"}}},
        {"scaling": ["rope_freqs.weight"], "cases": {"identity": {"first": 1, "digest": "d"}}},
        {"causal": False, "cases": {"periodic": {"first": 0, "digest": "d"}}},
    ],
    ids=["refused with a sentence", "a scaling of its own is replaced", "not causal"],
)
def test_what_is_allowed(changes: dict[str, Any]) -> None:
    assert architectures.problems(trial(**changes)) == []


def test_the_table_of_architectures_groups_models_with_the_same_outcome() -> None:
    trials = {
        "llama-dense": trial(),
        "qwen2-dense": trial(),
        "phi3-dense": trial(scaling=["rope_factors_long.weight"]),
        "gpt2-dense": {
            "scaling": [],
            "causal": True,
            "plain": "p",
            "refused": "the architecture gpt2 does not rotate",
        },
    }
    text = architectures.section(trials)
    assert "| 3: llama-dense, qwen2-dense, phi3-dense* | no bit changed | from 1 |" in text
    assert "| 1: gpt2-dense | refused |" in text
    assert "the architecture ARCH does not rotate | every plan | 1: gpt2-dense |" in text
    assert "Not as expected: nothing." in text


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_plans_that_are_tried_reach_beyond_the_tokens(case: PlanCase) -> None:
    plan = case.make(8, 3)  # refuses numbers that make no plan
    assert plan.target_length == TARGET_LENGTH > N_TOKENS > plan.train_length


def _entry(name: str, command: list[str], **properties: object) -> dict[str, Any]:
    return {
        "name": name,
        "command": command,
        "properties": [{"name": key, "value": value} for key, value in properties.items()],
    }


@pytest.mark.parametrize(
    ("entry", "with_model", "skip"),
    [
        (_entry("plain", ["/bin/a"], LABELS=["main"]), False, ""),
        (_entry("absent", [], LABELS=["main"]), True, "was not built"),
        (_entry("vocabs", ["/bin/a.sh", "https://example.org/vocabs"], LABELS=["main"]), True, "clones"),
        (_entry("fetch", ["cmake"], FIXTURES_SETUP=["test-download-model"]), True, "is the download"),
        (_entry("made", ["/bin/a"], FIXTURES_SETUP=["generate-models"]), False, ""),
        (_entry("labelled", ["/bin/a"], LABELS=["model"]), False, "needs a model"),
        (_entry("labelled", ["/bin/a"], LABELS=["model"]), True, ""),
        (
            _entry("fixed", ["/bin/a", "-m", "x"], FIXTURES_REQUIRED=["test-download-model"]),
            False,
            "needs a model",
        ),
    ],
)
def test_what_of_upstreams_tests_is_run(
    entry: dict[str, Any], with_model: bool, skip: str, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf" if with_model else None
    got = upstream_tests.read_test(entry, tmp_path, model).skip
    assert got == "" if not skip else skip in got


def test_a_downloaded_model_is_replaced_by_the_given_one(tmp_path: Path) -> None:
    entry = _entry("threads", ["/bin/a", "-m", "x", "-n", "1"], FIXTURES_REQUIRED=["test-download-model"])
    test = upstream_tests.read_test(entry, tmp_path, tmp_path / "demo.gguf")
    assert test.command == ("/bin/a", "-m", str(tmp_path / "demo.gguf"), "-n", "1")
    assert test.needs_model


def test_only_what_passes_unpatched_and_fails_patched_is_a_regression() -> None:
    patched = {"a": Ending(True, 1, ""), "b": Ending(False, 1, "said"), "c": Ending(False, 1, "")}
    unpatched = {"b": Ending(True, 1, ""), "c": Ending(False, 1, "")}
    assert upstream_tests.regressions(patched, unpatched) == ["b"]
    tests = [UpstreamTest(name, ("x",), Path()) for name in "abc"] + [
        UpstreamTest("d", (), Path(), skip="was not built")
    ]
    text = upstream_tests.section(tests, patched, unpatched)
    assert "4 tests: 1 passed, 2 failed, 1 skipped. Failed here and passed on the unpatched tree: b." in text
    assert "| b | failed | passed | 1.0 |  |" in text
    assert "| d | skipped |  |  | was not built |" in text
    assert "```\nsaid\n```" in text


def test_a_test_of_upstreams_is_run_where_it_belongs_with_its_model(tmp_path: Path) -> None:
    program = (
        _write(tmp_path, {"program.sh": '#!/bin/sh\npwd; echo "$LLAMACPP_TEST_MODELFILE"; exit 3\n'})
        / "program.sh"
    )
    program.chmod(0o755)
    test = UpstreamTest("t", (str(program),), tmp_path / "made", needs_model=True)
    ending = upstream_tests.run_test(test, Path("demo.gguf"))
    assert not ending.passed
    assert ending.tail.splitlines() == [str(tmp_path / "made"), "demo.gguf"]


def test_sanitizers_findings_are_told_with_their_place() -> None:
    text = (
        "==12==ERROR: AddressSanitizer: SEGV on unknown address 0x1 (pc 0x7 bp 0x8 T0)\n"
        "==12==The signal is caused by a READ memory access.\n"
        "    #0 0x2 in memcpy (/lib/libc.so.6+0x3)\n"
        "    #1 0x3 in llama_shift(int, long) ../llama.cpp/src/llama-a.cpp:61\n"
        "    #2 0x4 in llama_decode ../llama.cpp/src/llama-b.cpp:7\n"
        "    #3 0x5 in _PyEval_Vector Python/ceval.c:6434\n"
        "../llama.cpp/src/c.cpp:3:5: runtime error: shift exponent 40 is too large\n"
    )
    assert sanitizers.findings(text) == [
        "ERROR: AddressSanitizer: SEGV on unknown address 0x1 < llama_shift(int, long) "
        "../llama.cpp/src/llama-a.cpp:61 < llama_decode ../llama.cpp/src/llama-b.cpp:7",
        "../llama.cpp/src/c.cpp:3:5: runtime error: shift exponent 40 is too large",
    ]


def test_a_test_file_that_a_signal_ends_is_told(tmp_path: Path) -> None:
    tests = _write(
        tmp_path / "tests",
        {
            "test_a.py": "def test_a():\n    pass\n",
            "test_b.py": "import os, signal\ndef test_b():\n    os.kill(os.getpid(), signal.SIGKILL)\n",
        },
    )
    runs = [sanitizers.run_module(tests / name, tmp_path) for name in ("test_a.py", "test_b.py")]
    assert [run.exit_code for run in runs] == [0, -9]
    text = sanitizers.section(runs)
    assert "| test_a.py | 1 passed in" in text
    assert "| test_b.py | ended by signal 9 | 0 |" in text
    assert "Failed: test_b.py. Found by the sanitizers: nothing." in text


def test_the_sanitized_tests_are_there() -> None:
    folder = Path(__file__).parent
    required = (
        "test_parity*.py",
        "test_schedule*.py",
        "test_library_refusals*.py",
        "test_modes*.py",
        "test_windows*.py",
    )
    for pattern in required:
        assert pattern in sanitizers.TESTS
        assert list(folder.glob(pattern)), pattern


def test_the_heading_says_what_was_run_on_what(tmp_path: Path) -> None:
    begin = report.Moment.now()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    computed = report.Moment.now().processor - begin.processor
    assert 0 < computed < 60
    text = report.heading(Tree(tmp_path, "1+x.1", "0123456789abcdef"), begin, "./scripts/check_patch symbols")
    assert text.startswith("`./scripts/check_patch symbols`, 20")
    assert "llama.cpp of 1+x.1, patches 0123456789ab;" in text
    assert text.endswith("of processor time).")
