"""llama.cpp's quantizer, called several times in one process: a script for a `ReportingChild`."""

from __future__ import annotations

from ropewalk_convert import quantize_child
from ropewalk_convert.reporting_child import Message, Report


def main(request: Message, report: Report) -> None:
    """Run each of `calls`, requests of `quantize_child`; `{"call": its number}` comes before its messages."""
    for number, call in enumerate(request["calls"]):
        report({"call": number})
        quantize_child.main(call, report)
