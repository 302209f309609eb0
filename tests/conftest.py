"""What many tests need: tiny models, the real model, the patched library."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest

from tiny_models import CHATML_TEMPLATE, write_tiny_model

if TYPE_CHECKING:
    from shared_conversions import SharedConversions

REAL_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"

# a shell that starts the tests in the background has Ctrl-C ignored, nohup a closed terminal, and every
# process below inherits that
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with interleaved rotary pairs and a chat template."""
    path = tmp_path_factory.mktemp("models") / "tiny-llama.gguf"
    return write_tiny_model(path, arch="llama", chat_template=CHATML_TEMPLATE).path


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with rotary halves, biases and no chat template."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny-qwen2.gguf", arch="qwen2", seed=1).path


@pytest.fixture(scope="session")
def real_model() -> Path:
    """SmolLM2-135M-Instruct, as `./scripts/setup --model` fetches it."""
    path = platformdirs.user_cache_path("ropewalk") / "models" / REAL_MODEL
    if not path.exists():
        message = f"{path} is missing: run ./scripts/setup --model"
        if os.environ.get("ROPEWALK_ALLOW_MISSING_MODEL") == "1":
            pytest.skip(message)
        pytest.fail(message)
    return path


@pytest.fixture(scope="session")
def shared_conversions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedConversions]:
    """Tiny checkpoints, and what `ropewalk convert --method none` makes of them."""
    from shared_conversions import SharedConversions

    folder = tmp_path_factory.mktemp("conversions")
    yield SharedConversions(folder)
    shutil.rmtree(folder)  # hundreds of megabytes, most of them real vocabularies


@pytest.fixture(scope="session")
def patched_library() -> None:
    """The patched llama.cpp; a stock build fails the test, so that it cannot be left out unnoticed."""
    from ropewalk.backend import library

    if not library.is_patched():
        message = "the loaded llama.cpp is a stock build: run ./scripts/setup"
        if os.environ.get("ROPEWALK_ALLOW_STOCK") == "1":
            pytest.skip(message)
        pytest.fail(message)
