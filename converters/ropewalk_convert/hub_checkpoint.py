"""Which files of a repository make a checkpoint that can be converted: told by their names alone."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from ropewalk_convert.errors import SourceError
from ropewalk_convert.hub_errors import HubError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
_SAFETENSORS = ".safetensors"
_PICKLE = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NO_MODEL = re.compile(r"(adapter_|optimizer|scheduler|rng_state|training_args)")
"""What names begin with of files that training leaves beside a model."""

_SHARD = re.compile(r"model-\d{5}-of-(\d{5})\.safetensors")
_DESCRIBING = re.compile(
    r"""
    (generation_config | hf_quant_config | modules)\.json
    | (tokenizer | tokenizer_config | special_tokens_map | added_tokens | vocab | tekken)\.json
    | tokenizer\.jsonl
    | [^/]+\.(model | tiktoken)                     # sentencepiece's and tiktoken's vocabularies
    | merges\.txt | [^/]*vocab[^/]*\.txt | vocab\.bpe
    | chat_template\.(jinja | json)
    | additional_chat_templates/[^/]+\.jinja
    | \d_[A-Za-z]+/config\.json                     # sentence-transformers: how an embedding is made
    | README\.md
    | (LICEN[CS]E | NOTICE)[^/]*(?<!\.py)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What llama.cpp's converter and transformers' tokenizers read of a checkpoint, and its licence."""

_EMBEDDING_LAYER = re.compile(r"\d_Dense/model\.safetensors")


class NoCheckpointError(HubError, SourceError):
    """A repository that has no checkpoint that can be converted."""


def describing_files(names: Collection[str]) -> tuple[str, ...]:
    """The names of the files, but for the weights, that conversion reads."""
    always = (CONFIG, INDEX)
    return tuple(name for name in names if name in always or _DESCRIBING.fullmatch(name))


def check_has_checkpoint(repo: str, names: Collection[str]) -> None:
    """Check that a repository has a model in safetensors form with its configuration.

    Args:
        repo: the repository, for the message.
        names: of all its files.

    Raises:
        NoCheckpointError: it has not; the message says what it has instead.
    """
    root = [name for name in names if "/" not in name]
    weights = _weights_in(root)
    if CONFIG in names and (INDEX in names or weights):
        return
    adapters = [name for name in root if name.startswith("adapter_")]
    ggufs = [name for name in names if name.lower().endswith(".gguf")]
    pickles = [name for name in root if name.endswith(_PICKLE) and not _NO_MODEL.match(name)]
    if INDEX in names or weights:
        raise NoCheckpointError(
            f"{repo} has no {CONFIG}, which says what kind of model its weights are; look for a repository "
            "of the same model in transformers' form"
        )
    if adapters:
        raise NoCheckpointError(
            f"{repo} has only an adapter ({adapters[0]}), and no model; merge it into the model it was made "
            "for (`merge_and_unload` of peft) and convert the folder that this is saved to"
        )
    if any(name.startswith("consolidated") and name.endswith(_SAFETENSORS) for name in root):
        raise NoCheckpointError(
            f"{repo} has its weights only in Mistral's own form (consolidated*.safetensors); look for a "
            "repository of the same model in transformers' form, with model.safetensors"
        )
    if pickles:
        raise NoCheckpointError(
            f"{repo} has its weights only in pickle form ({pickles[0]}), which can run any code when it is "
            "read and is therefore refused; look for a repository, or name a --revision, that has them as "
            "safetensors (pull requests with such a conversion are called refs/pr/1, refs/pr/2, ...)"
        )
    if ggufs:
        raise NoCheckpointError(
            f"{repo} has no checkpoint but ready GGUF files, such as {ggufs[0]}; fetch one with "
            f"`ropewalk pull {repo}`, and extend it with `ropewalk bake`"
        )
    others = [name for name in names if name.endswith(_SAFETENSORS)]
    if others:
        raise NoCheckpointError(
            f"{repo} has no model.safetensors in its top folder, only {_listed(others)}; if one of these is "
            f"the model, put it into a folder of your own as model.safetensors, with {CONFIG} and the "
            "tokenizer, and convert that"
        )
    raise NoCheckpointError(
        f"{repo} has no model weights; check the name, and the --revision if you gave one"
    )


def choose_weights(repo: str, names: Collection[str], index: bytes | None) -> tuple[str, ...]:
    """The names of the files that hold the model's weights: what the index names, else what names say.

    Args:
        repo: the repository, for the message.
        names: of all its files, for which `check_has_checkpoint` raised nothing.
        index: the content of `INDEX`, None where the repository has none.

    Raises:
        NoCheckpointError: files are missing there, or it cannot be told which of them are the model.
    """
    layers = tuple(name for name in names if _EMBEDDING_LAYER.fullmatch(name))
    if index is not None:
        return (*_named_by(index, repo, names), *layers)
    weights = _weights_in([name for name in names if "/" not in name])
    if _WHOLE in weights:
        return (_WHOLE, *layers)
    shards = [name for name in weights if _SHARD.fullmatch(name)]
    if shards:
        ends = {name[len("model-00000") :] for name in shards}
        n_files = int(next(iter(ends))[len("-of-") : -len(_SAFETENSORS)])
        if len(ends) > 1 or len(shards) != n_files:
            raise NoCheckpointError(
                f"{repo} has {len(shards)} files such as {shards[0]} and no {INDEX} that says which belong "
                "together; look for another repository of the same model"
            )
        return (*shards, *layers)
    if len(weights) == 1:
        return (*weights, *layers)
    raise NoCheckpointError(
        f"{repo} has several forms of its weights, {_listed(weights)}, and none named {_WHOLE}; fetch one of "
        f"them into a folder of your own under that name, with {CONFIG} and the tokenizer, and convert that"
    )


def _weights_in(root: Sequence[str]) -> list[str]:
    """The names that llama.cpp's converter takes for weights, in order."""
    return sorted(name for name in root if name.startswith("model") and name.endswith(_SAFETENSORS))


def _named_by(index: bytes, repo: str, names: Collection[str]) -> tuple[str, ...]:
    try:
        files = set(json.loads(index)["weight_map"].values())
        wanted = sorted(file for file in files if file.endswith(_SAFETENSORS))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoCheckpointError(
            f"{repo} has a damaged {INDEX}, which should say the file of each tensor; tell the repository's "
            "owner, and look for another one of the same model"
        ) from error
    missing = [file for file in wanted if file not in names]
    if missing or not wanted or len(wanted) < len(files):
        what = _listed(missing) if missing else "files that are no safetensors files"
        raise NoCheckpointError(
            f"{repo} is not complete: its {INDEX} names {what}, which it has not; look for another "
            "repository of the same model"
        )
    return tuple(wanted)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
