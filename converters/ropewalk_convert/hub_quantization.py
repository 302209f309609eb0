"""The quantization of a GGUF file as its name tells it, and choosing a model of a repository by it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ropewalk_convert.hub_cache import SplitName
from ropewalk_convert.hub_errors import HubError

_QUANTIZATION = re.compile(
    r"""
    (?<![a-z0-9])
    ( (?:ud-)?                                      # "dynamic" mixtures, as their makers call them
      (?: i?q\d+ (?:_(?:k|nl|xxs|xs|s|m|l|xl|\d))*
        | tq\d_\d | mxfp4 (?:_moe)? | nvfp4 | bf16 | fp?16 | fp?32 ) )
    (?![a-z0-9])
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SAME = {"FP16": "F16", "FP32": "F32"}


class ChoiceError(HubError):
    """A quantization that does not name one model of a repository.

    Attributes:
        files: the files of which one is to be named.
    """

    def __init__(self, message: str, files: Sequence[str]) -> None:
        """Say what is wrong, and what there is."""
        super().__init__(message)
        self.files = tuple(files)


def quantization_of(file: str) -> str | None:
    """The quantization that a file's name tells, or else its folders' names; in capitals, None if none does.

    `model-q4_k_m.gguf` is Q4_K_M, `UD-Q4_K_XL/m-00001-of-00002.gguf` is UD-Q4_K_XL, `m.fp16.gguf` is F16.
    """
    split = SplitName.of(file)
    for part in reversed((file if split is None else split.stem).split("/")):
        found = _QUANTIZATION.findall(part)
        if found:
            return _spelled(found[-1])
    return None


def is_companion(file: str) -> bool:
    """Whether a GGUF file is no language model by itself: an image encoder, or an importance matrix."""
    name = file.rsplit("/", 1)[-1].lower()
    return "mmproj" in name or name.startswith("imatrix")


def choose_file(repo: str, files: Sequence[str], quantization: str) -> str:
    """The file of a quantization among a repository's models.

    Args:
        repo: the repository, for the message.
        files: the names of its models, of each one file.
        quantization: in any case; "UD-" at its beginning may be left out where that is no other's name.

    Raises:
        ChoiceError: none has it, or several have.
    """
    wanted = _spelled(quantization)
    told = {file: quantization_of(file) for file in files if not is_companion(file)}
    for alike in (wanted, f"UD-{wanted}"):
        found = [file for file, name in told.items() if name == alike]
        if len(found) == 1:
            return found[0]
        if found:
            raise ChoiceError(f"{repo} has {len(found)} models in {alike}; name one of these as FILE", found)
    raise ChoiceError(
        f"{repo} has no model in {quantization}; name one of these, by file or quantization", files
    )


def _spelled(quantization: str) -> str:
    name = quantization.upper()
    return _SAME.get(name, name)
