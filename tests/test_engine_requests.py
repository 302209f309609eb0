"""Requests besides reading and answering, and engines whose process has ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from ropewalk.backend import host
from ropewalk.backend.errors import DecodeError
from ropewalk.backend.model import Model
from ropewalk.engine import Engine, EngineDied, EngineError, EngineOptions, ModelLoadError
from ropewalk.engine.sequence import common_prefix
from ropewalk.engine.worker import Worker
from ropewalk_convert.bake import bake
from tiny_models import write_tiny_model

OPTIONS = EngineOptions(n_ctx=512, threads=1, batch_size=64, ubatch_size=16)
TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. "
DATED = "{{ strftime_now('%d %B %Y') }}|{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def started() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture
def engine(started: Engine, tiny_llama: Path) -> Engine:
    started.load(tiny_llama, OPTIONS)
    return started


def test_tokens_become_text_again(engine: Engine) -> None:
    """An SPM tokenizer puts a space before a text; control tokens are left out."""
    tokens = engine.tokenize("é, 😀\nthe <|im_end|>", parse_special=True)

    assert engine.detokenize(tokens) == " é, 😀\nthe "
    assert engine.detokenize(tokens[1:3] * 5000) == engine.detokenize(tokens[1:3]) * 5000
    assert engine.detokenize([]) == ""
    with pytest.raises(EngineError, match="400000 is not a token"):
        engine.detokenize([5, 400_000])


def test_what_a_prompt_would_keep_is_told_without_reading(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)
    assert engine.reusable(tokens) == 0
    engine.prefill(tokens)

    for prompt, kept in (
        (tokens, len(tokens) - 1),
        ([*tokens, 5], len(tokens)),
        (tokens[:10], 9),
        ([*tokens[:10], 5, *tokens[11:]], 10),
        ([5], 0),
        ([], 0),
    ):
        assert engine.reusable(prompt) == kept
    assert engine.prefill([*tokens, 5]).cached_tokens == len(tokens)


def test_memory_is_told_by_device(engine: Engine, tiny_llama: Path) -> None:
    use = engine.memory()

    cpu = use.devices[0]
    assert cpu.device == "CPU"
    model = Model.load(tiny_llama, gpu_layers=0)
    assert cpu.weights == model.size_bytes
    model.close()
    # 2 layers of 2 heads of 16 numbers, keys and values, in f16; the log says it in MiB with two digits
    assert cpu.cache == pytest.approx(512 * 2 * 2 * 2 * 16 * 2, abs=10_500)
    assert cpu.compute > 0
    assert cpu.free < host.available_memory() + 2**33
    assert use.resident is None or use.resident > 10 * 2**20


def test_only_the_vocabulary_is_loaded_where_that_is_enough(started: Engine, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "m.gguf", chat_template=DATED).path
    whole = started.load(source, OPTIONS)
    expected = started.tokenize(TEXT)
    shares: list[float] = []

    told = started.load(source, EngineOptions(n_ctx=512, vocabulary_only=True), shares.append)

    assert shares == [1.0]
    assert told.n_ctx == 0
    for name in ("path", "architecture", "n_layer", "n_params", "size_bytes", "train_length", "vocab_size"):
        assert getattr(told, name) == getattr(whole, name)
    assert (told.target_length, told.has_chat_template) == (whole.target_length, True)
    assert started.tokenize(TEXT) == expected
    assert started.detokenize(expected) == f" {TEXT}"
    assert started.apply_template([("user", "Why?")], date(2024, 2, 29)) == "29 February 2024|Why?"
    why = "only the vocabulary was loaded: load the whole model first"
    for refused in (
        lambda: started.prefill([5]),
        lambda: list(started.generate(5)),
        lambda: started.resize(64),
        started.memory,
        lambda: started.drop_sequence(0),
        lambda: started.reusable([5]),
        lambda: started.save_state(tmp_path / "state"),
        lambda: started.check_identity([5]),
    ):
        with pytest.raises(EngineError, match=why):
            refused()
    assert started.load(source, OPTIONS).n_ctx == 512
    assert started.prefill(expected).prompt_tokens == len(expected)


@pytest.mark.usefixtures("patched_library")
def test_the_plan_is_part_of_what_a_file_says_without_its_weights(started: Engine, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "m.gguf").path
    baked = tmp_path / "baked.gguf"
    bake(source, baked, method="dprope", target_length=256)
    whole = started.load(baked, OPTIONS)

    told = started.load(baked, EngineOptions(n_ctx=0, vocabulary_only=True))

    assert whole.plan is not None
    assert told.plan == whole.plan
    assert (told.train_length, told.target_length, told.native) == (64, 256, whole.native)


def test_a_plan_that_cannot_be_read_leaves_no_vocabulary_either(started: Engine, tmp_path: Path) -> None:
    path = write_tiny_model(
        tmp_path / "m.gguf", extra_keys=lambda writer: writer.add_uint32("ropewalk.schema", 99)
    ).path

    for options in (EngineOptions(n_ctx=0, vocabulary_only=True), OPTIONS):
        with pytest.raises(ModelLoadError, match="99"):
            started.load(path, options)
        with pytest.raises(EngineError, match="no model is loaded"):
            started.tokenize("a")


@pytest.mark.usefixtures("patched_library")
def test_identity_is_checked_with_batches_of_several_micro_batches(started: Engine, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "m.gguf").path
    bake(source, tmp_path / "baked.gguf", method="logn", target_length=256)
    started.load(tmp_path / "baked.gguf", OPTIONS)

    result = started.check_identity([5 + i % 300 for i in range(60)])

    assert (result.bit_identical, result.n_tokens) == (True, 60)


def test_a_text_that_cannot_be_gone_on_from_is_read_again(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sequence under windows that lacks what the next token would see: the library refuses the batch."""
    worker = Worker(lambda: False)
    worker.load(tiny_llama, EngineOptions(n_ctx=512, threads=1, gpu_layers=0), lambda _share: None)
    held = worker._sequences[0]
    text = [5 + i % 300 for i in range(100)]
    worker.prefill(text, lambda _done, _total: None, 0)
    decode = held.context.decode

    def refusing(tokens: list[int], **options: int) -> object:
        if held.context.length_of(0) > 0 and held.tokens[:1] == [5] and len(tokens) < 50:
            raise DecodeError("a layer with a window no longer holds tokens")
        return decode(tokens, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(held.context, "decode", refusing)
    told: list[int] = []
    result = worker.prefill([*text, 7], lambda done, _total: told.append(done), 0)
    assert (result.cached_tokens, told) == (0, [100, 0, 101])
    assert held.tokens == [*text, 7]
    with pytest.raises(DecodeError):  # with nothing kept it is what it is
        monkeypatch.setattr(held.context, "decode", lambda *_a, **_o: refusing([5]))
        worker.prefill([*text[:50], 8], lambda _done, _total: None, 0)
    worker._unload()


def test_on_a_gpu_no_more_than_a_micro_batch_is_computed_before_stopping_is_asked_for(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running computation of the CPU asks by itself; a GPU's does not."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return False

    worker = Worker(should_stop)
    worker.load(tiny_llama, EngineOptions(512, 1, 0, batch_size=64, ubatch_size=16), lambda _share: None)
    context = worker._sequences[0].context
    decode, sizes = context.decode, list[tuple[int, int]]()

    def noting(tokens: list[int], **options: int) -> object:
        sizes.append((len(tokens), asked))
        return decode(tokens, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(context, "decode", noting)
    worker.prefill([5] * 100, lambda _done, _total: None, 0)
    assert [size for size, _ in sizes] == [64, 36]
    sizes.clear()
    monkeypatch.setattr(worker._model, "on_gpu", True)
    worker.prefill([6] * 100, lambda _done, _total: None, 0)
    assert [size for size, _ in sizes] == [16] * 6 + [4]
    assert all(before < after for (_, before), (_, after) in pairwise(sizes))
    worker._unload()


@pytest.mark.parametrize("at", [0, 1, 4095, 4096, 4097, 9999])
def test_common_prefixes_are_counted(at: int) -> None:
    first = list(range(10_000))
    second = [*first[:at], -1, *first[at + 1 :]]

    assert common_prefix(first, second) == common_prefix(second, tuple(first)) == at
    assert common_prefix(first, first[:at]) == common_prefix(first[:at], first) == at


def _requests(engine: Engine, folder: Path) -> list[Callable[[], object]]:
    return [
        lambda: engine.load(folder / "m.gguf", OPTIONS),
        lambda: engine.resize(64),
        lambda: engine.tokenize("a"),
        lambda: engine.detokenize([5]),
        lambda: engine.apply_template([("user", "a")]),
        lambda: engine.reusable([5]),
        lambda: engine.prefill([5]),
        lambda: list(engine.generate(5)),
        lambda: engine.copy_sequence(0, 0),
        lambda: engine.drop_sequence(0),
        lambda: engine.save_state(folder / "state"),
        engine.memory,
        lambda: engine.check_identity([5]),
    ]


def test_every_request_after_a_death_tells_of_it(tiny_llama: Path, tmp_path: Path) -> None:
    with Engine.start() as engine:
        engine.load(tiny_llama, OPTIONS)
        os.kill(engine.pid, signal.SIGKILL)
        for request in _requests(engine, tmp_path):
            with pytest.raises(EngineDied) as caught:
                request()
            assert caught.value.reason == "was killed by SIGKILL, perhaps because memory ran out"
        engine.cancel()
        engine.close()
        engine.close()
    with Engine.start() as engine:
        assert engine.load(tiny_llama, OPTIONS).n_ctx == 512


def test_every_request_without_a_model_says_so(tmp_path: Path) -> None:
    with Engine.start() as engine:
        for request in _requests(engine, tmp_path)[1:]:
            with pytest.raises(EngineError, match="no model is loaded: load one first"):
                request()


def test_an_answer_asked_for_before_another_request_was_cancelled_is_not_cancelled(engine: Engine) -> None:
    """A cancellation is meant for its own request, and what was sent before it."""
    engine.prefill([5] * 20)
    generation = engine.generate(10, stop_at_eog=False)
    engine.prefill([6] * 400, lambda _done, _total: engine.cancel())
    engine.prefill([5] * 20)

    assert sum(1 for _ in generation) > 0
    assert generation.result.tokens == 10
