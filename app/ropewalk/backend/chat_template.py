"""A model's own chat template, rendered as transformers renders it, and stopped when it misbehaves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from jinja2 import Template
from jinja2.exceptions import TemplateSyntaxError

from ropewalk.backend.bounded_call import CallStopped, CallTooLarge, CallTooLong, call_bounded
from ropewalk.backend.errors import StoppedError, TemplateError
from ropewalk.backend.template_environment import ChatEnvironment
from ropewalk.backend.template_sizes import TooLarge

_LONGEST_TEMPLATE = 1 << 18
_LONGEST_REASON = 300
_WITHOUT_IT = "ask without it (--raw), or use another file of the model"


@dataclass(frozen=True)
class TemplateLimits:
    """What a template may take.

    Attributes:
        seconds: to compile and render it.
        n_bytes: of memory, beyond what the messages take several times over.
        characters: of any text it makes, beyond the messages' own several times over.
    """

    seconds: float = 10.0
    n_bytes: int = 256 << 20
    characters: int = 1 << 20


_TIMES = 4
"""How often a template may hold the messages' text at once."""
_BYTES_EACH = 16
"""Of a character, in all that a template makes of it along the way."""


def render(
    template: str,
    messages: Sequence[tuple[str, str]],
    *,
    special_tokens: Mapping[str, str],
    today: date | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    limits: TemplateLimits = TemplateLimits(),
) -> str:
    """The prompt that a template makes of (role, content) messages, ending with the assistant's opening.

    Args:
        template: its Jinja source, out of the model's file.
        messages: roles and contents, which reach it unchanged.
        special_tokens: spellings by the names that templates use: `bos_token`, `eos_token`, ...
        today: the day that a template finds with `strftime_now`; the present where None.
        should_stop: asked meanwhile.
        limits: what it may take.

    Raises:
        TemplateError: the template does not compile, refuses these messages, or takes too much.
        StoppedError: `should_stop` said so.
    """
    if len(template) > _LONGEST_TEMPLATE:
        raise TemplateError(
            f"the model's chat template has {len(template):,} characters and may have "
            f"{_LONGEST_TEMPLATE:,}: {_WITHOUT_IT}"
        )
    n_given = sum(len(role) + len(content) for role, content in messages)

    def run() -> str:
        compiled = _compiled(template)
        environment = compiled.environment
        assert isinstance(environment, ChatEnvironment)
        environment.sizes.characters = limits.characters + _TIMES * n_given
        environment.today = today
        pieces: list[str] = []
        length = 0
        variables = {
            **special_tokens,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "tools": None,
            "documents": None,
            "add_generation_prompt": True,
        }
        for piece in compiled.generate(variables):
            length += len(piece)
            environment.sizes.require_text(length)
            pieces.append(piece)
        return "".join(pieces)

    try:
        return call_bounded(
            run,
            seconds=limits.seconds,
            n_bytes=limits.n_bytes + _BYTES_EACH * n_given,
            should_stop=should_stop,
        )
    except CallStopped:
        raise StoppedError("applying the chat template was stopped") from None
    except CallTooLong:
        raise TemplateError(
            f"the model's chat template was not done after {limits.seconds:g} seconds: {_WITHOUT_IT}"
        ) from None
    except (CallTooLarge, TooLarge) as error:
        what = f" ({error})" if str(error) else ""
        raise TemplateError(
            f"the model's chat template takes too much memory{what}: {_WITHOUT_IT}"
        ) from error
    except RecursionError as error:
        raise TemplateError(
            f"the model's chat template calls itself without an end: {_WITHOUT_IT}"
        ) from error
    except TemplateSyntaxError as error:
        where = f"line {error.lineno}: {_reason(error)}"
        raise TemplateError(
            f"the model's chat template cannot be compiled ({where}): {_WITHOUT_IT}"
        ) from error
    except Exception as error:  # a template is a program of the file's: it may raise anything
        raise TemplateError(
            f"the model's chat template does not accept these messages: {_reason(error)}"
        ) from error


@functools.lru_cache(maxsize=1)
def _compiled(template: str) -> Template:
    """A template, ready to be rendered once at a time: compiling takes longer than rendering."""
    return ChatEnvironment().from_string(template)


def _reason(error: Exception) -> str:
    """What an error says, on one line that a terminal can show."""
    text = error.message if isinstance(error, TemplateSyntaxError) else str(error)
    words = "".join(c if c.isprintable() else " " for c in text or "").split()
    reason = " ".join(words) or type(error).__name__
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} ..."
