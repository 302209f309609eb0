"""The protocol: every message survives its line, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.engine import messages
from ropewalk.engine.messages import Event, Message, MessageError, Prefill, Request, decode, encode
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.results import ModelDescription
from ropewalk.engine.sampling import SamplingOptions
from ropewalk_plan.plan import ContextPlan, PositionKind, PositionMap, ScheduleStep

PLAN = ContextPlan(
    method="dprope+logn",
    train_length=64,
    target_length=128,
    options="threshold=0.0001",
    schedule=(ScheduleStep(128, (1.0, 2.5, 1e29), 1.25),),
    rope_layers=(0, 3),
    position_map=PositionMap(PositionKind.PERIODIC, 64, 1),
    logn_length=64,
    windows=(0, 32),
    sinks=4,
)
st.register_type_strategy(ContextPlan, st.just(PLAN))
st.register_type_strategy(Path, st.text(st.characters(exclude_characters="\0"), min_size=1).map(Path))
st.register_type_strategy(
    SamplingOptions,
    st.builds(
        SamplingOptions,
        temperature=st.floats(0, 2),
        top_k=st.integers(0, 100),
        top_p=st.floats(0, 1),
        min_p=st.floats(0, 1),
        seed=st.integers(0, 2**32 - 1),
    ),
)
_FINITE = st.floats(allow_nan=False)
st.register_type_strategy(float, _FINITE)


def _kinds() -> list[type[Message]]:
    return [kind for base in (Request, Event) for kind in base.__subclasses__()]


@given(st.sampled_from(_kinds()).flatmap(st.from_type))
def test_every_message_survives_its_line(message: Message) -> None:
    line = encode(message)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == message


def test_all_messages_were_drawn_from() -> None:
    assert len(_kinds()) == len(messages._KINDS) == 36


@given(st.binary())
def test_garbage_is_refused(line: bytes) -> None:
    with pytest.raises(MessageError):
        decode(line)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_other_json_is_refused(value: object) -> None:
    with pytest.raises(MessageError):
        decode(json.dumps(value).encode())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"protocol": 1}, "protocol 1 where 3 is spoken"),
        ({"kind": "Explode"}, "unknown message 'Explode'"),
        ({"kind": ["Prefill"]}, "unknown message"),
        ({"fields": {"id": 1}}, "not the fields of Prefill"),
        (
            {"fields": {"id": 1, "tokens": [1], "sequence": 0, "reserve": 0, "more": 0}},
            "not the fields of Prefill",
        ),
        ({"fields": {"id": True, "tokens": [1], "sequence": 0, "reserve": 0}}, "True is not int"),
        ({"fields": {"id": 1, "tokens": [1.5], "sequence": 0, "reserve": 0}}, "1.5 is not int"),
        ({"fields": {"id": 1, "tokens": 5, "sequence": 0, "reserve": 0}}, "5 is not a list"),
        (
            {"fields": {"id": 1, "tokens": {"int32": "AAA"}, "sequence": 0, "reserve": 0}},
            "not packed integers",
        ),
        (
            {"fields": {"id": 1, "tokens": {"int32": "AAAA"}, "sequence": 0, "reserve": 0}},
            "not packed integers",
        ),
        ({"fields": {"id": 1, "tokens": {"int64": ""}, "sequence": 0, "reserve": 0}}, "not a list"),
    ],
)
def test_a_wrong_message_is_named(change: dict[str, object], why: str) -> None:
    line = {
        "protocol": 3,
        "kind": "Prefill",
        "fields": {"id": 1, "tokens": [1, 2], "sequence": 0, "reserve": 0},
    }
    assert decode(json.dumps(line).encode()) == Prefill(1, (1, 2))

    with pytest.raises(MessageError, match=why):
        decode(json.dumps(line | change).encode())


def test_values_are_checked_where_they_arrive() -> None:
    line = encode(messages.Generate(1, 5, SamplingOptions(), True)).replace(b'"top_p":0.95', b'"top_p":95')

    with pytest.raises(MessageError, match="top_p is 95"):
        decode(line)


def test_a_description_keeps_its_plan() -> None:
    description = ModelDescription(
        path=Path("/models/a.gguf"),
        architecture="llama",
        n_layer=2,
        n_params=1,
        size_bytes=4,
        train_length=64,
        target_length=128,
        vocab_size=10,
        has_chat_template=False,
        plan=PLAN,
        native=False,
        n_ctx=256,
    )

    assert decode(encode(messages.Loaded(1, description))) == messages.Loaded(1, description)


def test_options_are_typed() -> None:
    line = encode(messages.Load(1, Path("a"), EngineOptions(n_ctx=1)))

    with pytest.raises(MessageError, match="'sometimes' is none of"):
        decode(line.replace(b'"auto"', b'"sometimes"'))


@given(st.lists(st.integers(-(2**40), 2**40), max_size=3), st.integers(250, 300))
def test_long_texts_survive_whatever_their_tokens_are(odd: list[int], count: int) -> None:
    message = Prefill(1, (*odd, *range(-100, count - 100), *odd), 3)

    assert decode(encode(message)) == message


def test_a_long_text_takes_little_room() -> None:
    tokens = tuple(range(100_000, 200_000))

    assert len(encode(Prefill(1, tokens))) < 5.4 * len(tokens)
