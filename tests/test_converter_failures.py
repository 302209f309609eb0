"""Exceptions of upstream's converter that no checkpoint of the tests brings about, as sentences."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ropewalk_convert.converter_failures import explain, in_few_words
from ropewalk_convert.converter_refusals import CheckpointCodeError


def system_error(code: int, path: str | None = None) -> OSError:
    return OSError(code, os.strerror(code), path) if path else OSError(code, os.strerror(code))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            system_error(errno.ENOSPC),
            "space",
            "the disk of out filled up while model was converted; make room",
        ),
        (
            system_error(errno.EDQUOT),
            "space",
            "the disk of out filled up while model was converted; make room",
        ),
        (
            OSError("4096 requested and 100 written"),
            "space",
            "the disk of out filled up, or takes no file this",
        ),
        (
            ValueError("tensor 'output.weight' wrote 100 bytes, expected 4096"),
            "space",
            "the disk of out filled up, or takes no file this large, while model was converted",
        ),
        (MemoryError(), "memory", "the memory ran out while model was converted; close other programs"),
        (system_error(errno.ENOMEM), "memory", "the memory ran out while model was converted"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
            "memory",
            "the memory ran out while model was converted",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "extra",
            "needs torch, which cannot be imported (ModuleNotFoundError: No module named 'torch'); run "
            "./scripts/setup convert",
        ),
        (
            ImportError("Mistral format requires `mistral-common` to be installed."),
            "converter",
            "needs a Python package that does not come with Ropewalk (ImportError: Mistral format requires "
            "`mistral-common` to be installed.); install it into Ropewalk's environment, or look for a GGUF",
        ),
        (
            ImportError("Evil requires the EVIL library. You can install it with `pip install evil`"),
            "converter",
            "model needs a Python package that does not come with Ropewalk; look for a GGUF file of the same",
        ),
        (
            ModuleNotFoundError("No module named 'evil'", name="evil"),
            "converter",
            "model needs a Python package that does not come with Ropewalk (evil); look for a GGUF file of",
        ),
        (
            system_error(errno.ENOENT, "out/.out.0123abcd.part"),
            "target",
            "what was written to out while model was converted is gone; check its disk, and run the same",
        ),
        (
            system_error(errno.ENOENT, "model/vocab.part"),
            "source",
            "model lacks the files of its tokenizer (vocab.part)",
        ),
        (
            system_error(errno.EACCES, "model/config.json"),
            "source",
            "model/config.json cannot be read (Permission denied); check its permissions",
        ),
        (
            NotImplementedError("3-bit gptq dequantization is not yet implemented"),
            "source",
            "are quantized in a way that llama.cpp's converter cannot read (NotImplementedError: 3-bit gptq",
        ),
        (
            NotImplementedError("The rope scaling type su is not supported yet"),
            "source",
            "converter does not convert such a checkpoint as model (NotImplementedError: The rope scaling",
        ),
        (
            ZeroDivisionError("division\nby zero"),
            "converter",
            "llama.cpp's converter failed on model (ZeroDivisionError: division by zero); check that",
        ),
    ],
)
def test_an_exception_is_told_in_a_sentence(error: Exception, kind: str, words: str, tmp_path: Path) -> None:
    failure = explain(error, tmp_path, "model", "out")
    assert failure.kind == kind
    assert words in failure.message
    assert "\n" not in failure.message


def caught(function: Callable[[], None]) -> Exception:
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_what_a_refusal_led_to_is_told_as_the_refusal(tmp_path: Path) -> None:
    def go_on_without() -> None:
        try:
            raise CheckpointCodeError("code")
        except ValueError:
            raise KeyError("bos_token") from None

    def go_on() -> None:
        try:
            raise CheckpointCodeError("code")
        except ValueError:
            dict[str, int]()["bos_token"]

    assert "code from a checkpoint is never run" in explain(caught(go_on), tmp_path, "model", "out").message
    assert "KeyError" in explain(caught(go_on_without), tmp_path, "model", "out").message


def test_an_alternative_that_failed_before_is_not_told(tmp_path: Path) -> None:
    """Upstream looks for one form of tokenizer, and without it for another."""

    def try_both() -> None:
        try:
            raise FileNotFoundError("File not found: model/tokenizer.model")
        except FileNotFoundError:
            raise NotImplementedError("BPE pre-tokenizer was not recognized - update it")  # noqa: B904

    (tmp_path / "tokenizer.json").touch()
    assert "splits text in a way" in explain(caught(try_both), tmp_path, "model", "out").message


def test_a_bare_assertion_is_told_by_what_it_asserts() -> None:
    def check(tokens: int = 4) -> None:
        assert tokens < 3  # as many as there are

    def check_silently() -> None:
        raise AssertionError

    assert in_few_words(caught(check_silently)) == "AssertionError: raise AssertionError"
    assert in_few_words(ValueError("x " * 500)).endswith("x ...")
    assert len(in_few_words(ValueError("x" * 5000))) < 300
