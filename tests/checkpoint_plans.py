"""Plans for configs and the GGUF files beside them, without weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gguf_files import KeyValues, write_rope_keys
from ropewalk_plan import ContextPlan, GgufHeader, PlanError
from ropewalk_plan.checkpoint_method import plan_for_converted, read_checkpoint_method

Config = Mapping[str, object]

N_ROT, L = 64, 2048
SIZES: Config = {
    "model_type": "llama",
    "hidden_size": 4 * N_ROT,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "rope_theta": 10000.0,
    "max_position_embeddings": L,
}
"""A checkpoint of L tokens without a scaling."""

YARN: Config = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": L}
"""A scaling by four, as a config says it."""

YARN_KEYS: KeyValues = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": L,
}
"""The same, as llama.cpp's converter writes it."""


def scaled(parameters: Config, **changes: object) -> Config:
    """Changes of a config that give it a scaling, and others."""
    return {"rope_scaling": parameters, **changes}


def frequencies(factors: tuple[float, ...], base: float = 10000.0) -> npt.NDArray[np.float64]:
    """What factors relative to `base` turn each pair by, in radians per token."""
    pairs = np.arange(len(factors))
    return np.asarray(base ** (-2.0 * pairs / (2 * len(factors))) / np.array(factors))


class Plans:
    """Makes plans of configs and files in a folder."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in `folder`."""
        self.folder = folder

    def header(
        self,
        arch: str = "llama",
        *,
        n_rot: int = N_ROT,
        base: float = 10000.0,
        context_length: int = L,
        keys: KeyValues | None = None,
        tensors: Mapping[str, npt.NDArray[np.float32]] | None = None,
    ) -> GgufHeader:
        """A converted file."""
        path = self.folder / "converted.gguf"
        write_rope_keys(
            path, arch, n_rot=n_rot, base=base, context_length=context_length, keys=keys, tensors=tensors
        )
        return GgufHeader.read(path)

    def of(
        self,
        config: Config,
        header: GgufHeader | None = None,
        *,
        method: str | None = None,
        target_length: int | None = None,
        train_length: int | None = None,
        options: dict[str, str] | None = None,
    ) -> ContextPlan | None:
        """The plan for `SIZES` with `config`; the file is a plain Llama's where none is given."""
        (self.folder / "config.json").write_text(json.dumps({**SIZES, **config}), encoding="utf-8")
        return plan_for_converted(
            read_checkpoint_method(self.folder),
            header or self.header(),
            method=method,
            target_length=target_length,
            train_length=train_length,
            options=options,
        )

    def made(
        self,
        config: Config,
        header: GgufHeader | None = None,
        *,
        method: str | None = None,
        target_length: int | None = None,
        train_length: int | None = None,
        options: dict[str, str] | None = None,
    ) -> ContextPlan:
        """The same where there has to be one."""
        plan = self.of(
            config,
            header,
            method=method,
            target_length=target_length,
            train_length=train_length,
            options=options,
        )
        assert plan is not None
        return plan

    def refusal(
        self,
        config: Config,
        header: GgufHeader | None = None,
        *,
        method: str | None = None,
        target_length: int | None = None,
        train_length: int | None = None,
        options: dict[str, str] | None = None,
    ) -> str:
        """The sentence where there can be none."""
        with pytest.raises(PlanError) as caught:
            self.of(
                config,
                header,
                method=method,
                target_length=target_length,
                train_length=train_length,
                options=options,
            )
        message = str(caught.value)
        assert "\n" not in message
        return message
