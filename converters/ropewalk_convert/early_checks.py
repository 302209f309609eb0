"""What is known of a converted file while only its header is there: minutes before the weights are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ropewalk_convert.errors import SourceError
from ropewalk_convert.quantization import Quantization
from ropewalk_convert.quantize_preview import preview
from ropewalk_convert.workspace import temporary_beside
from ropewalk_plan.gguf_header import GgufHeader

_TOKENS, _TOKENIZER = "tokenizer.ggml.tokens", "tokenizer.ggml.model"
_WITHOUT_TOKENS = ("no_vocab", "none")


def check_tokens(header: GgufHeader, called: str) -> None:
    """Check that each token has a name of its own, which llama.cpp takes for granted, and aborts without.

    Args:
        header: of the converted file.
        called: the checkpoint's name in messages.

    Raises:
        SourceError: two have the same.
    """
    if header.value(_TOKENIZER) in _WITHOUT_TOKENS:
        return
    tokens = header.value(_TOKENS)
    numbers: dict[object, int] = {}
    for number, token in enumerate(tokens if isinstance(tokens, list) else ()):
        other = numbers.setdefault(token or f"[EMPTY_{number}]", number)  # as llama.cpp calls empty ones
        if other != number:
            raise SourceError(
                f"the tokens {other} and {number} of {called} both become {token!r} in llama.cpp's "
                "converter, and llama.cpp loads no file with duplicate tokens; choose a model with another "
                "tokenizer"
            )


def check_quantizable(unfinished: GgufHeader, target: Path, wanted: Quantization, called: str) -> None:
    """Check all that llama.cpp's quantizer says of a file before it looks at a weight.

    Args:
        unfinished: the header of a file that is still being written.
        target: the file that is made in the end; a temporary one that holds the header, and nothing where the
            weights will be, lies beside it meanwhile.
        wanted: the quantization.
        called: the checkpoint's name in messages.

    Raises:
        SourceError, QuantizeError: as `quantize`.
    """
    with _without_weights(unfinished, target) as source:
        if source is not None:
            preview(source, wanted, called=called)


@contextmanager
def _without_weights(unfinished: GgufHeader, target: Path) -> Iterator[Path | None]:
    """A copy that has a hole for the weights; None where the disk takes no such file."""
    with temporary_beside(target) as path:
        try:
            with unfinished.path.open("rb") as written, path.open("wb") as file:
                file.write(written.read(unfinished.data_start))
                file.truncate(unfinished.data_end)
        except OSError:
            yield None
        else:
            yield path
