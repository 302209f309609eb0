"""What a GGUF file says of itself, in words: its name and origin, and how it was made."""

from __future__ import annotations

from typing import Any

from gguf import LlamaFileType

from ropewalk.wording.errors import one_line
from ropewalk_plan import GgufHeader

_LONGEST = 300
_GUESSED = 1024  # added to a file type that was taken from the tensors; ggml's LLAMA_FTYPE_GUESSED
_LABELS = (
    ("name", "name"),
    ("organization", "organization"),
    ("license", "license"),
    ("size_label", "size"),
    ("description", "description"),
)


def general_json(header: GgufHeader) -> dict[str, Any]:
    """The `general.*` keys that are for people; None for those that the file does not have."""
    file_type = _number(header, "general.file_type")
    return {
        **{key: _text(header, f"general.{key}") for key, _ in _LABELS},
        "file_type": file_type,
        "file_type_name": None if file_type is None else file_type_name(file_type),
        "quantization_version": _number(header, "general.quantization_version"),
        "base_models": [
            {
                key: _text(header, f"general.base_model.{i}.{key}")
                for key in ("name", "organization", "repo_url")
            }
            for i in range(min(_number(header, "general.base_model.count") or 0, len(header.keys)))
        ],
    }


def general_lines(header: GgufHeader) -> list[tuple[str, str]]:
    """The same as (label, text) pairs, without what the file does not say."""
    said = general_json(header)
    lines = [(label, shortened(said[key])) for key, label in _LABELS if said[key]]
    if said["file_type_name"] is not None:
        version = said["quantization_version"]
        quantized = "" if version is None else f", quantization version {version}"
        lines.append(("weights", f"{said['file_type_name']}{quantized}"))
    names = [
        " / ".join(filter(None, (m["organization"], m["name"] or m["repo_url"]))) for m in said["base_models"]
    ]
    if any(names):
        lines.append(("base model", shortened(", ".join(filter(None, names)))))
    return lines


def file_type_name(number: int) -> str:
    """The name of a `general.file_type`: `Q4_K_M`, `F16`; the number where it is not known."""
    try:
        name = str(LlamaFileType(number & ~_GUESSED).name)
    except ValueError:
        return f"type {number}"
    return name.removeprefix("ALL_").removeprefix("MOSTLY_")


def shortened(text: str) -> str:
    """A text from a file on one line, without what a terminal would obey, and not too long."""
    printable = one_line("".join(c if c.isprintable() else " " for c in text))
    return printable if len(printable) <= _LONGEST else f"{printable[: _LONGEST - 3]}..."


def _text(header: GgufHeader, key: str) -> str | None:
    value = header.value(key)
    return value if isinstance(value, str) and value else None


def _number(header: GgufHeader, key: str) -> int | None:
    value = header.value(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
