"""The demo's parts that are not the model's: baking once, and telling the truth at the end."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import demo
from ropewalk.cli.progress import ProgressReport
from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk_plan import GgufHeader, read_plan


def _answer(text: str, *, hit: bool, length: int) -> demo.Answer:
    result = RetrievalResult(
        method="the file",
        test="passkey",
        length=12000,
        depth=0.6,
        trial=0,
        expected=("12345",),
        answer=text,
        hit=hit,
        prompt_tokens=11990,
        distance=4796,
        computed_tokens=11990,
        seconds=100.4,
    )
    return demo.Answer(result, length)


def test_the_baked_copy_is_made_once(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = demo.baked_copy(tiny_llama, tmp_path / "baked", ProgressReport())
    stored = read_plan(GgufHeader.read(made))
    assert stored is not None
    assert (stored.plan.method, stored.plan.target_length) == (demo.METHOD, demo.TARGET_LENGTH)
    inode = made.stat().st_ino
    assert demo.baked_copy(tiny_llama, tmp_path / "baked", ProgressReport()).stat().st_ino == inode

    monkeypatch.setattr(demo, "METHOD_OPTIONS", {"threshold": "0.5"})
    again = demo.baked_copy(tiny_llama, tmp_path / "baked", ProgressReport())
    other = read_plan(GgufHeader.read(again))
    assert other is not None
    assert other.plan != stored.plan


def test_a_baked_copy_cut_short_is_made_anew(tiny_llama: Path, tmp_path: Path) -> None:
    made = demo.baked_copy(tiny_llama, tmp_path, ProgressReport())
    whole = made.read_bytes()
    made.write_bytes(whole[: len(whole) // 2])
    assert demo.baked_copy(tiny_llama, tmp_path, ProgressReport()) == made
    assert made.read_bytes() == whole


def test_the_answers_stand_side_by_side() -> None:
    plain = _answer(" the pass\nis the pass", hit=False, length=8192)
    baked = _answer(" 12345.", hit=True, length=16384)
    stream = io.StringIO()
    Console(file=stream, width=100).print(demo.comparison(plain, baked))
    shown = stream.getvalue()
    assert "11,990 tokens, at 60% of the text: 12345" in shown
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if "│" in line]
    assert ["its answer", "the pass is the pass", "12345."] in rows
    assert ["the passkey", "not found", "found"] in rows
    assert ["good up to", "8,192 tokens", "16,384 tokens"] in rows


@pytest.mark.parametrize(
    ("plain", "baked", "words"),
    [(False, True, None), (True, True, "shows no difference"), (False, False, "has failed")],
)
def test_the_end_tells_the_truth(plain: bool, baked: bool, words: str | None) -> None:
    file = Path("cache") / "a b.gguf"
    text = demo.closing_words(
        file, _answer("a", hit=plain, length=8192), _answer("b", hit=baked, length=16384)
    )
    assert "The baked file: 'cache/a b.gguf'" in text
    assert "chat 'cache/a b.gguf' YOUR_TEXT.txt" in text
    first = text.splitlines()[0]
    assert (words in first) if words else first.startswith("The baked file: ")


def test_a_path_below_home_is_shown_as_one_types_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    answer = _answer("b", hit=True, length=16384)
    text = demo.closing_words(Path("/home/ada/cache/a b.gguf"), _answer("a", hit=False, length=8192), answer)
    assert "The baked file: ~/'cache/a b.gguf'" in text
