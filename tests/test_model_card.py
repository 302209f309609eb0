"""The model card's keys: what a file says of its making, and what it never says."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFReader, GGUFWriter

from gguf_files import write_rope_keys
from library_logits import library_logits
from ropewalk_convert import bake
from ropewalk_convert.bake import write_planned
from ropewalk_convert.model_card import BaseModel, ModelCard, installed_version, read_card
from ropewalk_plan import GgufHeader, make_plan, read_plan, rope_spec_from_gguf
from tiny_models import write_tiny_model

CARD = ModelCard("9.8", "convert", "someone/model-1b", "0123abc")


def plain_file(folder: Path, **texts: str) -> Path:
    """A file with `general.*` keys: dots are written as double underscores."""

    def keys(writer: GGUFWriter) -> None:
        for name, text in texts.items():
            writer.add_string(f"general.{name.replace('__', '.')}", text)

    path = folder / "Plain Model.gguf"
    write_tiny_model(path, extra_keys=keys)
    return path


def general(path: Path) -> dict[str, object]:
    """The `general.*` keys and ours about the making, by the `gguf` package."""
    fields = GGUFReader(path).fields
    made = {"ropewalk.version", "ropewalk.made_by", "ropewalk.base_model", "ropewalk.base_model_revision"}
    return {
        name: key.contents() for name, key in fields.items() if name.startswith("general.") or name in made
    }


def test_a_baked_file_says_from_what_and_how(tmp_path: Path) -> None:
    source = plain_file(tmp_path, organization="Some", repo_url="https://example.org/some/model")
    baked = bake(
        source, tmp_path / "b.gguf", method="dprope", target_length=256, options={"threshold": "0.2"}
    )
    told = general(baked.target)
    version = installed_version()
    assert told["general.base_model.count"] == 1
    assert told["general.base_model.0.name"] == told["general.name"] == "tiny random model"
    assert told["general.base_model.0.organization"] == "Some"
    assert told["general.base_model.0.repo_url"] == "https://example.org/some/model"
    description = str(told["general.description"])
    assert description.startswith("Context extended from 64 to 256 tokens with dprope (threshold=0.2")
    assert description.endswith(f") by ropewalk {version}." if version != "unknown" else ") by ropewalk.")
    assert told["ropewalk.version"] == version
    assert (told["ropewalk.made_by"], told["ropewalk.base_model"]) == ("bake", "Plain Model.gguf")
    assert "ropewalk.base_model_revision" not in told
    assert read_card(GgufHeader.read(baked.target)) == ModelCard(version, "bake", "Plain Model.gguf")


@pytest.mark.parametrize(
    ("before", "begins"),
    [("A model", "A model. Context"), ("Is it? ", "Is it? Context"), ("", "Context")],
)
def test_a_description_goes_on(tmp_path: Path, before: str, begins: str) -> None:
    source = plain_file(tmp_path, description=before)
    baked = bake(source, tmp_path / "b.gguf", method="pi", target_length=128).target
    assert str(general(baked)["general.description"]).startswith(begins)


def test_base_models_that_are_named_already_stay(tmp_path: Path) -> None:
    source = plain_file(tmp_path, base_model__0__name="The Base", base_model__0__organization="Its Maker")
    before = general(source)
    after = general(bake(source, tmp_path / "b.gguf", method="pi", target_length=128).target)
    assert {k: v for k, v in after.items() if "base_model.0" in k} == {
        k: v for k, v in before.items() if "base_model.0" in k
    }


def test_without_a_plan_general_keys_stay(tmp_path: Path) -> None:
    source = plain_file(tmp_path, organization="Some")
    target = tmp_path / "converted.gguf"
    result = write_planned(source, target, None, card=CARD, undo=False, force=False, check=True)
    assert (result.plan, result.native, result.notes) == (None, True, ())
    told = general(target)
    assert {k: v for k, v in told.items() if k.startswith("general.")} == general(source)
    assert {k: v for k, v in told.items() if k.startswith("ropewalk.")} == {
        "ropewalk.version": "9.8",
        "ropewalk.made_by": "convert",
        "ropewalk.base_model": "someone/model-1b",
        "ropewalk.base_model_revision": "0123abc",
    }
    header = GgufHeader.read(target)
    assert read_card(header) == CARD
    assert read_plan(header) is None


def test_a_converted_file_with_a_plan(tmp_path: Path) -> None:
    source = plain_file(tmp_path)
    plan = make_plan(rope_spec_from_gguf(GgufHeader.read(source)), "yarn", 256)
    base = BaseModel("Model 1B", "Someone", "https://example.org/someone/model-1b")
    card = ModelCard("9.8", "convert", "someone/model-1b", base=base)
    target = tmp_path / "converted.gguf"
    write_planned(source, target, plan, card=card, undo=False, force=False)
    told = general(target)
    assert (told["general.base_model.0.name"], told["general.base_model.0.organization"]) == (
        "Model 1B",
        "Someone",
    )
    assert told["general.base_model.0.repo_url"] == base.repo_url
    options = plan.options.replace(",", ", ")
    assert told["general.description"] == (
        f"Context extended from 64 to 256 tokens with yarn ({options}) by ropewalk 9.8."
    )
    assert GgufHeader.read(target).value("ropewalk.undo") is None


def test_no_folder_gets_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a-private-folder"
    folder.mkdir()
    source = plain_file(folder)
    monkeypatch.chdir(tmp_path)
    for path in (source, source.relative_to(tmp_path)):
        baked = bake(path, folder / "b.gguf", method="extra-pe", target_length=128, force=True).target
        raw = baked.read_bytes()
        assert b"private" not in raw
        assert b"Plain Model.gguf" in raw


@pytest.mark.parametrize("kind", ["plain", "another's"])
def test_files_without_a_card(tmp_path: Path, kind: str) -> None:
    source = write_rope_keys(tmp_path / "plain.gguf")
    if kind == "another's":
        writer = GGUFWriter(tmp_path / "plain.gguf", "llama")
        writer.add_string("ropewalk.made_by", "somebody else")
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
    assert read_card(GgufHeader.read(source)) is None


@pytest.mark.usefixtures("patched_library")
@pytest.mark.parametrize("undo", [False, True])
def test_the_library_passes_over_all_of_it(tmp_path: Path, undo: bool) -> None:
    """A card and a record of the original, without a plan, change no logit: an array of U8 is no obstacle."""
    source = plain_file(tmp_path)
    target = tmp_path / "carded.gguf"
    write_planned(source, target, None, card=CARD, undo=undo, force=False)
    assert (GgufHeader.read(target).value("ropewalk.undo") is not None) is undo
    tokens = [1, *range(260, 300)]
    assert (library_logits(source, tokens) == library_logits(target, tokens)).all()
