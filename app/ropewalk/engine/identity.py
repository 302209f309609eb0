"""What a plan changes on a given text: logits with it against logits without. Runs in the model process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ropewalk.backend.context import Context, DecodeStatus, Logits
from ropewalk.backend.context_params import ContextParams
from ropewalk.backend.errors import BackendError, StoppedError
from ropewalk.backend.library import require_patched
from ropewalk.backend.model import Model
from ropewalk.engine.results import IdentityResult
from ropewalk_plan.plan import ContextPlan


def comparable_plan(model: Model, tokens: Sequence[int]) -> ContextPlan:
    """The plan that `check_identity` would compare with none.

    Raises:
        LibraryNotPatchedError: the library is a stock build.
        BackendError: there is no plan, or a native one; there are no tokens, or one is none of the model's.
    """
    require_patched("Comparing a plan with none")
    stored = model.plan()
    if stored is None:
        raise BackendError(f"{model.path} has no context plan to compare with none")
    plan, native = stored
    if native:
        raise BackendError(
            f"the plan of {model.path} is native: the file's own keys say it, and they cannot be left out"
        )
    if not tokens:
        raise BackendError("there are no tokens to compare: give a text that is not empty")
    model.vocabulary.require_valid(tokens)
    return plan


def check_identity(
    model: Model,
    plan: ContextPlan,
    params: ContextParams,
    tokens: Sequence[int],
    should_stop: Callable[[], bool],
) -> IdentityResult:
    """Computes every token's logits in two contexts one after the other: under the plan, under none.

    The first run's logits are kept in memory: tokens * vocabulary * 4 bytes.

    Args:
        model: has the plan; it has it afterwards, too.
        plan: its `comparable_plan`.
        params: as for the contexts it is otherwise used with.
        tokens: at most the plan's train length, if they are expected to agree.
        should_stop: whether to give up.

    Raises:
        StoppedError: it was stopped.
        BackendError: the library failed.
    """
    params = dataclasses.replace(params, n_ctx=len(tokens), n_outputs=min(params.n_ubatch, params.n_batch))
    with_plan = _all_logits(model, params, tokens, should_stop)
    model.set_plan(None)
    try:
        without = _all_logits(model, params, tokens, should_stop)
    finally:
        model.set_plan(plan)
    return IdentityResult(
        max_difference=float(np.abs(with_plan - without).max()),
        bit_identical=bool(np.array_equal(with_plan.view(np.uint32), without.view(np.uint32))),
        n_tokens=len(tokens),
    )


def _all_logits(
    model: Model, params: ContextParams, tokens: Sequence[int], should_stop: Callable[[], bool]
) -> Logits:
    """Logits of every token: [tokens, vocabulary]."""
    context = Context(model, params, should_stop)
    try:
        rows = []
        for at in range(0, len(tokens), context.n_outputs):
            if context.decode(tokens[at : at + context.n_outputs], all_logits=True) is DecodeStatus.ABORTED:
                raise StoppedError("the comparison was stopped")
            rows.append(context.logits())
        return np.concatenate(rows)
    finally:
        context.close()
