"""Where llama.cpp's own converter lies, what it knows, and what it needs; nothing of it is executed here."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from ropewalk_convert.errors import ConverterError, ExtraMissingError

NEEDED_PACKAGES = ("torch", "transformers", "sentencepiece", "safetensors")
"""What upstream's converter imports beyond an ordinary installation: the extra `convert`."""

GET_THEM = "run ./scripts/setup convert"
"""How to get those packages."""

_MAP = "TEXT_MODEL_MAP"


def converter_folder() -> Path:
    """The folder of llama.cpp's converter in the installed library, which is not loaded for it.

    Raises:
        ConverterError: the installed library was built without it.
    """
    spec = importlib.util.find_spec("llama_cpp")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "converter"
        if (folder / "conversion" / "__init__.py").is_file() and (folder / "gguf-py" / "gguf").is_dir():
            return folder
    raise ConverterError(
        "the installed llama-cpp-python does not carry llama.cpp's converter, as Ropewalk's own build does; "
        "run ./scripts/setup"
    )


def known_architectures() -> frozenset[str]:
    """The architectures that upstream's converter has a class for, as `config.json` calls them.

    Raises:
        ConverterError: the converter is not there, or is not laid out as the pinned one is.
    """
    source = converter_folder() / "conversion" / "__init__.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == _MAP
            and node.value is not None
        ):
            return frozenset(ast.literal_eval(node.value))
    raise ConverterError(
        f"{source} has no {_MAP}, so it is not the converter of the pinned release; run ./scripts/setup"
    )


def check_extra_installed() -> None:
    """Check that the packages that upstream's converter imports are there; none of them is imported.

    Raises:
        ExtraMissingError: some are not.
    """
    missing = [name for name in NEEDED_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExtraMissingError(
            f"converting a checkpoint needs {_listed(missing)}, which {_are(missing)} not installed; "
            f"{GET_THEM}"
        )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
