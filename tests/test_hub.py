"""GGUF models from the hub, against a stand-in on this machine."""

from __future__ import annotations

import errno
import random
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, hf_hub_download

from hub_stand_in import COMMIT, TOKEN, HubStandIn, StandInRepo, point_at, running_hub
from ropewalk_convert import hub_download
from ropewalk_convert.errors import SourceError, SpaceError
from ropewalk_convert.hub import (
    HubError,
    fetch_gguf,
    find_fetched,
    is_repo_name,
    list_gguf_files,
    missing_parts,
)
from ropewalk_convert.hub_cache import FetchedModel, is_safe_name

REPO = "somebody/model-GGUF"


def content(seed: int, size: int = 200_000) -> bytes:
    return b"GGUF" + random.Random(seed).randbytes(size - 4)


ONE = content(1)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    with running_hub() as stand_in:
        stand_in.repos[REPO] = StandInRepo({"model.Q4.gguf": ONE, "README.md": b"# A model"})
        point_at(stand_in, monkeypatch, tmp_path / "home")
        monkeypatch.setattr(hub_download, "PAUSES", (0.01, 0.01, 0.01))
        yield stand_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models" / "somebody--model-GGUF"


def fetch(folder: Path, file: str = "model.Q4.gguf", revision: str | None = None) -> FetchedModel:
    listing = list_gguf_files(REPO, revision)
    return fetch_gguf(listing, listing.model(file), folder)


def left_overs(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.part"))


def test_the_stand_in_is_a_hub_to_huggingface_hub_itself(hub: HubStandIn, tmp_path: Path) -> None:
    path = hf_hub_download(REPO, "model.Q4.gguf", cache_dir=tmp_path / "theirs")
    assert Path(path).read_bytes() == ONE
    assert COMMIT in path


def test_one_file_arrives_whole_with_progress(hub: HubStandIn, folder: Path) -> None:
    listing = list_gguf_files(REPO)
    assert [(model.name, model.size) for model in listing.models] == [("model.Q4.gguf", len(ONE))]
    reports: list[tuple[int, int]] = []
    fetched = fetch_gguf(listing, listing.models[0], folder, lambda *report: reports.append(report))
    assert fetched.path.read_bytes() == ONE
    assert fetched == find_fetched(folder, "model.Q4.gguf")
    assert (fetched.commit, fetched.size) == (COMMIT, len(ONE))
    assert reports[0] == (0, len(ONE)) and reports[-1] == (len(ONE), len(ONE))
    assert reports == sorted(reports) and len(reports) > 2
    assert left_overs(folder) == []


def test_what_is_there_is_not_fetched_again(hub: HubStandIn, folder: Path) -> None:
    fetch(folder)
    hub.asked.clear()
    listing = list_gguf_files(REPO)
    assert missing_parts(listing, listing.models[0], folder) == ()
    fetch_gguf(listing, listing.models[0], folder)
    assert hub.ranges == []


def test_a_changed_file_is_fetched_and_an_unchanged_one_of_a_new_commit_is_not(
    hub: HubStandIn, folder: Path
) -> None:
    fetch(folder)
    hub.repos[REPO].commit = "f" * 40
    hub.asked.clear()
    assert fetch(folder).commit == "f" * 40
    assert hub.ranges == []
    hub.repos[REPO].files = {"model.Q4.gguf": content(2)}
    assert fetch(folder).path.read_bytes() == content(2)


def test_a_cut_connection_is_taken_up_in_the_same_run(hub: HubStandIn, folder: Path) -> None:
    hub.cuts = [70_000, 0, 50_000]
    assert fetch(folder).path.read_bytes() == ONE
    assert hub.ranges == [None, "bytes=70000-", "bytes=70000-", "bytes=120000-"]


def test_a_later_run_goes_on_where_one_gave_up(hub: HubStandIn, folder: Path) -> None:
    hub.cuts = [70_000, 0, 0, 0, 0]
    with pytest.raises(HubError, match=r"model\.Q4\.gguf broke off after 70\.0 kB of 200\.0 kB .*again"):
        fetch(folder)
    assert find_fetched(folder, "model.Q4.gguf") is None
    hub.asked.clear()
    assert fetch(folder).path.read_bytes() == ONE
    assert hub.ranges == ["bytes=70000-"]
    assert left_overs(folder) == []


def test_a_beginning_of_other_content_is_not_gone_on_from(hub: HubStandIn, folder: Path) -> None:
    hub.cuts = [70_000, 0, 0, 0, 0]
    with pytest.raises(HubError):
        fetch(folder)
    hub.repos[REPO].files = {"model.Q4.gguf": content(2)}
    hub.asked.clear()
    assert fetch(folder).path.read_bytes() == content(2)
    assert hub.ranges == [None]
    assert left_overs(folder) == []


def test_a_server_that_gives_no_parts_is_heard_from_the_beginning(hub: HubStandIn, folder: Path) -> None:
    hub.cuts, hub.ignores_ranges = [70_000], True
    assert fetch(folder).path.read_bytes() == ONE


def test_a_damaged_beginning_does_not_become_a_model(hub: HubStandIn, folder: Path) -> None:
    hub.cuts = [70_000, 0, 0, 0, 0]
    with pytest.raises(HubError):
        fetch(folder)
    (part,) = left_overs(folder)
    part.write_bytes(part.read_bytes()[:-1] + b"\0\0\0\0")
    with pytest.raises(HubError, match="damaged"):
        fetch(folder)
    assert left_overs(folder) == []
    assert fetch(folder).path.read_bytes() == ONE


@pytest.mark.parametrize("told", [content(1, 150_000), content(1, 250_000)], ids=["longer", "shorter"])
def test_a_file_of_another_size_than_told_is_refused(hub: HubStandIn, folder: Path, told: bytes) -> None:
    hub.repos[REPO].told = {"model.Q4.gguf": told}
    with pytest.raises(HubError, match=rf"should have {len(told):,} bytes and comes with 200,000"):
        fetch(folder)
    assert list(folder.rglob("*.gguf")) == left_overs(folder) == []


@pytest.mark.parametrize("wrong", [b"<html>" + bytes(5000), b"GG", b""], ids=["a page", "short", "empty"])
def test_a_file_that_is_no_gguf_is_refused_and_removed(hub: HubStandIn, folder: Path, wrong: bytes) -> None:
    hub.repos[REPO].files = {"model.Q4.gguf": wrong}
    with pytest.raises(SourceError, match=r"model\.Q4\.gguf"):
        fetch(folder)
    assert list(folder.rglob("*.gguf")) == left_overs(folder) == []


def test_files_outside_lfs_have_no_checksum_and_arrive(hub: HubStandIn, folder: Path) -> None:
    hub.repos[REPO].plain_git = True
    assert fetch(folder).path.read_bytes() == ONE


def test_a_split_model_is_one_and_is_fetched_whole(hub: HubStandIn, folder: Path) -> None:
    names = [f"Q8/big-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]
    hub.repos[REPO].files = {name: content(i) for i, name in enumerate(names)}
    listing = list_gguf_files(REPO)
    assert [(model.name, model.size) for model in listing.models] == [(names[0], 600_000)]
    hub.cuts = [None, 10_000, 0, 0, 0, 0]
    with pytest.raises(HubError, match="00002-of-00003"):
        fetch(folder, names[2])
    assert find_fetched(folder, names[0]) is None
    hub.asked.clear()
    reports: list[tuple[int, int]] = []
    fetched = fetch_gguf(listing, listing.model(names[1]), folder, lambda *report: reports.append(report))
    assert hub.ranges == ["bytes=10000-", None]
    assert reports[0] == (210_000, 600_000) and reports[-1] == (600_000, 600_000)
    assert fetched == FetchedModel(folder / names[0], names[0], COMMIT, 600_000)
    assert [(folder / name).read_bytes() for name in names] == [content(i) for i in range(3)]
    assert all(find_fetched(folder, name) == fetched for name in names)


def test_a_split_model_without_all_parts_is_refused(hub: HubStandIn, folder: Path) -> None:
    hub.repos[REPO].files = {"big-00001-of-00003.gguf": ONE, "big-00003-of-00003.gguf": ONE}
    with pytest.raises(HubError, match="2 of the 3 parts of big"):
        fetch(folder, "big-00001-of-00003.gguf")
    assert hub.ranges == []


def test_names_that_leave_the_folder_are_not_listed(hub: HubStandIn, folder: Path) -> None:
    hub.repos[REPO].files = {"../../evil.gguf": ONE, "/tmp/evil.gguf": ONE, "good.gguf": ONE}
    assert [model.name for model in list_gguf_files(REPO).models] == ["good.gguf"]
    assert not is_safe_name("a\\..\\b.gguf") and not is_safe_name("") and is_safe_name("a/b..gguf")


def test_unknown_names_are_told_apart(hub: HubStandIn, folder: Path) -> None:
    with pytest.raises(HubError, match=r"no repository nobody/nothing, .*private.*HF_TOKEN"):
        list_gguf_files("nobody/nothing")
    with pytest.raises(HubError, match=r"no revision v9;"):
        list_gguf_files(REPO, "v9")
    assert list_gguf_files(REPO, "v1").commit == COMMIT
    with pytest.raises(HubError, match=r"no GGUF file model\.Q9\.gguf; it has model\.Q4\.gguf"):
        fetch(folder, "model.Q9.gguf")
    hub.repos[REPO].files = {"model.safetensors": b""}
    with pytest.raises(HubError, match=f"{REPO} has no GGUF file; look"):
        list_gguf_files(REPO)


def test_a_file_that_goes_while_it_is_asked_for(hub: HubStandIn, folder: Path) -> None:
    listing = list_gguf_files(REPO)
    hub.repos[REPO].files = {}
    with pytest.raises(HubError, match="no longer has this file"):
        fetch_gguf(listing, listing.models[0], folder)


def test_a_gated_repository_needs_a_token_with_access(
    hub: HubStandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].access = "gated"
    with pytest.raises(HubError, match=r"gated: accept its terms .*log in with `hf auth login`.*HF_TOKEN"):
        fetch(folder)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(HubError, match=r"gated: accept its terms .*an account that has access"):
        fetch(folder)
    assert left_overs(folder) == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch(folder).path.read_bytes() == ONE


def test_a_private_repository_needs_a_token_which_only_the_hub_gets(
    hub: HubStandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos[REPO].access = "private"
    with pytest.raises(HubError, match="or it is private: check the name, or log in"):
        fetch(folder)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.asked.clear()
    fetch(folder)
    tokens = {asked.path.startswith("/storage/"): asked.token for asked in hub.asked}
    assert tokens == {False: TOKEN, True: None}


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (429, {"Retry-After": "77"}, "limits how often .*in 77 seconds"),
        (429, {}, "in a few minutes"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "not accept the token"),
        (403, {}, "may not be read by this account"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "disabled; choose another"),
        (503, {}, r"fault of its own \(503\)"),
        (418, {}, "answered 418"),
    ],
)
def test_refusals_are_said_at_once(
    hub: HubStandIn, folder: Path, status: int, headers: dict[str, str], words: str
) -> None:
    start = time.monotonic()
    hub.refusals = [(status, headers)]
    with pytest.raises(HubError, match=words):
        list_gguf_files(REPO)
    hub.refusals = [None, None, (status, headers)]  # the listing, the redirection, the content
    with pytest.raises(HubError, match=words):
        fetch(folder)
    assert time.monotonic() - start < 5


def test_offline_nothing_is_asked(hub: HubStandIn, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_gguf_files(REPO)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        list_gguf_files(REPO)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        fetch_gguf(listing, listing.models[0], folder)
    assert hub.asked == []


def test_a_hub_that_is_not_there(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", nobody)
        with pytest.raises(HubError, match=rf"{nobody} cannot be reached \(it refuses the connection\)"):
            list_gguf_files(REPO)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")

    def no_such_name(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    with pytest.raises(HubError, match=r"hub\.invalid cannot be reached \(its name is not found\)"):
        list_gguf_files(REPO)


def test_a_hub_that_does_not_answer(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(HubError, match="does not answer in time"):
            list_gguf_files(REPO)


def test_something_that_is_no_hub(hub: HubStandIn) -> None:
    hub.refusals = [(200, {"Content-Type": "text/html"})]
    with pytest.raises(HubError, match="does not answer as a hub does"):
        list_gguf_files(REPO)


def test_a_disk_too_small_is_noticed_before(
    hub: HubStandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cuts = [70_000, 0, 0, 0, 0]
    with pytest.raises(HubError):
        fetch(folder)
    hub.asked.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=129_999))
    with pytest.raises(SpaceError, match=r"needs 130\.0 kB more .* has 130\.0 kB free"):
        fetch(folder)
    assert hub.ranges == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=130_000))
    assert fetch(folder).path.read_bytes() == ONE


def test_a_disk_that_fills_up_meanwhile_keeps_what_it_has(hub: HubStandIn, folder: Path) -> None:
    listing = list_gguf_files(REPO)

    def fill_up(done: int, total: int) -> None:
        if done > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SpaceError, match=r"filled up while model\.Q4\.gguf was fetched"):
        fetch_gguf(listing, listing.models[0], folder, fill_up)
    assert find_fetched(folder, "model.Q4.gguf") is None
    hub.asked.clear()
    assert fetch(folder).path.read_bytes() == ONE
    (wanted,) = hub.ranges
    assert wanted is not None and int(wanted.removeprefix("bytes=").removesuffix("-")) > 50_000


def test_a_folder_that_cannot_be_written(hub: HubStandIn, folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    with pytest.raises(HubError, match="cannot be written"):
        fetch(folder)


def test_two_runs_do_not_write_one_file(hub: HubStandIn, folder: Path) -> None:
    listing = list_gguf_files(REPO)

    def a_second_run(done: int, total: int) -> None:
        with pytest.raises(HubError, match="being fetched by another run"):
            fetch_gguf(listing, listing.models[0], folder)

    assert fetch_gguf(listing, listing.models[0], folder, a_second_run).path.read_bytes() == ONE


def test_repository_names() -> None:
    assert is_repo_name("a/b-1.5_c")
    for wrong in ("a", "a/b/c", "", "a/", "/b", "a/b c", "a/--b", "http://x/y", "../b"):
        assert not is_repo_name(wrong), wrong
