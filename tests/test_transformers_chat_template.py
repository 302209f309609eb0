"""Prompts equal those of transformers, for templates of every family's kind."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from chat_templates import EVERY
from ropewalk.backend.chat_template import render
from ropewalk.backend.errors import TemplateError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
PARTS = (
    "a",
    " ",
    "\n",
    "é",
    "😀",
    "</think>",
    "<think>\n",
    "{{ 1 }}",
    "{% if %}",
    "'",
    '"',
    "<&>",
    "\t",
    "ß",
    "İ",
    "\x00",
)

contents = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
roles = st.sampled_from(("system", "user", "assistant"))
conversations = st.one_of(
    st.lists(st.tuples(roles, contents), min_size=1, max_size=8),
    st.builds(
        lambda system, texts: [
            *system,
            *((("user", "assistant")[i % 2], text) for i, text in enumerate(texts)),
        ],
        st.lists(st.tuples(st.just("system"), contents), max_size=1),
        st.lists(contents, min_size=1, max_size=7),
    ),
)


def theirs(template: str, messages: list[tuple[str, str]]) -> str:
    chat = [{"role": role, "content": content} for role, content in messages]
    rendered, _ = chat_template_utils.render_jinja_template(
        [chat], chat_template=template, add_generation_prompt=True, **TOKENS
    )
    return str(rendered[0])


def outcome(make: Callable[[], str]) -> str | None:
    """The prompt; None where the template refuses."""
    try:
        return make()
    except (jinja2.TemplateError, TemplateError, TypeError):
        return None


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=10, deadline=None)
@given(messages=conversations)
def test_prompts_are_those_of_transformers(name: str, messages: list[tuple[str, str]]) -> None:
    template = EVERY[name]

    assert outcome(lambda: render(template, messages, special_tokens=TOKENS)) == outcome(
        lambda: theirs(template, messages)
    )


@pytest.mark.parametrize("name", EVERY)
def test_every_template_accepts_an_ordinary_conversation(name: str) -> None:
    """Else the comparison above might be one of refusals."""
    messages = [("user", "Why?"), ("assistant", "Because."), ("user", "And?")]

    assert "Because" in render(EVERY[name], messages, special_tokens=TOKENS).title()


@pytest.mark.parametrize("format", ["%d %b %Y", "%A, %B %-d %H:%M", "%Y-%m-%d", "%j %%"])
def test_the_day_is_the_one_given(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    template = f"{{{{ strftime_now({format!r}) }}}}"

    class Then:
        @staticmethod
        def now() -> datetime:
            return datetime(2024, 2, 29)

    monkeypatch.setattr(chat_template_utils, "datetime", Then)

    assert render(template, [("user", "")], special_tokens={}, today=date(2024, 2, 29)) == theirs(
        template, [("user", "")]
    )
    assert render("{{ strftime_now('%Y') }}", [], special_tokens={}) == datetime.now().strftime("%Y")


def test_messages_arrive_unchanged() -> None:
    messages = [
        ("system", " a \r\n"),
        ("user", "{{ 7 * 7 }}{% raw %}"),
        ("assistant", "\x00\ud800￿ <|im_end|>"),
    ]

    assert render(
        "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}", messages, special_tokens={}
    ) == "".join(f"{role}={content};" for role, content in messages)


def test_tokens_that_a_model_has_not_are_undefined() -> None:
    template = "{{ bos_token is defined }} {{ pad_token is defined }}{{ pad_token }}"

    assert render(template, [], special_tokens={"bos_token": "<s>"}) == "True False"
