"""The bench's own arithmetic, on measurements that are made up: nothing is timed here."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.bench import NO_PLAN, UNPATCHED
from benchmark.depth_cost import (
    DepthCost,
    Layers,
    allowed_speed_up,
    cells_of,
    fit,
    medians_by_depth,
    window_cache,
)
from benchmark.flash_attention import OFF, ON, flash_table
from benchmark.identity import compare
from benchmark.jobs import (
    OURS,
    STOCK,
    AboutJob,
    Job,
    LogitsJob,
    NativeScaling,
    NodesJob,
    Piece,
    Setup,
    Speed,
    SpeedJob,
    job_from_json,
    job_to_json,
)
from benchmark.loaded_model import kv_bytes_logged
from benchmark.nodes import added
from benchmark.page import Section, table, with_section, write_section
from benchmark.plans import plans_table
from benchmark.ratios import Spread, decode_speed, prefill_speed, ratio, spread
from benchmark.rounds import Rounds, Variant, run_rounds, turns
from benchmark.speed import work_of
from benchmark.stock_library import bare_patches, unpack_libraries
from benchmark.window_plan import WINDOWS, WindowPlan
from benchmark.windows import arithmetic, report
from provision.failure import ProvisionError
from provision.patches import patch_files
from provision.progress import Progress
from provision.upstream import read_upstream

SETUP = Setup(model="m.gguf", n_ctx=1024, threads=2, method=WINDOWS, options={"sinks": "4"})
JOB = SpeedJob(SETUP, 512, (256, 512), 16)
PATCHES = Path(__file__).parents[1] / "patches"


def run_of(prefill_seconds: float, decode_seconds: float, kv_bytes: int = 0) -> Speed:
    """100 tokens read and 10 written."""
    return Speed((Piece(0, 100, prefill_seconds),), (Piece(100, 10, decode_seconds),), kv_bytes, 0)


def test_rounds_go_back_and_forth_and_everybody_begins_once() -> None:
    assert [turns("AB", i) for i in range(4)] == [["A", "B"], ["B", "A"], ["B", "A"], ["A", "B"]]
    three = [turns("ABC", i) for i in range(6)]
    assert all(sorted(order) == ["A", "B", "C"] for order in three)
    for name in "ABC":  # each stands as often first as last, hence on average in the middle
        assert sum(order.index(name) for order in three) == 6


def measured_in_turns(
    count: int, measure: Callable[[Variant, Callable[[float], None]], Speed]
) -> tuple[Rounds, Progress]:
    variants = [Variant("A", STOCK, JOB), Variant("B", OURS, JOB)]
    progress = Progress("x", stream=io.StringIO())
    return run_rounds(variants, count, measure, progress), progress


def test_runs_of_a_round_are_kept_together() -> None:
    seen: list[str] = []

    def measure(variant: Variant, on_work: Callable[[float], None]) -> Speed:
        seen.append(variant.name)
        on_work(work_of(variant.job))
        return run_of(len(seen), 1.0)

    rounds, progress = measured_in_turns(3, measure)
    assert "".join(seen) == "ABBABA"
    assert [run.prefill[0].seconds for run in rounds.runs["A"]] == [1, 4, 6]
    assert [run.prefill[0].seconds for run in rounds.runs["B"]] == [2, 3, 5]
    assert rounds.complete
    assert "100%" in progress.line()


def test_an_interruption_keeps_the_rounds_that_are_whole() -> None:
    seen: list[str] = []

    def measure(variant: Variant, _: Callable[[float], None]) -> Speed:
        seen.append(variant.name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return run_of(1.0, 1.0)

    rounds, _ = measured_in_turns(3, measure)
    assert (rounds.finished, rounds.planned, rounds.complete) == (1, 3, False)
    assert [len(runs) for runs in rounds.runs.values()] == [1, 1]
    assert rounds.to_json()["finished_rounds"] == 1


def test_an_interruption_before_the_first_round_leaves_nothing() -> None:
    def measure(*_: object) -> Speed:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured_in_turns(3, measure)


def test_the_median_and_the_quartiles_are_those_of_the_textbook() -> None:
    five = spread([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (five.lower, five.median, five.upper, five.count) == (2.0, 3.0, 4.0, 5)
    assert spread([1.0, 2.0]).median == 1.5
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 1)


def test_the_ratio_is_the_median_of_ratios_and_not_a_ratio_of_medians() -> None:
    # the machine was ten times as slow in the second round, and three times in the third
    base, other = (1.0, 10.0, 3.0), (2.0, 10.0, 4.5)
    rounds = Rounds(
        {"a": [run_of(s, s) for s in base], "b": [run_of(s, 2 * s) for s in other]},
        planned=3,
    )
    found = ratio(rounds, "b", "a", prefill_speed)
    assert found.median == pytest.approx(1 / 1.5)  # ratios 1/2, 1, 2/3; of the medians it would be 3/4.5
    assert [found.lower, found.upper] == pytest.approx([7 / 12, 5 / 6])
    assert ratio(rounds, "b", "a", decode_speed).median == pytest.approx(1 / 3)


def test_speeds_are_tokens_over_seconds_and_decode_is_that_of_the_end() -> None:
    run = Speed((Piece(0, 100, 1.0), Piece(100, 100, 3.0)), (Piece(100, 5, 9.0), Piece(200, 8, 2.0)), 0, 0)
    assert (run.prefill_speed, run.decode_speed) == (50.0, 4.0)
    assert Speed.from_json(asdict(run)) == run


FLAGS = replace(SETUP, method="", native_scaling=NativeScaling("yarn", 2.0, 512))
JOBS: tuple[Job, ...] = (
    *(JOB, NodesJob(SETUP, 64), LogitsJob(SETUP, 300, 16, "x.npy"), AboutJob()),
    LogitsJob(FLAGS, 300, 16, "x.npy"),
)


@pytest.mark.parametrize("job", JOBS)
def test_jobs_survive_the_way_to_the_child(job: Job) -> None:
    assert job_from_json(job_to_json(job)) == job


def test_a_job_ends_where_its_pieces_end() -> None:
    assert JOB.length == 512 + 4 + 16


def test_the_cost_per_depth_is_the_line_through_the_points() -> None:
    points = [(float(n), 0.004 + 2e-6 * n) for n in range(256, 8192, 256)]
    points[3] = (points[3][0], 1.0)  # somebody else had the machine
    points[9] = (points[9][0], 0.5)
    cost = fit(points)
    assert cost.fixed == pytest.approx(0.004)
    assert cost.per_cell == pytest.approx(2e-6)
    assert cost.seconds(1000) == pytest.approx(0.006)
    with pytest.raises(ValueError, match="two depths"):
        fit([(256.0, 1.0), (256.0, 2.0)])


def test_cells_come_in_blocks_and_end_with_the_cache() -> None:
    assert [cells_of(Piece(depth, 1, 1.0), 16384) for depth in (0, 255, 256)] == [256, 256, 512]
    assert cells_of(Piece(3584, 512, 1.0), 16384) == 4096
    assert cells_of(Piece(3584, 512, 1.0), 1792) == 1792


def test_what_windows_allow_on_the_issues_own_case() -> None:
    """20 of 30 layers at 1,024 + 4 of 16k tokens: 41% of the KV memory (1,540 cells, in blocks of 256)."""
    assert window_cache(1024, 4, 512, 16384) == 1792
    assert window_cache(0, 4, 512, 16384) == 16384
    assert window_cache(1024, 4, 512, 1024) == 1024
    plan = WindowPlan(30, 20, 1024, 4)
    layers = plan.layers(16384, 512)
    assert layers.share_of(16384) == pytest.approx((10 * 16384 + 20 * 1792) / (30 * 16384))
    assert round(layers.share_of(16384), 2) == 0.41
    # all cost in attention: a written token at the end is as much faster as it goes over fewer cells
    whole = Layers((16384,) * 30)
    last = [Piece(16383, 1, 1.0)]
    only_attention = allowed_speed_up(DepthCost(0.0, 1e-6), whole, layers, last)
    assert only_attention == pytest.approx(1 / layers.share_of(16384))
    # none in attention: nothing to gain
    assert allowed_speed_up(DepthCost(0.01, 0.0), whole, layers, last) == 1.0
    # half and half: Amdahl
    half = allowed_speed_up(DepthCost(16384e-6, 1e-6), whole, layers, last)
    assert half == pytest.approx(2 / (1 + layers.share_of(16384)))


def test_windows_are_spelt_for_the_method() -> None:
    plan = WindowPlan(3, 2, 1024, 4)
    assert plan.options == {"windows": "1024/1024/0", "sinks": "4"}
    with pytest.raises(ProvisionError, match="--lower is 4; it must be from 1 to 3"):
        WindowPlan(3, 4, 1024, 4)
    with pytest.raises(ProvisionError, match="--window"):
        WindowPlan(3, 1, 0, 4)


def windowed_rounds(cost: DepthCost, own: DepthCost, whole: Layers, layers: Layers) -> Rounds:
    """Runs whose times are exactly those of two lines, in rounds of different speed."""

    def run(cost: DepthCost, layers: Layers, slowness: float, kv_bytes: int) -> Speed:
        def piece(depth: int, tokens: int) -> Piece:
            seconds = tokens * cost.seconds(layers.mean_cells(Piece(depth, tokens, 0.0)))
            return Piece(depth, tokens, slowness * seconds)

        prefill = tuple(piece(depth, 512) for depth in range(0, 8192, 512))
        return Speed(prefill, (piece(512, 1), piece(4096, 1), piece(8191, 1)), kv_bytes, 0)

    slow = (1.0, 1.0, 3.0)
    return Rounds(
        {
            UNPATCHED: [run(cost, whole, s, 400 << 20) for s in slow],
            WINDOWS: [run(own, layers, s, 200 << 20) for s in slow],
        },
        planned=3,
    )


def test_windows_that_do_what_arithmetic_allows_reach_all_of_it() -> None:
    plan = WindowPlan(4, 2, 1024, 0)
    whole, layers = Layers((8192,) * 4), plan.layers(8192, 512)
    cost = DepthCost(0.002, 1e-6)
    rounds = windowed_rounds(cost, cost, whole, layers)
    numbers = arithmetic(rounds, UNPATCHED, whole, layers)
    assert numbers["prefill_cost"] == pytest.approx(asdict(cost))
    assert numbers["prefill_own_cost"] == pytest.approx(asdict(cost))
    assert ratio(rounds, WINDOWS, UNPATCHED, prefill_speed).median == pytest.approx(
        numbers["prefill_allowed"]
    )
    assert ratio(rounds, WINDOWS, UNPATCHED, decode_speed).median == pytest.approx(numbers["decode_allowed"])
    assert numbers["prefill_seconds"] == pytest.approx(numbers["prefill_seconds_allowed"])
    text = report(rounds, UNPATCHED, whole, layers)
    assert text.count("| 100% |") == 2
    assert "| KV caches, MiB | 400.0 | 200.0 | 0.500 |" in text


def test_what_windows_lose_is_told_apart() -> None:
    """Something that every token pays, windows or not, shows in the fixed part and not in that per cell."""
    plan = WindowPlan(4, 2, 1024, 0)
    whole, layers = Layers((8192,) * 4), plan.layers(8192, 512)
    rounds = windowed_rounds(DepthCost(0.002, 1e-6), DepthCost(0.003, 1e-6), whole, layers)
    numbers = arithmetic(rounds, UNPATCHED, whole, layers)
    assert numbers["prefill_own_cost"] == pytest.approx({"fixed": 0.003, "per_cell": 1e-6})
    assert numbers["prefill_seconds"] - numbers["prefill_seconds_allowed"] == pytest.approx(0.001 * 8192)
    assert "2.00 ms + 1.000 us n (unpatched) and 3.00 ms + 1.000 us n (windows)" in report(
        rounds, UNPATCHED, whole, layers
    )


def test_pieces_of_several_runs_have_their_median_times() -> None:
    runs = [[Piece(0, 2, t), Piece(2, 1, 10 * t)] for t in (3.0, 1.0, 2.0)]
    assert medians_by_depth(runs) == [Piece(0, 2, 2.0), Piece(2, 1, 20.0)]


def test_the_kv_caches_are_added_up_from_the_log() -> None:
    lines = [
        "llama_kv_cache:        CPU KV buffer size =    10.50 MiB",
        "llama_kv_cache: size =   10.50 MiB (   512 cells,  30 layers,  1/1 seqs), K (f16):    5.25 MiB",
        "llama_kv_cache:        CPU KV buffer size =     0.25 MiB",
    ]
    assert kv_bytes_logged(lines) == 10.75 * (1 << 20)
    assert kv_bytes_logged([]) == 0


def test_every_operation_that_differs_is_named() -> None:
    assert added({"ROPE": 2, "VIEW": 3}, {"ROPE": 4, "MUL": 1, "VIEW": 2}) == "1 MUL, 2 ROPE, -1 VIEW"
    assert added({"ROPE": 2}, {"ROPE": 2}) == ""


def test_identity_is_that_of_bits() -> None:
    ours = np.array([[0.0, 1.0]], np.float32)
    assert compare(ours, ours.copy()) == (0.0, True)
    assert compare(ours, np.array([[-0.0, 1.0]], np.float32)) == (0.0, False)
    assert compare(ours, np.array([[0.0, 1.5]], np.float32)) == (0.5, False)
    with pytest.raises(ProvisionError, match="cannot be compared"):
        compare(ours, np.array([[np.nan, 1.0]], np.float32))
    with pytest.raises(ProvisionError, match="cannot be compared"):
        compare(ours, ours[:, :1])


def test_a_table_is_markdown() -> None:
    assert table(["", "a"], [["x", "1"], ["y", "2"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |\n| y | 2 |"


def test_the_table_of_plans_compares_each_with_those_before_it() -> None:
    runs = {UNPATCHED: [run_of(1.0, 1.0)], NO_PLAN: [run_of(1.0, 2.0)], "yarn": [run_of(2.0, 1.0)]}
    rows = plans_table(Rounds(runs, 1)).splitlines()[2:]
    same, half, twice = (f"{value} ({value} to {value})" for value in ("1.000", "0.500", "2.000"))
    assert rows[0] == "| unpatched | 100.0 | 10.0 |  |  |  |  |"
    assert rows[1] == f"| no plan | 100.0 | 5.0 | {same} | {half} |  |  |"
    assert rows[2] == f"| yarn | 50.0 | 10.0 | {half} | {same} | {half} | {twice} |"


def test_the_table_of_flash_attention_has_the_chunk_before_each_depth() -> None:
    def run(slowness: float) -> Speed:
        prefill = tuple(Piece(512 * i, 512, slowness * (i + 1)) for i in range(4))
        return Speed(prefill, (Piece(1024, 1, 0.1), Piece(2048, 2, 0.2 * slowness)), 0, 0)

    rows = flash_table(Rounds({OFF: [run(1.0)], ON: [run(2.0)]}, 1)).splitlines()[2:]
    assert rows[0].startswith("| prefill, all of it | 204.8 | 102.4 | 0.500 (")
    assert rows[1].startswith("| decode at the end | 10.0 | 5.0 | 0.500 (")
    assert rows[2:] == [
        "| prefill at 512 | 256.0 | 128.0 | 0.500 |",
        "| decode at 1,024 | 10.0 | 10.0 | 1.000 |",
        "| prefill at 1,536 | 128.0 | 64.0 | 0.500 |",
        "| decode at 2,048 | 10.0 | 5.0 | 0.500 |",
    ]


PAGE = "# A\n\n<!-- bench:x -->\nold\n<!-- bench:x end -->\n\n<!-- bench:y -->\nkept\n<!-- bench:y end -->\n"


def test_a_part_of_the_page_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    section = Section("x", "bench.py x", "| \\1 |\n")
    write_section(page, section)
    written = page.read_text(encoding="utf-8")
    assert written == PAGE.replace("old", "    bench.py x\n\n| \\1 |")
    assert with_section(written, section) == written


@pytest.mark.parametrize("page", ["", PAGE + PAGE, "<!-- bench:x end -->\n<!-- bench:x -->\n"])
def test_a_page_without_the_markers_is_left_alone(page: str) -> None:
    with pytest.raises(ProvisionError, match="bench:x"):
        with_section(page, Section("x", "c", "t"))


def test_our_page_has_the_place_of_every_measurement() -> None:
    page = (PATCHES.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for name in ("identity", "nodes", "plans", "windows", "flash-attention"):
        assert "new text" in with_section(page, Section(name, "command", "new text"))


def test_the_unpatched_library_is_the_pinned_one_with_the_same_build(tmp_path: Path) -> None:
    bare_patches(PATCHES, tmp_path / "bare")
    ours, bare = (read_upstream(folder / "upstream.toml") for folder in (PATCHES, tmp_path / "bare"))
    assert (bare.name, bare.version, bare.sha256) == (ours.name, ours.version, ours.sha256)
    assert bare.patched_version != ours.patched_version
    kept = {path.relative_to(tmp_path / "bare") for path in patch_files(tmp_path / "bare")}
    wanted = {path.relative_to(PATCHES) for path in patch_files(PATCHES)}
    assert kept == {path for path in wanted if path.parts[0] != "llama.cpp"}


def test_of_a_wheel_only_the_libraries_are_kept(tmp_path: Path) -> None:
    wheel, folder = tmp_path / "a.whl", tmp_path / "stock"
    names = (
        "llama_cpp/lib/libllama.so",
        "llama_cpp/lib/libggml.so.0",
        "llama_cpp/lib/cmake/x",
        "lib/libllama.so",
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    (folder / "older").mkdir(parents=True)
    unpack_libraries(wheel, folder / "key")
    assert [path.name for path in folder.iterdir()] == ["key"]
    kept = {path.name: path.read_text(encoding="utf-8") for path in (folder / "key").iterdir()}
    assert kept == {"libllama.so": names[0], "libggml.so.0": names[1]}

    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(names[1], "")
    with pytest.raises(ProvisionError, match="no libllama"):
        unpack_libraries(wheel, folder / "other")
    assert not (folder / "other").exists()
