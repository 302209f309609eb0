"""Quantizing files: what stays, what single tensors get, sizes known before, and what is refused."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from imatrix_files import legacy_imatrix, write_gguf_imatrix
from quantizer_calls import stored_types, wide_model
from ropewalk_convert import bake
from ropewalk_convert.errors import BakeError, QuantizeError, SourceError, SpaceError, TargetError
from ropewalk_convert.quantization import Quantization
from ropewalk_convert.quantize import quantize, quantized_bytes
from ropewalk_plan import GgufHeader, read_plan
from tiny_models import TinyModel, write_tiny_model

SET_BY_THE_QUANTIZER = {"general.file_type", "general.quantization_version"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Rows of 256 and 512."""
    return wide_model(tmp_path_factory.mktemp("wide") / "wide.gguf", n_layer=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Rows of 64 and 96."""
    return write_tiny_model(tmp_path_factory.mktemp("small") / "small.gguf", n_layer=1)


@pytest.fixture(scope="module")
def in_8_bits(model: TinyModel) -> Path:
    """The first of them, quantized."""
    path = model.path.with_name("8.gguf")
    quantized(model.path, path, Quantization("Q8_0"))
    return path


def importance_of(model: TinyModel) -> dict[str, tuple[np.ndarray, list[int]]]:
    """What llama-imatrix would write: of the matrices in the layers, and of the output's."""
    matrices = (n for n, v in model.tensors.items() if v.ndim == 2 and n != "token_embd.weight")
    return {name: (np.ones(model.tensors[name].shape[1]), [1]) for name in matrices}


def raw_keys(path: Path) -> dict[str, bytes]:
    """Each key's bytes, type included."""
    header, data = GgufHeader.read(path), path.read_bytes()
    return {name: data[span.start : span.end] for name, span in header.keys.items()}


def value(path: Path, key: str) -> object:
    """A key's value, by the `gguf` package."""
    field = GGUFReader(path).get_field(key)
    return None if field is None else field.contents()


def plan_of(path: Path) -> object:
    stored = read_plan(GgufHeader.read(path))
    assert stored is not None
    return stored.plan


def quantized(source: Path, out: Path, wanted: Quantization) -> tuple[str, ...]:
    """Quantize; the size that was said before is the file's."""
    totals: list[int] = []
    notes = quantize(source, out, wanted, lambda _, total: totals.append(total))
    assert set(totals) == {out.stat().st_size}
    return notes


@pytest.mark.parametrize("method", ["dprope+logn", "llama3"])
def test_the_plan_and_every_other_key_survive(tmp_path: Path, method: str) -> None:
    """Arrays of the plan, bytes, and the tensor of frequency factors of a native plan."""

    def more_keys(writer: GGUFWriter) -> None:
        writer.add_array("tests.bytes", bytes(range(256)))
        writer.add_array("tests.numbers", [1.5, -0.0, 3e38])
        writer.add_array("tests.texts", ["", "ß", "a\nb"])

    plain = wide_model(tmp_path / "plain.gguf", n_layer=1, extra_keys=more_keys)
    baked, out = tmp_path / "baked.gguf", tmp_path / "out.gguf"
    native = bake(plain.path, baked, method=method, target_length=256).native
    progress: list[tuple[int, int]] = []

    notes = quantize(
        baked, out, Quantization("Q4_K_M", threads=1), lambda done, total: progress.append((done, total))
    )

    assert notes == ()
    kept = raw_keys(baked)
    assert {name for name in kept if name.startswith("ropewalk.")} >= {"ropewalk.rope.schedule_factors"}
    expected = {name: raw for name, raw in kept.items() if name not in SET_BY_THE_QUANTIZER}
    stored = raw_keys(out)
    assert {name: stored.get(name) for name in expected} == expected
    assert stored.keys() - expected.keys() == SET_BY_THE_QUANTIZER
    assert plan_of(out) == plan_of(baked)
    factors = GgufHeader.read(baked).tensor_f32("rope_freqs.weight")
    assert (factors is not None) == native
    if factors is not None:
        np.testing.assert_array_equal(GgufHeader.read(out).tensor_f32("rope_freqs.weight"), factors)
    assert value(out, "general.file_type") == 15
    size = out.stat().st_size
    assert progress[-1] == (size, size)
    assert all(done <= total for done, total in progress)


def test_single_tensors_get_what_is_asked_for(model: TinyModel, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    wanted = Quantization(
        "q4_k_s",
        keep_output_tensor=True,
        token_embedding_type="q8_0",
        tensor_types=(("attn_[qk]", "q6_k"), ("attn", "f16"), (r"ffn_down\.weight$", "iq4_nl")),
    )
    quantized(model.path, out, wanted)

    types = stored_types(out)
    assert types == {
        "output.weight": "F32",
        "token_embd.weight": "Q8_0",
        "blk.0.attn_q.weight": "Q6_K",
        "blk.0.attn_k.weight": "Q6_K",
        "blk.0.attn_v.weight": "F16",
        "blk.0.attn_output.weight": "F16",
        "blk.0.ffn_down.weight": "IQ4_NL",
        "blk.0.ffn_up.weight": "Q4_K",
        "blk.0.ffn_gate.weight": "Q4_K",
    } | {name: "F32" for name in types if "norm" in name}
    kept = next(tensor for tensor in GGUFReader(out).tensors if tensor.name == "output.weight")
    assert kept.data.tobytes() == model.tensors["output.weight"].tobytes()


def test_the_output_tensor_gets_its_type_and_mixtures_can_be_left_out(
    model: TinyModel, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    quantized(model.path, out, Quantization("Q4_K_M", output_tensor_type="Q5_K", pure=True))
    types = stored_types(out)
    assert types.pop("output.weight") == "Q5_K"
    assert {kind for name, kind in types.items() if "norm" not in name} == {"Q4_K"}


def test_rows_that_do_not_fit_are_noted(small: TinyModel, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    notes = quantized(small.path, out, Quantization("Q4_K_S"))
    assert set(stored_types(out).values()) == {"F32", "Q5_0", "Q5_1", "Q8_0"}
    assert notes == (
        "rows of 64 or 96 numbers do not fill blocks of 256, so some tensors have other types than usual: "
        "7 became Q5_0 instead of Q4_K, 1 became Q5_1 instead of Q5_K",
    )


@pytest.mark.parametrize("older", [False, True])
def test_importance_leaves_its_traces_but_no_paths(model: TinyModel, tmp_path: Path, older: bool) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    matrix = folder / ("ß" * 90 + ".imatrix")  # longer, in bytes, than the C structure can take
    if older:
        entries = {name: (sums, 1) for name, (sums, _) in importance_of(model).items()}
        matrix.write_bytes(legacy_imatrix(entries, dataset="/home/somebody/text.txt", n_chunks=3))
    else:
        write_gguf_imatrix(matrix, importance_of(model), n_chunks=3)
    out = tmp_path / "out.gguf"
    wanted = Quantization("IQ4_XS", imatrix=matrix)

    assert quantized(model.path, out, wanted) == ()
    assert "IQ4_XS" in stored_types(out).values()
    stored = {key: value(out, key) for key in raw_keys(out) if key.startswith("quantize.")}
    assert stored == {
        "quantize.imatrix.file": "ß" * 63,
        "quantize.imatrix.dataset": "text.txt" if older else "calibration.txt",
        "quantize.imatrix.entries_count": 8,
        "quantize.imatrix.chunks_count": 3,
    }
    assert b"private" not in out.read_bytes()


def test_another_models_importance_is_refused(model: TinyModel, small: TinyModel, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    strange = write_gguf_imatrix(tmp_path / "strange.gguf", {"v.blk.0.weight": ([1.0], [1])})
    with pytest.raises(
        SourceError, match=r"no tensor's name in common with .*wide.gguf; give the importance"
    ):
        quantize(model.path, out, Quantization("Q4_K_M", imatrix=strange))

    other = write_gguf_imatrix(tmp_path / "other.gguf", importance_of(small))
    with pytest.raises(SourceError) as refused:
        quantize(model.path, out, Quantization("Q4_K_M", imatrix=other))
    assert "belongs to another model" in str(refused.value)
    assert "it has 64 numbers for" in str(refused.value)

    some = importance_of(model)
    del some["blk.0.ffn_up.weight"]
    partial = write_gguf_imatrix(tmp_path / "partial.gguf", some)
    with pytest.raises(SourceError, match=r"blk.0.ffn_up.weight of .* cannot become IQ3_XXS, since .* says"):
        quantize(model.path, out, Quantization("IQ3_XXS", imatrix=partial))
    with pytest.raises(SourceError, match=r"token_embd.weight of .* cannot become IQ2_XXS, since"):
        wanted = Quantization("Q8_0", imatrix=partial, token_embedding_type="IQ2_XXS")
        quantize(model.path, out, wanted)
    assert not out.exists()

    deeper = {**importance_of(model), "blk.1.attn_q.weight": (np.ones(256), [1])}
    deep = write_gguf_imatrix(tmp_path / "deep.gguf", deeper)
    (note,) = quantized(model.path, out, Quantization("Q4_0", imatrix=deep))
    assert "deep.gguf is perhaps of another model: it has numbers for blk.1.attn_q.weight, and" in note

    (note,) = quantized(model.path, out, Quantization("Q4_0", imatrix=partial))
    assert "says nothing of 1 of the 7 quantized tensors (blk.0.ffn_up.weight, for one)" in note


def test_what_is_quantized_already_is_refused_unless_allowed(in_8_bits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with pytest.raises(SourceError, match=r"8.gguf is quantized already \(\S+ is Q8_0\), and making Q4_0"):
        quantize(in_8_bits, out, Quantization("Q4_0"))
    quantized(in_8_bits, out, Quantization("Q4_0", allow_requantize=True))
    assert stored_types(out)["blk.0.ffn_up.weight"] == "Q4_0"


def test_wishes_that_a_file_cannot_meet_are_refused(small: TinyModel, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    with pytest.raises(
        QuantizeError, match=r"rows of 64 numbers, which Q6_K cannot hold \(its blocks have 256"
    ):
        quantize(small.path, out, Quantization("Q4_0", output_tensor_type="Q6_K"))
    with pytest.raises(QuantizeError, match="is called anything like 'atn_v', which is to be Q8_0"):
        quantize(small.path, out, Quantization("Q4_0", tensor_types=(("atn_v", "Q8_0"),)))
    with pytest.raises(QuantizeError, match=r"'blk\.0\.atn_v', which .* near it are attn_v"):
        quantize(small.path, out, Quantization("Q4_0", tensor_types=(("BLK.0.Atn_V", "Q8_0"),)))
    with pytest.raises(QuantizeError, match="there are output, output_norm, token_embd, attn_k"):
        quantize(small.path, out, Quantization("Q4_0", tensor_types=(("xyz", "Q8_0"),)))
    with pytest.raises(
        QuantizeError, match=r"make F16 of what 'ffn\{,3\}' fits in .*; write another pattern"
    ):
        types = (("attn_v", "Q8_0"), ("ffn{,3}", "F16"))  # which Python takes, and C++ does not
        quantize(small.path, out, Quantization("Q4_0", tensor_types=types))
    with pytest.raises(QuantizeError, match=r"no tensor type fallback is defined for type q1_0"):
        quantize(small.path, out, Quantization("Q1_0"), source_called="the model")
    with pytest.raises(TargetError, match="is the source itself"):
        quantize(small.path, small.path, Quantization("Q8_0"))
    assert not out.exists()
    assert stored_types(small.path)["output.weight"] == "F32"


def test_a_pattern_that_changes_nothing_is_told(small: TinyModel, tmp_path: Path) -> None:
    """Norms are never quantized, whatever is asked for."""
    types = (("norm", "F16"), ("attn_v", "Q5_0"))
    (note,) = quantized(small.path, tmp_path / "out.gguf", Quantization("Q8_0", tensor_types=types))
    assert note.startswith("'norm' changes nothing: llama.cpp leaves ")
    assert stored_types(tmp_path / "out.gguf")["blk.0.attn_v.weight"] == "Q5_0"


def test_a_model_without_an_output_tensor_has_none_to_keep(tmp_path: Path) -> None:
    def tie(tensors: dict[str, np.ndarray]) -> None:
        del tensors["output.weight"]

    tied = write_tiny_model(tmp_path / "tied.gguf", n_layer=1, change_tensors=tie)
    (note,) = quantized(tied.path, tmp_path / "out.gguf", Quantization("Q8_0", keep_output_tensor=True))
    assert "has no output.weight to keep" in note


def test_sources_that_are_no_models_are_refused(small: TinyModel, tmp_path: Path) -> None:
    out, wanted = tmp_path / "out.gguf", Quantization("Q8_0")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(small.path.read_bytes()[:-100])
    for source, why in (
        (tmp_path / "none.gguf", "none.gguf does not exist"),
        (tmp_path, "is a folder"),
        (cut, "cut.gguf is cut short"),
    ):
        with pytest.raises(SourceError, match=why):
            quantize(source, out, wanted)
    with pytest.raises(SourceError, match=r"^the model is cut short"):
        quantized_bytes(cut, wanted, source_called="the model")

    unknown = tmp_path / "unknown.gguf"
    writer = GGUFWriter(str(unknown), "nonesuch")
    writer.add_tensor("a.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        SourceError, match=r"cannot read .*unknown.gguf as a model .*unknown model architecture"
    ):
        quantize(unknown, out, wanted)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["blk.0.ffn_up.weight"][3, 5] = np.nan

    spoilt, out = write_tiny_model(tmp_path / "nan.gguf", change_tensors=spoil), tmp_path / "out.gguf"
    with pytest.raises(SourceError, match=r"no finite numbers \(tensor 'blk.0.ffn_up.weight' has invalid"):
        quantize(spoilt.path, out, Quantization("Q8_0"))
    assert not out.exists()


def test_parts_are_joined(model: TinyModel, in_8_bits: Path, tmp_path: Path) -> None:
    writer = GGUFWriter(str(tmp_path / "parts.gguf"), "llama", split_max_tensors=4)
    copied = GGUFReader(model.path)
    for name, field in copied.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            is_array = len(field.types) > 1
            writer.add_key_value(
                name, field.contents(), field.types[0], sub_type=field.types[-1] if is_array else None
            )
    for tensor in copied.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("parts-*.gguf"))
    assert len(parts) > 2
    joined = tmp_path / "joined.gguf"
    quantized(parts[0], joined, Quantization("Q8_0"))

    assert _tensors(joined) == _tensors(in_8_bits)
    assert not [key for key in raw_keys(joined) if key.startswith("split.")]


def test_another_alignment_is_not_carried_over(in_8_bits: Path, tmp_path: Path) -> None:
    """llama.cpp lays its files out in steps of 32 bytes, whatever the key says that it copies."""
    aligned = wide_model(
        tmp_path / "aligned.gguf", n_layer=1, extra_keys=lambda writer: writer.add_custom_alignment(256)
    )
    assert GgufHeader.read(aligned.path).alignment == 256
    out = tmp_path / "out.gguf"
    quantized(aligned.path, out, Quantization("Q8_0"))

    assert _tensors(out) == _tensors(in_8_bits)


def _tensors(path: Path) -> dict[str, tuple[int, bytes]]:
    return {t.name: (int(t.tensor_type), t.data.tobytes()) for t in GGUFReader(path).tensors}


def test_a_full_disk_is_known_before(
    small: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, wanted = tmp_path / ".hidden.part", Quantization("Q8_0")
    needed = quantized_bytes(small.path, wanted)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(SpaceError, match=r"big.gguf needs .* and its disk has"):
        quantize(small.path, out, wanted, out_called=tmp_path / "big.gguf")
    assert not out.exists()


@contextmanager
def _files_of_at_most(n_bytes: int) -> Iterator[None]:
    """What this process and its children write ends there, as it would on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("free", [True, False])
def test_a_file_that_cannot_be_written_further(
    small: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: bool
) -> None:
    out, wanted = tmp_path / "out.gguf", Quantization("Q8_0")
    usage = shutil.disk_usage(tmp_path)
    frees = iter([usage.free, usage.free if free else 0])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(frees)))
    expected: type[BakeError] = TargetError if free else SpaceError
    why = (
        "cannot be written; check its folder's permissions and quota" if free else "the disk filled up while"
    )
    with _files_of_at_most(20_000), pytest.raises(expected, match=why):
        quantize(small.path, out, wanted)
    assert not out.exists()


def test_a_target_that_cannot_be_opened(small: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(TargetError):
        quantize(small.path, tmp_path / "no" / "out.gguf", Quantization("Q8_0"))
    assert os.listdir(tmp_path) == []  # noqa: PTH208
