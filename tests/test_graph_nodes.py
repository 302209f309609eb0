"""What a plan adds to the library's graphs: counted, on tiny models."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmark.graph_nodes import ROTATION, GraphNodes, count_nodes
from benchmark.jobs import Setup
from tiny_models import Architecture, write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

N_LAYER = 3
TRAIN_LENGTH = 64
ROTATIONS = 2 * N_LAYER  # of q and of k
BATCH = 90  # past L, and where no schedule takes a step at the token after it (steps end at 80 and 100)


@pytest.fixture(scope="module", params=["llama", "qwen2", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    arch: Architecture = request.param
    path = tmp_path_factory.mktemp("nodes") / f"{arch}.gguf"
    return write_tiny_model(path, arch=arch, n_layer=N_LAYER, train_length=TRAIN_LENGTH).path


def graphs(model: Path, method: str = "", **options: str) -> tuple[GraphNodes, GraphNodes]:
    """Those of a batch and of a single token after it."""
    setup = Setup(
        model=str(model),
        n_ctx=512,
        threads=1,
        method=method,
        target_length=4 * TRAIN_LENGTH if method else 0,
        options=options,
    )
    return count_nodes(setup, BATCH)


def added(model: Path, method: str, **options: str) -> list[dict[str, int]]:
    """Operations that a plan adds to both graphs; that it takes none away is checked here."""
    differences = []
    for plain, planned in zip(graphs(model), graphs(model, method, **options), strict=True):
        before, after = Counter(plain.operations), Counter(planned.operations)
        assert not before - after
        differences.append(dict(after - before))
    return differences


def test_without_a_plan_a_layer_rotates_queries_and_keys_once(model: Path) -> None:
    for graph in graphs(model):
        assert graph.rotations == ROTATIONS
        assert graph.total > 10 * N_LAYER  # a layer has attention, norms and a feed-forward part


@pytest.mark.parametrize("method", ["pi", "ntk", "yarn", "dprope", "llama3", "dynamic-ntk", "dynamic-yarn"])
def test_factors_add_no_node(model: Path, method: str) -> None:
    options = {"factor": "4"} if method == "llama3" else {}
    assert added(model, method, **options) == [{}, {}]


@pytest.mark.parametrize("method", ["extra-pe", "extra-mpe"])
def test_a_position_map_adds_one_rotation_to_each(model: Path, method: str) -> None:
    assert added(model, method) == [{ROTATION: ROTATIONS}] * 2


def test_logn_adds_one_multiplication_per_layer(model: Path) -> None:
    assert added(model, "logn") == [{"MUL": N_LAYER}] * 2


@pytest.mark.parametrize("windows", ["16", "16/16/0", "16/32/0"])
def test_windows_add_no_node(model: Path, windows: str) -> None:
    """Layers see other caches and masks, which are inputs and not nodes."""
    assert added(model, "windows", windows=windows, sinks="2") == [{}, {}]


def test_compositions_add_up(model: Path) -> None:
    assert added(model, "dprope+logn") == [{"MUL": N_LAYER}] * 2
    assert added(model, "dprope+windows", windows="16/16/0") == [{}, {}]
    assert added(model, "extra-mpe+logn") == [{ROTATION: ROTATIONS, "MUL": N_LAYER}] * 2
