"""How a verb shows what it has measured: one function for each place that results go to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ropewalk.evaluation.results_file import ResultsRecord


@dataclass(frozen=True)
class Report:
    """The views of one verb's results.

    Attributes:
        summary: what follows from the results, for the results file.
        text: for a terminal of 80 columns; told whether it shows colour, and whether it can show more
            than ASCII.
        picture: a picture file's content, for `png` or `svg`; needs matplotlib.
        page: the results as one HTML page.
    """

    summary: Callable[[ResultsRecord], Sequence[Mapping[str, Any]]]
    text: Callable[[ResultsRecord, bool, bool], str]
    picture: Callable[[ResultsRecord, str], bytes]
    page: Callable[[ResultsRecord], str]
