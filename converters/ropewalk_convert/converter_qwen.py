"""The tokenizer of the first Qwen models, without the code that their checkpoints bring for it.

Those checkpoints have a file of byte-pair ranks, `qwen.tiktoken`, and Python code that says what transformers
has no class for: the expression that splits text into pieces, and the special tokens after the last rank.
Both are the same for all of these models and published, so they are said here. Upstream then takes the
vocabulary from this object as it would from theirs, and checks by a hash of how it splits a text that it is
the one.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import itertools
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURE = "QWenLMHeadModel"
RANKS_FILE = "qwen.tiktoken"

_EXTRA_TOKENS = 205
_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{number}|>" for number in range(_EXTRA_TOKENS)),
)

# A contraction; a word with at most one other character before it; a digit; punctuation with line ends;
# line ends; spaces.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


class QwenRanksError(ValueError):
    """A file of ranks that cannot be read as one."""


@dataclass(frozen=True)
class QwenTokenizer:
    """As much of a tokenizer as upstream asks for.

    Attributes:
        mergeable_ranks: tokens in bytes, by id; the lower, the sooner its halves are joined.
        special_tokens: the tokens after them.
    """

    mergeable_ranks: Mapping[bytes, int]
    special_tokens: Mapping[str, int]

    def get_vocab(self) -> Mapping[bytes, int]:
        """The tokens that are no special ones."""
        return self.mergeable_ranks

    def encode(self, text: str) -> list[int]:
        """The tokens of a text that has no special ones."""
        regex = importlib.import_module("regex")  # it comes with transformers
        pieces = regex.findall(_PIECES, unicodedata.normalize("NFC", text))
        return [token for piece in pieces for token in self._joined(piece.encode())]

    def _joined(self, piece: bytes) -> list[int]:
        """Join neighbours, those of the lowest rank first, until none can be."""
        ranks = self.mergeable_ranks
        parts = [piece[place : place + 1] for place in range(len(piece))]
        while True:
            pairs = enumerate(itertools.pairwise(parts))
            known = [(ranks[left + right], place) for place, (left, right) in pairs if left + right in ranks]
            if not known:
                return [ranks[part] for part in parts]
            _, place = min(known)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]


def qwen_tokenizer(checkpoint: Path) -> QwenTokenizer | None:
    """The tokenizer of a checkpoint of a first Qwen model; None for any other.

    Those that see pictures have further special tokens, which are not known here, and so are others.

    Args:
        checkpoint: its folder.

    Raises:
        QwenRanksError: its ranks are damaged.
    """
    try:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # upstream says what is wrong with it
        return None
    ranks_file = checkpoint / RANKS_FILE
    if (
        not isinstance(config, dict)
        or config.get("architectures") != [ARCHITECTURE]
        or "visual" in config
        or not ranks_file.is_file()
    ):
        return None
    ranks = _read_ranks(ranks_file)
    return QwenTokenizer(ranks, {token: len(ranks) + number for number, token in enumerate(_SPECIAL)})


def _read_ranks(path: Path) -> dict[bytes, int]:
    """Read lines of a token in base64 and its rank.

    Raises:
        QwenRanksError: a line is none such, or ranks or bytes are missing.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        token, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (binascii.Error, ValueError) as error:
            raise QwenRanksError(f"{RANKS_FILE} has no token and rank in line {number}") from error
    single = all(bytes([byte]) in ranks for byte in range(256))
    if not single or sorted(ranks.values()) != list(range(len(ranks))):
        raise QwenRanksError(f"{RANKS_FILE} is not whole")
    return ranks
