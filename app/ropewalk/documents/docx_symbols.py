"""Word's symbols: characters that the file names by their place in a font."""

from __future__ import annotations

from lxml import etree

from ropewalk.documents.docx_xml import attribute

_SYMBOL = {  # from which place on: Adobe's Symbol encoding
    0x21: "!∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾",
    0x61: "αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼",
    0xA1: "ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…│─↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊",
    0xE5: "∑",
    0xF2: "∫",
}
_WINGDINGS = {0x6C: "●", 0x6E: "■", 0xA8: "☐", 0xE0: "→", 0xFC: "✓", 0xFB: "✗", 0xFD: "☒", 0xFE: "☑"}
_PLACES = {
    "symbol": {first + i: one for first, those in _SYMBOL.items() for i, one in enumerate(those)},
    "wingdings": _WINGDINGS,
}
_PRIVATE = 0xF000  # where Word moves the places of these fonts to
_UNKNOWN = "\ufffd"


def symbol_text(element: etree._Element) -> str:
    """The character that a `sym` element shows; `�` where it is not known which that is."""
    try:
        place = int(attribute(element, "char") or "", 16)
    except ValueError:
        return _UNKNOWN
    known = _PLACES.get((attribute(element, "font") or "").lower())
    if known is not None or _PRIVATE <= place <= _PRIVATE + 0xFF:
        return (known or {}).get(place & 0xFF, _UNKNOWN)
    return chr(place) if 32 <= place <= 0x10FFFF and chr(place).isprintable() else _UNKNOWN
