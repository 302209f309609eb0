"""One loaded model that is measured under several plans, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ropewalk.cli.methods_list import MethodsAsked, labelled_plans
from ropewalk.cli.options import RunOptions
from ropewalk.cli.progress import Measure, ProgressReport
from ropewalk.cli.running import FIRST_CONTEXT, require_file, started_engine
from ropewalk.engine import Engine, EngineOptions, ModelDescription, ModelLoadError
from ropewalk.evaluation.candidates import LeftOut
from ropewalk.evaluation.labelled_plan import PLAIN, LabelledPlan, label_of
from ropewalk_plan import ContextPlan, GgufHeader, PlanError, read_plan


class PlannedModel:
    """A model and the plans to measure.

    Attributes:
        path: the file.
        engine: has it loaded, with some context.
        plans: in the order in which they were asked for.
    """

    def __init__(
        self, path: Path, engine: Engine, options: EngineOptions, plans: tuple[LabelledPlan, ...], texts: int
    ) -> None:
        """A model that is loaded.

        Args:
            path: the file.
            engine: has it loaded.
            options: that it was loaded with.
            plans: those to measure; empty for the one that the file carries, or for the plain model.
            texts: held side by side, where the plan allows it.
        """
        self.path, self.engine = path, engine
        self._options, self._texts = options, texts
        self._carries = not plans
        self._n_ctx = FIRST_CONTEXT
        self._in_force: tuple[LabelledPlan, int] | None = None
        self.plans = plans or (_own(engine.model),)

    def require_room(self, n_ctx: int) -> None:
        """Make the contexts of all plans this long, and refuse one that does not fit under one of them.

        To be called before anything is computed, and before a text as long is even made.

        Args:
            n_ctx: tokens that contexts must hold; where they do already, nothing is done.

        Raises:
            DoesNotFitError: not enough memory.
            EngineError: the library refuses a plan.
        """
        if n_ctx <= self._n_ctx:
            return
        self._n_ctx = n_ctx
        sizes = {_cells(plan.plan): plan for plan in reversed(self.plans)}
        for cells in sorted(sizes, key=len):  # the longest that fits without windows fits with them
            self.use(sizes[cells])

    def drop_refused(self, on_progress: Callable[[float, float], None]) -> tuple[LeftOut, ...]:
        """Leave out of `plans` those that the library refuses, which it may do only when a context is made.

        Args:
            on_progress: told plans tried and plans.

        Raises:
            DoesNotFitError: not enough memory for even a short context.
        """
        refused: list[LeftOut] = []
        for done, plan in enumerate(self.plans):
            on_progress(done, len(self.plans))
            try:
                self.use(plan, FIRST_CONTEXT)
            except ModelLoadError as error:
                refused.append(LeftOut(plan.label, str(error)))
        without = {entry.label for entry in refused}
        self.plans = tuple(plan for plan in self.plans if plan.label not in without)
        return tuple(refused)

    def use(self, plan: LabelledPlan, n_ctx: int | None = None) -> None:
        """Puts a plan in force. The context may hold texts that were read before.

        Args:
            plan: one of `plans`.
            n_ctx: tokens the context must hold; None for the room required.

        Raises:
            DoesNotFitError: not enough memory.
            EngineError: the library refuses the plan.
        """
        n_ctx = self._n_ctx if n_ctx is None else n_ctx
        if self._in_force == (plan, n_ctx):
            return
        self._in_force = None
        n_sequences = _sequences_for(plan.plan, self._texts)
        is_loaded = self.engine.model is not None  # not after a plan that was refused while loading
        if is_loaded and (self._carries or plan.plan == self._options.plan):
            self.engine.resize(n_ctx)
        elif is_loaded and n_sequences == self._options.n_sequences:
            self.engine.use_plan(plan.plan, n_ctx)
        else:
            options = dataclasses.replace(self._options, plan=plan.plan, n_ctx=n_ctx, n_sequences=n_sequences)
            self.engine.load(self.path, options)
        self._options = dataclasses.replace(self._options, plan=plan.plan, n_sequences=n_sequences)
        self._in_force = plan, n_ctx


@contextmanager
def planned_model(
    model: Path,
    run: RunOptions,
    progress: ProgressReport,
    asked: MethodsAsked,
    *,
    texts: int = 2,
    n_scored: int = 0,
) -> Iterator[PlannedModel]:
    """A started engine with the model loaded, to be measured under what was asked for.

    Args:
        model: a GGUF file.
        run: how to run it.
        progress: told of the loading.
        asked: the methods; none for what the file carries.
        texts: held side by side, where the plan allows it: a trunk that prompts have in common, and a copy of
            it that goes on.
        n_scored: see `EngineOptions`.

    Raises:
        InputFileError: there is no such file, or it carries a plan and methods are to replace it.
        PlanError: a method does not make a plan for this model.
        EngineError: the engine cannot start, or load it.
    """
    require_file(model)
    plans = labelled_plans(model, asked.choices) if asked.choices else ()
    options = dataclasses.replace(
        run.engine_options(FIRST_CONTEXT),
        plan=plans[0].plan if plans else None,
        n_sequences=_sequences_for(plans[0].plan if plans else _carried(model), texts),
        n_scored=n_scored,
    )
    with started_engine() as engine:
        with progress.step(f"loading {model.name}", Measure()) as update:
            engine.load(model, options, lambda done: update(done, 1.0))
        yield PlannedModel(model, engine, options, plans, texts)


def _sequences_for(plan: ContextPlan | None, texts: int) -> int:
    """A stream holds one text."""
    return 1 if plan is not None and plan.streaming else texts


def _cells(plan: ContextPlan | None) -> tuple[object, ...]:
    """What the size of a context depends on."""
    return () if plan is None or not any(plan.windows) else (plan.windows, plan.sinks, plan.streaming)


def _carried(model: Path) -> ContextPlan | None:
    """The plan a file carries; whatever else is wrong with it, loading it will say."""
    try:
        stored = read_plan(GgufHeader.read(model))
    except (OSError, PlanError):
        return None
    return None if stored is None else stored.plan


def _own(description: ModelDescription | None) -> LabelledPlan:
    """What a file does by itself."""
    plan = None if description is None else description.plan
    method = PLAIN if plan is None else plan.method
    return LabelledPlan(label_of(method), method, {}, plan)
