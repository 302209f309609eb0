"""Checkpoints from the hub, against a stand-in on this machine; huggingface-hub says what its cache has."""

from __future__ import annotations

import errno
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download
from huggingface_hub.errors import FileMetadataError, LocalEntryNotFoundError
from huggingface_hub.utils import WeakFileLock

from cli_running import environment
from hub_stand_in import COMMIT, TOKEN, HubStandIn, StandInRepo, point_at, running_hub
from ropewalk_convert import hub_download, hub_snapshot
from ropewalk_convert.errors import SourceError, SpaceError
from ropewalk_convert.hub_errors import HTTP_ERROR, HubError, explained
from ropewalk_convert.hub_listing import list_files
from ropewalk_convert.hub_snapshot import FetchedCheckpoint, fetch_checkpoint

REPO = "somebody/model"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
SIZE = 100_000
DESCRIBING = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "model.safetensors.index.json": json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode(),
    "tokenizer_config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "LICENSE": b"",
}
TOKENIZER = {"tokenizer.json": random.Random(3).randbytes(20_000)}
WEIGHTS = {name: random.Random(i).randbytes(SIZE) for i, name in enumerate(SHARDS)}
WANTED = {**DESCRIBING, **TOKENIZER, **WEIGHTS}
UNWANTED = {
    "pytorch_model.bin": b"pickle",
    "consolidated.safetensors": bytes(SIZE),
    "modeling_odd.py": b"raise SystemExit",
    "original/params.json": b"{}",
    "onnx/model.onnx": bytes(SIZE),
}
TOTAL = sum(map(len, WANTED.values()))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    with running_hub() as stand_in:
        stand_in.repos[REPO] = StandInRepo({**WANTED, **UNWANTED}, in_git=DESCRIBING)
        point_at(stand_in, monkeypatch, tmp_path / "home")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr(hub_download, "PAUSES", (0.01, 0.01, 0.01))
        yield stand_in


@pytest.fixture
def blobs(hub: HubStandIn) -> Path:
    return Path(constants.HF_HUB_CACHE) / "models--somebody--model" / "blobs"


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def cut_short(hub: HubStandIn, after: int) -> None:
    """Break the second shard off after some bytes, again and again until the run gives up."""
    before = sum(bool(content) for content in WANTED.values()) - 1  # an empty file is not asked for
    hub.cuts = [*[None] * before, after, 0, 0, 0, 0]
    with pytest.raises(
        HubError, match=rf"{SHARDS[1]} broke off after {after / 1000:.1f} kB of 100\.0 kB .*on from there"
    ):
        fetch_checkpoint(REPO)
    hub.asked.clear()


def test_only_what_is_needed_arrives_with_progress_over_all(hub: HubStandIn) -> None:
    reports: list[tuple[int, int]] = []
    fetched = fetch_checkpoint(REPO, None, lambda done, total: reports.append((done, total)))
    assert (fetched.repo, fetched.commit) == (REPO, COMMIT)
    assert files_in(fetched.folder) == WANTED
    assert {total for _, total in reports} == {TOTAL}
    assert reports == sorted(reports) and len(reports) > 10
    assert reports[-1][0] == TOTAL
    asked = " ".join(request.path for request in hub.asked)
    assert not any(name in asked for name in UNWANTED)


def test_huggingface_hub_finds_all_of_it_in_its_own_cache(
    hub: HubStandIn, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_checkpoint(REPO).folder
    hub.asked.clear()
    assert Path(snapshot_download(REPO, allow_patterns=list(WANTED))) == folder
    assert [request for request in hub.asked if request.method == "GET" and "/resolve/" in request.path] == []
    assert hub.ranges == []
    (repo,) = scan_cache_dir(constants.HF_HUB_CACHE).repos
    (revision,) = repo.revisions
    assert (repo.repo_id, revision.commit_hash, set(revision.refs)) == (REPO, COMMIT, {"main"})
    assert {file.file_name: file.size_on_disk for file in revision.files} == {
        name: len(content) for name, content in WANTED.items()
    }
    assert sorted(path.name for path in blobs.iterdir()) == sorted(
        hub.repos[REPO].etag(name) for name in WANTED
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Path(hf_hub_download(REPO, SHARDS[1])).read_bytes() == WEIGHTS[SHARDS[1]]


def test_what_huggingface_hub_fetched_before_is_not_fetched_again(hub: HubStandIn) -> None:
    snapshot_download(REPO, allow_patterns=[SHARDS[0], "config.json"])
    hub.asked.clear()
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED
    assert len(hub.ranges) == 2  # the tokenizer and the other shard
    hub.asked.clear()
    reports: list[tuple[int, int]] = []
    fetch_checkpoint(REPO, None, lambda *report: reports.append(report))
    assert hub.ranges == []
    assert set(reports) == {(TOTAL, TOTAL)}


def test_of_a_new_commit_only_what_changed_is_fetched(hub: HubStandIn) -> None:
    first = fetch_checkpoint(REPO)
    changed = {**WANTED, "tokenizer.json": b"{}"}
    hub.repos[REPO] = StandInRepo(changed, commit="e" * 40, in_git=DESCRIBING)
    hub.asked.clear()
    second = fetch_checkpoint(REPO, "v1")
    assert (second.commit, files_in(second.folder)) == ("e" * 40, changed)
    assert len(hub.ranges) == 1
    assert files_in(first.folder) == WANTED


def test_a_commit_can_be_named(hub: HubStandIn) -> None:
    assert files_in(fetch_checkpoint(REPO, COMMIT).folder) == WANTED


def test_a_later_run_goes_on_where_one_gave_up(hub: HubStandIn, blobs: Path) -> None:
    cut_short(hub, 70_000)
    reports: list[tuple[int, int]] = []
    fetched = fetch_checkpoint(REPO, None, lambda *report: reports.append(report))
    assert hub.ranges == ["bytes=70000-"]
    assert (TOTAL - 30_000, TOTAL) in reports
    assert files_in(fetched.folder) == WANTED
    assert list(blobs.glob("*.incomplete")) == []


def test_an_interrupted_run_is_gone_on_with(hub: HubStandIn, blobs: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > TOTAL - 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_checkpoint(REPO, None, interrupt)
    (part,) = blobs.glob("*.incomplete")
    had = part.stat().st_size
    assert 0 < had < SIZE
    hub.asked.clear()
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED
    assert hub.ranges == [f"bytes={had}-"]


def test_a_killed_run_is_gone_on_with(hub: HubStandIn, blobs: Path) -> None:
    hub.seconds_per_block = 0.02
    program = f"from ropewalk_convert.hub_snapshot import fetch_checkpoint; fetch_checkpoint({REPO!r})"
    process = subprocess.Popen([sys.executable, "-c", program], env=environment())
    part = blobs / f"{hub.repos[REPO].etag(SHARDS[0])}.incomplete"
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 10_000:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    had = part.stat().st_size
    hub.seconds_per_block = 0.0
    hub.asked.clear()
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED
    assert hub.ranges == [f"bytes={had}-", None]


def test_a_damaged_beginning_does_not_become_weights(hub: HubStandIn, blobs: Path) -> None:
    cut_short(hub, 70_000)
    (part,) = blobs.glob("*.incomplete")
    part.write_bytes(bytes(70_000))
    with pytest.raises(HubError, match=rf"{SHARDS[1]} arrived damaged .*not kept"):
        fetch_checkpoint(REPO)
    assert list(blobs.glob("*.incomplete")) == []
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED


def test_a_file_of_the_wrong_size_in_the_cache_is_fetched_anew(hub: HubStandIn, blobs: Path) -> None:
    folder = fetch_checkpoint(REPO).folder
    for name in (SHARDS[0], "tokenizer_config.json"):
        (folder / name).resolve().write_bytes(b"cut short")
    hub.asked.clear()
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED
    assert hub.ranges == [None]


@pytest.mark.parametrize("n_bytes", [SIZE - 5, SIZE + 5])
@pytest.mark.parametrize("name", [SHARDS[1], "tokenizer_config.json"])
def test_a_file_of_another_size_than_told_is_refused_and_a_rerun_succeeds(
    hub: HubStandIn, blobs: Path, name: str, n_bytes: int
) -> None:
    hub.repos[REPO].told = {name: bytes(n_bytes)}
    with pytest.raises(HubError, match=rf"{name} should have {n_bytes:,} bytes and comes with .*not|nothing"):
        fetch_checkpoint(REPO)
    assert all(path.stat().st_size != n_bytes for path in blobs.iterdir())
    hub.repos[REPO].told = {}
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED


def test_unknown_names_are_told_apart(hub: HubStandIn) -> None:
    with pytest.raises(HubError, match=r"no repository nobody/nothing, or it is private"):
        fetch_checkpoint("nobody/nothing")
    with pytest.raises(HubError, match=r"no revision v9;"):
        fetch_checkpoint(REPO, "v9")


def test_a_gated_repository_needs_a_token_which_only_the_hub_gets(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.repos[REPO].access = "gated"
    with pytest.raises(HubError, match=r"gated: accept its terms .*log in with `hf auth login`"):
        fetch_checkpoint(REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(HubError, match=r"gated: accept its terms .*an account that has access"):
        fetch_checkpoint(REPO)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.asked.clear()
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED
    tokens = {(asked.path.startswith("/storage/"), asked.token) for asked in hub.asked}
    assert tokens == {(False, TOKEN), (True, None)}
    printed = capfd.readouterr()
    assert "hf_of" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (429, {"Retry-After": "77"}, "limits how often .*in 77 seconds"),
        (503, {}, r"fault of its own \(503\)"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "not accept the token"),
    ],
)
def test_refusals_are_said_at_once(hub: HubStandIn, status: int, headers: dict[str, str], words: str) -> None:
    for answered_before in (0, 1):  # the listing; then the first file
        hub.refusals = [*[None] * answered_before, (status, headers)]
        with pytest.raises(HubError, match=words):
            fetch_checkpoint(REPO)
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED


def test_a_short_limit_of_rate_is_waited_for_by_huggingface_hub(hub: HubStandIn) -> None:
    limit = (429, {"Retry-After": "0"})
    hub.refusals = [None, None, None, limit, limit]  # the listing, two files; then about the first of them
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED
    assert hub.refusals == []


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (HTTP_ERROR("refused"), "cannot be reached"),
        (FileMetadataError("no commit"), "not answer as a hub"),
        (None, "not answer as a hub"),
    ],
)
def test_what_huggingface_hub_says_of_its_cache_leads_to_the_cause(
    cause: Exception | None, words: str
) -> None:
    with pytest.raises(HubError, match=words), explained(REPO):
        raise LocalEntryNotFoundError("not in the cache either") from cause


def test_a_branch_that_moves_meanwhile_is_noticed(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_files(REPO)
    hub.repos[REPO] = StandInRepo(WANTED, commit="e" * 40, in_git=DESCRIBING)
    monkeypatch.setattr(hub_snapshot, "list_files", lambda repo, revision: listing)
    hub.repos[REPO].also = (COMMIT,)
    with pytest.raises(HubError, match="has changed in this very moment"):
        fetch_checkpoint(REPO)


def test_offline_the_cache_is_used_and_nothing_is_asked(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = fetch_checkpoint(REPO)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    seen: list[Path] = []
    assert fetch_checkpoint(REPO, None, None, seen.append) == fetched
    assert seen == [fetched.folder]
    assert fetch_checkpoint(REPO, COMMIT) == fetched
    for repo, revision in ((REPO, "v1"), ("somebody/else", None)):
        with pytest.raises(HubError, match=f"{repo}.* is not in the cache, and HF_HUB_OFFLINE .*unset it"):
            fetch_checkpoint(repo, revision)
    assert hub.asked == []


def test_offline_half_a_checkpoint_is_none(hub: HubStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_short(hub, 70_000)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=rf"{REPO} is not wholly in the cache .*HF_HUB_OFFLINE .*unset it"):
        fetch_checkpoint(REPO)
    assert hub.asked == []


def test_a_disk_too_small_is_noticed_before_the_weights_are_asked_for(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_000))
    with pytest.raises(SpaceError, match=r"somebody/model needs 220\.0 kB more .* has 200\.0 kB free; make"):
        fetch_checkpoint(REPO)
    assert hub.ranges == []
    monkeypatch.undo()


def test_what_an_earlier_run_left_needs_no_room_again(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(hub, 70_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=29_999))
    with pytest.raises(SpaceError, match=r"needs 30\.0 kB more"):
        fetch_checkpoint(REPO)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=30_000))
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED


def test_a_disk_that_fills_up_meanwhile_keeps_what_it_has(hub: HubStandIn) -> None:
    def fill_up(done: int, total: int) -> None:
        if done > TOTAL - 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SpaceError, match=r"filled up while somebody/model was fetched; make room.*on from"):
        fetch_checkpoint(REPO, None, fill_up)
    hub.asked.clear()
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED
    (wanted,) = hub.ranges
    assert wanted is not None and int(wanted.removeprefix("bytes=").removesuffix("-")) > 0


def test_a_cache_that_cannot_be_written(hub: HubStandIn, blobs: Path) -> None:
    blobs.parent.parent.mkdir(parents=True)
    blobs.parent.write_text("a file where the folder should be")
    with pytest.raises(HubError, match=r"cannot be written .*HF_HOME"):
        fetch_checkpoint(REPO)


def test_what_has_no_checkpoint_is_refused_before_any_file_is_asked_for(hub: HubStandIn) -> None:
    hub.repos[REPO].files = {"config.json": b"{}", "pytorch_model.bin": bytes(SIZE)}
    with pytest.raises(SourceError, match=r"somebody/model .*pickle form \(pytorch_model\.bin\)"):
        fetch_checkpoint(REPO)
    assert [request.path for request in hub.asked] == [f"/api/models/{REPO}"]


def test_what_is_found_out_before_the_weights_spares_them(hub: HubStandIn) -> None:
    def refuse(folder: Path) -> None:
        assert set(files_in(folder)) == set(DESCRIBING) | set(TOKENIZER)
        raise SourceError("no such architecture")

    with pytest.raises(SourceError, match="no such architecture"):
        fetch_checkpoint(REPO, before_weights=refuse)
    assert not any(name in request.path for request in hub.asked for name in SHARDS)


def test_what_another_program_is_fetching_is_not_written_to(hub: HubStandIn, blobs: Path) -> None:
    lock = (
        Path(constants.HF_HUB_CACHE)
        / ".locks"
        / blobs.parent.name
        / f"{hub.repos[REPO].etag(SHARDS[1])}.lock"
    )
    lock.parent.mkdir(parents=True)
    with (
        WeakFileLock(lock),
        pytest.raises(HubError, match=rf"{SHARDS[1]} is being fetched by another program; wait"),
    ):
        fetch_checkpoint(REPO)
    assert files_in(fetch_checkpoint(REPO).folder) == WANTED


def test_a_hub_that_tells_paths_for_checksums_writes_nothing_elsewhere(
    hub: HubStandIn, tmp_path: Path
) -> None:
    hub.repos[REPO].commit = "../../../../evil"
    with pytest.raises(HubError, match="does not answer as a hub does"):
        fetch_checkpoint(REPO)
    hub.repos[REPO].commit = COMMIT
    hub.repos[REPO].checksums = "../../../../evil"
    with pytest.raises(HubError, match="does not answer as a hub does"):
        fetch_checkpoint(REPO)
    assert list(tmp_path.rglob("evil*")) == []


def test_a_cache_behind_a_link_is_the_same_cache(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "big disk").mkdir()
    (tmp_path / "link").symlink_to("big disk")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "link"))
    fetched = fetch_checkpoint(REPO)
    assert isinstance(fetched, FetchedCheckpoint)
    assert files_in(fetched.folder) == WANTED
