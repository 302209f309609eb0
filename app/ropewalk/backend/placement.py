"""How many of a model's layers the GPUs have room for, together with a context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ropewalk.backend.budgets import budgets
from ropewalk.backend.buffer_sizes import HOST
from ropewalk.backend.context_params import ContextParams
from ropewalk.backend.fit import Budget, DeviceNeed, Need
from ropewalk.backend.gpus import layer_devices
from ropewalk.backend.model import Model
from ropewalk.backend.needs import ContextNeeds
from ropewalk.backend.plan_choice import PlanChoice, give_plan
from ropewalk.backend.rpc_server import RpcAddress

ALL_LAYERS = -1


def choose_gpu_layers(
    path: Path,
    plan: PlanChoice,
    params: ContextParams,
    rpc_servers: Sequence[RpcAddress] = (),
    *,
    held_on: Callable[[str], int] = lambda _device: 0,
) -> int:
    """The most layers that fit on the GPUs with a context; 0 at once where there is no GPU.

    The library is asked what the context takes with so many layers there, a few times (`most_layers`): each
    time it reads the file's header and vocabulary, and no weights.

    Args:
        path: the model.
        plan: which plan is to be executed.
        params: the context.
        rpc_servers: other machines, whose devices count as GPUs.
        held_on: bytes of a device's that are to be released before the model is loaded.

    Returns:
        Layers, the output counted as one, as in `Model.load`.

    Raises:
        BackendError: as `Model.load` and `Model.set_plan`.
    """
    gpus = layer_devices(rpc_servers)
    if not gpus:
        return 0
    with opened(path, ALL_LAYERS, rpc_servers, plan) as model:
        n_layers = len(model.placed.layer_devices)
        needs_of_all = _need(model, params)

    def need_of(n_gpu_layers: int) -> Need:
        if n_gpu_layers == n_layers:
            return needs_of_all
        with opened(path, n_gpu_layers, rpc_servers, plan) as model:
            return _need(model, params)

    return most_layers(n_layers, need_of, budgets(gpus, held_on))


def most_layers(n_layers: int, need_of: Callable[[int], Need], room: Sequence[Budget]) -> int:
    """The most layers whose needs on every GPU fit there.

    Whether the rest fits on the host is not asked: that gets only worse with fewer on the GPUs.

    Each measurement says by how much a GPU is too full, or what is left; with what a layer takes there on
    average, that is where the next one is made. Between a number that fits and one that does not, there is at
    last none: the answer was measured, and so was the number above it.

    Args:
        n_layers: all there are.
        need_of: what is needed with so many on the GPUs; it does not fall on a GPU as they grow.
        room: of the host and the GPUs.
    """
    fitting, too_many = 0, n_layers + 1
    trial = n_layers
    while too_many - fitting > 1:
        need = need_of(trial)
        spare = _spare_layers(need, room, trial)
        if spare >= 0:
            fitting = trial
        else:
            too_many = trial
        trial = min(max(trial + (spare or 1), fitting + 1), too_many - 1)
    return fitting


def longest_of_placements(n_layers: int, longest_on: Callable[[int], tuple[int, int]]) -> int:
    """The longest context that fits with any number of layers on the GPUs.

    With more layers there, the GPUs have room for shorter contexts and the host for longer ones: the best
    number is where the two meet.

    Args:
        n_layers: all there are.
        longest_on: the longest contexts that the GPUs, and that the host, have room for with so many layers
            on the GPUs.
    """
    low, high = 0, n_layers
    best = 0
    while low <= high:
        n = n_layers if low == 0 and high == n_layers else (low + high) // 2
        of_gpus, of_host = longest_on(n)
        best = max(best, min(of_gpus, of_host))
        if of_gpus >= of_host:
            low = n + 1
        else:
            high = n - 1
    return best


def _spare_layers(need: Need, room: Sequence[Budget], n_gpu_layers: int) -> int:
    """How many layers more would fit on the fullest GPU by its average; negative for fewer."""
    budgets_of = {budget.device: budget.usable for budget in room}
    spare: int | None = None
    for device in need.devices:
        if device.device == HOST or not device.total:
            continue
        left = budgets_of.get(device.device, 0) - device.total
        layers = left // _bytes_per_layer(device, n_gpu_layers, need)
        spare = layers if spare is None else min(spare, layers)
    return 0 if spare is None else spare


def _bytes_per_layer(device: DeviceNeed, n_gpu_layers: int, need: Need) -> int:
    """What one layer more takes of a device: its weights and cache, spread over the layers it may have."""
    n_gpus = sum(1 for other in need.devices if other.device != HOST and other.weights)
    share = max(1.0, n_gpu_layers / max(1, n_gpus))
    return max(1, round((device.weights + device.kv_cache) / share))


@contextmanager
def opened(
    path: Path, gpu_layers: int, rpc_servers: Sequence[RpcAddress], plan: PlanChoice
) -> Iterator[Model]:
    """A model without weights, with the plan that is chosen; closed in the end."""
    model = Model.load(path, gpu_layers=gpu_layers, rpc_servers=rpc_servers, without_weights=True)
    try:
        give_plan(model, plan)
        yield model
    finally:
        model.close()


def _need(model: Model, params: ContextParams) -> Need:
    with ContextNeeds(model, params) as needs:
        return needs(params.n_ctx)
