"""Numbers as people read them: tokens, lengths, times, rates, sizes."""

from __future__ import annotations

_KIBI = 1024


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 token`, `12,034 tokens`; `plural` where adding an s is not enough."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def short_length(tokens: int) -> str:
    """A context length in little room: `8k` for 8192, `1.5k` for 1536, `512` for 512, `1000` for 1000."""
    if tokens < _KIBI or (tokens * 10) % _KIBI:
        return str(tokens)
    return f"{tokens / _KIBI:g}k"


def clock(seconds: float) -> str:
    """A time span as `0:07`, `12:34` or `1:02:03`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"


def rate(tokens: int, seconds: float) -> str:
    """Tokens per second: one decimal below 10, none above."""
    if seconds <= 0:
        return "- tokens/s"
    per_second = tokens / seconds
    return f"{per_second:.1f} tokens/s" if per_second < 10 else f"{per_second:,.0f} tokens/s"


def size(n_bytes: int) -> str:
    """Bytes as `98.4 MB`, `1.2 GB` (powers of 1000, as file managers and model cards count)."""
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def ranges(numbers: tuple[int, ...]) -> str:
    """Whole numbers in rising order as `0-3, 7, 9-11`."""
    parts: list[str] = []
    start = 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            first, last = numbers[start], numbers[i - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = i
    return ", ".join(parts)
