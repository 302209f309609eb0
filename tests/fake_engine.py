"""An engine without a model: the real client and the real messages, and behind them answers by rule.

Its tokens are words, single digits and single other characters; its chat template is a plain one with
control tokens. It remembers what its context holds, as the real one does, and counts what it computes.
It can be told to stand still after so many tokens, so that tests need not race it.
`test_engine_contract.py` asks the same of it as of the real one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fake_process import FakeProcess
from fake_worker import FakeRules
from ropewalk.engine.client import Engine
from ropewalk.engine.errors import EngineError, EngineTimeout
from ropewalk.engine.exchange import Exchange
from ropewalk.engine.patience import DEFAULT_PATIENCE
from ropewalk.engine.results import IdentityResult, ModelDescription, PrefillResult
from ropewalk_plan.plan import ContextPlan, ScheduleStep

DPROPE_LIKE = ContextPlan(
    method="dprope",
    options="threshold=0.0001",
    train_length=2000,
    target_length=4000,
    schedule=(ScheduleStep(4000, (1.0, 1.0, 2.0, 2.0)),),
)
LOGN_LIKE = ContextPlan(method="logn", train_length=2000, target_length=4000, logn_length=2000)


def find_passkey(prompt: str) -> str:
    """What a perfect model answers to a passkey prompt."""
    found = re.search(r"The pass key is ([0-9]+)\.", prompt)
    return f" {found.group(1)}. Remember it." if found else " the pass is the pass"


def noting(prompts: list[str], answer: str) -> Callable[[str], str]:
    """A rule that notes each prompt in `prompts`; `{}` in its answer is the number of that prompt."""

    def respond(prompt: str) -> str:
        prompts.append(prompt)
        return answer.format(len(prompts))

    return respond


class FakeEngine(FakeRules, Engine):
    """An `Engine` on a `FakeProcess`, which starts with the first request; its rules may be changed any time.

    As a context manager it starts anew where it was closed, so that one serves several commands.
    """

    def __init__(
        self,
        *,
        plan: ContextPlan | None = DPROPE_LIKE,
        native: bool = False,
        train_length: int = 2000,
        template: bool = True,
        respond: Callable[[str], str] = find_passkey,
        read_up_to: int | None = None,
        answer_up_to: int | None = None,
        load_error: Exception | None = None,
        prefill_error: Exception | None = None,
        state_error: Exception | None = None,
        identity: IdentityResult | None = None,
        drafts: tuple[int, int] = (0, 0),
        can_roll_back: bool = True,
    ) -> None:
        """See `FakeRules`."""
        super().__init__(
            plan=plan,
            native=native,
            train_length=train_length,
            template=template,
            respond=respond,
            read_up_to=read_up_to,
            answer_up_to=answer_up_to,
            load_error=load_error,
            prefill_error=prefill_error,
            state_error=state_error,
            identity=identity,
            drafts=drafts,
            can_roll_back=can_roll_back,
        )
        self.closed = False
        self._model: ModelDescription | None = None
        self._up: tuple[FakeProcess, Exchange] | None = None

    def load(self, *args: Any, **kwargs: Any) -> ModelDescription:  # noqa: ANN401  # as it takes them
        _raise_here(self.load_error)
        return super().load(*args, **kwargs)

    def prefill(self, *args: Any, **kwargs: Any) -> PrefillResult:  # noqa: ANN401  # as it takes them
        _raise_here(self.prefill_error)
        return super().prefill(*args, **kwargs)

    def close(self) -> None:
        self.closed = True
        if self._up is not None:
            self._up[1].close()

    def __enter__(self) -> FakeEngine:
        if self.closed:
            self.closed, self._up, self._model, self.context = False, None, None, None
        return self

    @property
    def _process(self) -> FakeProcess:  # type: ignore[override]  # made when it is needed
        return self._running()[0]

    @property
    def _exchange(self) -> Exchange:  # type: ignore[override]
        return self._running()[1]

    def _running(self) -> tuple[FakeProcess, Exchange]:
        if self._up is None:
            process = FakeProcess(self)
            exchange = Exchange(process, DEFAULT_PATIENCE)
            exchange.await_hello()
            self._up = process, exchange
        return self._up


def _raise_here(error: BaseException | None) -> None:
    """Raises what does not come from the model process: Ctrl-C, an end of patience, the owner's mistake."""
    if error is not None and (isinstance(error, EngineTimeout) or not isinstance(error, EngineError)):
        raise error
