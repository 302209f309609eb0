"""Loading, tokenizing and computing through the C API, against the bare API and the file's own bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from library_logits import greedy_tokens, last_logits
from ropewalk.backend import library
from ropewalk.backend.context import Context, ContextParams, DecodeStatus
from ropewalk.backend.errors import (
    BackendError,
    ContextError,
    ContextFullError,
    DecodeError,
    LibraryNotPatchedError,
    ModelFileError,
    StoppedError,
)
from ropewalk.backend.model import Model
from ropewalk.backend.sampler import Sampler
from tiny_models import write_tiny_model

TEXT = "the thing is that an answer is in the rope, and no other."


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Iterator[Model]:
    loaded = Model.load(tiny_llama)
    yield loaded
    loaded.close()


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    made = Context(model, ContextParams(n_ctx=256, n_batch=32, n_ubatch=16, threads=1))
    yield made
    made.close()


@given(st.text(st.characters(codec="utf-8")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_survives_tokenizing(model: Model, text: str) -> None:
    """An SPM tokenizer puts a space before the text, and spells spaces as U+2581, which is then lost."""
    tokens = model.vocabulary.tokenize(text, add_special=False)

    spelt = text.replace("\u2581", " ")
    assert model.vocabulary.detokenize(tokens) == (f" {spelt}" if text else "")


def test_tokens_are_the_longest_merges(model: Model) -> None:
    vocabulary = model.vocabulary

    tokens = vocabulary.tokenize("the é")

    assert [vocabulary.piece(token, special=True) for token in tokens] == [
        b"<s>",
        b" the",
        b" ",
        b"\xc3",
        b"\xa9",
    ]


def test_control_tokens_are_parsed_only_where_wanted(model: Model) -> None:
    vocabulary = model.vocabulary

    parsed = vocabulary.tokenize("<|im_end|>", add_special=False, parse_special=True)
    plain = vocabulary.tokenize("<|im_end|>", add_special=False)

    assert len(parsed) == 1
    assert vocabulary.is_end(parsed[0])
    assert vocabulary.detokenize(plain) == " <|im_end|>"
    assert (vocabulary.bos_text, vocabulary.eos_text) == ("<s>", "</s>")


def test_a_surrogate_does_no_harm(model: Model) -> None:
    assert model.vocabulary.detokenize(model.vocabulary.tokenize("a\udcffb", add_special=False)) == " a?b"


def test_logits_are_those_of_the_bare_library(model: Model, context: Context) -> None:
    tokens = model.vocabulary.tokenize(TEXT)

    for at in range(0, len(tokens), 32):
        assert context.decode(tokens[at : at + 32]) is DecodeStatus.DONE

    assert context.length == len(tokens)
    expected = last_logits(model.path, tokens)
    np.testing.assert_allclose(context.logits()[-1], expected, atol=2e-3)


def test_all_logits_end_with_the_last(model: Model) -> None:
    context = Context(model, ContextParams(n_ctx=256, n_outputs=64, threads=1))
    try:
        tokens = model.vocabulary.tokenize(TEXT)
        context.decode(tokens, all_logits=True)
        logits = context.logits()
    finally:
        context.close()

    assert logits.shape == (len(tokens), model.vocabulary.size)
    np.testing.assert_allclose(logits[-1], last_logits(model.path, tokens), atol=2e-3)
    np.testing.assert_allclose(logits[4], last_logits(model.path, tokens[:5]), atol=2e-3)


def test_greedy_sampling_takes_the_largest_logit(model: Model, context: Context) -> None:
    tokens = model.vocabulary.tokenize("the thing")
    context.decode(tokens)
    with Sampler(temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, seed=0) as sampler:
        token = sampler.sample(context)

    assert token == int(np.argmax(context.logits()[-1]))
    assert [token] == greedy_tokens(model.path, tokens, 1)


def test_a_seed_decides_the_draw_and_top_k_limits_it(model: Model, context: Context) -> None:
    context.decode(model.vocabulary.tokenize("the thing"))
    best = set(np.argsort(context.logits()[-1])[-4:].tolist())

    def draw(seed: int) -> int:
        with Sampler(temperature=2.0, top_k=4, top_p=1.0, min_p=0.0, seed=seed) as sampler:
            return sampler.sample(context)

    draws = [draw(seed) for seed in range(40)]
    assert draws == [draw(seed) for seed in range(40)]
    assert len(set(draws)) > 1
    assert set(draws) <= best


def test_what_is_rolled_back_leaves_no_trace(model: Model, context: Context) -> None:
    tokens = model.vocabulary.tokenize("the thing is here")
    context.decode(tokens)
    before = context.logits()

    context.decode(model.vocabulary.tokenize("something else", add_special=False))
    assert context.remove_from(len(tokens) - 1)
    context.decode(tokens[-1:])

    np.testing.assert_allclose(context.logits(), before, atol=1e-4)


def test_an_abort_leaves_whole_micro_batches(model: Model) -> None:
    stop = [False]
    context = Context(
        model, ContextParams(n_ctx=256, n_batch=64, n_ubatch=16, threads=1), should_abort=lambda: stop[0]
    )
    try:
        context.decode([5] * 16)
        stop[0] = True
        assert context.decode([6] * 64) is DecodeStatus.ABORTED
        assert context.length == 16
        stop[0] = False
        assert context.decode([6] * 64) is DecodeStatus.DONE
        assert context.length == 80
    finally:
        context.close()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "1 to 32"),
        ([5] * 33, "1 to 32"),
        ([999_999], "999999 is not a token"),
        ([-1], "-1 is not a token"),
    ],
)
def test_what_would_abort_the_library_is_refused(context: Context, tokens: list[int], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        context.decode(tokens)


def test_a_full_context_is_refused(model: Model) -> None:
    context = Context(model, ContextParams(n_ctx=40, threads=1))
    try:
        context.decode([5] * 40)
        with pytest.raises(DecodeError, match="41 tokens do not fit into a context of 40"):
            context.decode([5])
    finally:
        context.close()


def test_a_context_that_finds_no_cell_keeps_what_it_held(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own word for it, where the count of cells had not foreseen it."""
    context = Context(model, ContextParams(n_ctx=256, n_batch=64, threads=1, n_sequences=2))
    try:
        monkeypatch.setattr(Context, "room", 1000)
        for _ in range(3):
            context.decode([5 + i for i in range(64)])
        context.decode([7] * 40, sequence=1)
        with pytest.raises(ContextFullError, match="the context is full: make a longer one"):
            context.decode([8] * 30, sequence=1)
        monkeypatch.undo()
        assert (context.length_of(0), context.length_of(1), context.room) == (192, 40, 24)
        context.forget(1)
        assert context.decode([9] * 64) is DecodeStatus.DONE
        assert context.room == 0
    finally:
        context.close()


def test_sequences_go_on_from_their_own_tokens(model: Model) -> None:
    texts = [model.vocabulary.tokenize(text) for text in (TEXT, TEXT[::-1])]
    context = Context(model, ContextParams(n_ctx=512, threads=1, n_sequences=3))
    try:
        for at in range(0, 120, 7):
            for sequence, text in enumerate(texts):
                if at < len(text):
                    context.decode(text[at : at + 7], sequence=sequence)
                    assert context.last_decoded == sequence
                if len(text) - 7 <= at < len(text):
                    expected = last_logits(model.path, text)
                    np.testing.assert_allclose(context.logits()[-1], expected, atol=2e-3)
        assert [context.length_of(i) for i in range(3)] == [len(texts[0]), len(texts[1]), 0]
        assert context.room == 512 - len(texts[0]) - len(texts[1])
    finally:
        context.close()


def test_more_logits_than_there_is_room_for_are_refused(model: Model) -> None:
    context = Context(model, ContextParams(n_ctx=256, n_outputs=4, threads=1))
    try:
        with pytest.raises(DecodeError, match="the logits of 5 tokens: a batch keeps at most 4"):
            context.decode([5] * 5, all_logits=True)
        context.decode([5] * 4, all_logits=True)
        assert context.logits().shape == (4, model.vocabulary.size)
    finally:
        context.close()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (ContextParams(n_ctx=0), "context length is 0"),
        (ContextParams(n_ctx=64, threads=0), "threads is 0"),
        (ContextParams(n_ctx=64, kv_type="q9"), "q9 is not a KV type: use one of f32"),
        (ContextParams(n_ctx=64, kv_type="q8_0", flash_attention="off"), "q8_0 needs flash attention"),
    ],
)
def test_bad_options_are_named(model: Model, params: ContextParams, message: str) -> None:
    with pytest.raises(ContextError, match=message):
        Context(model, params)


@pytest.mark.parametrize("kv_type", ["f32", "q8_0", "q4_0"])
def test_kv_types_compute_about_the_same(tmp_path: Path, kv_type: str) -> None:
    """Heads of 32, the block size of quantized types."""
    path = write_tiny_model(tmp_path / "wide.gguf", head_dim=32).path
    wide = Model.load(path)
    tokens = wide.vocabulary.tokenize(TEXT)
    context = Context(wide, ContextParams(n_ctx=256, threads=1, kv_type=kv_type))
    try:
        context.decode(tokens)
        difference = np.abs(context.logits()[-1] - last_logits(path, tokens)).max()
    finally:
        context.close()
        wide.close()
    assert difference < {"f32": 0.01, "q8_0": 0.5, "q4_0": 8.0}[kv_type]


def test_loading_tells_its_progress(tiny_llama: Path) -> None:
    shares: list[float] = []

    def go_on(share: float) -> bool:
        shares.append(share)
        return True

    Model.load(tiny_llama, on_progress=go_on).close()

    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_loading_can_be_stopped(tiny_llama: Path) -> None:
    with pytest.raises(StoppedError, match="was stopped"):
        Model.load(tiny_llama, on_progress=lambda _share: False)


def test_bad_files_are_named(tiny_llama: Path, tmp_path: Path) -> None:
    whole = tiny_llama.read_bytes()
    files = {
        "text.gguf": (b"This is a text about models.", "is not a GGUF file"),
        "empty.gguf": (b"", "is not a GGUF file"),
        "header.gguf": (whole[:3000], "is cut short"),
        "data.gguf": (whole[:-1000], "is cut short"),
    }
    for name, (content, message) in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=rf"{name}.*{message}"):
            Model.load(path)
    with pytest.raises(ModelFileError, match=r"nowhere\.gguf does not exist"):
        Model.load(tmp_path / "nowhere.gguf")
    with pytest.raises(ModelFileError, match="is a folder"):
        Model.load(tmp_path)


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    writer = GGUFWriter(str(path), "tapeworm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with pytest.raises(ModelFileError, match=r"odd\.gguf cannot be loaded: .*tapeworm"):
        Model.load(path)


def test_a_stock_build_refuses_what_it_would_run_wrongly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "planned.gguf"
    write_tiny_model(path, extra_keys=lambda writer: _add_plan_keys(writer, native=False))
    monkeypatch.setattr(library, "_patch", lambda: ("", 0, ()))

    with pytest.raises(LibraryNotPatchedError, match=r"plan of .*planned\.gguf needs the patched llama\.cpp"):
        Model.load(path)


def test_a_stock_build_runs_native_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "native.gguf"
    write_tiny_model(path, extra_keys=lambda writer: _add_plan_keys(writer, native=True))
    monkeypatch.setattr(library, "_patch", lambda: ("", 0, ()))

    Model.load(path).close()


def _add_plan_keys(writer: GGUFWriter, *, native: bool) -> None:
    writer.add_uint32("ropewalk.schema", 1)
    writer.add_bool("ropewalk.native", native)
    writer.add_string("ropewalk.method", "none")
    writer.add_uint32("ropewalk.train_length", 64)
    writer.add_uint32("ropewalk.target_length", 64)
