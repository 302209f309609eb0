"""One model file tried with every plan, in a process of its own: `python -m checks.architecture_trial FILE`.

Prints a JSON object. With `--plain` it needs nothing of the patch and prints the digest of the logits alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
from gguf import GGUFReader
from llama_cpp import llama_cpp as capi

from checks.architecture_plans import CASES, N_TOKENS, TARGET_LENGTH, PlanCase, plan
from ropewalk.backend import context_plan, library
from ropewalk.backend.errors import PlanRefusedError
from ropewalk_plan.plan import ScheduleStep

Logits = npt.NDArray[np.float32]

_N_CTX = 256
_PAIRS = re.compile(r"the model rotates (\d+)")
_NO_MODELS_PAIRS = 4095  # more than any model rotates


class RefusedError(Exception):
    """No context, or no logits; the message is the library's sentence."""


def logits_of(model: int, tokens: list[int], ubatch: int = N_TOKENS) -> Logits:
    """Logits of all tokens in one batch, [tokens, vocabulary]: F32 cache, no flash attention, one thread.

    Raises:
        RefusedError: the library makes no context, or does not decode.
    """
    parameters = capi.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = _N_CTX
    parameters.n_ubatch = ubatch
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.flash_attn_type = 0
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F32
    context = capi.llama_init_from_model(model, parameters)
    if not context:
        raise RefusedError(context_plan.last_error() if library.is_patched() else "no context")
    batch = capi.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        status = capi.llama_decode(context, batch)
        if status != 0:
            why = context_plan.last_error() if library.is_patched() else ""
            raise RefusedError(why or f"llama_decode returned {status}")
        shape = (len(tokens), vocabulary_size(model))
        return np.array(np.ctypeslib.as_array(capi.llama_get_logits(context), shape=shape))
    finally:
        capi.llama_batch_free(batch)
        capi.llama_free(context)


def vocabulary_size(model: int) -> int:
    """The number of tokens."""
    return int(capi.llama_vocab_n_tokens(capi.llama_model_get_vocab(model)))


def first_change(a: Logits, b: Logits) -> int | None:
    """The first position at which any bit differs."""
    rows = np.nonzero((a.view(np.uint32) != b.view(np.uint32)).any(axis=1))[0]
    return int(rows[0]) if len(rows) else None


def digest(values: Logits) -> str:
    """The bits, in short."""
    return hashlib.sha256(values.tobytes()).hexdigest()


def own_scaling(path: Path) -> list[str]:
    """The names of a file's tensors that scale its rotations. (No random model has keys that do.)"""
    names = {tensor.name for tensor in GGUFReader(path).tensors}
    return sorted({name for name in names if "rope_freqs" in name or "rope_factors" in name})


def pairs_of(model: int) -> int:
    """How many pairs a model rotates: the library says it in refusing factors for another number.

    Raises:
        PlanRefusedError: it refuses for another reason.
    """
    factors = (1.0,) * _NO_MODELS_PAIRS
    try:
        context_plan.set_plan(model, plan(ScheduleStep(TARGET_LENGTH, factors)))
    except PlanRefusedError as error:
        if said := _PAIRS.search(str(error)):
            return int(said[1])
        raise
    raise AssertionError(f"a plan for {_NO_MODELS_PAIRS} pairs was accepted")


def try_case(
    model: int, case: PlanCase, pairs: int, *, tokens: list[int], plain: Logits, ubatch: int
) -> dict[str, Any]:
    """What one plan does: `refused` with the sentence, or the first position it changes and the digest."""
    layers = int(capi.llama_model_n_layer(model))
    try:
        context_plan.set_plan(model, case.make(pairs, layers))
        got = logits_of(model, tokens, ubatch)
    except (PlanRefusedError, RefusedError) as error:
        return {"refused": str(error)}
    return {"first": first_change(got, plain), "digest": digest(got)}


def try_all(model: int, path: Path, tokens: list[int]) -> dict[str, Any]:
    """Everything that `architectures.problems` judges."""
    plain = logits_of(model, tokens)
    others = [*tokens[:-1], (tokens[-1] + 1) % vocabulary_size(model)]
    found: dict[str, Any] = {
        "scaling": own_scaling(path),
        "causal": first_change(plain, logits_of(model, others)) == N_TOKENS - 1,
        "plain": digest(plain),
    }
    try:
        pairs = pairs_of(model)
    except PlanRefusedError as error:
        return found | {"refused": str(error)}
    cases = {}
    for case in CASES:
        # A model that is not causal computes all tokens at once.
        ubatch = case.ubatch if found["causal"] else N_TOKENS
        context_plan.set_plan(model, None)
        base = plain if ubatch == N_TOKENS else logits_of(model, tokens, ubatch)
        cases[case.name] = try_case(model, case, pairs, tokens=tokens, plain=base, ubatch=ubatch)
    context_plan.set_plan(model, None)
    return found | {
        "pairs": pairs,
        "cases": cases,
        "restored": digest(logits_of(model, tokens)) == digest(plain),
    }


def main() -> int:
    """Try one file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    library.initialize()
    parameters = capi.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = capi.llama_model_load_from_file(str(arguments.file).encode(), parameters)
    if not model:
        print(json.dumps({"failed": "no model"}))
        return 0
    tokens = [int(token) for token in np.random.default_rng(0).integers(0, vocabulary_size(model), N_TOKENS)]
    try:
        found = (
            {"plain": digest(logits_of(model, tokens))}
            if arguments.plain
            else try_all(model, arguments.file, tokens)
        )
    except RefusedError as error:
        found = {"failed": str(error)}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
