"""The text that comes with the package: whole, plain, and in what is built."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from ropewalk.evaluation.shipped_text import shipped_text

ROOT = Path(__file__).parent.parent
PACKED = "ropewalk/evaluation/texts/persuasion.txt.gz"
SHA256 = "5822e368a17a7167ddc3942a60335da0c1f9ae816ba10e8f26ed38788a4bf43d"


def test_it_is_the_novel_whole() -> None:
    text = shipped_text()
    assert hashlib.sha256(text.encode()).hexdigest() == SHA256
    assert text.startswith("Persuasion")
    assert len(text.split()) > 70_000
    assert (ROOT / "app" / PACKED).stat().st_size < 200_000


def test_a_built_wheel_has_it(tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(PACKED) == (ROOT / "app" / PACKED).read_bytes()
        assert "ropewalk/evaluation/texts/README.md" in archive.namelist()
