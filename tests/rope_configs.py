"""Random checkpoints' configs, of every form of scaling, for comparisons with transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypothesis import strategies as st

JsonObject = dict[str, object]
Parameters = st.SearchStrategy[JsonObject]

FACTOR = st.floats(1.0, 64.0) | st.integers(1, 64)


@st.composite
def scaled_configs(draw: st.DrawFn, kind: str) -> JsonObject:
    """A Llama with a scaling of this `rope_type`, in the old or the new way of writing it."""
    heads, length = draw(st.integers(1, 16)), draw(st.integers(256, 262144))
    share = draw(st.none() | st.sampled_from([0.25, 0.5, 0.75, 1.0]))
    head_dim = draw(st.integers(2, 32)) * 8
    config: JsonObject = {
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "num_hidden_layers": draw(st.integers(1, 80)),
        "hidden_size": heads * head_dim,
        "max_position_embeddings": length,
    }
    if draw(st.booleans()):
        config |= {"head_dim": head_dim, "hidden_size": heads * draw(st.integers(8, 256))}
    rotary: JsonObject = {"rope_theta": draw(st.floats(500.0, 1e7) | st.sampled_from([1e4, 5e5, 1e6]))}
    if share is not None:
        rotary["partial_rotary_factor"] = share
    parameters = draw(PARAMETERS[kind](int(head_dim * (share or 1.0)) // 2, length))
    written = draw(st.sampled_from(["type", "rope_type", "rope_parameters"]))
    if written == "rope_parameters":
        inside: JsonObject = {"rope_type": kind, **rotary, **parameters}
        return {**config, "rope_parameters": inside}
    scaling: JsonObject = {written: kind, **parameters}
    return {**config, **rotary, "rope_scaling": scaling}


def _only_factor(pairs: int, length: int) -> Parameters:
    del pairs, length
    return st.fixed_dictionaries({"factor": FACTOR})


def _yarn(pairs: int, length: int) -> Parameters:
    del pairs
    weights = st.floats(0.1, 2.0) | st.just(0.0) | st.none()
    return st.fixed_dictionaries(
        {"factor": FACTOR},
        optional={
            "original_max_position_embeddings": st.integers(128, length),
            "attention_factor": st.floats(0.1, 4.0) | st.none(),
            "mscale": weights,
            "mscale_all_dim": weights,
            "beta_fast": st.floats(8.0, 64.0) | st.integers(8, 64),
            "beta_slow": st.floats(0.25, 8.0) | st.integers(1, 8),
            "truncate": st.booleans(),
        },
    )


def _longrope(pairs: int, length: int) -> Parameters:
    factors = st.lists(st.floats(1.0, 64.0), min_size=pairs, max_size=pairs)
    required: dict[str, st.SearchStrategy[object]] = {"long_factor": factors, "short_factor": factors}
    return st.fixed_dictionaries(
        required,
        optional={
            "original_max_position_embeddings": st.integers(128, length),
            "attention_factor": st.floats(0.1, 4.0) | st.none(),
            "factor": FACTOR,
        },
    ).filter(lambda drawn: "factor" in drawn or "original_max_position_embeddings" in drawn)


def _llama3(pairs: int, length: int) -> Parameters:
    del pairs
    return st.fixed_dictionaries(
        {
            "factor": FACTOR,
            "original_max_position_embeddings": st.integers(128, length),
            "low_freq_factor": st.floats(0.25, 2.0),
            "high_freq_factor": st.floats(2.5, 32.0),
        }
    )


PARAMETERS: Mapping[str, Callable[[int, int], Parameters]] = {
    "linear": _only_factor,
    "dynamic": _only_factor,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}
"""`rope_type` to its parameters, given the pairs and `max_position_embeddings`."""
