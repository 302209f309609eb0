"""Texts that tokenizers stumble over: scripts, emoji, code, white space, control characters."""

from __future__ import annotations

from collections.abc import Mapping

SCRIPTS: Mapping[str, str] = {
    "latin": "The gardener's hat cost 12,345.67 euros; they'LL see. Où çà? Zażółć gęślą jaźń, İstanbul.",
    "latin of others": "Smørrebrød på Øst, À bientôt, Übergrößen, þýða, õhtu ÷ 2, naïveté, L’Haÿ, Việt Nam.",
    "cyrillic": "Съешь же ещё этих мягких французских булок, да выпей чаю. Їжак і ґава.",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία· Ἀχιλῆος οὐλομένην.",
    "arabic": "كَانَ البُستانيُّ يمشي كلَّ صباحٍ، سنة ١٤٤٥؛ لا شيء.",
    "hebrew": "הַגַּנָּן הָלַךְ כָּל בֹּקֶר לְיַד הַנָּהָר, שנת 2024.",
    "devanagari": "माली हर सुबह नदी के किनारे चलता था। क्षत्रिय ज्ञान, वर्ष २०२४।",
    "tamil": "தோட்டக்காரர் தினமும் காலையில் ஆற்றங்கரையில் நடந்தார்.",
    "thai": "คนสวนเดินริมแม่น้ำทุกเช้า และเด็กๆ ถามชื่อนก ๑๒๓",
    "georgian": "მებაღე ყოველ დილით მდინარესთან დადიოდა.",
    "armenian": "Այգեպանը ամեն առավոտ քայլում էր գետի երկայնքով։",
    "han": "园丁每天早上沿着河走，孩子们问他鸟的名字。龍鳳呈祥「繁體」𠮷野家。",
    "kana": "庭師は毎朝カワのそばを歩いた。ｶﾀｶﾅ、っ、ー、「すし」。",
    "hangul": "정원사는 매일 아침 강가를 걸었다. ㅋㅋㅋ 값이 3만 원.",
}
"""One for each script, with its marks, digits and punctuation; every character is composed (NFC)."""

SYMBOLS: Mapping[str, str] = {
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇺🇳 ❤️‍🔥 1️⃣ 🧑🏿‍🚀!",
    "mathematics": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, 𝒜 ⊂ 𝔹, x² + y₁ ≈ ½ ± 10⁻³ × Ⅷ",
    "private and rare": "\ue000 \U000f0001 \ufffd \u2028 \u2029 \U0001f9ff 𓂀 𐍈",
}

CODE: Mapping[str, str] = {
    "python": 'def f(x: int = 0x1F) -> str:\n    """Doc."""\n\treturn f"{x!r:>{10}}"  # 100%\n\n\n',
    "c": '#include <stdio.h>\r\nint main(void) {\r\n  return printf("%5.2f\\n", a->b[i++] * 1e-9) != 0;\r\n}',
    "json": '{"a": [1, -2.5e+10, null, true], "b\\u00e9": {"c": "d\\"e"}}',
    "shell": "$ cat <<'EOF' | sed -E 's/([a-z]+)_[0-9]{3}/\\1/g' && echo \"$HOME\" >&2",
    "markup": "<s>not a token</s> <|neither|> [INST] <0x41> ▁ Ġ Ċ &amp; </div>",
}

SPACES: Mapping[str, str] = {
    "long": "a" + " " * 200 + "b" + "\n" * 70 + "c" + "\t" * 33 + "d",
    "around": "   begins and ends with spaces   ",
    "mixed": "x \t \n  \r\n \n\n y\u00a0z\u2003w\u3000v\u200bu\ufeffend \n",
    "only": "  \n  ",
    "one": " ",
}

CONTROLS: Mapping[str, str] = {
    "controls": "a\x01b\x07c\x08d\x1be[0m\x7ff\x80g\x9fh\x0bi\x0cj\x85k",
    "nul": "before\x00after",
    "directions": "\u202eabc\u202c \u2066def\u2069 \u200f\u200e",
}

MARKS: Mapping[str, str] = {
    "decomposed": "e\u0301te\u0301 A\u030angstro\u0308m o\u0323\u0302",
    "stacked": "Z\u0351\u036b\u0343a\u0328\u0300\u0301l\u0334g\u0489o\u0360",
}
"""Combining marks apart from their letters; a tokenizer that composes them (NFC) does not give them back."""

TEXTS: Mapping[str, str] = {"": "", **SCRIPTS, **SYMBOLS, **CODE, **SPACES, **CONTROLS, **MARKS}
