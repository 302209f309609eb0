"""The figures that `scripts/reproduce_dprope` prints."""

from __future__ import annotations

import itertools

import pytest

import reproduce_dprope


def test_table_3_within_half_a_percent() -> None:
    figures = reproduce_dprope.table_3()
    assert [(f.method, f.length, f.paper) for f in figures] == [
        *(("pi", 8192, 24.08), ("pi", 16384, 33.67)),
        *(("yarn", 8192, 25.55), ("yarn", 16384, 35.44)),
        *(("dprope", 8192, 6.71), ("dprope", 16384, 22.92)),
    ]
    for figure in figures:
        assert figure.ours == pytest.approx(figure.paper, rel=0.005), figure


def test_the_sweep_of_dimensions_agrees_with_the_papers_scores() -> None:
    """Fewer interpolated dimensions disturb more, and score less (Section 5.2)."""
    sweep = reproduce_dprope.sweep_dims()
    at_8k = {dims: figures[0] for dims, figures in sweep.items()}
    assert list(at_8k) == [56, 64, 72, 80, 88, 96]
    upward = [at_8k[dims] for dims in (88, 80, 72, 64, 56)]
    assert upward == sorted(upward)
    assert at_8k[80] == pytest.approx(6.71, rel=0.005), "the paper's setting at 8k"
    assert sweep[64][1] == pytest.approx(22.92, rel=0.006), "the paper's setting at 16k"
    assert at_8k[56] / at_8k[88] == pytest.approx(1.053, abs=0.005)
    for few, many in itertools.combinations((56, 64, 72, 80), 2):
        assert reproduce_dprope.TABLE_4[few] < reproduce_dprope.TABLE_4[many]
        assert at_8k[few] > at_8k[many]


def test_the_sweep_of_bins() -> None:
    """More bins see more, of every method; the order of the methods stays."""
    sweep = reproduce_dprope.sweep_bins()
    assert list(sweep) == [90, 180, 360, 720]
    assert sweep[360] == pytest.approx((24.06, 25.60, 6.73), abs=0.01)
    for pi, yarn, dprope in sweep.values():
        assert dprope < pi
        assert dprope < yarn


def test_prints_paper_and_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce_dprope.main() == 0
    printed = capsys.readouterr().out
    assert "dprope  16,384  22.92  22.9" in printed
    for heading in ("Table 3", "Interpolated dimensions", "Bins"):
        assert heading in printed
