"""Lists of numbers on the command line."""

from __future__ import annotations

import click
import pytest

from ropewalk.cli import number_lists

CONTEXT, OPTION = click.Context(click.Command("verb")), click.Option(["--depths"])


def test_minus_nothing_is_nothing() -> None:
    """`-0` as a depth would be drawn for, and shown, as another one than 0."""
    depths = number_lists.depths(CONTEXT, OPTION, "-0,1")
    assert [str(depth) for depth in depths] == ["0.0", "1.0"]


@pytest.mark.parametrize("text", ["1.5", "nan", "-0.1", "inf", "", "0.1,", "0.1,0.1", "-0,0", "a"])
def test_what_is_no_depth(text: str) -> None:
    with pytest.raises(click.BadParameter):
        number_lists.depths(CONTEXT, OPTION, text)


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "1e3", "2147483648", "100,100", ","])
def test_what_is_no_length(text: str) -> None:
    with pytest.raises(click.BadParameter):
        number_lists.lengths(CONTEXT, OPTION, text)
