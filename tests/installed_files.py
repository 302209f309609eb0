"""Distributions laid into a folder as pip would lay them, for tests of what set-up sees of an environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def lay(site: Path, name: str, version: str, files: Mapping[str, str]) -> Path:
    """Lay a distribution down.

    Args:
        site: the `site-packages` folder.
        name: as in the name of its `dist-info` folder.
        version: its version.
        files: path from `site` -> content.

    Returns:
        Its `dist-info` folder.
    """
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    record = info / "RECORD"
    rows = [f"{record.relative_to(site)},,"]
    for path, content in {f"{info.name}/METADATA": f"Name: {name}\n", **files}.items():
        target = Path(os.path.normpath(site / path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
        rows.append(f'"{path}",sha256=unread,{len(content)}' if "," in path else f"{path},,{len(content)}")
    record.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return info
