"""Reports, tables, curves and plots of plans."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from ropewalk.evaluation.plan_curves import plan_curves
from ropewalk.evaluation.plan_plots import draw_plans
from ropewalk.evaluation.plan_report import PairState, PlanReport, make_report, report_json
from ropewalk.evaluation.plan_tables import PAIR_HEAD, comparison_rows, interpolated_line, pair_rows
from ropewalk.evaluation.terminal_plots import WIDTH, draw_in_terminal, panel
from ropewalk_plan import ModelFacts, RopeSpec
from ropewalk_plan.attention_score import Band

L = 4096
LLAMA2 = RopeSpec(architecture="llama", n_rot=128, base=10000.0, train_length=L, n_layer=32)
FACTS = ModelFacts("llama", L, L, "linear", has_factors=False, sliding_window=0)


def report(method: str, spec: RopeSpec = LLAMA2, **options: str) -> PlanReport:
    return make_report(spec, FACTS, method=method, target_length=4 * L, options=options)


class TestReport:
    def test_json_has_what_is_in_force_at_the_target_length(self) -> None:
        answer = report_json(report("yarn"))
        assert (answer["method"], answer["train_length"], answer["target_length"]) == ("yarn", L, 4 * L)
        assert (answer["scale"], answer["n_rot"], answer["rope_base"]) == (4.0, 128, 10000.0)
        theta = 10000.0 ** (-2 * np.arange(64) / 128)
        assert np.array(answer["inverse_frequencies"]) * answer["frequency_factors"] == pytest.approx(theta)
        assert answer["attention_factor"] == pytest.approx(0.1 * np.log(4) + 1)
        assert answer["disturbance"]["mean"] == pytest.approx(35.44, rel=0.005)
        assert answer["disturbance"]["mean"] == pytest.approx(
            1000 * np.mean(answer["disturbance"]["per_pair"])
        )
        assert answer["portable"] is True
        assert answer["position_map"] == {"kind": "identity", "period": 0, "first_pair": 0}
        assert (answer["logn_length"], answer["windows"], answer["sinks"]) == (0, [], 0)
        assert [step["up_to_length"] for step in answer["schedule"]] == [4 * L]

    @pytest.mark.parametrize(("method", "period"), [("extra-pe", L), ("extra-mpe", 2 * L)])
    def test_json_of_a_position_map(self, method: str, period: int) -> None:
        answer = report_json(report(f"{method}+logn"))
        assert answer["position_map"]["period"] == period
        assert answer["position_map"]["first_pair"] == 45
        assert answer["logn_length"] == L
        assert answer["portable"] is False
        assert "position map" in answer["portable_reason"]

    def test_a_plan_that_leaves_the_frequencies_alone_reports_the_models_own(self) -> None:
        spec = RopeSpec("llama", 128, 10000.0, L, 32, own_factors=(2.0,) * 64, own_attention_factor=1.5)
        answer = report_json(report("none", spec))
        assert answer["frequency_factors"] == [2.0] * 64
        assert answer["attention_factor"] == 1.5
        assert answer["interpolated_pairs"] == []

    def test_states_are_relative_to_the_model_as_trained(self) -> None:
        spec = RopeSpec("llama", 128, 10000.0, L, 32, own_factors=(2.0,) * 64)
        assert set(report("pi", spec).states) == {PairState.INTERPOLATED}
        assert set(report("logn", spec).states) == {PairState.KEPT}


class TestTables:
    @pytest.mark.parametrize("method", ["pi", "ntk", "yarn", "dprope", "extra-pe"])
    def test_rows_cover_every_pair_once_in_80_columns(self, method: str) -> None:
        rows = pair_rows(report(method))
        covered: list[int] = []
        for row in rows:
            first, _, last = row[0].partition("-")
            covered += range(int(first), int(last or first) + 1)
        assert covered == list(range(64))
        widths = [max(len(row[i]) for row in (PAIR_HEAD, *rows)) for i in range(len(PAIR_HEAD))]
        assert sum(widths) + 2 * (len(widths) - 1) <= 80

    def test_runs_of_equal_pairs_are_one_row(self) -> None:
        (row,) = pair_rows(report("pi"))
        assert row[:4] == ("0-63", "6.28 to 54,410", "651.9 to 0.08", "4")
        assert row[5] == "interpolated"
        kept, mapped = pair_rows(report("extra-mpe"))
        assert (kept[0], kept[5]) == ("0-44", "as trained")
        assert (mapped[0], mapped[5]) == ("45-63", "as trained, mirrored")

    def test_says_which_pairs_are_interpolated_and_how_many(self) -> None:
        line = interpolated_line(report("dprope", interpolated_dims="64"))
        assert line.startswith("32 of 64 pairs: ")
        assert line.endswith("-63")
        assert interpolated_line(report("extra-pe")) == "none of 64 pairs"

    def test_comparison(self) -> None:
        rows = comparison_rows([report("pi"), report("dprope", threshold="0.05"), report("extra-pe")])
        assert [row[-1] for row in rows] == ["pi", "dprope threshold=0.05", "extra-pe"]
        assert rows[0] == ("33.62", "64 of 64", "4", "1", "yes", "pi")
        assert rows[2][-2] == "no"


class TestCurves:
    def test_scores_are_means_over_neighbouring_distances(self) -> None:
        curves = plan_curves([report("none")], n_points=64)
        theta = 10000.0 ** (-2 * np.arange(64) / 128)
        scores = np.cos(np.outer(np.arange(4 * L), theta)).sum(axis=1)
        means = scores.reshape(64, -1).mean(axis=1)
        drawn = curves.methods[0].scores[Band.ALL]
        assert drawn == pytest.approx(means, abs=2.0), "64 of each 256 distances are looked at"
        assert np.abs(drawn - means).mean() < 0.4
        assert curves.distances[Band.ALL] == pytest.approx(np.arange(64) * 256 + 127.5, abs=4)

    def test_bounds(self) -> None:
        curves = plan_curves([report("pi")], n_points=100)
        assert curves.extrapolation_bound.min() > 100 * curves.interpolation_bound

    def test_a_target_of_a_few_tokens(self) -> None:
        spec = RopeSpec("llama", 8, 10000.0, 4, 1)
        few = make_report(spec, FACTS, method="pi", target_length=8)
        curves = plan_curves([few], n_points=240)
        assert curves.distances[Band.ALL].tolist() == list(range(8))


@pytest.fixture(scope="module")
def reports() -> list[PlanReport]:
    return [report("dprope"), report("yarn"), report("extra-mpe")]


class TestPictures:
    def test_png(self, reports: list[PlanReport]) -> None:
        picture = draw_plans(plan_curves(reports, 60), "png")
        assert picture.startswith(b"\x89PNG\r\n")
        width, height = struct.unpack(">II", picture[16:24])
        assert min(width, height) > 1000

    def test_factors_that_are_all_the_same(self) -> None:
        picture = draw_plans(plan_curves([report("extra-pe"), report("none")], 20), "svg").decode()
        assert ">0.5<" in picture and ">2<" in picture, "ticks around the one value there is"

    def test_svg_is_the_same_every_time(self, reports: list[PlanReport]) -> None:
        curves = plan_curves(reports, 60)
        picture = draw_plans(curves, "svg")
        assert picture == draw_plans(curves, "svg")
        assert b"<svg" in picture
        for colour in (b"#0072b2", b"#d55e00", b"#009e73"):
            assert colour in picture, "a curve for each method"

    def test_in_the_terminal(self, reports: list[PlanReport]) -> None:
        text = draw_in_terminal(plan_curves(reports, 138))
        lines = text.splitlines()
        assert max(map(len, lines)) <= WIDTH == 80
        assert "\x1b" not in text
        assert text.count("  yarn") == 5, "a curve in each of five plots"
        assert re.search(r"interpolated: at most 0\.4998", text)

    def test_a_rising_line_rises(self) -> None:
        x = np.arange(138, dtype=float)
        lines = panel(x, x, 0.0, 137.0, mark=None)
        assert len(lines) == 10
        first_dots = [re.search(r"[\u2801-\u28ff]", line) for line in lines[:8]]
        starts = [match.start() for match in first_dots if match]
        assert starts == sorted(starts, reverse=True)
        assert len(starts) == 8
        assert starts[-1] == 11
