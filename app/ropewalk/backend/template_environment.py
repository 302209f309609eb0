"""Jinja as chat templates are written for it (transformers' dialect), in a sandbox with bounded operations.

A template is a program out of a file that somebody published. The sandbox keeps it from Python's insides;
what Jinja leaves open is how large its strings, lists and numbers may get, which `template_sizes` bounds.
How long it takes altogether, and how much memory, is the business of whoever renders (`bounded_call`).
"""

# ruff: noqa: ANN401  # what a template handles may be anything

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from string import Formatter
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from ropewalk.backend.template_filters import CHECKED, CONCAT, bounded_filters, checked
from ropewalk.backend.template_sizes import Sizes, TooLarge

_LONGEST_DATE_FORMAT = 200


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """An environment for one template.

    Attributes:
        sizes: how large its strings may get; its bound is set for each rendering.
        today: what `strftime_now` tells, the present where None; likewise.
    """

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self) -> None:
        """An environment that allows no text yet."""
        self.sizes = sizes = Sizes(0)
        self.today: date | None = None
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, LoopControlExtension],
            finalize=self._written,
        )
        self.concat = self._concat  # type: ignore[method-assign]  # of blocks and macros
        self.filters = bounded_filters(sizes)
        self.globals.update(
            raise_exception=_raise_exception,
            strftime_now=_strftime_now(self),
            dict=_Dict(),
            namespace=_PublicNamespace,
        )

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Hooks().visit(Parser(self, source, name, filename).parse())
        tree.set_environment(self)
        return tree

    def _written(self, value: Any) -> Any:
        """Looks at what is about to be written."""
        if not isinstance(value, str):
            self.sizes.written(value)
        return value

    def _concat(self, pieces: Iterable[str]) -> str:
        pieces = list(pieces)
        self.sizes.require_text(sum(map(len, pieces)))
        return "".join(pieces)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.sizes.require_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, (str, bytes)) and name == "join" and len(args) == 1:
            args = (list(args[0]),)
            __self.sizes.require_joined(owner, args[0])
        elif isinstance(owner, (str, bytes, int)):
            __self.sizes.require_method(owner, name, [*args, *kwargs.values()])
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        text: str = value.__self__
        formatter: Formatter
        if isinstance(text, Markup):
            formatter = _BoundedEscapeFormatter(self, self.sizes, escape=text.escape)
        else:
            formatter = _BoundedFormatter(self, self.sizes)

        def formatted(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            return type(text)(formatter.vformat(text, args, kwargs))

        return formatted


class _BoundedFormatter(SandboxedFormatter):
    """A formatter whose result is measured as it grows; made for one call."""

    def __init__(self, environment: ImmutableSandboxedEnvironment, sizes: Sizes, **kwargs: Any) -> None:
        super().__init__(environment, **kwargs)
        self._sizes = sizes
        self._made = 0

    def convert_field(self, value: Any, conversion: Any) -> Any:
        self._sizes.written(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        self._sizes.require_format_spec(format_spec)
        self._made += self._sizes.written(value)
        self._sizes.require_text(self._made)
        return super().format_field(value, format_spec)


class _BoundedEscapeFormatter(_BoundedFormatter, SandboxedEscapeFormatter):
    pass


class _Hooks(NodeTransformer):
    """Puts a filter where Jinja has no hook."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), CONCAT)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _checked(node.expr)
        for operand in node.ops:
            operand.expr = _checked(operand.expr)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, CHECKED) if node.items else node

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, CHECKED) if node.items and node.ctx == "load" else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, CHECKED) if node.items else node


def _checked(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filtered(node, CHECKED)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`: what a model is trained on; here, its content.

    A block with a scope of its own, as in transformers.
    """

    tags = {"generation"}  # noqa: RUF012  # as in the base class

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict`, as a function: a class would give its attributes away."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return checked(dict(*args, **kwargs))

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _PublicNamespace(Namespace):
    """`namespace` without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]  # so that `namespace(self=...)` is an attribute
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _require_public(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"the name {name!r} is unsafe")


def _raise_exception(message: object) -> None:
    raise TemplateError(str(message))


def _strftime_now(environment: ChatEnvironment) -> Callable[[str], str]:
    """A plain function: a method would have an owner to be reached."""

    def strftime_now(format: str) -> str:
        if len(format) > _LONGEST_DATE_FORMAT:
            raise TooLarge(f"a date format of {len(format):,} characters")
        today = environment.today
        return (datetime.now() if today is None else datetime.combine(today, time())).strftime(format)

    return strftime_now
