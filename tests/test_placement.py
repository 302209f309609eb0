"""How many layers fit on GPUs: invented devices against all numbers; an RPC server as the real thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.backend import budgets as budgets_module
from ropewalk.backend import gpus, host, placement
from ropewalk.backend.context import Context
from ropewalk.backend.context_params import ContextParams
from ropewalk.backend.errors import MemoryShortageError
from ropewalk.backend.fit import Budget, DeviceNeed, Need, shortage
from ropewalk.backend.library import DeviceInfo
from ropewalk.backend.model import Model
from ropewalk.backend.needs import ContextNeeds
from ropewalk.backend.placement import choose_gpu_layers, most_layers
from ropewalk.engine import placing
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.sampling import GREEDY
from ropewalk.engine.worker import Worker
from ropewalk_plan import ContextPlan
from rpc_servers import RunningServer, require_rpc, running_server
from tiny_models import write_tiny_model

MB = 10**6
N_LAYER = 6


def invented(
    layer_sizes: Sequence[int], *, compute: int, output: int, split: float = 1.0
) -> Callable[[int], Need]:
    """A model of layers of these sizes; of those on GPUs a share is on the first one, the rest on another.

    The last layers go first, as llama.cpp places them, and of all the output before.
    """

    def need_of(n_gpu_layers: int) -> Need:
        sizes = [*layer_sizes, output]
        on_gpu = sizes[len(sizes) - n_gpu_layers :]
        first = round(len(on_gpu) * split)
        gpus = (on_gpu[:first], on_gpu[first:])
        return Need(
            (
                DeviceNeed("CPU", sum(sizes) - sum(on_gpu), 0, compute),
                *(
                    DeviceNeed(f"GPU{i}", sum(held) // 2, sum(held) - sum(held) // 2, compute if held else 0)
                    for i, held in enumerate(gpus)
                ),
            )
        )

    return need_of


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=90),
    compute=st.integers(0, 300),
    output=st.integers(0, 900),
    free=st.tuples(st.integers(0, 20_000), st.integers(0, 20_000)),
    split=st.sampled_from([1.0, 0.5, 0.3]),
)
def test_the_most_layers_are_the_most(
    sizes: list[int], compute: int, output: int, free: tuple[int, int], split: float
) -> None:
    """Whatever the layers: the number fits, and one more does not; a few measurements are enough."""
    need_of = invented(sizes, compute=compute, output=output, split=split)
    room = (Budget("CPU", 10**12), *(Budget(f"GPU{i}", size) for i, size in enumerate(free)))
    asked: list[int] = []

    def counted(n: int) -> Need:
        asked.append(n)
        return need_of(n)

    n = most_layers(len(sizes) + 1, counted, room)

    assert n == 0 or shortage(need_of(n), room) is None
    assert n == len(sizes) + 1 or shortage(need_of(n + 1), room) is not None
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("n_layers", [16, 32, 64, 126])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.77, 0.98, 1.2])
def test_layers_of_a_size_take_few_measurements(n_layers: int, share: float) -> None:
    need_of = invented([200] * n_layers, compute=500, output=350)
    asked: list[int] = []

    def counted(n: int) -> Need:
        asked.append(n)
        return need_of(n)

    room = (Budget("CPU", 10**12), Budget("GPU0", round(share * need_of(n_layers + 1).devices[1].total)))

    most_layers(n_layers + 1, counted, room)

    assert len(asked) <= 6


def test_what_fits_wholly_is_measured_once() -> None:
    asked: list[int] = []

    def need_of(n: int) -> Need:
        asked.append(n)
        return invented([10] * 8, compute=5, output=5)(n)

    assert most_layers(9, need_of, (Budget("CPU", 10), Budget("GPU0", 1000))) == 9
    assert asked == [9]


def test_without_a_gpu_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "layer_devices", lambda _: ())

    assert choose_gpu_layers(tmp_path / "there is no such file", None, ContextParams(512)) == 0


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six layers of 1.6 MB each."""
    path = tmp_path_factory.mktemp("placement") / "m.gguf"
    write_tiny_model(
        path, n_layer=N_LAYER, n_embd=256, n_head=8, n_head_kv=4, head_dim=32, n_ff=256, query_deviation=0.5
    )
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    require_rpc()
    with running_server(tmp_path_factory.mktemp("placement-server")) as running:
        yield running


PARAMS = ContextParams(n_ctx=2048, threads=1, flash_attention="off")


def _on_server(path: Path, server: RunningServer, n: int, plan: ContextPlan | None = None) -> Need:
    model = Model.load(path, gpu_layers=n, rpc_servers=(server.address,), without_weights=True)
    try:
        if plan is not None:
            model.set_plan(plan)
        with ContextNeeds(model, PARAMS) as needs:
            return needs(PARAMS.n_ctx)
    finally:
        model.close()


def _limit(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Make every GPU say that so much is free; the server tells the whole machine's."""
    real = gpus.layer_devices

    def limited(servers: Sequence[object]) -> tuple[DeviceInfo, ...]:
        return tuple(dataclasses.replace(gpu, memory_free=free) for gpu in real(servers))  # type: ignore[arg-type]

    monkeypatch.setattr(placement, "layer_devices", limited)
    monkeypatch.setattr("ropewalk.backend.context_memory.layer_devices", limited)
    monkeypatch.setattr(budgets_module, "GPU_MARGIN", 0)


@pytest.mark.parametrize("n", [1, 3, N_LAYER + 1])
def test_what_is_told_of_a_device_is_what_is_allocated_there(
    big_file: Path, server: RunningServer, n: int
) -> None:
    told = {device.device: device for device in _on_server(big_file, server, n).devices}
    model = Model.load(big_file, gpu_layers=n, rpc_servers=(server.address,))
    try:
        context = Context(model, PARAMS)
        buffers = context.buffers
        (gpu,) = model.placed.gpus
        held = model.held_on(gpu.name)
        context.close()
        weights = model.held_on(gpu.name)
    finally:
        model.close()

    assert set(told) == {"CPU", gpu.name}
    assert told[gpu.name].kv_cache == pytest.approx(buffers.kv_cache.get(gpu.name, 0), abs=11_000)
    assert told["CPU"].kv_cache == pytest.approx(buffers.kv_cache.get("CPU", 0), abs=11_000)
    assert told[gpu.name].compute == buffers.compute[gpu.name]
    assert told[gpu.name].weights == weights
    assert held == weights + buffers.total(gpu.name)
    assert sum(device.weights for device in told.values()) == model.header.data_end - model.header.data_start


@pytest.mark.parametrize("n", [0, 1, 2, 4, N_LAYER, N_LAYER + 1])
def test_as_many_layers_as_fit(
    big_file: Path, server: RunningServer, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With just the room that so many layers take, so many are placed."""
    room = _on_server(big_file, server, n).devices[-1].total if n else 100_000
    _limit(monkeypatch, room)

    assert choose_gpu_layers(big_file, None, PARAMS, (server.address,)) == n


def test_windows_are_counted(big_file: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ContextPlan("", 64, 2048, windows=(100,) * N_LAYER)
    room = _on_server(big_file, server, N_LAYER + 1, plan).devices[-1].total
    _limit(monkeypatch, room)

    assert choose_gpu_layers(big_file, plan, PARAMS, (server.address,)) == N_LAYER + 1
    assert choose_gpu_layers(big_file, None, PARAMS, (server.address,)) < N_LAYER + 1


def test_what_is_held_counts_as_free(
    big_file: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = _on_server(big_file, server, 4).devices[-1].total
    _limit(monkeypatch, room // 2)

    n = choose_gpu_layers(big_file, None, PARAMS, (server.address,), held_on=lambda _device: room - room // 2)

    assert n == 4


def test_too_many_layers_are_refused_with_the_number_that_fits(
    big_file: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = _on_server(big_file, server, 3).devices[-1]
    model = Model.load(big_file, gpu_layers=N_LAYER + 1, rpc_servers=(server.address,))
    try:
        _limit(monkeypatch, need.total - model.held_on(need.device))
        with pytest.raises(
            MemoryShortageError, match=rf"of memory on {need.device} .*\(--gpu-layers 3\)$"
        ) as caught:
            Context(model, PARAMS)
        shorter = caught.value.largest_n_ctx
        assert 0 < shorter < PARAMS.n_ctx
        Context(model, dataclasses.replace(PARAMS, n_ctx=shorter)).close()
    finally:
        model.close()


def test_the_hosts_part_is_refused_too(
    big_file: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(big_file, gpu_layers=2, rpc_servers=(server.address,))
    monkeypatch.setattr(host, "available_memory", lambda: 12 * MB)
    try:
        with pytest.raises(MemoryShortageError, match=r"GB of memory \("):
            Context(model, PARAMS)
    finally:
        model.close()


def _options(server: RunningServer, **others: object) -> EngineOptions:
    return EngineOptions(
        n_ctx=256,
        threads=1,
        flash_attention="off",
        rpc_servers=(server.address,),
        **others,  # type: ignore[arg-type]
    )


def _answer(worker: Worker) -> str:
    return worker.generate(
        max_tokens=8, sampling=GREEDY, stop_at_eog=False, on_piece=lambda _piece: None, sequence=0, draft=0
    ).text


def test_a_longer_context_moves_layers_off_the_gpu_and_keeps_what_was_read(
    big_file: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for all layers and the short context, but not for the long one; the answer stays the same."""
    all_layers = N_LAYER + 1
    _limit(monkeypatch, _on_server(big_file, server, all_layers).devices[-1].total - 1)
    prompt = list(range(300, 350))
    worker = Worker(lambda: False)
    try:
        worker.load(big_file, _options(server), lambda _share: None)
        model = worker._model
        assert model is not None
        assert model.placed.gpu_layers == all_layers
        worker.prefill(prompt, lambda _done, _of: None, 0, 0)
        before = _answer(worker)
        # The server's device tells what it had at first, as if nothing were held there now.
        monkeypatch.setattr(Model, "held_on", lambda _self, _device: 0)
        description = worker.resize(PARAMS.n_ctx)
        moved = worker._model
        assert moved is not None
        assert 0 < moved.placed.gpu_layers < all_layers
        read = worker.prefill(prompt, lambda _done, _of: None, 0, 0)
        after = _answer(worker)
    finally:
        worker._unload()

    assert description.n_ctx == PARAMS.n_ctx
    assert read.cached_tokens >= len(prompt) - 1
    assert after == before


def test_layers_that_a_person_counted_stay_where_they_are(
    big_file: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit(monkeypatch, _on_server(big_file, server, N_LAYER + 1).devices[-1].total - 1)
    worker = Worker(lambda: False)
    try:
        worker.load(big_file, _options(server, gpu_layers=N_LAYER + 1), lambda _share: None)
        worker.prefill([300, 301], lambda _done, _of: None, 0, 0)
        monkeypatch.setattr(Model, "held_on", lambda _self, _device: 0)
        with pytest.raises(MemoryShortageError, match=rf"--gpu-layers {N_LAYER}"):
            worker.resize(PARAMS.n_ctx)
        assert worker.prefill([300, 301], lambda _done, _of: None, 0, 0).cached_tokens == 1
    finally:
        worker._unload()


def test_a_large_model_is_refused_before_it_is_read(big_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bool] = []
    load = Model.load

    def watched(path: Path, *, without_weights: bool = False, **others: object) -> Model:
        read.append(not without_weights)
        return load(path, without_weights=without_weights, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "load", watched)
    monkeypatch.setattr(placing, "SLOW_TO_READ", 0)
    monkeypatch.setattr(host, "available_memory", lambda: 12 * MB)
    worker = Worker(lambda: False)
    with pytest.raises(MemoryShortageError, match="a context of 100,000 tokens needs"):
        worker.load(big_file, EngineOptions(n_ctx=100_000, threads=1, gpu_layers=0), lambda _share: None)

    assert read == [False]
