"""The model card: keys that say what was made, from what, and by which version.

`docs/gguf-metadata.md` specifies them. They are for people and for programs that look after files; nothing
that runs a model depends on them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from gguf import GGUFValueType

from ropewalk_plan.gguf_header import GgufHeader
from ropewalk_plan.metadata import PREFIX, KeyValue
from ropewalk_plan.plan import ContextPlan

VERSION_KEY = PREFIX + "version"
MADE_BY_KEY = PREFIX + "made_by"
BASE_MODEL_KEY = PREFIX + "base_model"
BASE_REVISION_KEY = PREFIX + "base_model_revision"

_DESCRIPTION_KEY = "general.description"
_BASE_COUNT_KEY = "general.base_model.count"
_BASE_PREFIX = "general.base_model.0."
_REPOSITORY_KEYS = ("general.repo_url", "general.source.repo_url", "general.url", "general.source.url")

UNKNOWN_VERSION = "unknown"
"""The version where ropewalk runs without having been installed."""

MadeBy = Literal["bake", "convert"]


@dataclass(frozen=True)
class BaseModel:
    """The model that a file was made from, as `general.base_model.0.*` says it; "" for what is not known."""

    name: str = ""
    organization: str = ""
    repo_url: str = ""


@dataclass(frozen=True)
class ModelCard:
    """What a file says of its making.

    Attributes:
        version: of ropewalk.
        made_by: the verb: `bake` or `convert`.
        base_model: what it was made from: a repository on the hub, or the name of a file or folder, without
            the folders that it lies in.
        base_model_revision: the commit, where it came from the hub; else "".
        base: the same model for other programs; None leaves it to what the source says of itself. It is
            written only with a plan, and not read back.
    """

    version: str
    made_by: MadeBy
    base_model: str
    base_model_revision: str = ""
    base: BaseModel | None = None


def installed_version() -> str:
    """The version of ropewalk that runs; `unknown` where it runs without having been installed."""
    try:
        return metadata.version("ropewalk")
    except metadata.PackageNotFoundError:
        return UNKNOWN_VERSION


def card_of_bake(source: GgufHeader) -> ModelCard:
    """The card of a file that is baked from `source`: what that was converted from stays the base model."""
    own = read_card(source)
    if own is not None and own.base_model:
        return ModelCard(installed_version(), "bake", own.base_model, own.base_model_revision)
    return ModelCard(installed_version(), "bake", in_utf8(source.path.name))


def in_utf8(name: str) -> str:
    """A file's name as a GGUF file can hold it: what is no UTF-8 in it is replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def read_card(header: GgufHeader) -> ModelCard | None:
    """The card of a file; None where it has none, as of a plain file or one made by an early version."""
    made_by = header.value(MADE_BY_KEY)
    if made_by not in ("bake", "convert"):
        return None
    return ModelCard(
        version=_text(header, VERSION_KEY),
        made_by="bake" if made_by == "bake" else "convert",
        base_model=_text(header, BASE_MODEL_KEY),
        base_model_revision=_text(header, BASE_REVISION_KEY),
    )


def card_keys(card: ModelCard, plan: ContextPlan | None, source: GgufHeader) -> tuple[KeyValue, ...]:
    """The keys to write into the copy of `source`.

    Args:
        card: what they are to say.
        plan: the plan in the copy; without one, only keys of our own are written.
        source: says what other programs' keys hold until now.
    """
    keys = [
        _string(VERSION_KEY, card.version),
        _string(MADE_BY_KEY, card.made_by),
        _string(BASE_MODEL_KEY, card.base_model),
        _string(BASE_REVISION_KEY, card.base_model_revision),
    ]
    if plan is not None:
        keys += _base_keys(card.base or _base_of(source), source)
        keys.append(_string(_DESCRIPTION_KEY, _description(_text(source, _DESCRIPTION_KEY), plan, card)))
    return tuple(entry for entry in keys if entry.value != "")


def _base_of(source: GgufHeader) -> BaseModel:
    """The source as the base model, in its own words."""
    urls = (_text(source, key) for key in _REPOSITORY_KEYS)
    return BaseModel(
        name=_text(source, "general.name"),
        organization=_text(source, "general.organization"),
        repo_url=next((url for url in urls if url), ""),
    )


def _base_keys(base: BaseModel, source: GgufHeader) -> list[KeyValue]:
    """None where the source names its base models already: those are its maker's words."""
    if not base.name or any(key.startswith("general.base_model.") for key in source.keys):
        return []
    return [
        KeyValue(_BASE_COUNT_KEY, GGUFValueType.UINT32, 1),
        _string(_BASE_PREFIX + "name", base.name),
        _string(_BASE_PREFIX + "organization", base.organization),
        _string(_BASE_PREFIX + "repo_url", base.repo_url),
    ]


def _description(before: str, plan: ContextPlan, card: ModelCard) -> str:
    """The source's own description, and a sentence on what was done."""
    options = f" ({plan.options.replace(',', ', ')})" if plan.options else ""
    version = "" if card.version == UNKNOWN_VERSION else f" {card.version}"
    what = f"with {plan.method}{options} by ropewalk{version}."
    if plan.target_length == plan.train_length:
        done = f"Context of {plan.train_length:,} tokens {what}"
    else:
        done = f"Context extended from {plan.train_length:,} to {plan.target_length:,} tokens {what}"
    before = before.strip()
    if before and before[-1] not in ".!?":
        before += "."
    return f"{before} {done}".strip()


def _text(header: GgufHeader, key: str) -> str:
    """The string under `key`; "" where there is none."""
    value = header.value(key)
    return value if isinstance(value, str) else ""


def _string(key: str, text: str) -> KeyValue:
    return KeyValue(key, GGUFValueType.STRING, text)
