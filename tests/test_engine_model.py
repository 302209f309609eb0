"""The engine on tiny models: reading, going on, generating, cancelling."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from library_logits import greedy_tokens
from ropewalk.engine import (
    Cancelled,
    ChatTemplateError,
    DoesNotFitError,
    Engine,
    EngineBusy,
    EngineError,
    EngineOptions,
    ModelLoadError,
    PromptTooLong,
    SamplingOptions,
)
from ropewalk_convert.bake import bake
from tiny_models import write_chain_model, write_tiny_model

OPTIONS = EngineOptions(n_ctx=512, threads=1, batch_size=16, ubatch_size=16)
TEXT = "the thing is that an answer is in the rope, and the rope is in the thing. "


@pytest.fixture(scope="module")
def started() -> Iterator[Engine]:
    with Engine.start() as engine:
        yield engine


@pytest.fixture
def engine(started: Engine, tiny_llama: Path) -> Engine:
    """A model freshly loaded: nothing is held."""
    started.load(tiny_llama, OPTIONS)
    return started


def _answer(engine: Engine, tokens: list[int], count: int = 24) -> tuple[int, ...]:
    engine.prefill(tokens)
    generation = engine.generate(count, stop_at_eog=False)
    list(generation)
    return generation.result.token_ids


def test_a_loaded_model_is_described(started: Engine, tiny_llama: Path) -> None:
    shares: list[float] = []

    model = started.load(tiny_llama, OPTIONS, shares.append)

    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert model == started.model
    assert (model.path, model.architecture, model.n_layer) == (tiny_llama, "llama", 2)
    assert (model.train_length, model.target_length, model.n_ctx) == (64, 64, 512)
    assert (model.plan, model.native, model.has_chat_template) == (None, False, True)
    assert model.size_bytes == 4 * model.n_params


def test_relative_paths_are_the_callers(
    started: Engine, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_llama.parent)

    assert started.load(Path(tiny_llama.name), OPTIONS).path == tiny_llama


def test_text_is_tokenized_and_long_text_too(engine: Engine) -> None:
    assert engine.tokenize("") == [1]
    short = engine.tokenize("é\n", add_special=False)
    assert len(short) == 4  # a space and three bytes
    assert len(engine.tokenize("é\n" * 20_000, add_special=False)) == 60_001


def test_prefill_tells_its_progress(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)
    seen: list[tuple[int, int]] = []

    result = engine.prefill(tokens, lambda done, total: seen.append((done, total)))

    n = len(tokens)
    assert seen == [(min(done, n), n) for done in range(0, n + 16, 16)]
    assert (result.prompt_tokens, result.cached_tokens, result.cancelled) == (n, 0, False)
    assert result.seconds > 0


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_qwen2"])
def test_greedy_answers_are_those_of_the_bare_library(
    started: Engine, fixture: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(fixture)
    started.load(path, OPTIONS)
    tokens = started.tokenize(TEXT)

    assert list(_answer(started, tokens)) == greedy_tokens(path, tokens, 24)


def test_a_continued_prompt_answers_like_a_fresh_one(engine: Engine, tiny_llama: Path) -> None:
    document = engine.tokenize(TEXT * 3)
    first, second = (document + engine.tokenize(question, add_special=False) for question in ("why?", "who?"))
    fresh = _answer(engine, second)
    engine.load(tiny_llama, OPTIONS)
    _answer(engine, first)

    result = engine.prefill(second)

    assert len(document) <= result.cached_tokens < len(second)
    assert _answer(engine, second) == fresh
    # Asked again, only the last token is computed: its logits are needed.
    assert engine.prefill(second).cached_tokens == len(second) - 1
    assert _answer(engine, second) == fresh


def test_an_answer_is_part_of_what_is_held(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)
    answer = _answer(engine, tokens)

    result = engine.prefill([*tokens, *answer, *tokens[1:5]])

    assert result.cached_tokens == len(tokens) + len(answer) - 1


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_resizing_keeps_what_was_read(started: Engine, tmp_path: Path, kv_type: str) -> None:
    # heads of 64 numbers are whole blocks of q8_0
    wide = write_tiny_model(tmp_path / "wide.gguf", n_embd=128, n_head=2, n_head_kv=1, head_dim=64)
    started.load(wide.path, dataclasses.replace(OPTIONS, kv_type=kv_type))
    tokens = started.tokenize(TEXT)
    before = _answer(started, tokens)
    started.prefill(tokens)

    assert started.resize(300).n_ctx == 300

    assert started.prefill(tokens).cached_tokens == len(tokens) - 1
    assert _answer(started, tokens) == before


def test_resizing_below_what_was_read_empties(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)
    engine.prefill(tokens)

    engine.resize(len(tokens) - 1)
    engine.resize(300)

    assert engine.prefill(tokens).cached_tokens == 0


def test_a_prompt_that_is_too_long_is_refused(engine: Engine) -> None:
    engine.resize(20)

    with pytest.raises(PromptTooLong, match="has 21 tokens and the context has room for 20"):
        engine.prefill([5] * 21)
    with pytest.raises(EngineError, match="no tokens"):
        engine.prefill([])
    with pytest.raises(EngineError, match="999999 is not a token"):
        engine.prefill([999_999])
    assert engine.prefill([5] * 20).prompt_tokens == 20


def test_a_full_context_ends_an_answer(engine: Engine) -> None:
    engine.resize(30)
    engine.prefill([5] * 25)
    generation = engine.generate(100, stop_at_eog=False)
    list(generation)

    assert generation.result.reason == "length"
    assert generation.result.tokens == 6  # five more fit, and the sixth need not be computed


def test_there_must_be_something_to_go_on_from(engine: Engine) -> None:
    with pytest.raises(EngineError, match="read a prompt first"):
        list(engine.generate(5))
    _answer(engine, [5, 6])
    with pytest.raises(EngineError, match="read a prompt first"):
        list(engine.generate(5))


def test_sampling_is_seeded(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)

    def draw(seed: int) -> tuple[int, ...]:
        engine.prefill(tokens)
        sampling = SamplingOptions(temperature=1.5, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
        generation = engine.generate(16, sampling, stop_at_eog=False)
        list(generation)
        return generation.result.token_ids

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_an_answer_ends_at_an_end_token_and_keeps_characters_whole(started: Engine, tmp_path: Path) -> None:
    """The model spells 'q é😀w' byte by byte, then ends; from token to token it is a table."""
    byte_tokens = [3 + byte for byte in " é😀".encode()]
    letter = 3 + 256 + 11 + 1 - 0x21  # after special, byte and merged tokens and the space
    chain = [letter + ord("q"), *byte_tokens, letter + ord("w"), 2]
    started.load(write_chain_model(tmp_path / "chain.gguf", chain).path, OPTIONS)
    started.prefill([1, chain[0]])

    generation = started.generate(50)
    pieces = [piece.text for piece in generation]

    assert pieces == [" ", "é", "😀", "w"]
    assert (generation.result.text, generation.result.reason) == (" é😀w", "stop")
    assert generation.result.token_ids == tuple(chain[1:-1])

    started.prefill([1, chain[0]])
    cut = started.generate(2)
    assert [piece.text for piece in cut] == [" ", "\N{REPLACEMENT CHARACTER}"]
    assert cut.result.reason == "length"


def test_the_models_template_is_applied(engine: Engine) -> None:
    text = engine.apply_template([("system", "Be brief."), ("user", "Why?")])

    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_model_may_have_no_template(started: Engine, tiny_qwen2: Path) -> None:
    started.load(tiny_qwen2, OPTIONS)

    assert started.apply_template([("user", "Why?")]) is None


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% if %}", "cannot be compiled"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
    ],
)
def test_a_template_that_fails_is_one_sentence(
    started: Engine, tmp_path: Path, template: str, reason: str
) -> None:
    started.load(write_tiny_model(tmp_path / "t.gguf", chat_template=template).path, OPTIONS)

    with pytest.raises(ChatTemplateError, match=reason) as caught:
        started.apply_template([("user", "Why?")])
    assert "\n" not in str(caught.value)


def test_load_errors_arrive_as_such_and_the_engine_goes_on(
    started: Engine, tiny_llama: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_llama.read_bytes()[:-100])

    with pytest.raises(ModelLoadError, match=r"cut\.gguf is cut short"):
        started.load(cut, OPTIONS)
    assert started.model is None
    with pytest.raises(EngineError, match="no model is loaded"):
        started.tokenize("a")
    with pytest.raises(ModelLoadError, match="does not exist"):
        started.load(tmp_path / "none.gguf", OPTIONS)
    with pytest.raises(EngineError, match="KV type"):
        started.load(tiny_llama, EngineOptions(n_ctx=64, kv_type="f8"))
    assert started.load(tiny_llama, OPTIONS).n_ctx == 512


def test_memory_that_is_not_there_is_refused_and_the_context_kept(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)
    engine.prefill(tokens)

    with pytest.raises(DoesNotFitError, match="at most") as caught:
        engine.resize(2**31 - 1)

    assert caught.value.needed > caught.value.free
    assert 512 < caught.value.largest_n_ctx < 2**31
    assert engine.prefill(tokens).cached_tokens == len(tokens) - 1


def _cancel_soon(engine: Engine, seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, engine.cancel)
    timer.start()
    return timer


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose reading takes a while."""
    path = tmp_path_factory.mktemp("models") / "slow.gguf"
    return write_tiny_model(path, n_layer=8, n_embd=512, n_head=8, head_dim=64, n_ff=2048).path


def test_a_cancelled_prefill_goes_on_where_it_was(started: Engine, slow_model: Path) -> None:
    options = EngineOptions(n_ctx=2048, threads=1, batch_size=32, ubatch_size=32)
    started.load(slow_model, options)
    tokens = started.tokenize(TEXT * 12)[:512]
    whole = _answer(started, tokens, 8)
    started.load(slow_model, options)

    def cancel_at_first_sign(done: int, _total: int) -> None:
        if done == 64:
            started.cancel()

    cancelled = started.prefill(tokens, cancel_at_first_sign)
    went_on = started.prefill(tokens)

    assert cancelled.cancelled
    assert not went_on.cancelled
    assert 64 <= went_on.cached_tokens < len(tokens)
    assert went_on.cached_tokens % 32 == 0
    assert _answer(started, tokens, 8) == whole


def test_cancelling_takes_effect_within_a_micro_batch(started: Engine, slow_model: Path) -> None:
    options = EngineOptions(n_ctx=2048, threads=1, batch_size=2048, ubatch_size=2048)
    started.load(slow_model, options)
    tokens = [5 + i % 200 for i in range(1500)]
    uncancelled = started.prefill(tokens).seconds
    started.load(slow_model, options)

    timer = _cancel_soon(started, uncancelled / 10)
    start = time.monotonic()
    result = started.prefill(tokens)
    elapsed = time.monotonic() - start
    timer.join()

    assert result.cancelled
    assert elapsed < 0.8 * uncancelled
    assert started.prefill(tokens[:100]).cached_tokens == 0, "the micro-batch was not finished"


def test_a_cancelled_prompt_cannot_be_answered(started: Engine, slow_model: Path) -> None:
    started.load(slow_model, EngineOptions(n_ctx=2048, threads=1, batch_size=32, ubatch_size=32))

    assert started.prefill([5] * 1024, lambda _done, _total: started.cancel()).cancelled
    with pytest.raises(EngineError, match="read a prompt first, to its end"):
        list(started.generate(5))


def test_a_cancelled_answer_keeps_what_it_has(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)
    engine.prefill(tokens)
    generation = engine.generate(400, stop_at_eog=False)
    for piece in generation:
        if piece.tokens >= 3:
            engine.cancel()
            break
    rest = list(generation)
    result = generation.result

    assert result.reason in ("cancelled", "length")  # the tiny model may have been quicker
    assert result.tokens == len(result.token_ids) >= 3
    assert not rest or rest[-1].tokens <= result.tokens
    held = engine.prefill([*tokens, *result.token_ids]).cached_tokens
    assert held >= len(tokens) + result.tokens - 1


def test_a_slow_answer_is_cancelled_early(started: Engine, slow_model: Path) -> None:
    started.load(slow_model, EngineOptions(n_ctx=2048, threads=1))
    started.prefill([5] * 10)
    generation = started.generate(2000, stop_at_eog=False)
    next(generation)
    started.cancel()
    list(generation)

    assert generation.result.reason == "cancelled"
    assert generation.result.tokens < 1000


def test_leaving_an_answer_early_keeps_messages_in_step(engine: Engine) -> None:
    tokens = engine.tokenize(TEXT)
    whole = _answer(engine, tokens)
    for _ in range(5):
        engine.prefill(tokens)
        for _piece in engine.generate(300, stop_at_eog=False):
            break
        assert engine.tokenize("the", add_special=False) == engine.tokenize("the", add_special=False)
    assert _answer(engine, tokens) == whole


def test_closing_an_answer_ends_it(engine: Engine) -> None:
    engine.prefill(engine.tokenize(TEXT))
    generation = engine.generate(300, stop_at_eog=False)
    next(generation)
    with pytest.raises(EngineBusy):
        engine.tokenize("a")
    generation.close()

    assert list(generation) == []
    with pytest.raises(EngineError, match="not at its end"):
        _ = generation.result
    assert engine.tokenize("a")


def test_cancelling_nothing_does_nothing(engine: Engine) -> None:
    engine.cancel()
    assert engine.tokenize("a")


def test_loading_can_be_cancelled(started: Engine, slow_model: Path) -> None:
    def cancel(_share: float) -> None:
        started.cancel()
        time.sleep(0.05)

    try:
        started.load(slow_model, OPTIONS, cancel)
    except Cancelled as error:
        assert "was stopped" in str(error)
        assert started.model is None
    else:
        assert started.model is not None  # it was loaded before the word arrived


def test_an_error_in_a_callback_cancels_and_is_raised(started: Engine, slow_model: Path) -> None:
    started.load(slow_model, EngineOptions(n_ctx=2048, threads=1, batch_size=32, ubatch_size=32))

    def fail(done: int, _total: int) -> None:
        if done >= 64:
            raise ZeroDivisionError

    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        started.prefill([5] * 1800, fail)
    stopped = time.monotonic() - start

    assert started.prefill([5] * 1800).cached_tokens < 1500, f"it was read on for {stopped:.1f} s"


def _baked(tiny: Path, folder: Path, method: str) -> Path:
    path = folder / f"{method}.gguf"
    bake(tiny, path, method=method, target_length=128)
    return path


@pytest.mark.usefixtures("patched_library")
def test_a_position_map_changes_nothing_below_the_train_length(
    started: Engine, tiny_llama: Path, tmp_path: Path
) -> None:
    model = started.load(_baked(tiny_llama, tmp_path, "extra-pe"), OPTIONS)
    assert model.plan is not None
    assert (model.native, model.train_length, model.target_length) == (False, 64, 128)
    tokens = [5 + i * 7 % 300 for i in range(100)]

    below = started.check_identity(tokens[:64])
    beyond = started.check_identity(tokens)

    assert (below.bit_identical, below.max_difference, below.n_tokens) == (True, 0.0, 64)
    assert not beyond.bit_identical
    assert beyond.max_difference > 0.01
    assert started.prefill(tokens).cached_tokens == 0


@pytest.mark.usefixtures("patched_library")
def test_changed_frequencies_are_seen_below_the_train_length(
    started: Engine, tiny_qwen2: Path, tmp_path: Path
) -> None:
    """Qwen2 reads no `rope_freqs`, so DPRoPE is not native there."""
    started.load(_baked(tiny_qwen2, tmp_path, "dprope"), OPTIONS)
    tokens = [5 + i * 7 % 300 for i in range(64)]
    with_plan = _answer(started, tokens, 8)

    result = started.check_identity(tokens)

    assert not result.bit_identical
    assert result.max_difference > 0.01
    assert _answer(started, tokens, 8) == with_plan, "the plan is in force again"


@pytest.mark.usefixtures("patched_library")
def test_identity_needs_a_plan_of_the_files_own(started: Engine, tiny_llama: Path, tmp_path: Path) -> None:
    started.load(tiny_llama, OPTIONS)
    with pytest.raises(EngineError, match="has no context plan"):
        started.check_identity([1, 5, 6])
    assert started.load(_baked(tiny_llama, tmp_path, "pi"), OPTIONS).native
    with pytest.raises(EngineError, match="is native"):
        started.check_identity([1, 5, 6])
    started.load(_baked(tiny_llama, tmp_path, "extra-pe"), OPTIONS)
    with pytest.raises(EngineError, match="no tokens"):
        started.check_identity([])
