"""Texts in the encodings of before Unicode: which one it is, told by what makes a language of it."""

from __future__ import annotations

from charset_normalizer import from_bytes

_PREFERENCE = (  # where several of one script fit alike, the first
    ("cp1252", "Windows-1252"),
    ("latin_1", "Latin-1"),
    ("cp1250", "Windows-1250"),
    ("iso8859_2", "ISO-8859-2"),
    ("cp1251", "Windows-1251"),
    ("koi8_r", "KOI8-R"),
    ("cp866", "CP866"),
    ("iso8859_5", "ISO-8859-5"),
    ("cp932", "Shift-JIS"),
    ("euc_jp", "EUC-JP"),
    ("gb18030", "GB18030"),
    ("big5", "Big5"),
    ("cp949", "EUC-KR"),
    ("cp1253", "Windows-1253"),
    ("iso8859_7", "ISO-8859-7"),
    ("cp1254", "Windows-1254"),
    ("cp1255", "Windows-1255"),
    ("cp1256", "Windows-1256"),
    ("cp1257", "Windows-1257"),
    ("cp874", "Windows-874"),
    ("mac_roman", "Mac Roman"),
    ("cp850", "CP850"),
    ("cp437", "CP437"),
)
_CODECS = tuple(codec for codec, _ in _PREFERENCE)
_LATIN = frozenset(  # those that differ in a few letters only, where a preference decides between near equals
    ("cp1252", "latin_1", "cp1250", "iso8859_2", "cp1254", "cp1257", "mac_roman", "cp850", "cp437")
)
_NAMES = dict(_PREFERENCE)
_SAMPLE = 1 << 13  # charset-normalizer takes seconds for megabytes
_TOO_FEW = 8  # bytes outside of ASCII that no language can be told from
_LANGUAGE_SHARE = 0.3  # of bytes outside of ASCII, from which on even few of them tell
_MESSY = 0.4  # of charset-normalizer's measure of disorder; its own bound, 0.2, loses short texts
_CHAOS_MARGIN, _COHERENCE_MARGIN = 0.02, 0.05
_MAX_DAMAGED_SHARE = 0.01
_REPLACEMENT = "\ufffd"


def read_as_old_encoding(data: bytes, name: str) -> tuple[str, str, str]:
    """Read text that is neither Unicode nor ASCII.

    The encoding is guessed from the lines that are not ASCII, then has to fit all of the text. Windows-1252,
    and Latin-1 for bytes that it lacks, are taken where too little is there to tell.

    Args:
        data: the whole file, without NULs.
        name: what to call it in messages.

    Returns:
        The text, the encoding's name, and a notice that names it.
    """
    guessed = _guessed(data)
    for codec in (*guessed, "cp1252"):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        return text, _NAMES[codec], _notice(name, _NAMES[codec])
    if guessed:
        text = data.decode(guessed[0], errors="replace")
        n_damaged = text.count(_REPLACEMENT)
        if n_damaged <= _MAX_DAMAGED_SHARE * len(text):
            notice = f"{name} is not UTF-8; read as {_NAMES[guessed[0]]}, {n_damaged:,} damaged places."
            return text, _NAMES[guessed[0]], notice
    return data.decode("latin_1"), "Latin-1", _notice(name, "Latin-1")


def _notice(name: str, encoding: str) -> str:
    return f"{name} is not UTF-8; read as {encoding}; save it as UTF-8 if that is wrong."


def _guessed(data: bytes) -> list[str]:
    """The codecs that may be it, the likeliest first; none where too little is there to tell."""
    sample = _sample(data)
    n_high = sum(byte > 127 for byte in sample)
    if n_high < _TOO_FEW and n_high < _LANGUAGE_SHARE * len(sample):
        return []
    judged: list[tuple[float, float, str]] = []
    for codec in _CODECS:  # one at a time: told to try several, it skips those like others that failed
        whole = _undamaged(sample, codec)
        damage = (len(sample) - len(whole)) / len(sample)
        if damage > _MAX_DAMAGED_SHARE:
            continue
        matches = from_bytes(whole, cp_isolation=[codec], steps=1, chunk_size=len(whole), threshold=_MESSY)
        judged += [(match.chaos + damage, -match.coherence, codec) for match in matches]
    if not judged:
        return []
    judged.sort()
    chaos, incoherence, first = judged[0]
    if first not in _LATIN:
        return [codec for _, _, codec in judged]
    alike = {
        codec
        for other, other_incoherence, codec in judged
        if codec in _LATIN
        and other <= chaos + _CHAOS_MARGIN
        and other_incoherence <= incoherence + _COHERENCE_MARGIN
    }
    best = sorted(alike, key=_CODECS.index)
    if "iso8859_2" in best and best[0] == "cp1250" and not any(0x80 <= byte < 0xA0 for byte in sample):
        # Czech and Polish in Windows-1250 have letters there, where ISO-8859-2 has none.
        best.remove("iso8859_2")
        best.insert(0, "iso8859_2")
    return best + [codec for _, _, codec in judged if codec not in alike]


def _undamaged(sample: bytes, codec: str) -> bytes:
    """What of a sample an encoding can read."""
    try:
        return sample.decode(codec, errors="ignore").encode(codec)
    except UnicodeEncodeError:
        return b""


def _sample(data: bytes) -> bytes:
    """Some lines that are not ASCII; of one long line a stretch from its first such byte on."""
    lines: list[bytes] = []
    length, start = 0, 0
    while length < _SAMPLE and start < len(data):
        high = _first_high(data, start)
        if high is None:
            break
        begin = max(data.rfind(b"\n", start, high) + 1, start, high - 200)
        end = data.find(b"\n", high, high + _SAMPLE)
        line = data[begin : high + _SAMPLE] if end < 0 else data[begin : end + 1]
        lines.append(line)
        length += len(line)
        start = begin + len(line) if end < 0 else end + 1
        if end < 0:
            break
    return b"".join(lines)


def _first_high(data: bytes, start: int) -> int | None:
    for begin in range(start, len(data), 1 << 16):
        block = data[begin : begin + (1 << 16)]
        if not block.isascii():
            return begin + next(i for i, byte in enumerate(block) if byte > 127)
    return None
