"""The work of the model process: one model, one context, one request at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ropewalk.backend import chat_template
from ropewalk.backend.context import Context, ContextParams, check_memory, fits
from ropewalk.backend.errors import BackendError
from ropewalk.backend.model import Model
from ropewalk.engine.generation import generate
from ropewalk.engine.identity import check_identity
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.results import (
    GenerationResult,
    IdentityResult,
    ModelDescription,
    Piece,
    PrefillResult,
)
from ropewalk.engine.sampling import SamplingOptions
from ropewalk.engine.sequence import HeldTokens, ReadProgress, TokenSequence


class Worker:
    """Does what the requests ask for; knows nothing of messages.

    Every method may raise a `BackendError`, whose text is for people.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        """A worker without a model.

        Args:
            should_stop: whether the request in work is to be given up; asked often, from any thread.
        """
        self._should_stop = should_stop
        self._model: Model | None = None
        self._params: ContextParams | None = None
        self._sequence: TokenSequence | None = None

    def load(
        self, path: Path, options: EngineOptions, on_progress: Callable[[float], None]
    ) -> ModelDescription:
        """Loads a model in place of any other and makes its context."""
        self._unload()

        def progress(share: float) -> bool:
            on_progress(share)
            return not self._should_stop()

        self._model = Model.load(
            path,
            gpu_layers=-1 if options.gpu_layers is None else options.gpu_layers,
            rpc_servers=options.rpc_servers,
            on_progress=progress,
        )
        try:
            if options.plan is not None:
                self._model.set_plan(options.plan)
            self._make_context(self._model, _context_params(options))
        except BaseException:
            self._unload()
            raise
        return self._describe()

    def resize(self, n_ctx: int) -> ModelDescription:
        """Makes the context again for `n_ctx` tokens; the old one is kept where the new one would not fit.

        What was read stays read, where it fits into the new context, and a copy of it into memory beside it.
        """
        model, params = self._loaded()
        params = dataclasses.replace(params, n_ctx=n_ctx)
        check_memory(model, params)
        held = self._take_out(model, params)
        self._drop_context()
        self._make_context(model, params)
        if held is not None:
            self._held().put_in(held)
        return self._describe()

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of a text."""
        model, _ = self._loaded()
        return model.vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)

    def apply_template(self, messages: Sequence[tuple[str, str]]) -> str | None:
        """The prompt the model's chat template makes; None where it has no template."""
        model, _ = self._loaded()
        template, vocabulary = model.chat_template, model.vocabulary
        if template is None:
            return None
        return chat_template.render(
            template, messages, bos_text=vocabulary.bos_text, eos_text=vocabulary.eos_text
        )

    def prefill(self, tokens: Sequence[int], on_progress: ReadProgress) -> PrefillResult:
        """Reads a prompt."""
        return self._held().read(tokens, on_progress)

    def generate(
        self,
        *,
        max_tokens: int,
        sampling: SamplingOptions,
        stop_at_eog: bool,
        draft: int | None,
        on_piece: Callable[[Piece], None],
    ) -> GenerationResult:
        """Answers the prompt read last."""
        return generate(
            self._held(),
            max_tokens=max_tokens,
            sampling=sampling,
            stop_at_eog=stop_at_eog,
            draft=draft,
            on_piece=on_piece,
        )

    def check_identity(self, tokens: Sequence[int]) -> IdentityResult:
        """Compares the plan's logits with those of no plan; the context is empty afterwards."""
        model, params = self._loaded()
        model.vocabulary.require_valid(tokens)
        self._drop_context()
        try:
            return check_identity(model, params, tokens, self._should_stop)
        finally:
            self._make_context(model, params)

    def _loaded(self) -> tuple[Model, ContextParams]:
        if self._model is None or self._params is None:
            raise BackendError("no model is loaded: load one first")
        return self._model, self._params

    def _held(self) -> TokenSequence:
        self._loaded()
        if self._sequence is None:
            raise BackendError("there is no context: the last one could not be made, so resize it first")
        return self._sequence

    def _take_out(self, model: Model, params: ContextParams) -> HeldTokens | None:
        sequence = self._sequence
        if sequence is None or not 0 < len(sequence.tokens) <= params.n_ctx:
            return None
        return sequence.take_out() if fits(model, params, beside=sequence.context.state_size) else None

    def _make_context(self, model: Model, params: ContextParams) -> None:
        context = Context(model, params, self._should_stop)
        self._params = params
        self._sequence = TokenSequence(context, self._should_stop)

    def _drop_context(self) -> None:
        if self._sequence is not None:
            self._sequence.context.close()
            self._sequence = None

    def _unload(self) -> None:
        self._drop_context()
        if self._model is not None:
            self._model.close()
        self._model = self._params = None

    def _describe(self) -> ModelDescription:
        model, params = self._loaded()
        plan, native = model.plan() or (None, False)
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
            n_ctx=params.n_ctx,
        )


def _context_params(options: EngineOptions) -> ContextParams:
    return ContextParams(
        n_ctx=options.n_ctx,
        n_batch=options.batch_size,
        n_ubatch=options.ubatch_size,
        threads=options.threads,
        flash_attention=options.flash_attention,
        kv_type=options.kv_type,
    )
