"""A baked model with its layers on two RPC servers: the logits are those of this process alone.

Oracle: the same file in the same library without servers, through the bare C API. That the plans are
executed at all is the business of the parity tests; here the plain file's logits show that a plan mattered.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from cli_running import run_process
from library_logits import Float32, Mode, library_logits, loaded
from ropewalk.backend import native_log
from ropewalk.backend.context import Context, ContextParams
from ropewalk.backend.model import Model
from ropewalk.backend.rpc_server import RpcAddress
from ropewalk.engine import Engine, EngineOptions
from ropewalk_convert import bake
from rpc_servers import RunningServer, require_rpc, running_server
from tiny_models import CHATML_TEMPLATE, Architecture, write_tiny_model

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
N_LAYER, TRAIN, TARGET, N_TOKENS = 6, 64, 256, 200
FLASH = ContextParams(
    n_ctx=N_TOKENS,
    n_batch=N_TOKENS,
    n_outputs=N_TOKENS,
    threads=1,
    kv_type="f32",
    flash_attention="on",
)
NO_FLASH = dataclasses.replace(FLASH, flash_attention="off")


@dataclass(frozen=True)
class Case:
    """A model to bake, and how its prompt is read.

    Attributes:
        method: what is baked.
        ends: where the batches of the prompt end; with a schedule each end is a step further.
        options: the method's.
    """

    name: str
    arch: Architecture
    method: str
    ends: tuple[int, ...] = (N_TOKENS,)
    options: tuple[tuple[str, str], ...] = ()


CASES = (
    Case("frequency factors", "llama", "dprope"),
    Case("attention factor", "qwen2", "yarn+logn"),
    Case("periodic positions and LogN", "qwen3", "extra-pe+logn"),
    Case("mirrored positions", "llama", "extra-mpe"),
    Case("schedule that turns cached keys", "llama", "dynamic-ntk", (40, 70, 100, 130, 160, N_TOKENS)),
    Case("schedule, halves", "qwen2", "dynamic-yarn+logn", (40, 70, 100, 130, 160, N_TOKENS)),
    Case(
        "windows on both servers",
        "llama",
        "dprope+windows",
        (90, N_TOKENS),
        (("windows", "16/0/8/40/0/16"), ("sinks", "3")),
    ),
    Case("stream whose keys are rewritten", "qwen3", "streaming", (50, N_TOKENS), (("window", "24"),)),
)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, RunningServer]]:
    require_rpc()
    folder = tmp_path_factory.mktemp("servers")
    with running_server(folder) as first, running_server(folder) as second:
        yield first, second


@pytest.fixture(scope="module")
def addresses(servers: tuple[RunningServer, RunningServer]) -> tuple[RpcAddress, RpcAddress]:
    return servers[0].address, servers[1].address


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return [int(token) for token in np.random.default_rng(11).integers(3, 360, N_TOKENS)]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    assert isinstance(request.param, Case)
    return request.param


def baked(case: Case, folder: Path) -> tuple[Path, Path]:
    """The plain file and the baked one."""
    plain = write_tiny_model(
        folder / "plain.gguf",
        arch=case.arch,
        n_layer=N_LAYER,
        train_length=TRAIN,
        seed=4,
        query_deviation=1.0,
        chat_template=CHATML_TEMPLATE,
    ).path
    plan = bake(
        plain,
        folder / "baked.gguf",
        method=case.method,
        target_length=TARGET,
        options=dict(case.options),
    )
    return plain, plan.target


@contextmanager
def remote(path: Path, servers: tuple[RpcAddress, ...], params: ContextParams) -> Iterator[Context]:
    """A context whose model lies on the servers."""
    model = Model.load(path, rpc_servers=servers)
    try:
        context = Context(model, params)
        try:
            yield context
        finally:
            context.close()
    finally:
        model.close()


def read_remotely(context: Context, tokens: list[int], ends: tuple[int, ...]) -> Float32:
    rows = []
    for start, end in pairwise((0, *ends)):
        context.decode(tokens[start:end], all_logits=True)
        rows.append(context.logits())
    return np.concatenate(rows)


def as_local(params: ContextParams) -> Mode:
    return Mode(flash_attention=params.flash_attention == "on", threads=1)


def read_locally(path: Path, tokens: list[int], ends: tuple[int, ...], params: ContextParams) -> Float32:
    with loaded(path, N_TOKENS, as_local(params)) as context:
        return np.concatenate(
            [context.decode(tokens[start:end], start) for start, end in pairwise((0, *ends))]
        )


@pytest.mark.parametrize("params", [NO_FLASH, FLASH], ids=["plain attention", "flash attention"])
def test_logits_equal_those_of_one_machine(
    case: Case,
    params: ContextParams,
    addresses: tuple[RpcAddress, RpcAddress],
    tokens: list[int],
    tmp_path: Path,
) -> None:
    plain, path = baked(case, tmp_path)
    with remote(path, addresses, params) as context:
        there = read_remotely(context, tokens, case.ends)
    here = read_locally(path, tokens, case.ends, params)
    assert there.shape == here.shape == (N_TOKENS, here.shape[1])
    assert np.abs(there - here).max() < BOUND
    beyond = np.abs(there - library_logits(plain, tokens, as_local(params)))[TRAIN:]
    assert beyond.max() > 100 * BOUND, "the plan made no difference"


def test_every_layer_lies_on_a_server_and_both_have_some(
    addresses: tuple[RpcAddress, RpcAddress], tmp_path: Path
) -> None:
    _, path = baked(CASES[0], tmp_path)
    model = Model.load(path, rpc_servers=addresses)
    loading = "\n".join(native_log.LOG.lines())
    context = Context(model, FLASH)
    making = "\n".join(native_log.LOG.lines())
    context.close()
    model.close()
    of_layer = dict(re.findall(r"layer +(\d+) assigned to device (\w+)", loading))
    assert set(of_layer) == {str(layer) for layer in range(N_LAYER + 1)}  # with the output layer
    assert len(set(of_layer.values())) == 2
    assert list(of_layer.values()) == sorted(of_layer.values()), "each has a run of neighbouring layers"
    weights = re.findall(r"RPC\d+\[([\d.:]+)\] model buffer size = +([\d.]+) MiB", loading)
    keys_and_values = re.findall(r"RPC\d+\[([\d.:]+)\] KV buffer size = +([\d.]+) MiB", making)
    for buffers in (weights, keys_and_values):
        assert {where for where, _ in buffers} == {str(address) for address in addresses}
        assert all(float(size) > 0 for _, size in buffers)


def test_fewer_layers_may_be_placed_there(
    addresses: tuple[RpcAddress, RpcAddress], tokens: list[int], tmp_path: Path
) -> None:
    _, path = baked(CASES[0], tmp_path)
    model = Model.load(path, gpu_layers=3, rpc_servers=addresses)
    loading = "\n".join(native_log.LOG.lines())
    context = Context(model, FLASH)
    there = read_remotely(context, tokens, (N_TOKENS,))
    context.close()
    model.close()
    of_layer = re.findall(r"layer +\d+ assigned to device (\w+)", loading)
    assert of_layer[: N_LAYER + 1 - 3] == ["CPU"] * (N_LAYER + 1 - 3)
    assert len(set(of_layer[-3:])) == 2
    assert np.abs(there - library_logits(path, tokens, as_local(FLASH))).max() < BOUND


@pytest.mark.parametrize("method", ["dprope", "extra-pe+logn"])
def test_cached_keys_are_shifted_there(
    method: str, addresses: tuple[RpcAddress, RpcAddress], tokens: list[int], tmp_path: Path
) -> None:
    """A stretch of the text is cut out, and what came after it moves up, which turns its keys."""
    _, path = baked(Case("", "llama", method), tmp_path)
    read, cut, rest = 150, (20, 60), tokens[150:]

    def shift(memory: llama_cpp.llama_memory_t) -> None:
        assert llama_cpp.llama_memory_seq_rm(memory, 0, *cut)
        llama_cpp.llama_memory_seq_add(memory, 0, cut[1], -1, cut[0] - cut[1])

    with remote(path, addresses, NO_FLASH) as context:
        context.decode(tokens[:read], all_logits=True)
        shift(llama_cpp.llama_get_memory(context.handle))
        assert context.length == read - (cut[1] - cut[0])
        context.decode(rest, all_logits=True)
        there = context.logits()
    with loaded(path, N_TOKENS, as_local(NO_FLASH)) as local:
        local.decode(tokens[:read])
        shift(local.memory)
        here = local.decode(rest, read - (cut[1] - cut[0]))
    assert np.abs(there - here).max() < BOUND


def test_a_model_without_servers_stays_here(
    addresses: tuple[RpcAddress, RpcAddress], tokens: list[int], tmp_path: Path
) -> None:
    _, path = baked(CASES[0], tmp_path)
    with remote(path, addresses, FLASH):
        pass
    model = Model.load(path)
    loading = "\n".join(native_log.LOG.lines())
    assert "RPC" not in loading
    model.close()


def test_the_engine_reads_and_answers_there(
    addresses: tuple[RpcAddress, RpcAddress], tokens: list[int], tmp_path: Path
) -> None:
    """The same greedy answer, and the same again after a state was taken out for a longer context."""
    _, path = baked(CASES[2], tmp_path)
    answers = []
    for servers in ((), addresses):
        options = EngineOptions(
            n_ctx=128, threads=1, kv_type="f32", flash_attention="off", rpc_servers=servers
        )
        with Engine.start() as engine:
            engine.load(path, options)
            engine.prefill(tokens[:100])
            engine.resize(220)
            engine.prefill(tokens[:180])
            stream = engine.generate(20, stop_at_eog=False)
            answers.append([piece.text for piece in stream])
    assert answers[0] == answers[1]


def test_the_command_line_takes_servers(
    addresses: tuple[RpcAddress, RpcAddress], servers: tuple[RunningServer, RunningServer], tmp_path: Path
) -> None:
    """`doctor` compares logits below the train length with the plan and without: equal bits, there too."""
    _, path = baked(CASES[3], tmp_path)
    before = [server.log.read_text(encoding="utf-8").count("Accepted") for server in servers]
    outcome = run_process("doctor", path, "--tokens", "60", "--rpc", ",".join(map(str, addresses)))
    assert outcome.exit_code == 0, outcome.stderr
    assert "identical on 60 tokens below the train length" in outcome.stdout
    after = [server.log.read_text(encoding="utf-8").count("Accepted") for server in servers]
    assert all(then > once for once, then in zip(before, after, strict=True))
