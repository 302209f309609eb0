"""What is told of a loaded model, and which contexts it cannot have. Runs in the model process."""

from __future__ import annotations

from ropewalk.backend.context_params import ContextParams
from ropewalk.backend.errors import ContextError
from ropewalk.backend.model import Model
from ropewalk.backend.vocabulary_model import VocabularyModel
from ropewalk.engine.results import ModelDescription
from ropewalk_plan.plan import ContextPlan


def describe(
    model: Model | VocabularyModel, n_ctx: int, chosen: ContextPlan | None = None
) -> ModelDescription:
    """A model with a context of `n_ctx` tokens; `chosen`: the plan to tell of, beside a vocabulary alone."""
    plan, native = (chosen, False) if chosen is not None else model.plan() or (None, False)
    train_length = model.original_context_length or model.context_length
    return ModelDescription(
        path=model.path,
        architecture=model.architecture,
        n_layer=model.n_layer,
        n_params=model.n_params,
        size_bytes=model.size_bytes,
        train_length=plan.train_length if plan else train_length,
        target_length=plan.target_length if plan else model.context_length,
        vocab_size=model.vocabulary.size,
        has_chat_template=model.chat_template is not None,
        plan=plan,
        native=native,
        n_ctx=n_ctx,
    )


def require_possible(model: Model, params: ContextParams) -> None:
    """Refuses a context that the model's plan cannot have.

    Raises:
        ContextError: it is for several texts, and the plan streams.
    """
    plan, _ = model.plan() or (None, False)
    if plan is not None and plan.streaming and params.n_sequences > 1:
        raise ContextError(
            f"{params.n_sequences} sequences under a plan that streams, which holds one text at a time: "
            "ask for one sequence, or use another method"
        )
