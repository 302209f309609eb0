"""EPUB files written by hand, entry by entry, for tests of what is read from them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

_CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>"
)


def chapter(body: str, *, title: str = "The book", doctype: str = "") -> str:
    """A chapter's XHTML."""
    return (
        f'<?xml version="1.0" encoding="utf-8"?>{doctype}<html xmlns="http://www.w3.org/1999/xhtml">'
        f"<head><title>{title}</title></head><body>{body}</body></html>"
    )


def epub(
    chapters: Mapping[str, str | bytes],
    *,
    spine: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
    ncx: bool = False,
    extra: Mapping[str, str | bytes] | None = None,
    mimetype: bool = True,
) -> bytes:
    """A whole EPUB.

    Args:
        chapters: the files in `OEBPS/` and what is in them.
        spine: the reading order; None: the order of `chapters`.
        titles: the table of contents, by file.
        ncx: whether the table of contents is EPUB 2's.
        extra: other entries, or others in place of these.
        mimetype: whether the first entry says that it is an EPUB, as it has to.
    """
    order = list(chapters) if spine is None else list(spine)
    names = [*chapters, *(name for name in order if name not in chapters)]
    items = [
        f'<item id="i{i}" href="{name}" media-type="application/xhtml+xml"/>' for i, name in enumerate(names)
    ]
    contents: dict[str, str] = {}
    if titles and ncx:
        items.append('<item id="toc" href="toc.ncx" media-type="application/x-dtbncx+xml"/>')
        contents["OEBPS/toc.ncx"] = (
            '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>'
            + "".join(
                f'<navPoint><navLabel><text>{title}</text></navLabel><content src="{name}"/></navPoint>'
                for name, title in titles.items()
            )
            + "</navMap></ncx>"
        )
    elif titles:
        items.append('<item id="toc" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>')
        links = "".join(f'<li><a href="{name}">{title}</a></li>' for name, title in titles.items())
        contents["OEBPS/nav.xhtml"] = (
            '<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"><body>'
            f'<nav epub:type="toc"><ol>{links}</ol></nav></body></html>'
        )
    refs = "".join(f'<itemref idref="i{names.index(name)}"/>' for name in order)
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        f"<manifest>{''.join(items)}</manifest><spine>{refs}</spine></package>"
    )
    entries: dict[str, str | bytes] = {
        "META-INF/container.xml": _CONTAINER,
        "OEBPS/book.opf": package,
        **contents,
    }
    entries |= {f"OEBPS/{name}": text for name, text in chapters.items()}
    return zipped({**({"mimetype": "application/epub+zip"} if mimetype else {}), **entries, **(extra or {})})


def zipped(entries: Mapping[str, str | bytes]) -> bytes:
    """A ZIP file of these entries; one called `mimetype` is stored as it is."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content, zipfile.ZIP_STORED if name == "mimetype" else None)
    return file.getvalue()
