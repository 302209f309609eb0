"""Word's formulas (OMML) as one line of text."""

from __future__ import annotations

from lxml import etree

from ropewalk.documents.docx_xml import attribute, children, local, value
from ropewalk.documents.formulas import Formula

_AS_MATHML = {
    "f": "mfrac",
    "sSup": "msup",
    "sSub": "msub",
    "sSubSup": "msubsup",
    "limLow": "munder",
    "limUpp": "mover",
    "m": "mtable",
    "eqArr": "mtable",
    "mr": "mtr",
}


def formula_text(element: etree._Element) -> str:
    """The text of an `oMath` element."""
    formula = Formula()
    _tell(formula, element)
    return formula.text()


def _tell(formula: Formula, element: etree._Element) -> None:
    for child in element.iterchildren("*"):
        name = local(child)
        if name == "t":
            formula.data(child.text or "")
        elif name == "rad":
            _root(formula, child)
        elif name == "nary":
            _operator(formula, child)
        elif name == "d":
            _brackets(formula, child)
        elif not name.endswith("Pr") and name not in ("del", "delText", "moveFrom"):
            formula.start(_AS_MATHML.get(name, "mrow"))
            _tell(formula, child)
            formula.end()


def _root(formula: Formula, element: etree._Element) -> None:
    degree = next(
        (one for one in children(element, "deg") if "".join(map(str, one.itertext())).strip()), None
    )
    formula.start("msqrt" if degree is None else "mroot")
    for part in (*children(element, "e"), *(() if degree is None else (degree,))):
        _part(formula, part)
    formula.end()


def _operator(formula: Formula, element: etree._Element) -> None:
    """A sum, an integral: its sign with its limits, and what it is of."""
    formula.start("msubsup")
    formula.data(value(element, "chr") or "∫")
    for name in ("sub", "sup"):
        for part in children(element, name):
            _part(formula, part)
    formula.end()
    for part in children(element, "e"):
        _part(formula, part)


def _brackets(formula: Formula, element: etree._Element) -> None:
    marks = []
    for name, otherwise in (("begChr", "("), ("sepChr", "|"), ("endChr", ")")):
        found = next(element.iter(f"{{*}}{name}"), None)
        marks.append(otherwise if found is None else attribute(found, "val") or "")
    formula.start("mrow")
    for i, part in enumerate(children(element, "e")):
        formula.data(marks[1] if i else marks[0])
        _part(formula, part)
    formula.data(marks[2])
    formula.end()


def _part(formula: Formula, element: etree._Element) -> None:
    formula.start("mrow")
    _tell(formula, element)
    formula.end()
