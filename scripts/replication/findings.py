"""What experiments found, in one JSON file that is whole after every one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Findings = dict[str, Any]


class Notebook:
    """The file of all findings.

    Args:
        path: made with the first finding.
        about: what they were found with and on; another model's file is refused.

    Raises:
        ValueError: the file is of another model.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        self._held: Findings = {**about, "experiments": {}}
        if path.exists():
            read = json.loads(path.read_text(encoding="utf-8"))
            if read["model"] != about["model"]:
                raise ValueError(f"{path} has the findings on another model: name another file or remove it")
            self._held = read

    def __contains__(self, name: str) -> bool:
        return name in self._held or name in self._held["experiments"]

    def note(self, name: str, finding: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Keep a finding of its own."""
        self._held[name] = finding
        self._write()

    def note_experiment(self, name: str, finding: Findings) -> None:
        """Keep an experiment's."""
        self._held["experiments"][name] = finding
        self._write()

    @property
    def held(self) -> Findings:
        """All of it."""
        return self._held

    def _write(self) -> None:
        partial = self._path.with_name(f"{self._path.name}.part")
        partial.write_text(json.dumps(self._held, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._path)
