"""HTML: what a page shows, by hand-written expectations, and the lines of the file that it stands on."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.documents import Document, DocumentError
from ropewalk.documents.document import Source, joined
from ropewalk.documents.html import is_html, read_html


def page(data: str | bytes) -> Document:
    source = Source("page.html", data.encode() if isinstance(data, str) else data)
    reading = read_html(source, lambda _done, _total: None)
    return joined("page.html", (("page.html", False, piece) for piece in reading.pieces), reading.notices)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One\n  two\t three</p><p>four</p>", "One two three\n\nfour\n"),
        ("<div>a</div><div>b</div>c", "a\nb\nc\n"),
        ("a<br>b<br><br>c", "a\nb\n\nc\n"),
        ("wo<b>rd</b>, <i>a</i> <i>b</i><i> c</i>", "word, a b c\n"),
        ("<h1>Title</h1><h3>Below</h3>text", "# Title\n\n### Below\n\ntext\n"),
        ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>e", "- a\n- b\n  - c\n- d\n\ne\n"),
        ("<ol start=3><li>x</li><li value=7>y</li><li><p>z</p></li></ol>", "3. x\n7. y\n8. z\n"),
        ("<table><tr><th>A<th>B<tr><td>1<td>2</table>after", "A | B\n1 | 2\n\nafter\n"),
        ("<table><tr><td><p>1</p></td><td></td><td><p>3</p></td></tr></table>", "1 | | 3\n"),
        ("<table><tr><td></td></tr><tr><td>x</td></tr></table>", "x\n"),
        ("<pre>\n  keep\n\tthis  <b>too</b>\n</pre>end", "  keep\n\tthis  too\n\nend\n"),
        ("<a href='http://example.org/x'>the link</a>", "the link\n"),
        ("&lt;tag&gt; &amp; &eacute;&#233;&#xe9;&nbsp;&unknown; &copy", "<tag> & ééé &unknown; ©\n"),
        ("so&shy;ft", "soft\n"),
        ("<pre>a&#13;b</pre>c&#13;d", "a b\n\nc d\n"),
        ("<script>no()</script>a<style>b{}</style><template>no</template><noscript>no</noscript>", "a\n"),
        ("<p hidden>no</p><div style='display: none'>no<p>no</p></div><p>yes", "yes\n"),
        ("<!-- no --><?no no?><![CDATA[no]]>yes", "yes\n"),
        ("<html><head><title>The  name</title></head><body>text", "The name\n\ntext\n"),
        ("<html>no body at all", "no body at all\n"),
        ("</p></div><p>un<b>closed <i>and</b> crossed</i><td>x", "un closed and crossed x\n"),
        ("<dl><dt>term<dd>meaning</dl>", "term\nmeaning\n"),
        ("10<sup>6</sup> m<sup>-2</sup>, 1<sup>st</sup>, end.<sup>3</sup>", "10^6 m^-2, 1st, end.^3\n"),
        ("H<sub>2</sub>O, 10<sub>2</sub>, a<sup><b>2</b></sup>", "H2O, 10_2, a^2\n"),
        ("a<sup></sup>2 b<sup>[1]</sup> <sup>4</sup>He", "a2 b[1] 4He\n"),
        ("so <img alt='E = mc^2' src=e.png> is, <img src=no><img alt=T>he", "so E = mc^2 is, The\n"),
        ("he <q>said so</q>, twice", "he “said so”, twice\n"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp>字<rt>ji</rt></ruby>", "漢字\n"),
        ("<dialog>no</dialog><dialog open>yes</dialog>", "yes\n"),
        (
            "<table><tr><td rowspan=3>a<td>1<td>x<tr><td rowspan=2>2<td>y<tr><td>z<tr><td>b<td>3</table>",
            "a | 1 | x\n | 2 | y\n | | z\nb | 3\n",
        ),
        ("<table><tr><td colspan=2>a<td>b<tr><td>1<td>2<td>3</table>", "a | | b\n1 | 2 | 3\n"),
        ("is <math><mfrac><mn>1</mn><mn>20</mn></mfrac></math>.", "is 1/20.\n"),
        (
            "<math><semantics><mrow><msup><mrow><mo>(</mo><mi>a</mi><mo>+</mo><mi>b</mi><mo>)</mo></mrow>"
            "<mn>2</mn></msup><mo>=</mo><msubsup><mi>x</mi><mi>i</mi><mn>12</mn></msubsup></mrow></semantics>"
            "<annotation-xml>no</annotation-xml></math>",
            "((a+b))^2=x_i^12\n",
        ),
        (
            "so <math><semantics><msup><mi>x</mi><mn>2</mn></msup><annotation encoding='application/x-tex'>"
            "\\mathbf{x}^2</annotation></semantics></math> is",
            "so \\mathbf{x}^2 is\n",
        ),
        ("<math alttext='a+b'><mi>no</mi></math><math display='block'><mi>y</mi></math>", "a+by\n"),
        ("<p>un<math><mi>closed</mi><p>goes on", "unclosedgoes on\n"),
        ("<svg><title>no</title><text>no</text></svg>yes", "yes\n"),
    ],
)
def test_a_page_is_what_it_shows(html: str, text: str) -> None:
    shown = page(html).text
    if "crossed" in html:  # browsers differ in what they make of it: no word may be lost
        assert shown.replace("\n", " ").split() == ["unclosed", "and", "crossed", "x"]
    else:
        assert shown == text


@pytest.mark.parametrize(
    "html",
    [
        "<ul><li>a" * 3000,
        "<table>" + "<tr><td colspan=1000>a<td>b" * 1000,
        "<table><tr>" + "<td rowspan=1000 colspan=1000>a" * 100 + "<tr><td>b" * 1000,
        "<table><tr>" + "<td rowspan=1000>a" * 60 + "<tr><td>b" * 1000,
    ],
    ids=["lists", "columns", "both", "rows"],
)
def test_no_page_becomes_a_flood(html: str) -> None:
    text = page(html).text
    assert len(text) < 25 * len(html)
    assert text.count("a") == html.count(">a")
    assert text.count("b") == html.count(">b")


LINES = """<!DOCTYPE html>
<html><head>
<title>Page</title>
<style>
  p { color: red }
</style></head>
<body>
<p>alpha
beta <b>gamma
delta</b> epsilon</p>
<!-- a
comment -->
<ul>
<li
 class="x">zeta
<li>eta
</ul>
<pre>
theta

iota
</pre><p>kappa<br>lambda</p>
<table><tr>
<td>mu<td>
nu</table>
</body>
"""


def test_every_word_is_on_its_line_of_the_file() -> None:
    document = page(LINES)
    in_file = LINES.splitlines()
    words = list(re.finditer(r"[a-zA-Z]+", document.text))
    assert len(words) == 14
    for word in words:
        place = document.place(word.start())
        assert place.line is not None and word[0] in re.findall(r"[a-zA-Z]+", in_file[place.line - 1])
        assert (place.file, place.page) == ("page.html", None)


def test_lines_beyond_what_16_bits_count() -> None:
    document = page("<p>first\n" + "\n" * 70_000 + "<p>last")
    assert document.place(document.text.index("last")).line == 70_002


@pytest.mark.parametrize("depth", [300, 5000, 100_000])
def test_deep_nesting_loses_nothing(depth: int) -> None:
    assert page("<div>" * depth + "deep" + "</div>" * depth + "<p>after").text.split() == ["deep", "after"]


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=1, max_size=6)
BLOCKS = st.sampled_from(
    ["p", "div", "h2", "li", "td", "blockquote", "b", "em", "a", "span", "section", "pre"]
)


@given(
    st.recursive(
        WORDS, lambda inner: st.tuples(BLOCKS, st.lists(inner, min_size=1, max_size=4)), max_leaves=25
    )
)
def test_no_word_is_lost_or_moved(tree: object) -> None:
    words: list[str] = []

    def written(node: object) -> str:
        if isinstance(node, str):
            words.append(node)
            return f" {node} "
        assert isinstance(node, tuple)
        tag, inner = node
        return f"<{tag}>{''.join(map(written, inner))}</{tag}>"

    html = written(tree)
    marks = {"-", "|", "##"}
    assert [word for word in page(html).text.split() if word not in marks] == words


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (b"<meta charset=windows-1251>" + "Привет".encode("cp1251"), "Привет\n"),
        (
            b"<meta http-equiv=content-type content='text/html; charset=Shift_JIS'>" + "猫だ".encode("cp932"),
            "猫だ\n",
        ),
        (b"<meta charset=iso-8859-1>\x93caf\xe9\x94", "“café”\n"),
        (b'<?xml version="1.0" encoding="koi8-r"?><html>' + "мир".encode("koi8-r"), "мир\n"),
        (b"<meta charset=utf-16>" + "café".encode(), "café\n"),
        (b"<meta charset=zip>" + "café".encode(), "café\n"),
        (b"\xef\xbb\xbf<meta charset=windows-1252>" + "café".encode(), "café\n"),
        ("\ufeff<p>café".encode("utf-16-le"), "café\n"),
    ],
)
def test_declared_encodings_and_marks(html: bytes, text: str) -> None:
    document = page(html)
    assert (document.text, document.notices) == (text, ())


def test_a_wrong_declaration_is_told() -> None:
    document = page(b"<meta charset=euc-jp><p>" + "Grüße, “naïve” café".encode())
    assert document.text == "Grüße, “naïve” café\n"
    assert "page.html" in document.notices[0] and "UTF-8" in document.notices[0]
    damaged = page(b"<meta charset=utf-8><p>caf\xe9 noir")
    assert damaged.text == "caf\ufffd noir\n" and "1 place" in damaged.notices[0]


@pytest.mark.parametrize("html", ["<html></html>", "<script>all()</script>", "<!-- only -->", "<p hidden>x"])
def test_a_page_that_shows_nothing_is_refused(html: str) -> None:
    with pytest.raises(DocumentError, match=r"page\.html shows no text"):
        page(html)


def test_nothing_outside_of_the_file_is_read() -> None:
    document = page('<!DOCTYPE html [<!ENTITY x SYSTEM "/etc/hostname">]><p>a &x; b</p>')
    assert document.text.split()[-1] == "b" and "&x;" in document.text


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"<!DOCTYPE html><p>", True),
        (b"\xef\xbb\xbf\n<!-- x --> <HTML>", True),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC>", True),
        (b"<!-- " * 800, False),
        (b"<!-- -->" * 500 + b"x", False),
        (b"<htmlish>", False),
        (b"text <html>", False),
    ],
)
def test_pages_are_told_by_how_they_begin(data: bytes, answer: bool) -> None:
    assert is_html(data) is answer


def test_reading_tells_how_far_it_is_and_can_be_ended() -> None:
    told: list[tuple[int, int]] = []
    source = Source("page.html", b"<p>some words on a line\n" * 20_000)
    read_html(source, lambda done, total: told.append((done, total)))
    assert len(told) > 3 and told[-1][0] == told[-1][1]

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_html(source, stop)
