"""Texts in the encodings of before Unicode, and Unicode without a mark; Python's codecs make the files."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropewalk.documents import DocumentError
from ropewalk.documents.encodings import decode

RUSSIAN = (
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. Всё "
    "смешалось в доме Облонских. Жена узнала, что муж был в связи с бывшею в их доме гувернанткой."
)
JAPANESE = (
    "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
    "何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。"
)
CHINESE = (
    "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。"
    "及秦灭之后，楚、汉分争，又并入于汉。汉朝自高祖斩白蛇而起义，一统天下。"
)
TRADITIONAL = (
    "話說天下大勢，分久必合，合久必分。周末七國分爭，併入於秦。"
    "及秦滅之後，楚、漢分爭，又併入於漢。漢朝自高祖斬白蛇而起義，一統天下。"
)
KOREAN = (
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 "
    "부여받았으며 서로 형제애의 정신으로 행동하여야 한다."
)
FRENCH = (
    "Longtemps, je me suis couché de bonne heure. Parfois, à peine ma bougie éteinte, mes yeux se fermaient "
    "si vite que je n’avais pas le temps de me dire : « Je m’endors. » Et, une demi-heure après, la pensée "
    "qu’il était temps de chercher le sommeil m’éveillait."
)
SPANISH = (
    "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo "
    "de los de lanza en astillero, adarga antigua, rocín flaco y galgo corredor. El señor añadió más razón."
)
POLISH = (
    "Litwo! Ojczyzno moja! ty jesteś jak zdrowie: Ile cię trzeba cenić, ten tylko się dowie, Kto cię "
    "stracił. Dziś piękność twą w całej ozdobie Widzę i opisuję, bo tęsknię po tobie."
)
CZECH = (
    "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím a "
    "mají spolu jednat v duchu bratrství. Příliš žluťoučký kůň úpěl ďábelské ódy."
)
GREEK = (
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι προικισμένοι "
    "με λογική και συνείδηση."
)
HEBREW = (
    "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. "
    "כולם חוננו בתבונה ובמצפון, לפיכך חובה עליהם לנהוג איש ברעהו ברוח של אחוה."
)
ARABIC = (
    "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل بعضهم بعضاً."
)
TURKISH = (
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve "
    "birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler."
)
OLD = [
    (RUSSIAN, "cp1251", "Windows-1251"),
    (RUSSIAN, "koi8-r", "KOI8-R"),
    (RUSSIAN, "cp866", "CP866"),
    (JAPANESE, "shift_jis", "Shift-JIS"),
    (JAPANESE, "euc-jp", "EUC-JP"),
    (JAPANESE, "iso2022_jp", "ISO-2022-JP"),
    (CHINESE, "gbk", "GB18030"),
    (TRADITIONAL, "big5", "Big5"),
    (KOREAN, "euc-kr", "EUC-KR"),
    (FRENCH, "cp1252", "Windows-1252"),
    (SPANISH, "latin-1", "Windows-1252"),
    (POLISH, "cp1250", "Windows-1250"),
    (POLISH, "iso8859-2", "ISO-8859-2"),
    (CZECH, "cp1250", "Windows-1250"),
    (CZECH, "iso8859-2", "ISO-8859-2"),
    (GREEK, "cp1253", "Windows-1253"),
    (HEBREW, "cp1255", "Windows-1255"),
    (ARABIC, "cp1256", "Windows-1256"),
    (TURKISH, "cp1254", "Windows-1254"),
]


@pytest.mark.parametrize("shape", ["paragraph", "many lines", "after ASCII", "one long line"])
@pytest.mark.parametrize(("text", "codec", "encoding"), OLD)
def test_old_encodings_are_told_by_their_language(text: str, codec: str, encoding: str, shape: str) -> None:
    written = {
        "paragraph": text,
        "many lines": f"{text}\n" * 300,
        "after ASCII": "plain words, and nothing else\n" * 5000 + text,
        "one long line": f"{text} " * 2000,
    }[shape]
    decoded = decode(written.encode(codec), "old.txt")
    assert decoded.text == written
    assert decoded.encoding == encoding
    assert decoded.notice is not None and "old.txt" in decoded.notice and encoding in decoded.notice


def test_a_few_damaged_bytes_in_an_old_encoding_are_counted() -> None:
    data = (f"{JAPANESE}\n" * 40).encode("shift_jis")
    decoded = decode(data + b"\x81\xff\n" + data, "novel.txt")
    assert decoded.text.startswith(JAPANESE) and decoded.text.rstrip().endswith(JAPANESE)
    assert decoded.notice is not None and "Shift-JIS" in decoded.notice and "damaged" in decoded.notice


@pytest.mark.parametrize(
    "text", ["Hello, world\nline 2\n", "Привет, мир\n", "名前は まだ無い\n", "€ 5 \U0001f600 ok"]
)
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_unicode_without_a_mark_is_told_by_its_nuls(text: str, codec: str) -> None:
    for written in (text, text * 20_000):
        decoded = decode(written.encode(codec), "notes.txt")
        assert decoded.text == written
        assert decoded.notice is not None and codec[:6].upper() in decoded.notice


def test_a_marked_text_cut_in_the_middle_is_read_with_a_notice() -> None:
    decoded = decode((codecs.BOM_UTF16_LE + ("word " * 100).encode("utf-16-le"))[:-1], "cut.txt")
    assert decoded.text.startswith("word word")
    assert decoded.notice is not None and "1 damaged UTF-16 place" in decoded.notice


def test_a_marked_text_that_does_not_fit_its_mark_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"odd\.txt starts as UTF-8 but byte"):
        decode(codecs.BOM_UTF8 + b"caf\xe9 " * 20, "odd.txt")


def test_nuls_in_a_text_are_refused() -> None:
    with pytest.raises(DocumentError, match="binary"):
        decode(b"some words\0and more of them\n", "nul.txt")


@given(st.lists(st.integers(0, 0x4000), min_size=4, max_size=60))
def test_arrays_of_numbers_are_no_text(numbers: list[int]) -> None:
    data = b"".join(number.to_bytes(4, "little") for number in [0, 1, 2, 3, *numbers])
    with pytest.raises(DocumentError, match="binary"):
        decode(data, "numbers.bin")
