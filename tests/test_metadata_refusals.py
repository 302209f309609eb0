"""Damaged plans in files: what the library refuses to run is refused when it is read, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFValueType

from ropewalk.cli.run import run
from ropewalk_plan import GgufHeader, PlanError, read_plan
from test_library_refusals import GOOD, MAPPED, U32, Keys, refusal, write_keys
from tiny_models import write_tiny_model

U64, I32, BOOL, STRING = (
    GGUFValueType.UINT64,
    GGUFValueType.INT32,
    GGUFValueType.BOOL,
    GGUFValueType.STRING,
)


def written(tmp_path: Path, keys: Keys) -> Path:
    return write_tiny_model(tmp_path / "model.gguf", extra_keys=write_keys(keys)).path


def test_the_keys_that_the_others_spoil_are_good(tmp_path: Path) -> None:
    path = written(tmp_path, {**GOOD, **MAPPED, "rope.layers": (U32, [0, 1])})
    for reader in (GgufHeader.read(path), GGUFReader(path)):
        stored = read_plan(reader)
        assert stored is not None
        assert stored.plan.rope_layers == (0, 1)


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ({"schema": (BOOL, True)}, "ropewalk.schema holds BOOL, and a plan has UINT32"),
        ({"schema": (U64, 1)}, "ropewalk.schema holds UINT64"),
        ({"native": (U32, 0)}, "ropewalk.native holds UINT32, and a plan has BOOL"),
        ({"train_length": (U64, 64)}, "ropewalk.train_length holds UINT64"),
        ({"target_length": (I32, 256)}, "ropewalk.target_length holds INT32"),
        ({"target_length": (U32, 2**31), "rope.schedule_lengths": (U32, [2**31])}, "2147483648"),
        ({"method": (U32, 1)}, "ropewalk.method holds UINT32, and a plan has STRING"),
        ({"logn.length": (U64, 64)}, "ropewalk.logn.length holds UINT64"),
        ({"rope.schedule_lengths": (U32, 256)}, "holds UINT32, and a plan has ARRAY of UINT32"),
        ({"rope.schedule_lengths": (U64, [256])}, "holds ARRAY of UINT64"),
        ({"rope.schedule_factors": (GGUFValueType.FLOAT64, [1.5] * 8)}, "holds ARRAY of FLOAT64"),
        ({"rope.schedule_attention_factors": (U32, [1])}, "holds ARRAY of UINT32"),
        ({"rope.layers": (U32, [0, 2])}, "names layer 2 and the model has 2"),
        ({"rope.layers": (I32, [0])}, "ropewalk.rope.layers holds ARRAY of INT32"),
        ({**MAPPED, "position.period": (U64, 128)}, "ropewalk.position.period holds UINT64"),
        ({**MAPPED, "position.period": (U32, 2**31)}, "position period is 2147483648"),
        ({**MAPPED, "position.kind": (U32, 1)}, "ropewalk.position.kind holds UINT32"),
        ({"attention.windows": (U32, [64, 64, 64])}, "windows for 3 layers and the model has 2"),
        ({"attention.streaming": (STRING, "yes")}, "ropewalk.attention.streaming holds STRING"),
    ],
)
def test_what_the_library_refuses_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], spoiled: Keys, words: str
) -> None:
    keys = {**GOOD, **spoiled}
    path = written(tmp_path, keys)
    for reader in (GgufHeader.read(path), GGUFReader(path)):
        with pytest.raises(PlanError) as error:
            read_plan(reader)
        assert words in str(error.value)
    assert run(["inspect", str(path)]) == 3
    assert words in capfd.readouterr().err
    assert refusal(tmp_path, keys), "the library runs it"
