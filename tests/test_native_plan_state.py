"""A native plan, which stock keys execute, leaves llama.cpp's format of saved states as it is.

Compared with the same library on the same stock keys without a plan, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFValueType, GGUFWriter

from library_logits import LoadedContext
from tiny_models import add_yarn_keys, write_tiny_model
from windowed_contexts import State, opened, random_tokens, restored, restored_whole, saved, saved_whole

pytestmark = pytest.mark.usefixtures("patched_library")

TRAIN_LENGTH, TARGET_LENGTH = 64, 256
TOKENS = random_tokens(100, seed=1)
Save = Callable[[LoadedContext], State]
Restore = Callable[[LoadedContext, State], bool]


def yarn_keys(writer: GGUFWriter) -> None:
    """The stock keys, of a YaRN with an attention factor of its own."""
    add_yarn_keys(writer, factor=TARGET_LENGTH / TRAIN_LENGTH, train_length=TRAIN_LENGTH)
    writer.add_key_value("llama.rope.scaling.attn_factor", 1.3, GGUFValueType.FLOAT32)


def native_plan(writer: GGUFWriter) -> None:
    """The same, and that they are a plan."""
    yarn_keys(writer)
    writer.add_uint32("ropewalk.schema", 1)
    writer.add_bool("ropewalk.native", True)
    writer.add_uint32("ropewalk.train_length", TRAIN_LENGTH)
    writer.add_uint32("ropewalk.target_length", TARGET_LENGTH)


@pytest.mark.parametrize(
    ("save", "restore"), [(saved, restored), (saved_whole, restored_whole)], ids=["sequence", "whole"]
)
def test_states_are_those_of_the_file_without_the_plan(tmp_path: Path, save: Save, restore: Restore) -> None:
    stock = write_tiny_model(tmp_path / "stock.gguf", extra_keys=yarn_keys).path
    native = write_tiny_model(tmp_path / "native.gguf", extra_keys=native_plan).path
    states, went_on = {}, {}
    for path in (stock, native):
        with opened(path, TARGET_LENGTH) as context:
            context.decode(TOKENS[:80])
            states[path] = save(context)
            went_on[path] = context.decode(TOKENS[80:], 80)
    assert bytes(states[native]) == bytes(states[stock])
    assert np.array_equal(went_on[native], went_on[stock])
    for writer, reader in ((stock, native), (native, stock)):
        with opened(reader, TARGET_LENGTH) as context:
            context.decode(TOKENS[:5])
            assert restore(context, states[writer])
            assert np.array_equal(context.decode(TOKENS[80:], 80), went_on[stock])
