"""What counts as a hit, rule by rule; plans under their labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from retrieval_tasks import random_tasks
from ropewalk.evaluation.labelled_plan import labelled_plan
from ropewalk.evaluation.retrieval import Rule, is_hit
from ropewalk_plan import GgufHeader, PlanError, make_plan, rope_spec_from_gguf


@pytest.mark.parametrize(
    ("rule", "expected", "answer", "hit"),
    [
        ("first-number", ("12345",), " 12345, and 99999", True),
        ("first-number", ("12345",), " 99999, or 12345", False),
        ("first-number", ("12345",), " 1. 12345", True),
        ("first-number", ("12345",), " 0012345", False),
        ("first-number", ("42",), " 1. it is 42", True),
        ("first-number", ("42",), " 100 and 42", False),
        ("first-number", ("42",), "", False),
        ("all-numbers", ("11111", "22222"), " 22222, 11111.", True),
        ("all-numbers", ("11111", "22222"), " 33333 22222 11111", False),
        ("all-numbers", ("11111", "22222"), " 22222 22222 11111 33333", True),
        ("all-numbers", ("11111", "22222"), " 1. 22222 2. 11111", True),
        ("all-numbers", ("11111", "22222"), " 11111 and 222222", False),
        ("all-numbers", ("11111", "22222"), " 11111", False),
        ("all-numbers", ("11111", "22222"), " 1111122222", False),
        ("all-words", ("Dolores Park",), " sit in dolores  park\non a sunny day", True),
        ("all-words", ("Dolores Park",), " Dolores and a park", False),
        ("all-words", ("park", "sandwich"), " A sandwich in the Park!", True),
        ("all-words", ("park", "sandwich"), " Sandwiches in the park", False),
        ("all-words", ("C++",), " in C++, of course", True),
        ("all-words", ("straße",), " in der STRASSE", True),
        ("all-words", ("park",), "", False),
        ("all-words", ("park",), " parks", False),
        ("all-words", ("苹果",), "密码是苹果。", True),
        ("all-words", ("苹果",), "密码是苹 果。", False),
        ("all-words", ("사과",), "암호는 사과입니다", True),
        ("all-words", ("Park",), "在Park里", True),
        ("all-words", ("caf\u00e9",), " au cafe\u0301", True),
        ("all-words", ("שלום",), "הסיסמה היא שלום.", True),
        ("all-words", ("שלום",), "הסיסמה היא בשלום.", False),
    ],
)
def test_rules(rule: Rule, expected: tuple[str, ...], answer: str, hit: bool) -> None:
    (task,) = random_tasks([40], [0.5], 1)
    assert is_hit(dataclasses.replace(task, rule=rule, expected=expected), answer) is hit


def test_a_plan_has_the_label_of_what_was_asked_for(tiny_llama: Path) -> None:
    spec = rope_spec_from_gguf(GgufHeader.read(tiny_llama))
    plain = labelled_plan(spec, "none", 256)
    assert (plain.label, plain.plan) == ("none", None)
    asked = labelled_plan(spec, "logn+yarn", 256, 128, {"beta_fast": "16", "beta_slow": "2"})
    assert asked.plan == make_plan(spec, "logn+yarn", 256, 128, {"beta_fast": "16", "beta_slow": "2"})
    assert asked.label == f"{asked.method} beta_fast=16 beta_slow=2"
    assert asked.method in {"logn+yarn", "yarn+logn"}
    with pytest.raises(PlanError, match="alchemy"):
        labelled_plan(spec, "alchemy", 256)
