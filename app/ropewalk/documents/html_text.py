r"""The text that a page shows: blocks on lines of their own, headings, lists and tables as in Markdown.

A parser tells of tags and text one after another; there is no tree. Where text stands in the file is known
from the line that is being parsed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ropewalk.documents.document import Piece
from ropewalk.documents.formulas import Formula


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_UNSEEN = _tags(
    "script style template noscript svg iframe object audio video canvas select datalist rp rt rtc frameset"
)
_PARAGRAPHS = _tags("p h1 h2 h3 h4 h5 h6 blockquote pre table figure hr dl form fieldset")
_LINES = _tags(
    "html body div section article header footer nav aside main address center details summary dt dd tr "
    "caption thead tbody tfoot figcaption legend option li br optgroup hgroup search menu dir"
)
_LISTS = frozenset(("ul", "ol", "menu", "dir"))
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_VOID = _tags("area base br col embed hr img input link meta param source track wbr")
_CELL_SEPARATOR = " | "
_SOFT_HYPHEN = "\xad"
_RAISED = {"sup": "^", "sub": "_"}
_SIGNS = "+-−"
_WIDEST_SPAN = 64  # columns; of what is wider, no page is a table but in name, and may be made to flood
_LONGEST_SPAN = 1000
_DEEPEST_INDENT = 20


@dataclass
class _Row:
    """A row that is being read.

    Attributes:
        column: where its last cell begins. next_column: behind that cell.
        is_empty: whether it has no cell yet.
        has_text: whether any has text.
        spans: which cells of rows above reach into those below: their columns, and for how many rows more.
    """

    column: int = 0
    next_column: int = 0
    is_empty: bool = True
    has_text: bool = False
    spans: dict[int, int] = field(default_factory=dict)


@dataclass
class _List:
    """A list that is being read; `number` is the last item's, None where items have none."""

    number: int | None


class ShownText:
    """What lxml's parser tells of a page -> pieces of text.

    Attributes:
        line: the line of the file that the parser is being fed, from 1; the caller keeps it.
    """

    def __init__(self) -> None:
        """Nothing is read yet."""
        self.line = 1
        self._open: list[str] = []
        self._unseen_from: int | None = None  # how many tags were open where something unseen began
        self._lists: list[_List] = []
        self._tables: list[_Row] = []
        self._pre = 0
        self._after_pre_tag = False
        self._breaks = 0  # line breaks due before the next text
        self._space = False
        self._separators = 0
        self._marker = ""
        self._at_block_start = False
        self._pieces: list[Piece] = []
        self._buffer: list[str] = []
        self._first_line = 1
        self._next_line = 1  # the line that what is written next would be taken for
        self._newlines = 0  # that the text ends with so far
        self._any = False
        self._raised = ""
        self._formula: Formula | None = None
        self._formula_from = 0  # how many tags were open where it began

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """A tag is opened."""
        self._after_pre_tag = False
        self._open.append(tag)
        if self._unseen_from is not None:
            return
        if self._formula is not None:
            self._formula.start(tag, attributes.get("encoding", ""))
        elif tag in _UNSEEN or (tag not in ("html", "body") and _is_hidden(tag, attributes)):
            self._unseen_from = len(self._open)
        elif tag == "math":
            self._formula, self._formula_from = Formula(attributes.get("alttext")), len(self._open)
        elif tag == "img":
            self.data(attributes.get("alt", ""))
        elif tag in _RAISED:
            self._raised = _RAISED[tag]
        elif tag == "q":
            self.data("“")
        elif tag in ("td", "th"):
            self._cell(attributes)
        elif tag == "br":
            self._break(self._breaks + 1)
        elif tag in _PARAGRAPHS or tag in _LINES or tag in _LISTS:
            self._block(tag, attributes)

    def end(self, tag: str) -> None:
        """A tag is closed."""
        self._after_pre_tag = False
        if tag not in self._open:
            return
        while self._open:
            closed = self._open.pop()
            if self._formula is not None:
                if len(self._open) < self._formula_from:
                    text, self._formula = self._formula.text(), None
                    self.data(text)
                else:
                    self._formula.end()
            elif self._unseen_from is not None and len(self._open) < self._unseen_from:
                self._unseen_from = None
            elif self._unseen_from is None and closed not in _VOID:
                self._close(closed)
            if closed == tag:
                break

    def data(self, text: str) -> None:
        """Some text."""
        if self._unseen_from is not None or not text:
            return
        if self._formula is not None:
            self._formula.data(text)
            return
        # A carriage return was written as a reference, `&#13;`: those of the file are line ends by now.
        text = self._raise(text.replace("\r", " "))
        first_line = max(1, self.line - text.count("\n"))
        if self._pre:
            self._verbatim(text, first_line)
        else:
            for i, line in enumerate(text.split("\n")):
                if i:
                    self._space = True
                self._flowing(line, first_line + i)

    def comment(self, _text: str) -> None:
        """A comment, which is not shown."""

    def pi(self, _target: str, _data: str | None = None) -> None:
        """An instruction to a program, which is not shown."""

    def close(self) -> tuple[Piece, ...]:
        """All is read: the pieces of text."""
        if self._any and not self._newlines:
            self._write("\n", self._next_line)
        self._flush()
        return tuple(self._pieces)

    def _raise(self, text: str) -> str:
        """What stands higher or lower, marked where it would be taken for digits of what it stands at."""
        mark, self._raised = self._raised, ""
        last = self._buffer[-1][-1:] if self._buffer and not (self._breaks or self._space) else " "
        raised = mark == "^" and not last.isspace() and (text[0].isdecimal() or text[0] in _SIGNS)
        lowered = mark == "_" and last.isdecimal() and text[0].isdecimal()
        return mark + text if raised or lowered else text

    def _block(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in ("tr", "li"):
            self._at_block_start = False
        top_list = tag in _LISTS and not self._lists
        self._break(2 if tag in _PARAGRAPHS or top_list else 1)
        if tag in _LISTS:
            self._lists.append(_List(_whole(attributes.get("start"), 1) - 1 if tag == "ol" else None))
        elif tag == "li":
            self._marker = self._item(attributes)
            self._at_block_start = True
        elif tag in _HEADINGS:
            self._marker = _HEADINGS[tag]
        elif tag == "table":
            self._tables.append(_Row())
        elif tag == "tr" and self._tables:
            above = self._tables[-1].spans
            self._tables[-1] = _Row(spans={column: rows - 1 for column, rows in above.items() if rows > 1})
            self._separators = 0
        elif tag == "pre":
            self._pre += 1
            self._after_pre_tag = True

    def _close(self, tag: str) -> None:
        if tag in ("td", "th", "li"):
            self._at_block_start = False
        elif tag in _RAISED:
            self._raised = ""
        elif tag == "q":
            self.data("”")
        if tag == "title":
            self._break(2)
        elif tag in _LISTS:
            if self._lists:
                self._lists.pop()
            self._break(1 if self._lists else 2)
        elif tag == "table":
            if self._tables:
                self._tables.pop()
            self._separators = 0
            self._break(2)
        elif tag == "pre":
            self._pre = max(0, self._pre - 1)
            self._break(2)
        elif tag in _PARAGRAPHS or tag in _LINES:
            if tag in _HEADINGS or tag == "li":
                self._marker = ""
            self._break(2 if tag in _PARAGRAPHS else 1)

    def _cell(self, attributes: Mapping[str, str]) -> None:
        row = self._tables[-1] if self._tables else None
        if row is not None:
            while row.spans.get(row.next_column, 0):  # taken by a cell of a row above
                row.next_column += 1
            self._separators += row.next_column - row.column
            row.column, row.is_empty = row.next_column, False
            n_columns = max(1, _whole(attributes.get("colspan"), 1))
            row.next_column += n_columns if row.column + n_columns <= _WIDEST_SPAN else 1
            n_rows = min(_LONGEST_SPAN, _whole(attributes.get("rowspan"), 1))
            if n_rows > 1 and row.next_column <= _WIDEST_SPAN:
                row.spans |= dict.fromkeys(range(row.column, row.next_column), n_rows)
            if row.has_text:
                self._breaks = 0
            self._at_block_start = True
        self._space = False

    def _item(self, attributes: Mapping[str, str]) -> str:
        indent = "  " * min(_DEEPEST_INDENT, max(0, len(self._lists) - 1))
        if not self._lists or self._lists[-1].number is None:
            return f"{indent}- "
        number = _whole(attributes.get("value"), self._lists[-1].number + 1)
        self._lists[-1].number = number
        return f"{indent}{number}. "

    def _break(self, lines: int) -> None:
        """Begin a new line, or with 2 a new paragraph; not where a cell or an item has just begun."""
        self._space = False
        if not self._at_block_start:
            in_row = bool(self._tables) and not self._tables[-1].is_empty
            self._breaks = max(self._breaks, min(lines, 1 if in_row else 2))

    def _flowing(self, text: str, line: int) -> None:
        """Write text of one line with its white space made single spaces."""
        text = text.replace(_SOFT_HYPHEN, "")
        words = text.split()
        if not words:
            self._space = self._space or bool(text)
            return
        self._begin(line, space=self._space or text[0].isspace())
        self._write(" ".join(words), line)
        self._space = text[-1].isspace()

    def _verbatim(self, text: str, line: int) -> None:
        if self._after_pre_tag and text.startswith("\n"):
            text, line = text[1:], line + 1
        self._after_pre_tag = False
        if text:
            self._begin(line, space=False)
            self._write(text, line)

    def _begin(self, line: int, *, space: bool) -> None:
        """Write what is due before text: line breaks, cells' separators, a list item's mark, a space."""
        due = max(0, self._breaks - self._newlines)
        if self._any and (due or (space and not self._breaks and not self._separators)):
            self._write("\n" * due or " ", self._next_line)
        before = (_CELL_SEPARATOR * self._separators).replace("  ", " ") + self._marker
        self._breaks, self._space, self._separators, self._marker = 0, False, 0, ""
        self._at_block_start = False
        if self._tables:
            self._tables[-1].has_text = True
        if before:
            self._write(before, line)

    def _write(self, text: str, line: int) -> None:
        if line != self._next_line:
            self._flush()
            self._first_line = line
        self._buffer.append(text)
        self._next_line = line + text.count("\n")
        n_last = len(text) - len(text.rstrip("\n"))
        self._newlines = n_last if n_last < len(text) else self._newlines + n_last
        self._any = True

    def _flush(self) -> None:
        if self._buffer:
            self._pieces.append(Piece("".join(self._buffer), None, self._first_line))
            self._buffer.clear()


def _is_hidden(tag: str, attributes: Mapping[str, str]) -> bool:
    if tag == "dialog" and "open" not in attributes:
        return True
    style = attributes.get("style", "").replace(" ", "").lower()
    return "hidden" in attributes or "display:none" in style or "visibility:hidden" in style


def _whole(text: str | None, otherwise: int) -> int:
    """A whole number that a page states, if it is one."""
    try:
        return int(text) if text is not None and len(text) < 10 else otherwise
    except ValueError:
        return otherwise
