"""Models in several files: read as one, baked part by part, given back, and never left half."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from cli_running import environment
from gguf_files import write_rope_keys
from library_logits import LibraryRefusedError, library_logits
from ropewalk.cli.run import run
from ropewalk_convert import SourceError, SpaceError, TargetError, bake, whole_file
from ropewalk_convert.unbake import unbake
from ropewalk_convert.whole_file import written_set
from ropewalk_plan import GgufError, GgufHeader, model_facts_from_gguf, read_plan, rope_spec_from_gguf
from split_models import SplitModel, own_factors, write_split_model

TARGET = 256
FACTORS = "rope_freqs.weight"
TOKENS = [1, *range(260, 360)]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> SplitModel:
    return write_split_model(tmp_path_factory.mktemp("split") / "plain")


@pytest.fixture(scope="module")
def with_factors(tmp_path_factory: pytest.TempPathFactory) -> SplitModel:
    """`rope_freqs.weight` is in the last part."""
    return write_split_model(tmp_path_factory.mktemp("split") / "factors", factors=own_factors())


@pytest.fixture(scope="module")
def metadata_first(tmp_path_factory: pytest.TempPathFactory) -> SplitModel:
    """The first part has no tensors."""
    return write_split_model(
        tmp_path_factory.mktemp("split") / "first", metadata_first=True, tensors_per_part=11
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def parts_of(first: Path) -> list[Path]:
    return sorted(first.parent.glob(first.name.replace("00001-of", "*-of")))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("method", ["yarn", "dprope", "extra-pe"])
@pytest.mark.parametrize("which", ["split", "with_factors", "metadata_first"])
def test_the_library_runs_a_set_as_it_runs_the_whole_file(
    which: str, method: str, tmp_path: Path, out: Path, request: pytest.FixtureRequest
) -> None:
    """Keys alone, an appended tensor, a tensor replaced in another part, a plan that only we execute."""
    model: SplitModel = request.getfixturevalue(which)
    whole = bake(model.whole, tmp_path / "whole.gguf", method=method, target_length=TARGET)
    baked = bake(model.parts[0], out / "long.gguf", method=method, target_length=TARGET, check=True)
    assert (baked.plan, baked.native) == (whole.plan, whole.native)
    logits = library_logits(baked.target, TOKENS)
    assert np.array_equal(logits, library_logits(whole.target, TOKENS))
    assert not np.allclose(logits, library_logits(model.parts[0], TOKENS), atol=0.1), "the plan is in force"


@pytest.mark.parametrize("which", ["split", "with_factors", "metadata_first"])
@pytest.mark.parametrize("method", ["pi", "dprope", "extra-pe"])
def test_every_byte_comes_back(which: str, method: str, out: Path, request: pytest.FixtureRequest) -> None:
    model: SplitModel = request.getfixturevalue(which)
    baked = bake(model.parts[0], out / "long.gguf", method=method, target_length=TARGET).target
    back = unbake(baked, out / "back-00001-of-00003.gguf").target
    assert len(model.parts) == 3
    assert [path.read_bytes() for path in parts_of(back)] == [path.read_bytes() for path in model.parts]


def test_where_the_changes_are(with_factors: SplitModel, split: SplitModel, out: Path) -> None:
    """By the `gguf` package: keys in the first part, a tensor replaced where it is, a new one counted."""
    for model, first, last in ((with_factors, 0, 1), (split, 1, 0)):
        n_tensors = len(GGUFReader(model.whole).tensors)
        baked = bake(
            model.parts[0], out / "long.gguf", method="dprope", target_length=TARGET, force=True
        ).target
        readers = [GGUFReader(path) for path in parts_of(baked)]
        assert ["ropewalk.schema" in reader.fields for reader in readers] == [True, False, False]
        found = [[tensor.name for tensor in reader.tensors].count(FACTORS) for reader in readers]
        assert found == [first, 0, last]
        for number, (reader, path) in enumerate(zip(readers, model.parts, strict=True)):
            assert reader.fields["split.no"].contents() == number
            assert reader.fields["split.tensors.count"].contents() == n_tensors + first
            plain = {t.name: t.data.tobytes() for t in GGUFReader(path).tensors}
            now = {t.name: t.data.tobytes() for t in reader.tensors if t.name != FACTORS}
            plain.pop(FACTORS, None)
            assert now == plain


def test_the_first_part_speaks_for_all(with_factors: SplitModel, split: SplitModel) -> None:
    for model in (with_factors, split):
        whole, parts = GgufHeader.read(model.whole), GgufHeader.read(model.parts[0])
        assert rope_spec_from_gguf(parts) == rope_spec_from_gguf(whole)
        assert model_facts_from_gguf(parts) == model_facts_from_gguf(whole)
        assert parts.has_tensor(FACTORS) == whole.has_tensor(FACTORS) == (model is with_factors)
        assert parts.model_bytes == sum(path.stat().st_size for path in model.parts)
        assert [file.path for file in parts.files] == list(model.parts)
    assert rope_spec_from_gguf(GgufHeader.read(with_factors.parts[0])).own_factors == tuple(own_factors())


def test_longrope_lists_in_another_part(tmp_path: Path) -> None:
    lists = {"rope_factors_long.weight": 4 * own_factors(), "rope_factors_short.weight": own_factors()}
    tensors = {"token_embd.weight": np.ones((4, 16), np.float32), "a": np.ones(4, np.float32), **lists}
    whole = write_rope_keys(tmp_path / "whole.gguf", "phi3", n_rot=16, tensors=tensors)
    reader = GGUFReader(whole)
    writer = GGUFWriter(tmp_path / "parts.gguf", "phi3", split_max_tensors=2)
    for name, key in reader.fields.items():
        if not name.startswith(("GGUF.", "general.")):
            writer.add_key_value(name, key.contents(), key.types[0])
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    first = GgufHeader.read(tmp_path / "parts-00001-of-00002.gguf")
    assert not first.tensors.keys() & lists.keys()
    spec = rope_spec_from_gguf(first)
    assert spec == rope_spec_from_gguf(GgufHeader.read(whole))
    assert spec.own_scaling is not None and spec.own_scaling.kind == "longrope"


def test_names_of_the_new_parts(split: SplitModel, out: Path) -> None:
    expected = [f"LONG-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for target in ("LONG.gguf", "LONG", "LONG-00001-of-00003.gguf"):
        result = bake(split.parts[0], out / target, method="pi", target_length=TARGET)
        assert result.target == out / expected[0]
        assert names(out) == expected
        shutil.rmtree(out)
        out.mkdir()
    for target in ("LONG-00002-of-00003.gguf", "LONG-00001-of-00004.gguf"):
        with pytest.raises(TargetError, match=r"this model has 3 parts; name the new one LONG\.gguf"):
            bake(split.parts[0], out / target, method="pi", target_length=TARGET)
    assert names(out) == []


def test_a_name_alone_makes_no_part(split: SplitModel, out: Path) -> None:
    """As for llama.cpp, the keys decide."""
    named = out / "model-00001-of-00003.gguf"
    shutil.copy(split.whole, named)
    assert bake(named, out / "baked.gguf", method="pi", target_length=TARGET).target == out / "baked.gguf"
    assert names(out) == ["baked.gguf", named.name]


class TestBadSets:
    @pytest.fixture
    def copy(self, split: SplitModel, tmp_path: Path) -> list[Path]:
        folder = tmp_path / "in"
        folder.mkdir()
        return [Path(shutil.copy(path, folder)) for path in split.parts]

    def refused(self, source: Path, out: Path) -> str:
        """What reading and baking say alike, with nothing left behind."""
        with pytest.raises(GgufError) as read:
            GgufHeader.read(source)
        with pytest.raises(SourceError) as baked:
            bake(source, out / "long.gguf", method="pi", target_length=TARGET)
        assert str(read.value) == str(baked.value)
        assert names(out) == []
        assert "\n" not in str(baked.value)
        return str(baked.value)

    def test_another_part_is_named(self, copy: list[Path], out: Path) -> None:
        message = self.refused(copy[1], out)
        assert message == f"{copy[1]} is part 2 of 3 of a split model; name the first, {copy[0]}"

    def test_a_missing_part(self, copy: list[Path], out: Path) -> None:
        copy[2].unlink()
        assert f"{copy[2]} is missing" in self.refused(copy[0], out)

    def test_a_part_that_is_cut_short(self, copy: list[Path], out: Path) -> None:
        os.truncate(copy[1], copy[1].stat().st_size - 100)
        assert f"{copy[1]} is cut short" in self.refused(copy[0], out)

    def test_parts_exchanged(self, copy: list[Path], out: Path) -> None:
        shutil.copy(copy[2], copy[1])
        assert f"{copy[1]} is not part 2 of 3" in self.refused(copy[0], out)

    def test_a_part_of_another_model(
        self, copy: list[Path], out: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        other = write_split_model(tmp_path_factory.mktemp("other") / "m", tensors_per_part=9)
        shutil.copy(other.parts[1], copy[1])
        assert "they are not of one model" in self.refused(copy[0], out)

    def test_a_first_part_of_another_name(self, copy: list[Path], out: Path) -> None:
        renamed = copy[0].rename(copy[0].with_name("model.gguf"))
        assert "which ended in -00001-of-00003.gguf" in self.refused(renamed, out)


class TestPublishing:
    def test_the_first_part_comes_last(
        self, split: SplitModel, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        link = os.link

        def watched(source: Path, target: Path) -> None:
            assert not (out / "long-00001-of-00003.gguf").exists()
            order.append(target.name)
            link(source, target)

        monkeypatch.setattr(os, "link", watched)
        bake(split.parts[0], out / "long.gguf", method="pi", target_length=TARGET)
        assert order == [f"long-0000{number}-of-00003.gguf" for number in (3, 2, 1)]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.EIO, "input/output error")])
    @pytest.mark.parametrize("failing", [1, 2, 3])
    @pytest.mark.parametrize("existing", [False, True])
    def test_interrupted_among_the_names(
        self,
        out: Path,
        monkeypatch: pytest.MonkeyPatch,
        failing: int,
        existing: bool,
        error: BaseException,
    ) -> None:
        """Whichever of the names is not given: what was there is there again."""
        targets = [out / f"{name}.gguf" for name in "abc"]
        for target in targets if existing else ():
            target.write_text(f"old {target.name}")
        before = {path.name: path.read_text() for path in out.iterdir()}
        publish, calls = whole_file._publish_new, list[Path]()

        def interrupted(temporary: Path, target: Path) -> None:
            calls.append(target)
            if len(calls) == failing:
                assert not targets[0].exists(), "no first part among others"
                raise error
            publish(temporary, target)

        monkeypatch.setattr(whole_file, "_publish_new", interrupted)
        with (
            pytest.raises((KeyboardInterrupt, TargetError)),
            written_set(targets, force=existing, needed=9) as files,
        ):
            for file in files:
                file.write(b"new")
        assert {path.name: path.read_text() for path in out.iterdir()} == before

    def test_replaced_with_force(self, out: Path) -> None:
        targets = [out / f"{name}.gguf" for name in "abc"]
        targets[0].write_text("old")
        targets[2].write_text("old")
        with written_set(targets, force=True, needed=9) as files:
            for number, file in enumerate(files):
                file.write(str(number).encode())
        assert [path.read_text() for path in targets] == ["0", "1", "2"]
        assert len(names(out)) == 3

    def test_one_existing_part_is_enough_to_refuse(self, split: SplitModel, out: Path) -> None:
        part = out / "long-00002-of-00003.gguf"
        part.write_text("precious")
        with pytest.raises(TargetError, match=r"long-00002-of-00003\.gguf exists already"):
            bake(split.parts[0], out / "long.gguf", method="pi", target_length=TARGET)
        assert names(out) == [part.name]
        assert part.read_text() == "precious"

    def test_a_part_of_the_source_is_no_target(self, split: SplitModel) -> None:
        with pytest.raises(TargetError, match="is the source itself"):
            bake(split.parts[0], split.parts[0], method="pi", target_length=TARGET, force=True)

    def test_room_for_all_parts(self, split: SplitModel, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        size = sum(path.stat().st_size for path in split.parts)
        usage = shutil.disk_usage(out)._replace(free=size - 1)
        monkeypatch.setattr("ropewalk_convert.target.shutil.disk_usage", lambda _: usage)
        with pytest.raises(SpaceError):
            bake(split.parts[0], out / "long.gguf", method="pi", target_length=TARGET)
        assert names(out) == []

    @pytest.mark.parametrize(("whole", "share"), [(True, 0.5), (False, 0.1), (False, 0.5), (False, 0.9)])
    def test_killed_outright(self, split: SplitModel, out: Path, whole: bool, share: float) -> None:
        """The file or the set is absent; the next run clears up and makes it."""
        source = split.whole if whole else split.parts[0]
        script = f"""
            import os, signal
            from pathlib import Path
            from ropewalk_convert import bake
            def stop(done, total):
                if done > {share} * total:
                    os.kill(os.getpid(), signal.SIGKILL)
            bake(Path({str(source)!r}), Path({str(out / "long.gguf")!r}), method="pi",
                 target_length={TARGET}, progress=stop)
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        process = subprocess.run(command, env=environment(), check=False)
        assert process.returncode == -signal.SIGKILL
        left = names(out)
        assert left and all(name.startswith(".long") for name in left)
        old = time.time() - 300  # parts not begun yet are empty, and left alone for a minute
        for path in out.iterdir():
            if not path.stat().st_size:
                os.utime(path, (old, old))
        baked = bake(source, out / "long.gguf", method="pi", target_length=TARGET).target
        assert read_plan(GgufHeader.read(baked)) is not None
        assert len(names(out)) == (1 if whole else 3)


def test_on_the_command_line(split: SplitModel, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, target = str(split.parts[0]), str(out / "long.gguf")
    assert (
        run(["bake", first, target, "--method", "dprope", "--target-length", "256", "--check", "--json"]) == 0
    )
    told = json.loads(capfd.readouterr().out)
    assert told["target"] == str(out / "long-00001-of-00003.gguf")
    assert told["weights_checked"] is True
    assert run(["inspect", told["target"], "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["plan"] == told["plan"]
    assert run(["plan", first, "--method", "dprope", "--target-length", "256", "--json"]) == 0
    assert "dprope" in capfd.readouterr().out
    assert run(["bake", str(split.parts[1]), target, "--method", "pi", "--target-length", "256"]) == 3
    assert "name the first" in capfd.readouterr().err
    assert run(["unbake", told["target"], str(out / "back"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["bytes"] == sum(path.stat().st_size for path in split.parts)
    assert Path(told["target"]).read_bytes() == split.parts[0].read_bytes()


@pytest.mark.usefixtures("patched_library")
def test_the_engine_takes_a_first_part(
    with_factors: SplitModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a plan of the command line, which is computed from a tensor in the last part."""
    text = tmp_path / "story.txt"
    text.write_text("in the end there was the thing and then another thing. " * 4)
    answers = []
    for model in (with_factors.whole, with_factors.parts[0]):
        command = ["ask", str(model), str(text), "-q", "the thing?", "--max-tokens", "8", "--threads", "1"]
        assert run([*command, "--method", "extra-pe", "--target-length", "1024", "--json"]) == 0
        answers.append(json.loads(capfd.readouterr().out))
    for key in ("answer", "prompt_tokens", "decode_tokens"):
        assert answers[0][key] == answers[1][key]
    baked = bake(
        with_factors.parts[0], tmp_path / "long.gguf", method="extra-mpe", target_length=TARGET
    ).target
    assert run(["doctor", str(baked), "--threads", "1"]) == 0
    assert "difference on 64 tokens below the train length is 0," in capfd.readouterr().out


@pytest.mark.usefixtures("patched_library")
def test_the_library_refuses_a_set_with_a_part_missing(split: SplitModel, out: Path) -> None:
    """What is told here in a sentence is no fancy: nothing would run it."""
    baked = bake(split.parts[0], out / "long.gguf", method="pi", target_length=TARGET).target
    parts_of(baked)[1].unlink()
    with pytest.raises(LibraryRefusedError):
        library_logits(baked, TOKENS)
