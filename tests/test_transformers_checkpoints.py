"""A checkpoint's own rotation as we read it, against transformers' own initialisers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rope_configs import PARAMETERS, JsonObject, scaled_configs
from ropewalk_plan import RopeSpec, rope_spec_from_checkpoint
from transformers_oracle import rotation

TOLERANCE = 1e-6
LOSES_IN_FLOAT32 = 1e-5
"""What transformers' float32 loses in the ramps of yarn and llama3, where a small number is what is left of
two large ones. They are compared to 1e-6 with the same code in float64, and to this as it comes."""
ENOUGH = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(config: JsonObject, folder: Path) -> RopeSpec:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return rope_spec_from_checkpoint(folder)


@pytest.mark.parametrize("kind", PARAMETERS)
@ENOUGH
@given(data=st.data())
def test_own_scaling_at_full_length(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    config = data.draw(scaled_configs(kind))
    spec = read(config, tmp_path)
    ramps = kind in ("yarn", "llama3")
    inverse, attention_factor = rotation(config, spec.train_length, doubles=ramps)
    np.testing.assert_allclose(spec.frequencies, inverse, rtol=TOLERANCE)
    assert spec.own_attention_factor == pytest.approx(attention_factor, rel=TOLERANCE)
    if ramps:
        as_it_comes, _ = rotation(config, spec.train_length)
        np.testing.assert_allclose(spec.frequencies, as_it_comes, rtol=LOSES_IN_FLOAT32)
