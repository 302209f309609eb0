"""Imports go one way: from what people see down to the plan."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = (ROOT / "app", ROOT / "converters")

MAY_IMPORT: dict[str, set[str]] = {
    "ropewalk_plan": set(),
    "ropewalk_convert": {"ropewalk_plan"},
    "ropewalk.backend": {"ropewalk_plan"},
    "ropewalk.engine": {"ropewalk.backend", "ropewalk_plan"},
    "ropewalk.documents": {"ropewalk.engine", "ropewalk.wording"},
    "ropewalk.wording": {"ropewalk.engine", "ropewalk_plan"},
    "ropewalk.sessions": {"ropewalk.documents", "ropewalk.engine", "ropewalk.wording", "ropewalk_plan"},
    "ropewalk.evaluation": {"ropewalk.engine", "ropewalk.wording", "ropewalk_plan"},
}
"""What each package may import of ours, besides itself; the command line and the screens may import all."""


def package_of(module: str) -> str:
    """`ropewalk.engine` for `ropewalk.engine.client`, `ropewalk_plan` for `ropewalk_plan.plan`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "ropewalk" else parts[0]


def imported(path: Path) -> set[str]:
    """The packages of ours that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {package_of(name) for name in found if name.split(".")[0] in ("ropewalk", *_CONVERTERS)}


_CONVERTERS = ("ropewalk_plan", "ropewalk_convert")


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    files = [path for root in SOURCES for path in (root / package.replace(".", "/")).rglob("*.py")]
    assert files
    for path in files:
        strays = imported(path) - MAY_IMPORT[package] - {package}
        assert not strays, f"{path.relative_to(ROOT)} imports {', '.join(sorted(strays))}"


def test_nothing_imports_the_command_line_but_its_entry() -> None:
    for root in SOURCES:
        for path in root.rglob("*.py"):
            inside = path.relative_to(root).parts[:2]
            if inside == ("ropewalk", "cli") or path.name == "__main__.py":
                continue
            assert "ropewalk.cli" not in imported(path), path
