"""What `scripts/gpu_check` concludes, packs and keeps; the device itself is what it is for."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

import gpu_check
from checks import gpu, gpu_build, gpu_pack
from checks.gpu import Speeds
from checks.trees import Tree
from provision.backends import Machine
from provision.failure import ProvisionError


def row(method: str, error: float, ignored: float = 1.0, **place: object) -> dict[str, Any]:
    return {
        **{"arch": "llama", "mode": "f16", "depth": 8000, "method": method, "error": error},
        **{"sharper": 1.0, "ignored": ignored if method else 0.0},
        **place,
    }


def test_errors_up_to_twice_that_of_no_plan_in_the_same_place_are_right() -> None:
    rows = [row("", 0.01), row("pi", 0.02), row("", 0.05, depth=32000), row("pi", 0.09, depth=32000)]
    assert gpu.parity_problems(rows) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("", 0.01), row("pi", 0.021)], "pi on llama, f16, up to 8,000 tokens: errs by 2.1e-02"),
        ([row("", 0.05, depth=32000), row("", 0.01), row("pi", 0.06)], "errs by 6.0e-02, no plan by 1.0e-02"),
        ([row("", 0.01), row("pi", 0.011, ignored=0.02)], "ignoring the plan would err by 2.0e-02 only"),
    ],
    ids=["too much", "another depth's error is no excuse", "could have been ignored"],
)
def test_what_is_above_the_bound_is_said(rows: list[dict[str, Any]], said: str) -> None:
    found = gpu.parity_problems(rows)
    assert len(found) == 1
    assert said in found[0]


def test_scores_that_are_scaled_err_by_as_much_more() -> None:
    assert gpu.parity_problems([row("", 0.01), row("yarn", 0.03, sharper=1.5)]) == []
    assert len(gpu.parity_problems([row("", 0.01), row("yarn", 0.031, sharper=1.5)])) == 1


def test_rounding_needs_no_excuse() -> None:
    assert gpu.parity_problems([row("", 1e-6), row("pi", 9e-5)]) == []


def test_the_table_of_parity_names_the_worst_method() -> None:
    found = {"offloaded": "3/3", "rows": [row("", 0.01), row("pi", 0.012), row("yarn", 0.015, ignored=0.7)]}
    text = gpu.parity_section(found, [])
    assert "3 runs, 3/3 layers offloaded" in text
    assert "| llama | f16 | 8,000 | 1.0e-02 | 1.5e-02 (yarn) | 1.50 | 7.0e-01 |" in text


def test_speeds_are_compared_round_by_round() -> None:
    """The median of the ratios, not the ratio of the medians: the second round was slow for both."""
    variants = {
        gpu.NO_PLAN: Speeds(prefill=[100.0, 50.0, 100.0], decode=[10.0, 5.0, 10.0]),
        "yarn": Speeds(prefill=[90.0, 45.0, 95.0], decode=[10.0, 5.0, 10.0]),
    }
    text = gpu.speed_section({4096: variants}, 3, 64)
    assert "| 4,096 | yarn | 90.0 | 0.900 | 10.0 | 1.000 |" in text


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Tree, Tree]:
    made = []
    for name, content in (("patched", "int ours;"), ("unpatched", "int theirs;")):
        tree = Tree(tmp_path / "cache" / name, f"1-{name}", name)
        for file in (
            "CMakeLists.txt",
            "src/llama.cpp",
            "ggml/src/ggml.c",
            "models/large.gguf",
            "tests/t.cpp",
        ):
            (tree.source / file).parent.mkdir(parents=True, exist_ok=True)
            (tree.source / file).write_text(content if file.endswith(".cpp") else "same", encoding="utf-8")
        made.append(tree)
    return made[0], made[1]


def test_a_pack_has_both_trees_without_what_no_library_needs(
    trees: tuple[Tree, Tree], tmp_path: Path
) -> None:
    root = Path(__file__).parents[1]
    target = tmp_path / "pack.tar.xz"
    size = gpu_pack.write_pack(target, root, *trees)
    assert size == target.stat().st_size
    with tarfile.open(target) as tar:
        names = set(tar.getnames())
        tar.extractall(tmp_path)
    folder = tmp_path / gpu_pack.NAME
    assert not [name for name in names if not name.startswith(f"{gpu_pack.NAME}/")]
    assert (folder / "sources/patched/llama.cpp/src/llama.cpp").read_text() == "int ours;"
    assert (folder / "sources/unpatched/llama.cpp/src/llama.cpp").read_text() == "int theirs;"
    assert not list(folder.rglob("*.gguf"))
    assert not (folder / "sources/patched/llama.cpp/tests").exists()
    for needed in ("scripts/gpu_check.py", "tests/reference_transformer.py", "python/llama_cpp/llama_cpp.py"):
        assert (folder / needed).is_file(), needed
    packed = gpu_pack.packed_trees(folder)
    assert packed is not None
    assert [(tree.version, tree.patches) for tree in packed] == [
        ("1-patched", "patched"),
        ("1-unpatched", "unpatched"),
    ]
    assert packed[0].source == folder / "sources/patched/llama.cpp"
    assert gpu_pack.packed_trees(root) is None, "a checkout is no pack"


def test_a_pack_without_a_needed_package_is_not_written(
    trees: tuple[Tree, Tree], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_pack, "PACKAGES", ("gguf", "no_such_package"))
    target = tmp_path / "out" / "pack.tar.xz"
    target.parent.mkdir()
    with pytest.raises(ProvisionError, match="no_such_package is not installed"):
        gpu_pack.write_pack(target, Path(__file__).parents[1], *trees)
    assert list(target.parent.iterdir()) == []


def test_each_card_keeps_its_own_result(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text("# On a GPU\n\nText.\n", encoding="utf-8")
    for card, text in (("Card A", "first"), ("Card B", "other"), ("Card A", "second")):
        gpu_check.keep(page, card, text)
    whole = page.read_text(encoding="utf-8")
    assert "first" not in whole
    assert whole.count("## Card A") == whole.count("## Card B") == 1
    assert whole.index("second") < whole.index("## Card B") < whole.index("other")


def test_without_a_gpu_a_rehearsal_has_to_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tree = Tree(tmp_path, "1", "x")
    bare = Machine("linux", lambda name: None, lambda path: False)
    monkeypatch.setattr(gpu_check, "this_machine", lambda: bare)
    monkeypatch.setattr(gpu_pack, "packed_trees", lambda root: (tree, tree))
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    with pytest.raises(ProvisionError, match="--backend cpu rehearses"):
        gpu_check.main()


def test_a_kept_library_is_its_own_and_shares_ggml(tmp_path: Path) -> None:
    """What is built next replaces the build's libllama, and must not replace the kept one."""
    built = tmp_path / "bin"
    built.mkdir()
    (built / "libllama.so.0").write_text("first")
    (built / "libllama.so").symlink_to("libllama.so.0")
    (built / "libggml.so").write_text("ggml")
    gpu_build.keep_library(built, tmp_path / "kept")
    (built / "libllama.so.0").write_text("second")
    assert (tmp_path / "kept" / "libllama.so").read_text() == "first"
    assert (tmp_path / "kept" / "libggml.so").samefile(built / "libggml.so")
    gpu_build.keep_library(built, tmp_path / "kept")
    assert (tmp_path / "kept" / "libllama.so").read_text() == "second"
