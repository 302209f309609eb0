"""The papers' replay: its arithmetic, its notebook, and that the page says what the notebook holds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from replication.correlation import ranks, spearman
from replication.experiments import experiments
from replication.findings import Notebook
from replication.page import PAGE, write_page

DOCS = Path(__file__).parents[1] / "docs"


def test_rank_correlation_is_that_of_a_worked_example() -> None:
    """Intelligence and hours of television of ten people, the example of Wikipedia's page: -29/165."""
    intelligence = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    found = spearman(intelligence, hours)
    assert found.rho == pytest.approx(-29 / 165, abs=5e-4)
    assert found.low < found.rho < found.high and found.plans == 10


def test_equal_values_share_a_rank() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_the_notebook_goes_on_and_keeps_to_its_model(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    about = {"model": {"sha256": "a"}}
    Notebook(path, about).note_experiment("one", {"hits": 1})
    again = Notebook(path, about)
    assert "one" in again and "two" not in again
    again.note("sweep", [1])
    assert json.loads(path.read_text())["sweep"] == [1]
    with pytest.raises(ValueError, match="another model"):
        Notebook(path, {"model": {"sha256": "b"}})


def test_no_experiment_is_there_twice() -> None:
    names = [experiment.name for experiment in experiments()]
    assert len(names) == len(set(names))


def test_the_page_says_what_the_notebook_holds(tmp_path: Path) -> None:
    shutil.copy(DOCS / PAGE, tmp_path)
    (tmp_path / "replication").mkdir()
    write_page(json.loads((DOCS / "replication.json").read_text()), tmp_path)
    assert (tmp_path / PAGE).read_text() == (DOCS / PAGE).read_text()
    shown = set(re.findall(r"\]\(replication/([^)]+)\)", (DOCS / PAGE).read_text()))
    assert shown == {path.name for path in (tmp_path / "replication").iterdir()}
    assert shown == {path.name for path in (DOCS / "replication").iterdir()}
