"""RPC servers that cannot be used, each told in one sentence; and the verb that is one."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_running import CommandLine, Outcome, environment, run_process
from ropewalk.backend import rpc, rpc_server
from ropewalk.backend.errors import LibraryNotPatchedError, RpcServerError
from ropewalk.backend.model import Model
from ropewalk.backend.rpc_server import RpcAddress, say_hello, server_program
from ropewalk.engine import Engine, EngineDied, EngineError, EngineOptions
from rpc_servers import LOOPBACK, RunningServer, free_port, require_rpc, running_server, wait_until_it_answers


@pytest.fixture(scope="module", autouse=True)
def with_rpc() -> None:
    require_rpc()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path) as running:
        yield running


@contextmanager
def listener(answer: Callable[[socket.socket], None]) -> Iterator[RpcAddress]:
    """Something else that listens: it reads a greeting, answers by `answer` and hangs up."""

    def serve() -> None:
        connection, _ = accepting.accept()
        with connection:
            connection.recv(64)
            answer(connection)

    with socket.create_server((LOOPBACK, 0)) as accepting:
        thread = threading.Thread(target=serve)
        thread.start()
        yield RpcAddress(LOOPBACK, int(accepting.getsockname()[1]))
        thread.join()


def version(major: int, minor: int, patch: int) -> bytes:
    """What a server of that version answers to a greeting (ggml-rpc.h)."""
    return struct.pack("=QBBBB24x", 28, major, minor, patch, 0)


class TestAddresses:
    @pytest.mark.parametrize("text", ["10.0.0.7:50052", "tower.local:1", "a-b:65535"])
    def test_good(self, text: str) -> None:
        assert str(RpcAddress.parse(text)) == text

    @pytest.mark.parametrize(
        "text", ["", "tower", "tower:", ":50052", "tower:0", "tower:65536", "tower:x", "[::1]:50052", "a b:1"]
    )
    def test_bad(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not HOST:PORT"):
            RpcAddress.parse(text)

    def test_the_version_spoken_is_that_of_the_program(self, server: RunningServer) -> None:
        said = server.log.read_text(encoding="utf-8")
        assert f"Starting RPC server v{rpc_server.PROTOCOL_MAJOR}.{rpc_server.PROTOCOL_MINOR}." in said


class TestRefusals:
    def test_nothing_listens(self) -> None:
        address = RpcAddress(LOOPBACK, free_port())
        with pytest.raises(RpcServerError, match=rf"no RPC server can be reached at {address} \(Connection"):
            say_hello(address)

    def test_an_unknown_host(self) -> None:
        with pytest.raises(
            RpcServerError, match=r"host of the RPC server no\.such\.host\.invalid:1 is not known"
        ):
            RpcAddress("no.such.host.invalid", 1).resolved()

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 36])
    def test_something_else_listens(self, answer: bytes) -> None:
        with (
            listener(lambda connection: connection.sendall(answer)) as address,
            pytest.raises(RpcServerError, match=f"what listens at {address} is no RPC server"),
        ):
            say_hello(address)

    @pytest.mark.parametrize("numbers", [(6, 0, 1), (8, 0, 0), (7, 1, 0)])
    def test_another_version(self, numbers: tuple[int, int, int]) -> None:
        with listener(lambda connection: connection.sendall(version(*numbers))) as address:
            spoken = ".".join(map(str, numbers))
            with pytest.raises(
                RpcServerError, match=rf"{address} speaks version {spoken} .* and this is 7\.0"
            ):
                say_hello(address)

    def test_a_patch_more_or_less_is_no_other_version(self) -> None:
        with listener(lambda connection: connection.sendall(version(7, 0, 9))) as address:
            say_hello(address)

    def test_a_server_that_serves_another(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_connection((server.address.host, server.address.port)) as other:
            other.sendall(struct.pack("=BQ", 14, 24) + bytes(24))
            assert other.recv(36)
            monkeypatch.setattr(rpc_server, "_ANSWER_SECONDS", 0.3)
            with pytest.raises(RpcServerError, match="serves one program at a time"):
                say_hello(server.address)
        # Whoever hung up before the answer came has done the server no harm (SIGPIPE would end it).
        monkeypatch.undo()
        wait_until_it_answers(server.address, server.process)

    def test_one_server_by_two_names(self, server: RunningServer, tiny_llama: Path) -> None:
        again = RpcAddress("localhost", server.address.port)
        with pytest.raises(
            RpcServerError, match=f"{server.address} and {again} are one RPC server: name it once"
        ):
            Model.load(tiny_llama, rpc_servers=(server.address, again))

    def test_a_library_without_rpc(self, monkeypatch: pytest.MonkeyPatch, tiny_llama: Path) -> None:
        monkeypatch.setattr(rpc, "is_built_in", lambda: False)
        with pytest.raises(LibraryNotPatchedError, match=r"built without RPC: run \./scripts/setup --rpc"):
            Model.load(tiny_llama, rpc_servers=(RpcAddress(LOOPBACK, 1),))

    def test_more_devices_than_llama_cpp_takes(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch, tiny_llama: Path
    ) -> None:
        monkeypatch.setattr(rpc, "_MAX_DEVICES", 0)
        with pytest.raises(RpcServerError, match=r"have 1 devices together.*at most 0"):
            Model.load(tiny_llama, rpc_servers=(server.address,))


class TestEngine:
    def test_a_server_that_is_not_there_costs_the_load_only(self, tiny_llama: Path) -> None:
        address = RpcAddress(LOOPBACK, free_port())
        with Engine.start() as engine:
            with pytest.raises(EngineError, match=f"no RPC server can be reached at {address}"):
                engine.load(tiny_llama, EngineOptions(64, rpc_servers=(address,)))
            assert engine.load(tiny_llama, EngineOptions(64)).n_ctx == 64

    def test_a_server_lost_in_mid_work_is_named(self, server: RunningServer, tiny_llama: Path) -> None:
        with Engine.start() as engine:
            engine.load(tiny_llama, EngineOptions(64, rpc_servers=(server.address,)))
            engine.prefill([1, 5, 6])
            server.kill()
            with pytest.raises(EngineDied) as death:
                engine.prefill([1, 5, 6, 7, 8])
        assert str(death.value) == f"the model process lost the RPC server {server.address}: start it again"


class TestCommandLine:
    @pytest.fixture
    def command(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> CommandLine:
        return CommandLine(monkeypatch, capfd)

    @pytest.fixture
    def text(self, tmp_path: Path) -> Path:
        path = tmp_path / "text.txt"
        path.write_text("The sky is blue.", encoding="utf-8")
        return path

    def ask(self, command: CommandLine, model: Path, text: Path, *more: str) -> Outcome:
        return command("ask", model, text, "-q", "Well?", *more)

    def test_the_servers_reach_the_engine(self, command: CommandLine, tiny_llama: Path, text: Path) -> None:
        assert self.ask(command, tiny_llama, text, "--rpc", "10.0.0.7:50052,tower:50053").exit_code == 0
        assert command.engine.options is not None
        reached = command.engine.options.rpc_servers
        assert reached == (RpcAddress("10.0.0.7", 50052), RpcAddress("tower", 50053))
        self.ask(command, tiny_llama, text)
        assert not command.engine.options.rpc_servers

    @pytest.mark.parametrize(
        ("servers", "words"),
        [
            ("tower", "'tower' is not HOST:PORT"),
            ("tower:1,", "'' is not HOST:PORT"),
            ("tower:1,tower:1", "tower:1 is there twice"),
        ],
    )
    def test_bad_lists(
        self, command: CommandLine, tiny_llama: Path, text: Path, servers: str, words: str
    ) -> None:
        outcome = self.ask(command, tiny_llama, text, "--rpc", servers)
        assert outcome.exit_code == 2
        assert words in outcome.sentence

    def test_no_layer_for_the_servers(self, command: CommandLine, tiny_llama: Path, text: Path) -> None:
        outcome = self.ask(command, tiny_llama, text, "--rpc", "tower:1", "--gpu-layers", "0")
        assert outcome.exit_code == 2
        assert "--gpu-layers 0 leaves no layer" in outcome.sentence

    def test_a_server_that_is_not_there(self, tiny_llama: Path, text: Path) -> None:
        address = RpcAddress(LOOPBACK, free_port())
        outcome = run_process("ask", tiny_llama, text, "-q", "Well?", "--rpc", str(address))
        assert outcome.exit_code == 1
        assert outcome.sentence.startswith(f"no RPC server can be reached at {address} (Connection refused)")


class TestVerb:
    def test_it_becomes_the_program_and_ends_with_it(self) -> None:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "ropewalk", "rpc-server", "--port", str(port), "--threads", "1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        try:
            wait_until_it_answers(RpcAddress(LOOPBACK, port), process)
            if (running := Path(f"/proc/{process.pid}/exe")).exists():
                assert running.samefile(server_program())
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
        finally:
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGINT
        assert f"endpoint       : {LOOPBACK}:{port}" in out.decode()
        assert err == b""
        with pytest.raises(RpcServerError, match="no RPC server can be reached"):
            say_hello(RpcAddress(LOOPBACK, port))

    def test_a_port_that_is_taken(self, server: RunningServer) -> None:
        outcome = run_process("rpc-server", "--port", str(server.address.port))
        assert outcome.exit_code == 1
        assert outcome.sentence.startswith(
            f"Cannot listen at {server.address}: address already in use; choose"
        )

    @pytest.mark.parametrize(
        ("host", "warned"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)]
    )
    def test_the_program_is_told_what_was_asked_for(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        tmp_path: Path,
        host: str,
        warned: bool,
    ) -> None:
        started: list[tuple[object, list[str], dict[str, str]]] = []
        monkeypatch.setattr("os.execve", lambda *arguments: started.append(arguments))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        port = str(free_port())
        more = ["--threads", "3", "--devices", "CPU", "--cache"]
        outcome = CommandLine(monkeypatch, capfd)("rpc-server", "--host", host, "--port", port, *more)
        assert outcome.exit_code == 0
        ((program, command, variables),) = started
        number = "0.0.0.0" if warned else LOOPBACK
        assert program == server_program()
        assert command[1:] == [
            *("--host", number, "--port", port, "--threads", "3"),
            *("--device", "CPU", "--cache"),
        ]
        assert Path(variables["LLAMA_CACHE"]).name == "ropewalk"
        assert ("without a password" in outcome.stderr) is warned

    def test_a_library_without_the_program(
        self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(rpc_server, "find_spec", lambda _: None)
        outcome = CommandLine(monkeypatch, capfd)("rpc-server")
        assert outcome.exit_code == 5
        assert outcome.sentence == (
            "The installed llama.cpp was built without RPC: run ./scripts/setup --rpc."
        )
