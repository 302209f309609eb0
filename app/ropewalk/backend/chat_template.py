"""A model's own chat template, rendered in llama-cpp-python's sandboxed Jinja environment."""

from __future__ import annotations

from collections.abc import Sequence

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from ropewalk.backend.errors import TemplateError


def render(template: str, messages: Sequence[tuple[str, str]], *, bos_text: str, eos_text: str) -> str:
    """The prompt that a template makes of (role, content) messages, ending with the assistant's opening.

    Raises:
        TemplateError: the template does not compile, or refuses these messages.
    """
    try:
        formatter = Jinja2ChatFormatter(template, eos_token=eos_text, bos_token=bos_text)
        rendered = formatter(messages=[{"role": role, "content": content} for role, content in messages])
    except Exception as error:  # a template is a program of the file's: it may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TemplateError(f"the model's chat template does not accept these messages: {reason}") from error
    return str(rendered.prompt)
