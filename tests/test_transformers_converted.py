"""A converted checkpoint with the plan that keeps its method, against transformers on the same checkpoint.

Every scaling of transformers in every architecture that it gives it to, all of them lost in conversion; and
what upstream's converter makes of configs with a scaling or windows, where it says some and passes over some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from converted_checkpoints import (
    SHORT,
    TARGET,
    TOKENS,
    Config,
    Float32,
    L,
    difference,
    patched_logits,
    reported_length,
    start_converting,
    transformers_logits,
    with_config,
    write_checkpoints,
    write_with_plan,
)
from ropewalk_plan import GgufHeader
from ropewalk_plan.checkpoint_method import plan_for_converted, read_checkpoint_method
from tiny_checkpoints import MODEL_TYPES

pytestmark = pytest.mark.usefixtures("patched_library")

BOUND = 1e-3
LOST = 50 * BOUND
"""What leaving a scaling out changes, at least."""

LONG, SHORT_LIST = [1.0 + 7 * i / 8 for i in range(8)], [1.0 + i / 8 for i in range(8)]
YARN: Config = {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": L}
OLD_YARN: Config = {"type": "yarn", "factor": 3.0, "original_max_position_embeddings": L}
LLAMA3: Config = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": L,
}
LONGROPE: Config = {
    "rope_type": "longrope",
    "long_factor": LONG,
    "short_factor": SHORT_LIST,
    "original_max_position_embeddings": L,
}


def scaled(parameters: Config, **changes: object) -> Config:
    return {"rope_scaling": parameters, **changes}


FULL = {"max_position_embeddings": TARGET}
SCALINGS: Mapping[str, Config] = {
    "linear": scaled({"rope_type": "linear", "factor": 3.0}, **FULL),
    "dynamic": scaled({"rope_type": "dynamic", "factor": 3.0}),
    "yarn": scaled(YARN),
    "yarn, attention_factor": scaled({**YARN, "attention_factor": 1.4}),
    "yarn, mscale": scaled({**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}),
    "yarn, betas": scaled({**YARN, "beta_fast": 2.0, "beta_slow": 0.1}),
    "yarn, not truncated": scaled({**YARN, "truncate": False}),
    "llama3": scaled(LLAMA3, **FULL),
    "longrope": scaled(LONGROPE, **FULL),
    "longrope, attention_factor": scaled({**LONGROPE, "attention_factor": 1.3}, **FULL),
}
PHI3_TAKES = ("longrope", "longrope, attention_factor")
"""transformers refuses the others in a Phi-3."""

MATRIX = [(arch, name) for arch in MODEL_TYPES for name in SCALINGS if arch != "phi3" or name in PHI3_TAKES]


@dataclass(frozen=True)
class Case:
    """A config as upstream's converter sees it.

    Attributes:
        arch: the family.
        changes: of its config.
        said: whether the converted file says all of it, so that there is no plan.
        native: whether the file with the plan says all of it in llama.cpp's own keys.
        train_length: the plan's L.
    """

    arch: str
    changes: Config
    said: bool = False
    native: bool = False
    train_length: int = L


def in_new_keys(parameters: Config, **changes: object) -> Config:
    return {"rope_parameters": {**parameters, "rope_theta": 10000.0}, **changes}


CASES: Mapping[str, Case] = {
    "llama without": Case("llama", {}, said=True),
    "llama, another base": Case("llama", {"rope_theta": 500000.0}, said=True),
    "llama, linear": Case("llama", SCALINGS["linear"], said=True),
    "llama, dynamic, old": Case("llama", scaled({"type": "dynamic", "factor": 3.0})),
    "llama, yarn": Case("llama", in_new_keys(YARN, **FULL), said=True),
    "llama, yarn, attention_factor": Case("llama", SCALINGS["yarn, attention_factor"], native=True),
    "llama, yarn, not truncated": Case("llama", SCALINGS["yarn, not truncated"]),
    "llama, yarn, betas": Case("llama", SCALINGS["yarn, betas"]),
    "llama, llama3": Case("llama", SCALINGS["llama3"], said=True),
    "llama, longrope": Case("llama", SCALINGS["longrope"]),
    "mistral, windows": Case("mistral", {"sliding_window": 40, **FULL}, train_length=TARGET),
    "qwen2, yarn, old": Case("qwen2", scaled(OLD_YARN), native=True),
    "qwen2, windows": Case(
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 40,
            "max_window_layers": 1,
            "layer_types": None,
            **FULL,
        },
        train_length=TARGET,
    ),
    "qwen2, windows and yarn": Case(
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 40,
            "layer_types": ["sliding_attention", "full_attention"],
            **SCALINGS["yarn"],
        },
    ),
    "qwen3, llama3": Case("qwen3", SCALINGS["llama3"]),
    "phi3, longrope": Case("phi3", SCALINGS["longrope"]),
    "phi3, longrope and windows": Case("phi3", {**SCALINGS["longrope"], "sliding_window": 40}),
    "gemma2 without": Case("gemma2", {}, said=True),
    "gemma2, another base": Case("gemma2", {"rope_theta": 500000.0}),
    "gemma2, yarn": Case("gemma2", SCALINGS["yarn"]),
    "gemma3, linear": Case("gemma3", SCALINGS["linear"], said=True),
    "gemma3, yarn, attention_factor": Case("gemma3", SCALINGS["yarn, attention_factor"]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for each family, by its name, and each case, by its number; their files beside them."""
    folder = tmp_path_factory.mktemp("converted")
    write_checkpoints(folder, MODEL_TYPES)
    for number, case in enumerate(CASES.values()):
        with_config(folder / case.arch, folder / str(number), case.changes)
    names = [*MODEL_TYPES, *(str(number) for number in range(len(CASES)))]
    start_converting([folder / name for name in names], folder / "log").wait()
    return folder


@pytest.fixture(scope="module")
def without_plan(folder: Path) -> dict[str, Float32]:
    """What the library makes of each family's file as upstream converted it."""
    return {arch: patched_logits(folder / f"{arch}.gguf") for arch in MODEL_TYPES}


@pytest.mark.parametrize(("arch", "name"), MATRIX)
def test_what_was_lost_is_kept(
    arch: str, name: str, folder: Path, without_plan: dict[str, Float32], tmp_path: Path
) -> None:
    """Of a file whose conversion has seen no scaling; positions past L, and for two lists also within it."""
    checkpoint = with_config(folder / arch, tmp_path / "checkpoint", SCALINGS[name])
    source, baked = folder / f"{arch}.gguf", tmp_path / "baked.gguf"
    plan = plan_for_converted(read_checkpoint_method(checkpoint), GgufHeader.read(source))
    assert plan is not None
    assert plan.target_length == TARGET
    write_with_plan(source, baked, plan)
    expected = transformers_logits(checkpoint)
    found = difference(patched_logits(baked), expected)
    print(f"{arch}, {name}: {found:.1e}")
    assert found <= BOUND
    assert difference(without_plan[arch], expected) > LOST
    if len(plan.schedule) > 1:
        short = TOKENS[:SHORT]
        assert difference(patched_logits(baked, short), transformers_logits(checkpoint, short)) <= BOUND


@pytest.mark.parametrize("name", CASES)
def test_what_upstream_says_is_completed(name: str, folder: Path, tmp_path: Path) -> None:
    """Of files converted with the very config: what they say already is neither lost nor doubled."""
    case = CASES[name]
    checkpoint = folder / str(list(CASES).index(name))
    source, baked = Path(f"{checkpoint}.gguf"), tmp_path / "baked.gguf"
    plan = plan_for_converted(read_checkpoint_method(checkpoint), GgufHeader.read(source))
    assert (plan is None) == case.said
    native = write_with_plan(source, baked, plan)
    assert native == (case.said or case.native)
    expected = transformers_logits(checkpoint)
    found = difference(patched_logits(baked), expected)
    print(f"{name}: {found:.1e}")
    assert found <= BOUND
    if plan is not None:
        assert plan.train_length == case.train_length
        assert reported_length(baked) == plan.target_length
        if not native:
            lost = difference(patched_logits(source, TOKENS), expected)
            assert lost > LOST or len(plan.schedule) > 1  # a long text in a large context is alike
    if plan is not None and len(plan.schedule) > 1:
        short = TOKENS[:SHORT]
        assert difference(patched_logits(baked, short), transformers_logits(checkpoint, short)) <= BOUND
