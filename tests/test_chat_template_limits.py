"""Templates that raise, loop, or make too much of themselves end as one sentence."""

from __future__ import annotations

import re
import threading
import time
import tracemalloc

import pytest

from ropewalk.backend.bounded_call import CallTooLarge, CallTooLong, call_bounded
from ropewalk.backend.chat_template import TemplateLimits, render
from ropewalk.backend.errors import StoppedError, TemplateError

MESSAGES = [("user", "Why?"), ("assistant", "Because."), ("user", "And?")]
LIMITS = TemplateLimits(seconds=60, n_bytes=64 << 20, characters=1 << 20)
SHORT = TemplateLimits(seconds=0.5, n_bytes=64 << 20, characters=1 << 20)

BIG = "{% set big = 'a' * 1000000 %}"
LOOP = "{% for i in range(100000) %}"


def doubled(start: str, step: str) -> str:
    """A template that takes a step sixty times."""
    return (
        f"{{% set ns = namespace(x={start}) %}}"
        f"{{% for i in range(60) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
    )


TOO_LARGE = {
    "repetition": "{{ 'a' * 10**10 }}",
    "repetition of a list": "{{ [0] * 10**10 }}",
    "repetition of a list of lists": "{% set a = [0] * 1000 %}{% set b = [a] * 1000 %}{{ [b] * 1000 }}",
    "bytes": "{{ 'a'.encode() * 10**10 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "product": doubled("7", "ns.x * ns.x"),
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent by argument": "{{ '%*d' % (1000000000, 1) }}",
    "precision": "{{ '%.1000000000f' % 1 }}",
    "format filter": "{{ '%1000000000d' | format(1) }}",
    "format filter by argument": "{{ '%0*d' | format(1000000000, 1) }}",
    "many places": BIG + "{{ ('%(a)s' * 1000) % {'a': big} }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format by argument": "{{ '{:{}}'.format(1, 1000000000) }}",
    "format_map": "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
    "formats": BIG + "{{ ('{0}' * 1000).format(big) }}",
    "format by attr": "{{ ('{:1000000000}' | attr('format'))(1) }}",
    "format, escaping": "{{ ('{:1000000000}' | safe).format(1) }}",
    "sum of strings": doubled("'a'", "ns.x + ns.x"),
    "sum of lists": doubled("[1]", "ns.x + ns.x"),
    "concatenation": doubled("'a'", "ns.x ~ ns.x"),
    "concatenation, escaping": "{% autoescape true %}"
    + doubled("'a'", "ns.x ~ ns.x")
    + "{% endautoescape %}",
    "nested lists": doubled("[1]", "[ns.x, ns.x]"),
    "nested tuples": doubled("(1,)", "(ns.x, ns.x)"),
    "nested dicts": doubled("1", "{'a': ns.x, 'b': ns.x}"),
    "comparison of nested dicts": doubled("0", "dict(a=ns.x, b=ns.x)") + "{{ ns.x == ns.x.copy() }}",
    "comparison of nested lists": "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x | batch(2, ns.x) | list %}{% set ns.y = ns.y | batch(2, ns.y) | list %}{% endfor %}"
    "{{ ns.x == ns.y }}",
    "blocks": "{% set x = 'a' %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 60,
    "macros": "{% macro f(x, n) %}{% if n %}{{ f(x ~ x, n - 1) }}{% endif %}{% endmacro %}{{ f('a', 60) }}",
    "replace": BIG + "{{ big.replace('a', big) }}",
    "replace nothing": BIG + "{{ big.replace('', big) }}",
    "replace by name": BIG + "{{ big | replace(new=big, old='a') }}",
    "replace filter": BIG + "{{ big | replace('a', big) }}",
    "join": BIG + "{{ big.join(range(1000) | map('string')) }}",
    "join filter": BIG + "{{ range(1000) | join(big) }}",
    "join attribute": BIG
    + "{{ [{'a': big}] * 1000 | int }}{{ ([{'a': big}] * 1000) | join(attribute='a') }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "zfill": "{{ 'a'.zfill(10**10) }}",
    "center": "{{ 'a'.center(10**10) }}",
    "center filter": "{{ 'a' | center(10**10) }}",
    "expandtabs": "{{ '\t\t'.expandtabs(10**9) }}",
    "translate": BIG + "{{ big.translate({97: big}) }}",
    "to_bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "indent": "{{ 'a\nb' | indent(10**10) }}",
    "indent by text": BIG + "{{ ('a\n' * 1000) | indent(big) }}",
    "wordwrap": BIG + "{{ big | wordwrap(1, wrapstring=big) }}",
    "batch": "{{ [1] | batch(10**10, 0) | list }}",
    "round": "{{ 1.5 | round(10**10, 'floor') }}",
    "tojson indent": "{{ [[1]] | tojson(indent=10**10) }}",
    "tojson separators": BIG + "{{ ([0] * 1000) | tojson(separators=(big, big)) }}",
    "sum filter": "{{ ([[0] * 1000] * 10000) | sum(start=[]) }}",
    "list of characters": BIG + "{{ (big * 2) | list }}",
    "output": BIG + "{% for i in range(1000) %}{{ big }}{% endfor %}",
    "buffered output": BIG + "{% set x %}{% for i in range(9999) %}{{ big ~ i }}{% endfor %}{% endset %}",
    "slices": BIG + "{% set ns = namespace(x=[]) %}" + LOOP + "{% set ns.x = ns.x + [big[i:]] %}{% endfor %}",
    "date": "{{ strftime_now('%Y' * 1000000) }}",
}
ENDLESS = {
    "lipsum": "{{ lipsum(n=10**9) }}",
    "nested loops": LOOP + LOOP + LOOP + "{% endfor %}" * 3,
    "calls": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "filters": LOOP + "{% for x in range(100000) | map('string') | select %}{% endfor %}{% endfor %}",
    "slices of an iterable": "{{ range(3) | slice(10**10) | list | length }}",
}


def refused(template: str, limits: TemplateLimits = LIMITS) -> str:
    with pytest.raises(TemplateError) as caught:
        render(template, MESSAGES, special_tokens={}, limits=limits)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("name", TOO_LARGE)
def test_templates_that_make_too_much_are_stopped(name: str) -> None:
    tracemalloc.start()
    try:
        message = refused(TOO_LARGE[name])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "too much memory" in message or "range" in message
    assert "--raw" in message
    assert peak < 4 * LIMITS.n_bytes


@pytest.mark.parametrize("name", ENDLESS)
def test_templates_that_do_not_end_are_stopped(name: str) -> None:
    message = refused(ENDLESS[name], SHORT)

    assert "was not done after 0.5 seconds" in message or "too much memory" in message
    assert not [thread for thread in threading.enumerate() if thread.name == "bounded call"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('System role\\nnot supported') }}", "these messages: System role not supported"),
        ("{{ raise_exception('\x1b[2Jgone') }}", r"these messages: \[2Jgone"),
        ("{{ raise_exception('no ' * 1000) }}", r"\.\.\.$"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without an end"),
        ("{% if %}", r"cannot be compiled \(line 1: .*--raw"),
        ("{% for m in messages %}\n{% endif %}", r"cannot be compiled \(line 2: "),
        ("{{ messages | nothing }}", r"cannot be compiled \(line 1: No filter named 'nothing'"),
        ("{{" + "(" * 100_000, "--raw|these messages"),
        ("{% if 1 %}" * 500 + "{% endif %}" * 500, "chat template"),
        ("{{ " + "not " * 5000 + "1 }}", "calls itself|these messages"),
        ("{{ " + "-" * 5000 + "1 }}", "calls itself|these messages"),
        ("a" * 300_000, "has 300,000 characters and may have 262,144"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ ''['__class__'].mro }}", "unsafe"),
        ("{{ '{0.__class__.mro}'.format(1) }}", "unsafe"),
        ("{{ '{a.__class__.mro}'.format_map({'a': 1}) }}", "unsafe"),
        ("{{ (messages | attr('__class__')).mro() }}", "unsafe|undefined"),
        ("{{ raise_exception.__globals__.x }}", "unsafe"),
        ("{{ strftime_now.__closure__.x }}", "unsafe"),
        ("{{ cycler.__init__.__globals__.x }}", "unsafe"),
        ("{{ namespace(_x=1) }}", "unsafe"),
        ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ messages[0].update({'role': 'system'}) }}", "unsafe"),
        ("{% include 'other' %}", "loader"),
        ("{% import 'os' as os %}", "loader"),
        ("{{ range(10**9) }}", "Range too big"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ messages[0].content + 1 }}", "str"),
        ("{{ ['a', 1] | sort }}", "not supported between"),
        ("{{ strftime_now(1) }}", "int"),
    ],
)
def test_templates_that_fail_are_one_sentence(template: str, reason: str) -> None:
    assert re.search(reason, refused(template))


@pytest.mark.parametrize(
    "template",
    [
        *(
            "{" * 200_000,
            "{%-" * 80_000,
            "{{" * 100_000,
            "{#" * 100_000,
            " " * 200_000 + "{%",
            "\n" * 200_000 + "{{",
        ),
        *(
            "{{ '" + "\\" * 200_000,
            "{% raw %}" * 20_000,
            "{{ 1" + " " * 200_000 + "~",
            "{{ " + "1." * 100_000,
        ),
        "{% for x in " * 15_000,
        "{{ " + "[" * 100_000,
        "{{ " + "a." * 80_000,
        "{{ " + "1 ~ " * 60_000 + "1 }}",
        "{{ " + "1 if 1 else " * 20_000 + "1 }}",
        "{{ a" + "|e" * 100_000 + "}}",
        "{% set a = " + "a = " * 50_000,
        "{{ '" + "%(" * 100_000 + "' % 1 }}",
    ],
    ids=range(18),
)
def test_templates_that_are_slow_to_read_are_stopped(template: str) -> None:
    try:
        assert len(render(template, MESSAGES, special_tokens={}, limits=SHORT)) <= len(template)
    except TemplateError as error:
        assert "\n" not in str(error)


def test_a_long_document_is_no_reason_to_stop() -> None:
    document = "Was wäre, wenn? 😀 " * 500_000
    template = "{% for m in messages %}{{ m.content.strip() ~ '\\n' + m.content | trim }}{% endfor %}"

    text = render(template, [("user", document)], special_tokens={}, limits=LIMITS)

    assert text == document.strip() + "\n" + document.strip()


def test_rendering_can_be_stopped() -> None:
    asked = threading.Event()
    threading.Timer(0.1, asked.set).start()

    with pytest.raises(StoppedError):
        render(ENDLESS["nested loops"], MESSAGES, special_tokens={}, should_stop=asked.is_set)


def test_a_bounded_call_hands_over_what_it_returns_and_raises() -> None:
    assert call_bounded(lambda: 5, seconds=1, n_bytes=1000) == 5
    with pytest.raises(ZeroDivisionError):
        call_bounded(lambda: 1 / 0, seconds=1, n_bytes=1000)
    assert not tracemalloc.is_tracing()


def test_a_bounded_call_cannot_go_on_by_catching_everything() -> None:
    def stubborn() -> None:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                while True:
                    pass
            except Exception:
                pass

    with pytest.raises(CallTooLong):
        call_bounded(stubborn, seconds=0.1, n_bytes=1 << 20)


def test_a_bounded_call_may_take_memory_up_to_its_bound() -> None:
    def hoard(n: int) -> int:
        held = [bytes(1 << 16) for _ in range(n)]
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass
        return len(held)

    assert call_bounded(lambda: hoard(100), seconds=5, n_bytes=1 << 24) == 100
    with pytest.raises(CallTooLarge):
        call_bounded(lambda: hoard(1000), seconds=5, n_bytes=1 << 24)
