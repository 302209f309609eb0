"""The parameters of a model's own scaling as a GGUF file's keys and tensors say them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from gguf_files import KeyValues, write_rope_keys
from ropewalk_plan import GgufHeader, rope_spec_from_gguf
from ropewalk_plan.rope_spec import OwnScaling

LONG = np.linspace(1.0, 32.0, 32, dtype=np.float32)
SHORT = np.linspace(1.0, 2.0, 32, dtype=np.float32)


def scaling_of(path: Path) -> OwnScaling | None:
    """Read by our header and by the `gguf` package's reader, which must agree."""
    scaling = rope_spec_from_gguf(GgufHeader.read(path)).own_scaling
    assert rope_spec_from_gguf(GGUFReader(str(path))).own_scaling == scaling
    return scaling


@pytest.mark.parametrize(
    ("keys", "scaling"),
    [
        ({}, None),
        ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, None),
        ({"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, OwnScaling("linear", factor=4.0)),
        ({"rope.scale_linear": 2.0}, OwnScaling("linear", factor=2.0)),
        (
            {"rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 512},
            OwnScaling("linear", factor=4.0, original_length=512),
        ),
        (
            {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": 4.0,
                "rope.scaling.original_context_length": 512,
            },
            OwnScaling("yarn", factor=4.0, original_length=512),
        ),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0},
            OwnScaling("yarn", factor=4.0, original_length=2048),
        ),
    ],
)
def test_keys(tmp_path: Path, keys: KeyValues, scaling: OwnScaling | None) -> None:
    assert scaling_of(write_rope_keys(tmp_path / "m.gguf", keys=keys)) == scaling


def test_lists_of_longrope(tmp_path: Path) -> None:
    tensors = {"rope_factors_long.weight": LONG, "rope_factors_short.weight": SHORT}
    keys: KeyValues = {"rope.scaling.original_context_length": 512, "rope.scaling.attn_factor": 1.19}
    path = write_rope_keys(tmp_path / "phi.gguf", "phi3", keys=keys, tensors=tensors)
    assert scaling_of(path) == OwnScaling(
        "longrope",
        factor=4.0,
        original_length=512,
        long_factors=tuple(float(f) for f in LONG),
        short_factors=tuple(float(f) for f in SHORT),
    )
    ignored = write_rope_keys(tmp_path / "falcon.gguf", "falcon-h1", tensors=tensors)
    assert scaling_of(ignored) is None


def test_a_bare_tensor_of_factors_has_no_parameters(tmp_path: Path) -> None:
    path = write_rope_keys(tmp_path / "m.gguf", "llama", tensors={"rope_freqs.weight": LONG})
    assert scaling_of(path) is None
