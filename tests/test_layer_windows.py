"""The search for layers that can do with a window, on losses that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropewalk.evaluation.layer_windows import Calibration, Layers, Limits, Probe, loss_of
from ropewalk.evaluation.layer_windows_check import Compared, turns_left
from ropewalk.evaluation.layer_windows_findings import Question, find
from ropewalk.evaluation.layer_windows_measure import CALIBRATION, Measurements, NotMeasured
from ropewalk.evaluation.layer_windows_plans import WindowPlans
from ropewalk.evaluation.layer_windows_search import Search
from ropewalk.evaluation.results_file import ResultsFileError
from ropewalk_plan import RopeSpec

SHORT = Probe("short", "key", 1000, 0.1, 1006, 6)
LONG = Probe("long", "key", 4000, 0.1, 4006, 6)
TEXT = Probe("text", "text", 4000, None, 4000, 256)
CALIBRATION_OF_THREE = Calibration((SHORT, LONG, TEXT))
LIMITS = Limits(max_loss=1.0, max_drop=3.0)
PLAIN = {"short": -0.5, "long": -1.5, "text": -700.0}


def measure_of(costs: Mapping[int, float]) -> Callable[[Layers, Probe], float]:
    """Every layer costs each key so much, whatever the others do; text costs nothing."""
    return lambda layers, probe: (
        PLAIN[probe.name] - (sum(costs[layer] for layer in layers) if probe.kind == "key" else 0.0)
    )


def searched(costs: Mapping[int, float], limits: Limits = LIMITS) -> Search:
    search = Search(CALIBRATION_OF_THREE, limits, len(costs))
    search.run(measure_of(costs))
    return search


def test_the_loss_of_keys_and_of_as_much_text() -> None:
    """Two keys drop by 1 and -0.2, the text by 25.6 nats over 256 tokens: 0.1 each, 0.6 for 6."""
    windowed = {"short": -1.5, "long": -1.3, "text": -725.6}
    loss = loss_of(CALIBRATION_OF_THREE, CALIBRATION_OF_THREE.probes, PLAIN, windowed)
    assert loss.keys == pytest.approx(0.4)
    assert loss.text == pytest.approx(0.6)
    assert loss.total == pytest.approx(1.0)
    assert loss.worst == pytest.approx(1.0)
    assert loss.n_probes == 3
    assert loss.within(Limits(1.0 + 1e-9, 1.0 + 1e-9))
    assert not loss.within(Limits(0.99, 2.0))
    assert not loss.within(Limits(2.0, 0.99))


@settings(deadline=None)
@given(st.lists(st.integers(-20, 400), min_size=1, max_size=40))
def test_where_losses_add_up_no_larger_set_is_within_the_limits(hundredths: list[int]) -> None:
    """By arithmetic: the cheapest layers, as many as the sum allows, and none that alone is too much."""
    costs = {layer: value / 128 for layer, value in enumerate(hundredths)}  # exact in binary
    cheapest = sorted(cost for cost in costs.values() if cost <= LIMITS.max_drop)
    sums = [sum(cheapest[:n]) for n in range(1, len(cheapest) + 1)]
    possible = max((n for n, total in enumerate(sums, start=1) if total <= LIMITS.max_loss), default=0)

    found = searched(costs).found

    assert (0 if found is None else len(found.layers)) == possible
    if found is not None:
        assert sorted(costs[layer] for layer in found.layers) == cheapest[:possible]
        assert found.complete and found.loss.within(LIMITS)


def test_layers_that_do_harm_together_are_not_taken_together() -> None:
    costs = dict.fromkeys(range(8), 0.01)

    def measure(layers: Layers, probe: Probe) -> float:
        together = 5.0 if {2, 5} <= set(layers) else 0.0
        return measure_of(costs)(layers, probe) - (together if probe.kind == "key" else 0.0)

    search = Search(CALIBRATION_OF_THREE, LIMITS, 8)
    search.run(measure)
    assert search.found is not None
    assert len(search.found.layers) == 7
    assert not {2, 5} <= set(search.found.layers)


def test_what_only_long_prompts_or_text_show_counts() -> None:
    """Layer 1 costs the long key 2.5 nats, layer 2 the text 0.5 a token; alone on the short one, nothing."""

    def measure(layers: Layers, probe: Probe) -> float:
        cost = {"long": 2.5 * (1 in layers), "text": 128.0 * (2 in layers), "short": 0.0}
        return PLAIN[probe.name] - cost[probe.name]

    search = Search(CALIBRATION_OF_THREE, LIMITS, 4)
    search.run(measure)
    assert search.found is not None
    assert search.found.layers == (0, 3)


def test_only_doubtful_layers_are_looked_at_again() -> None:
    """Layer 0 is fine, layer 1 might do, layer 2 is out of the question."""
    asked: list[tuple[Layers, str]] = []

    def measure(layers: Layers, probe: Probe) -> float:
        asked.append((layers, probe.name))
        return measure_of({0: 0.0, 1: 1.5, 2: 9.0})(layers, probe)

    search = Search(CALIBRATION_OF_THREE, LIMITS, 3)
    search.run(measure)
    assert {layers for layers, name in asked if name == "long" and len(layers) == 1} == {(0,), (1,)}
    assert [single.closer is not None for single in search.singles] == [False, True, False]
    assert search.found is not None and search.found.layers == (0,)


def test_what_goes_together_on_shorter_prompts_is_measured_once_on_all() -> None:
    """No cost at all: halves of what is left on the short one, then all eight at once on the long ones."""
    search = searched(dict.fromkeys(range(8), 0.0))
    assert [(len(tried.layers), tried.probes) for tried in search.sets] == [
        *((4, 1), (6, 1), (7, 1), (8, 1)),
        (8, 3),
    ]
    assert [tried.final for tried in search.sets] == [False] * 4 + [True]


def test_where_the_longest_prompt_does_not_bear_it_most_of_the_set_is_tried_next() -> None:
    """Each layer costs the long key 0.25 nats, the short one nothing: 8 of 16 are 1 nat on average of two."""

    def measure(layers: Layers, probe: Probe) -> float:
        return PLAIN[probe.name] - 0.25 * len(layers) * (probe.name == "long")

    search = Search(CALIBRATION_OF_THREE, LIMITS, 16)
    search.run(measure)
    assert [len(tried.layers) for tried in search.sets if tried.final][:4] == [16, 12, 9, 6]
    assert search.found is not None and len(search.found.layers) == 8


def test_a_set_is_given_up_at_the_first_key_that_drops_too_far() -> None:
    asked: list[tuple[Layers, str]] = []

    def measure(layers: Layers, probe: Probe) -> float:
        asked.append((layers, probe.name))
        harm = 4.0 if len(layers) > 1 and probe.name == "short" else 0.0
        return PLAIN.get(probe.name, -1.0) - harm

    middle = Probe("middle", "key", 2000, 0.1, 2006, 6)
    search = Search(Calibration((SHORT, middle, LONG, TEXT)), LIMITS, 4)
    search.run(measure)
    assert not any(name != "short" for layers, name in asked if len(layers) > 1)
    assert {tried.complete for tried in search.sets if len(tried.layers) > 1} == {False}


class Stopped(Exception):
    """What ends a search before its end."""


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.data())
def test_a_search_that_was_stopped_goes_on_and_measures_nothing_twice(
    hundredths: list[int], data: st.DataObject
) -> None:
    costs = {layer: value / 128 for layer, value in enumerate(hundredths)}
    rows: list[dict[str, object]] = []

    def run(stop_after: int | None) -> Search:
        known = Measurements(rows)

        def measure(layers: Layers, probe: Probe) -> float:
            if not known.has(layers, probe):
                if len(rows) == stop_after:
                    raise Stopped
                value = measure_of(costs)(layers, probe)
                known.keep(layers, probe, value)
                rows.append(
                    {
                        "part": CALIBRATION,
                        "layers": list(layers),
                        "probe": probe.name,
                        "log_probability": value,
                    }
                )
            return known.known(layers, probe)

        search = Search(CALIBRATION_OF_THREE, LIMITS, len(costs))
        search.run(measure)
        return search

    whole = run(None)
    all_rows = list(rows)
    rows.clear()
    stop = data.draw(st.integers(0, len(all_rows) - 1))
    with pytest.raises(Stopped):
        run(stop)
    assert rows == all_rows[:stop]
    assert run(None) == whole
    assert rows == all_rows


def test_a_search_over_what_is_known_ends_where_that_does() -> None:
    known = Measurements(
        [{"part": CALIBRATION, "layers": [], "probe": "short", "log_probability": -0.5}, {"part": "other"}]
    )
    search = Search(CALIBRATION_OF_THREE, LIMITS, 2)
    with pytest.raises(NotMeasured):
        search.run(known.known)
    assert (search.singles, search.done) == ([], False)


@pytest.mark.parametrize(
    "row",
    [
        {"layers": [], "probe": "short"},
        {"layers": 5, "probe": "short", "log_probability": 1.0},
        {"layers": ["a"], "probe": "short", "log_probability": 1.0},
        {"layers": [], "probe": "short", "log_probability": "much"},
    ],
)
def test_a_damaged_row_is_a_sentence(row: dict[str, object]) -> None:
    with pytest.raises(ResultsFileError, match="is damaged"):
        Measurements([{"part": CALIBRATION, **row}])


PLAIN_PLAN, WINDOWED = Compared("none", None), Compared("windows, 2 of 2 layers", None)


def turn(
    number: int, plan: str, prefill: float, decode: float = 1.0, kv_bytes: int = 100
) -> dict[str, object]:
    return {
        "part": "turn",
        "turn": number,
        "plan": plan,
        "n_ctx": 1024,
        "kv_bytes": kv_bytes,
        "prompt_tokens": 1000,
        "prefill_seconds": prefill,
        "decoded_tokens": 10,
        "decode_seconds": decode,
    }


def test_pairs_begin_with_the_one_and_the_other_plan_in_turns() -> None:
    left = turns_left([], (PLAIN_PLAN, WINDOWED), 3)
    assert [(number, one.label[0]) for number, one in left] == [
        *((0, "n"), (0, "w")),
        *((1, "w"), (1, "n")),
        *((2, "n"), (2, "w")),
    ]


def test_a_pair_that_was_broken_off_is_made_again() -> None:
    rows = [turn(0, "none", 8.0), turn(0, WINDOWED.label, 4.0), turn(1, WINDOWED.label, 4.0)]
    left = turns_left(rows, (PLAIN_PLAN, WINDOWED), 2)
    assert [(number, one.label[0]) for number, one in left] == [(1, "w"), (1, "n")]


def question() -> Question:
    spec = RopeSpec("llama", n_rot=64, base=10000.0, train_length=8192, n_layer=2)
    plans = WindowPlans(spec, "", {}, 8192, 8192, 512, 4, "full")
    return Question(CALIBRATION_OF_THREE, LIMITS, plans)


def calibrated() -> list[dict[str, object]]:
    """Rows of a search that finds both layers."""
    return [
        {
            "part": CALIBRATION,
            "layers": list(layers),
            "probe": probe.name,
            "log_probability": PLAIN[probe.name],
        }
        for layers in ((), (0,), (1,), (0, 1))
        for probe in CALIBRATION_OF_THREE.probes
    ]


def test_times_are_compared_pair_by_pair() -> None:
    """The ratios 2, 4 and 3 of the pairs; the half that was measured twice counts as it was the last time."""
    rows = [
        *calibrated(),
        *(turn(0, "none", 8.0, 2.0, 400), turn(0, WINDOWED.label, 4.0)),
        *(turn(1, WINDOWED.label, 99.0), turn(1, WINDOWED.label, 2.0), turn(1, "none", 8.0, 2.0, 400)),
        *(turn(2, "none", 9.0, 4.0, 400), turn(2, WINDOWED.label, 3.0)),
        turn(3, "none", 1000.0),
    ]
    turns = find(question(), rows).turns
    assert turns is not None
    assert (turns.pairs, turns.prefill_ratio, turns.decode_ratio) == (3, 3.0, 2.0)
    assert (turns.prefill, turns.decode) == ((8.0, 3.0), (0.2, 0.1))
    assert turns.kv_bytes == (400, 100)


def test_hits_are_compared_on_the_prompts_that_both_were_asked() -> None:
    def asked(method: str, trial: int, hit: bool) -> dict[str, object]:
        return {"part": "check", "method": method, "length": 500, "depth": 0.1, "trial": trial, "hit": hit}

    rows = [*calibrated(), *(asked("none", trial, True) for trial in range(4))]
    rows += [asked(WINDOWED.label, trial, trial > 0) for trial in range(3)]
    findings = find(question(), rows)
    assert findings.hits is not None
    assert [(hits.hits, hits.trials) for hits in findings.hits] == [(3, 3), (2, 3)]
    assert not findings.loses_hits
    worse = [*calibrated(), *(asked("none", n, True) for n in range(3))]
    assert find(question(), worse + [asked(WINDOWED.label, n, n > 1) for n in range(3)]).loses_hits


def test_damaged_rows_of_a_check_are_a_sentence() -> None:
    for row in ({"part": "turn", "turn": 0}, {"part": "check", "method": "none"}, {"part": "check-text"}):
        with pytest.raises(ResultsFileError, match="is damaged"):
            find(question(), [*calibrated(), row])
