"""Checkpoints that are not as they should be, made from whole ones, and their conversions."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ropewalk_convert import converter_child
from ropewalk_convert.reporting_child import ReportingChild
from ropewalk_convert.upstream_source import converter_folder

_FORKS = Path(__file__).with_name("forked_conversions.py")

MARKER = "executed"
"""The file that code of a checkpoint made here leaves in its folder when it is executed."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

_CODE = """
    from pathlib import Path
    Path(__file__).with_name("executed").touch()
    Path(%r).touch()

    from transformers import PreTrainedConfig, PreTrainedTokenizer

    class Evil(PreTrainedTokenizer):
        pass

    class EvilConfig(PreTrainedConfig):
        pass
"""


@dataclass(frozen=True)
class Conversion:
    """A conversion that was tried.

    Attributes:
        out: what was to be written.
        error: what it reported, {} if it was done.
        progress: the messages before that.
    """

    out: Path
    error: dict[str, str]
    progress: tuple[dict[str, Any], ...]


def job(folder: Path, out: Path, **more: object) -> dict[str, object]:
    """A request for a conversion; its checkpoint is called by the name of its folder."""
    return {
        "converter": str(converter_folder()),
        "folder": str(folder),
        "shown": folder.name,
        "out": str(out),
        "outtype": "f32",
        "model_name": None,
        **more,
    }


def convert_all(jobs: Mapping[str, Mapping[str, object]], home: Path) -> dict[str, Conversion]:
    """Run conversions.

    Args:
        jobs: requests by a name for each.
        home: a folder for transformers' caches.
    """
    reports: dict[int, list[dict[str, Any]]] = {}
    request = {
        "child": converter_child.__file__,
        "converter": str(converter_folder()),
        "jobs": list(jobs.values()),
    }
    with ReportingChild(_FORKS, request, environment={**OFFLINE, "HF_HOME": str(home)}) as child:
        for message in child.messages():
            reports.setdefault(message.pop("job"), []).append(message)
        end = child.end()
    assert end.code == 0, "\n".join(end.log)
    outcomes = {}
    for number, (name, asked) in enumerate(jobs.items()):
        *messages, last = reports[number]
        assert last == {"ended": True}
        end_of = messages.pop() if messages else {}
        outcomes[name] = Conversion(Path(str(asked["out"])), end_of.get("error", {}), tuple(messages))
        assert "error" in end_of or end_of.get("stage") == "done" or asked.get("trusting"), end.log
    return outcomes


def changed_copy(
    whole: Path, folder: Path, *without: str, config: Mapping[str, object] | None = None
) -> Path:
    """A copy of a checkpoint, without some of its files, and with some of its configuration changed."""
    shutil.copytree(whole, folder, ignore=shutil.ignore_patterns(*without))
    if config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def bring_code(folder: Path, *, tokenizer_class: str = "EvilTokenizer") -> Path:
    """Have a checkpoint bring code for its configuration, its model and its tokenizer, which leaves `MARKER`.

    Files of names that Python's own modules have are there too, for whoever looks in the current folder.
    """
    code = textwrap.dedent(_CODE % str(folder / MARKER))
    for name in ("evil", "json", "torch", "conversion", "gguf", "sitecustomize", "tokenization_evil"):
        (folder / f"{name}.py").write_text(code)
    names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer")
    map_of = {name: "evil.EvilConfig" if name == "AutoConfig" else "evil.Evil" for name in names}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": map_of}))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) if path.exists() else {}
    settings |= {
        "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
        "tokenizer_class": tokenizer_class,
    }
    path.write_text(json.dumps(settings))
    return folder


def write_bare_checkpoint(folder: Path, architecture: str, **config: object) -> Path:
    """A checkpoint with next to nothing in it, enough for upstream to go on to its tokenizer."""
    folder.mkdir()
    values = {
        "architectures": [architecture],
        "num_hidden_layers": 1,
        "num_layers": 1,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
        "vocab_size": 600,
        **config,
    }
    (folder / "config.json").write_text(json.dumps(values))
    save_file({}, folder / "model.safetensors")
    return folder


def add_tensor(folder: Path, name: str) -> Path:
    """Put another file of weights into a checkpoint without an index."""
    save_file({name: np.zeros((4, 4), np.float32)}, folder / "model-more.safetensors")
    return folder
