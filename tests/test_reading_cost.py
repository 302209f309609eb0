"""How long reading takes, from what was read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.evaluation.reading_cost import fit_reading_cost


@given(st.floats(1e-4, 0.1), st.floats(1e-8, 1e-5))
def test_a_cost_of_both_parts_is_found_again(per_token: float, per_pair: float) -> None:
    samples = [(n, per_token * n + per_pair * n * n) for n in (256, 512, 4096, 8192)]
    found = fit_reading_cost(samples)
    assert found.seconds(16384) == pytest.approx(per_token * 16384 + per_pair * 16384**2, rel=1e-6)
    assert found.seconds(8192, held=4096) == pytest.approx(samples[3][1] - samples[2][1], rel=1e-6)


def test_one_sample_is_taken_for_a_steady_pace() -> None:
    assert fit_reading_cost([(500, 5.0)]).seconds(2000) == pytest.approx(20.0)


def test_nothing_gets_cheaper_with_length() -> None:
    found = fit_reading_cost([(256, 4.0), (512, 5.0)])  # a machine that was busy at first
    assert found.per_pair == 0
    assert found.seconds(5120) >= 40.0
