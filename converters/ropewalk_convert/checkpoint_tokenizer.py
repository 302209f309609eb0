"""The files of a checkpoint's tokenizer: whether the converter has one to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ropewalk_convert.checkpoint_reading import file_size
from ropewalk_convert.errors import SourceError

_ENOUGH = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("tekken.json",),
    ("tiktoken.model",),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("vocab.txt",),
    ("tokenizer.jsonl",),
    ("rwkv_vocab_v20230424.txt",),
)
"""Each of them is a whole tokenizer, for one architecture or another."""

_TIKTOKEN = ".tiktoken"
_SAID = "tokenizer.json, tokenizer.model, vocab.json with merges.txt, *.tiktoken, tekken.json"
_BUILT_IN = frozenset(
    {
        "FalconMambaForCausalLM",
        "Mamba2ForCausalLM",
        "MambaForCausalLM",
        "MambaLMHeadModel",
        "OpenELMForCausalLM",
    }
)
"""Architectures for which the converter brings a vocabulary where the checkpoint has none."""

_VOCABULARY = (".json", ".jsonl", ".model", ".txt", ".jinja", _TIKTOKEN)
_INDEX_ENDING = ".index.json"


def check_tokenizer(folder: Path, names: Sequence[str], architecture: str) -> None:
    """Check that a folder has a tokenizer.

    Args:
        folder: the checkpoint's.
        names: all names in it.
        architecture: what it is converted as.

    Raises:
        SourceError: it has none, or a file of it is not really there.
    """
    here = set(names)
    whole = [files for files in _ENOUGH if here.issuperset(files)]
    found = [name for files in whole for name in files]
    found += [name for name in names if name.endswith(_TIKTOKEN)]
    if not found and architecture not in _BUILT_IN:
        raise SourceError(f"{folder} has no tokenizer: it needs one of {_SAID}; fetch the checkpoint again")
    for name in found:
        file_size(folder / name)


def vocabulary_bytes(folder: Path, names: Sequence[str]) -> int:
    """The sizes of all files together that may say something of tokens."""
    files = (
        folder / name for name in names if name.endswith(_VOCABULARY) and not name.endswith(_INDEX_ENDING)
    )
    return sum(path.stat().st_size for path in files if path.is_file())
