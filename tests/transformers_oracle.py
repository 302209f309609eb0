"""transformers as an oracle: what its own initialisers make of a checkpoint's config.

Nothing here is loaded by a repository's name, so nothing asks the network.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Protocol, cast
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

Config = Mapping[str, object]
"""A `config.json`."""


class MadeConfig(Protocol):
    """What is used of transformers' configuration objects."""

    rope_parameters: dict[str, object]
    max_position_embeddings: int


def oracle_module(name: str) -> ModuleType:
    """A module of the pinned transformers; without it a test fails, so that none is left out unnoticed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("torch")  # without it transformers imports, and has no initialisers
            module = importlib.import_module(name)
    except ImportError as error:
        pytest.fail(f"{(error.name or name).partition('.')[0]} is missing: run ./scripts/setup oracle")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return module


def config_of(config: Config) -> MadeConfig:
    """The language model's configuration object that transformers makes of a `config.json`."""
    values = copy.deepcopy(dict(config))  # transformers completes the dictionaries it is given
    model_type = values.pop("model_type")
    made = oracle_module("transformers").AutoConfig.for_model(model_type, **values)
    return cast(MadeConfig, made.get_text_config())


def full_attention(made: MadeConfig) -> dict[str, object]:
    """The rotary parameters of the layers that see the whole context."""
    return cast(dict[str, object], made.rope_parameters.get("full_attention", made.rope_parameters))


def rotation(
    config: Config, length: int | None = None, *, doubles: bool = False
) -> tuple[npt.NDArray[np.float64], float]:
    """Inverse frequencies and attention factor by transformers' initialiser of the config's `rope_type`.

    Args:
        config: a `config.json`.
        length: tokens of the sequence; None as when a model is made.
        doubles: evaluate the same code in float64, where its float32 loses more than a test allows.
    """
    module = oracle_module("transformers.modeling_rope_utils")
    made = config_of(config)
    layer_type = "full_attention" if "full_attention" in made.rope_parameters else None
    kind = full_attention(made)["rope_type"]
    with _in_doubles(module) if doubles else contextlib.nullcontext():
        inverse, attention_factor = module.ROPE_INIT_FUNCTIONS[kind](
            made, "cpu", seq_len=length, layer_type=layer_type
        )
    return inverse.numpy().astype(np.float64), float(attention_factor)


@contextlib.contextmanager
def _in_doubles(module: ModuleType) -> Iterator[None]:
    """Let a module that asks torch for float32 be given float64."""
    torch = module.torch

    class Doubles:
        float = float32 = torch.float64

        def __getattr__(self, name: str) -> object:
            return getattr(torch, name)

    with mock.patch.object(module, "torch", Doubles()):
        yield
