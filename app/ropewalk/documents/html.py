"""HTML: what a browser would show of it as text, with the lines of the file that it stands on."""

from __future__ import annotations

import codecs
import re

from lxml import etree

from ropewalk.documents.document import DocumentError, OnProgress, Piece, Reading, Source
from ropewalk.documents.encodings import decode
from ropewalk.documents.html_text import ShownText
from ropewalk.documents.text import with_newlines

_HEAD = 4096
_BEFORE = re.compile(rb"\s*(<\?xml[^>]*>|<!--.*?-->)", re.IGNORECASE | re.DOTALL)
_BEGINNING = re.compile(rb"\s*(<!doctype\s+html|<html)\b", re.IGNORECASE)
_DECLARED = re.compile(
    rb"""<meta[^>]*\bcharset\s*=\s*["']?\s*([\w.:-]+)|^\s*<\?xml[^>]*\bencoding\s*=\s*["']([\w.:-]+)""",
    re.IGNORECASE,
)
_ENCODINGS = re.compile(
    r"utf-?8|(us-)?ascii|latin-?1|iso-?8859-?\d+|(windows|cp)-?(125\d|874|437|85\d|866|932|949)|koi8-?[ru]"
    r"|gb2312|gbk|gb18030|big5(-hkscs)?|shift[_-]?jis|sjis|x-sjis|euc-(jp|kr|cn)|ks_c_5601-1987|iso-2022-jp"
    r"|macintosh|tis-620"
)
_AS_BROWSERS_READ = {  # what pages declare, and what is meant: the Encoding Standard of the WHATWG
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_REPLACEMENT = "\ufffd"
_BLOCK = 1 << 16


def is_html(data: bytes) -> bool:
    """Whether it begins as a page does: `<!doctype html` or `<html`, after comments at most."""
    head = data[:_HEAD].removeprefix(codecs.BOM_UTF8)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", errors="ignore").encode()
    start = 0
    while (before := _BEFORE.match(head, start)) is not None:
        start = before.end()
    return _BEGINNING.match(head, start) is not None


def read_html(source: Source, on_progress: OnProgress) -> Reading:
    """Read a page.

    Nothing is fetched, no script run, no entity looked up outside of the file.

    Raises:
        DocumentError: it is binary, or has no text to show.
    """
    text, notice = _decoded(source.data, source.name)
    shown = ShownText()
    parser = etree.HTMLParser(target=shown, encoding="utf-8", huge_tree=True, no_network=True)
    done = 0
    # Fed to it line by line it builds no tree, which would end at some depth, and tells where it is.
    for line in text.split("\n"):
        parser.feed(f"{line}\n".encode("utf-8", errors="replace"))
        shown.line += 1
        done += len(line) + 1
        if done // _BLOCK != (done - len(line) - 1) // _BLOCK:
            on_progress(min(done, len(text)), len(text))
    pieces: tuple[Piece, ...] = parser.close()
    reading = Reading(pieces, () if notice is None else (notice,))
    if reading.is_blank:
        raise DocumentError(
            f"{source.name} shows no text without its scripts; save the page from a browser as PDF or text."
        )
    on_progress(1, 1)
    return reading


def _decoded(data: bytes, name: str) -> tuple[str, str | None]:
    """The text of a page, and what the person should know about how it was read."""
    declared = None if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else _declared(data)
    if declared is None or data.startswith(codecs.BOM_UTF8) or b"\0" in data[:_HEAD]:
        decoded = decode(data, name)
        return with_newlines(decoded.text), decoded.notice
    try:
        return with_newlines(data.decode(declared)), None
    except UnicodeDecodeError:
        pass
    try:
        return with_newlines(
            data.decode("utf-8")
        ), f"{name} says it is {declared}; read as UTF-8, which it is."
    except UnicodeDecodeError:
        text = data.decode(declared, errors="replace")
        n_damaged = text.count(_REPLACEMENT)
        notice = f"{name} has {n_damaged:,} places that are not {declared}, shown as {_REPLACEMENT}."
        return with_newlines(text), notice


def _declared(data: bytes) -> str | None:
    """The codec that a page names, as browsers understand the name; None where it names none they know."""
    found = _DECLARED.search(data[:_HEAD])
    if found is None:
        return None
    label = (found[1] or found[2]).decode("ascii", errors="replace").lower()
    label = {"x-sjis": "shift_jis", "ks_c_5601-1987": "euc_kr"}.get(label, label)
    if _ENCODINGS.fullmatch(label) is None:
        return None
    label = label.replace("windows-", "cp")
    try:
        codec = codecs.lookup(label).name
    except LookupError:
        return None
    return _AS_BROWSERS_READ.get(codec, codec)
