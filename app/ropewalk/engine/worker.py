"""The work of the model process: one model, one context, one request at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

from ropewalk.backend import chat_template, state_file
from ropewalk.backend.context import Context
from ropewalk.backend.context_memory import check_memory, fits
from ropewalk.backend.context_params import ContextParams, check_params
from ropewalk.backend.errors import BackendError, StoppedError
from ropewalk.backend.model import Model
from ropewalk.backend.placement import choose_gpu_layers
from ropewalk.backend.plan_choice import NO_PLAN, PlanChoice, give_plan, require_replaceable
from ropewalk.backend.special_tokens import special_tokens
from ropewalk.backend.state_file import WrittenState
from ropewalk.backend.vocabulary_model import VocabularyModel
from ropewalk.engine.context_options import context_params
from ropewalk.engine.description import describe, require_possible
from ropewalk.engine.generation import generate
from ropewalk.engine.identity import check_identity, comparable_plan
from ropewalk.engine.memory_use import memory_use
from ropewalk.engine.options import EngineOptions
from ropewalk.engine.placing import check_before_reading, placed_for
from ropewalk.engine.results import (
    GenerationResult,
    IdentityResult,
    MemoryUse,
    ModelDescription,
    Piece,
    PrefillResult,
    SavedState,
)
from ropewalk.engine.sampling import SamplingOptions
from ropewalk.engine.scoring import score
from ropewalk.engine.sequence import HeldTokens, ReadProgress, TokenSequence
from ropewalk_plan.plan import ContextPlan

ShareProgress = Callable[[float], None]


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
        self._vocabulary_model: VocabularyModel | None = None
        self._options = EngineOptions(n_ctx=0)
        self._plan: PlanChoice = None
        self._params: ContextParams | None = None
        self._sequences: tuple[TokenSequence, ...] = ()

    def load(self, path: Path, options: EngineOptions, on_progress: ShareProgress) -> ModelDescription:
        """Loads a model in place of any other and makes its context, or its vocabulary alone."""
        self._unload()
        if options.vocabulary_only:
            self._vocabulary_model = VocabularyModel.load(path)
            try:
                described = describe(self._vocabulary_model, n_ctx=0, chosen=options.plan)
            except BaseException:
                self._unload()
                raise
            on_progress(1.0)
            return described

        def progress(share: float) -> bool:
            on_progress(share)
            return not self._should_stop()

        params = context_params(options)
        gpu_layers = options.gpu_layers
        if gpu_layers is None:
            gpu_layers = choose_gpu_layers(path, options.plan, params, options.rpc_servers)
        check_before_reading(path, params, options, gpu_layers)
        try:
            self._model = _load_weights(path, options, options.plan, gpu_layers, progress)
            self._options, self._plan = options, options.plan
            require_possible(self._model, params)
            self._make_context(self._model, params)
        except BaseException:
            self._unload()
            raise
        return describe(self._model, params.n_ctx)

    def resize(self, n_ctx: int) -> ModelDescription:
        """Makes the context again for `n_ctx` tokens; the old one is kept where the new one would not fit.

        What was read stays read, where it fits into the new context, and a copy of it into memory beside it;
        what sequences share takes its room for each of them then. Where as many layers as fit are on the GPU,
        and fewer fit beside the new context, the weights are loaded again. Where the library fails to make
        what should fit, the old context is made again, with what was read.
        """
        model, before = self._loaded()
        params = dataclasses.replace(before, n_ctx=n_ctx)
        with placed_for(model, params, self._options, self._plan) as target:
            check_memory(target, params, model.held_on)
            held = self._take_out(target, params, model.held_on)
            gpu_layers = target.placed.gpu_layers
        self._drop_context()
        try:
            self._make_context(self._placed(model.path, gpu_layers), params)
        except BaseException:
            with suppress(BackendError):
                self._make_context(self._placed(model.path, model.placed.gpu_layers), before)
                self._put_in(held)
            raise
        self._put_in(held)
        return describe(self._loaded()[0], n_ctx)

    def use_plan(self, plan: ContextPlan | None, n_ctx: int | None) -> ModelDescription:
        """Gives the model another plan, or none, and makes an empty context under it; the weights stay.

        Where that fails, the old plan and an empty context of the old size are there again. As with `resize`,
        the weights are loaded again where fewer layers fit on the GPU.
        """
        model, before = self._loaded()
        for sequence in self._sequences:
            sequence.drop()
        require_replaceable(model)
        params = before if n_ctx is None else dataclasses.replace(before, n_ctx=n_ctx)
        check_params(params)
        gpu_layers = model.placed.gpu_layers
        old = _plan_in_force(model)
        self._plan = NO_PLAN if plan is None else plan
        try:
            give_plan(model, self._plan)
            require_possible(model, params)
            with placed_for(model, params, self._options, self._plan) as target:
                check_memory(target, params, model.held_on)
                new_gpu_layers = target.placed.gpu_layers
            self._drop_context()
            self._make_context(self._placed(model.path, new_gpu_layers), params)
        except BaseException:
            self._plan = old
            with suppress(BackendError):
                model = self._placed(model.path, gpu_layers)
                give_plan(model, old)
                if not self._sequences:
                    self._make_context(model, before)
            raise
        return describe(self._loaded()[0], params.n_ctx)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Tokens of a text."""
        return self._vocabulary_source().vocabulary.tokenize(
            text, add_special=add_special, parse_special=parse_special
        )

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens left out; bytes that make no character become U+FFFD."""
        return self._vocabulary_source().vocabulary.detokenize(tokens)

    def apply_template(self, messages: Sequence[tuple[str, str]], today: date | None) -> str | None:
        """The prompt the model's chat template makes; None where it has no template."""
        model = self._vocabulary_source()
        template = model.chat_template
        if template is None:
            return None
        return chat_template.render(
            template,
            messages,
            special_tokens=special_tokens(model.vocabulary, model.meta),
            today=today,
            should_stop=self._should_stop,
        )

    def reusable(self, tokens: Sequence[int], sequence: int) -> int:
        """How many of these tokens a `prefill` would not compute."""
        return self._held(sequence).reusable(tokens)

    def prefill(
        self, tokens: Sequence[int], on_progress: ReadProgress, sequence: int, reserve: int = 0
    ) -> PrefillResult:
        """Reads a prompt."""
        return self._held(sequence).read(tokens, on_progress, reserve)

    def score(
        self, tokens: Sequence[int], on_progress: ReadProgress, *, first: int, sequence: int, reserve: int
    ) -> tuple[float, ...]:
        """Log-probabilities of the tokens of a text from the `first` on."""
        return score(self._held(sequence), tokens, on_progress, first=first, reserve=reserve)

    def generate(
        self,
        *,
        max_tokens: int,
        sampling: SamplingOptions,
        stop_at_eog: bool,
        draft: int | None,
        sequence: int,
        on_piece: Callable[[Piece], None],
    ) -> GenerationResult:
        """Answers the prompt that the sequence has read last."""
        held = self._held(sequence)
        if not held.recover_logits():
            return GenerationResult("", 0, 0.0, "cancelled")
        return generate(
            held,
            max_tokens=max_tokens,
            sampling=sampling,
            stop_at_eog=stop_at_eog,
            draft=draft,
            on_piece=on_piece,
        )

    def copy_sequence(self, source: int, target: int) -> int:
        """Makes a sequence hold what another one does; returns how many tokens that is."""
        return self._held(source).copy_to(self._held(target))

    def drop_sequence(self, sequence: int) -> int:
        """Forgets what a sequence holds; returns what is left of it."""
        self._held(sequence).drop()
        return 0

    def save_state(self, path: Path, sequence: int, on_progress: ShareProgress) -> SavedState:
        """Writes what a sequence holds to a file.

        Under windows and in streams the library writes what they still see, and reads it back into other
        cells, in which sums are rounded otherwise. So a context's only sequence goes on from the file itself:
        what is restored from it one day computes the same bits.
        """
        held = self._held(sequence)
        if not held.tokens:
            raise BackendError("there is nothing to save: read a text first")
        goes_on_from_file = self._is_windowed() and len(self._sequences) == 1
        share = 0.5 if goes_on_from_file else 1.0
        progress = self._stopping(on_progress)
        written = state_file.write_state(held.context, sequence, path, lambda done: progress(share * done))
        tokens = tuple(held.tokens)
        if goes_on_from_file:
            try:  # this is not stopped half way: what was read would be lost
                held.put_in_file(path, tokens, written, lambda done: on_progress(share + share * done))
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return SavedState(tokens, written.n_bytes, written.block_bytes, written.checksums)

    def restore_state(self, path: Path, saved: SavedState, sequence: int, on_progress: ShareProgress) -> int:
        """Makes a sequence hold what a file says, in place of its own; where that fails it is empty."""
        held = self._held(sequence)
        held.put_in_file(
            path,
            saved.tokens,
            WrittenState(saved.n_bytes, saved.block_bytes, saved.checksums),
            self._stopping(on_progress),
        )
        return len(held.tokens)

    def memory(self) -> MemoryUse:
        """What the process takes."""
        model, _ = self._loaded()
        return memory_use(model, self._sequences[0].context.buffers if self._sequences else None)

    def check_identity(self, tokens: Sequence[int]) -> IdentityResult:
        """Compares the plan's logits with those of no plan; the context is empty afterwards."""
        model, params = self._loaded()
        plan = comparable_plan(model, tokens)
        self._drop_context()
        try:
            return check_identity(model, plan, params, tokens, self._should_stop)
        finally:
            self._make_context(model, params)

    def _is_windowed(self) -> bool:
        plan, native = self._loaded()[0].plan() or (None, False)
        return plan is not None and not native and any(plan.windows)

    def _stopping(self, on_progress: ShareProgress) -> ShareProgress:
        """Tells progress, and ends what tells it once that is wished."""

        def progress(share: float) -> None:
            on_progress(share)
            if self._should_stop():
                raise StoppedError("saving or restoring what was read was stopped")

        return progress

    def _vocabulary_source(self) -> Model | VocabularyModel:
        if self._vocabulary_model is not None:
            return self._vocabulary_model
        return self._loaded()[0]

    def _loaded(self) -> tuple[Model, ContextParams]:
        if self._vocabulary_model is not None:
            raise BackendError("only the vocabulary was loaded: load the whole model first")
        if self._model is None or self._params is None:
            raise BackendError("no model is loaded: load one first")
        return self._model, self._params

    def _held(self, number: int) -> TokenSequence:
        _, params = self._loaded()
        if not self._sequences:
            raise BackendError("there is no context: the last one could not be made, so resize it first")
        if not 0 <= number < params.n_sequences:
            raise BackendError(
                f"there is no sequence {number}: the context was made for {params.n_sequences}, from 0 on"
            )
        return self._sequences[number]

    def _placed(self, path: Path, gpu_layers: int) -> Model:
        """The model with so many layers on the GPU; loading it again, if need be, is not stopped half way."""
        if self._model is not None and self._model.placed.gpu_layers == gpu_layers:
            return self._model
        self._unload()

        def progress(_share: float) -> bool:
            self._should_stop()  # which is a sign of life
            return True

        self._model = _load_weights(path, self._options, self._plan, gpu_layers, progress)
        return self._model

    def _take_out(
        self, model: Model, params: ContextParams, held_on: Callable[[str], int]
    ) -> list[tuple[int, HeldTokens]]:
        """Copies of what the sequences hold, as far as the new context and the memory have room for them."""
        taken: list[tuple[int, HeldTokens]] = []
        room, beside = params.n_ctx, 0
        for number, sequence in enumerate(self._sequences):
            size = sequence.state_size if 0 < len(sequence.tokens) <= room else 0
            if size and fits(model, params, beside + size, held_on):
                taken.append((number, sequence.take_out()))
                room -= len(sequence.tokens)
                beside += size
        return taken

    def _make_context(self, model: Model, params: ContextParams) -> None:
        context = Context(model, params, self._should_stop)
        self._params = params
        self._sequences = tuple(
            TokenSequence(context, self._should_stop, number) for number in range(params.n_sequences)
        )

    def _put_in(self, held: list[tuple[int, HeldTokens]]) -> None:
        for sequence, taken in held:
            self._sequences[sequence].put_in(taken)

    def _drop_context(self) -> None:
        if self._sequences:
            self._sequences[0].context.close()
            self._sequences = ()

    def _unload(self) -> None:
        self._drop_context()
        for model in (self._model, self._vocabulary_model):
            if model is not None:
                model.close()
        self._model = self._vocabulary_model = self._params = None


def _load_weights(
    path: Path,
    options: EngineOptions,
    plan: PlanChoice,
    gpu_layers: int,
    on_progress: Callable[[float], bool],
) -> Model:
    """The model with its plan."""
    model = Model.load(path, gpu_layers=gpu_layers, rpc_servers=options.rpc_servers, on_progress=on_progress)
    try:
        give_plan(model, plan)
    except BaseException:
        model.close()
        raise
    return model


def _plan_in_force(model: Model) -> PlanChoice:
    plan, _ = model.plan() or (NO_PLAN, False)
    return plan
