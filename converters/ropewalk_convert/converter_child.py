"""The process that upstream's converter runs in; `reporting_child` runs this file by its path.

Upstream's files are used as they are: what differs is which packages they see, what may be executed, where
the file goes, and how progress and errors are told.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ropewalk_convert.converter_progress import ConversionProgress

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
_UNUSED_NAME = "converted.gguf"


def main(request: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
    """Convert a checkpoint and report `{"stage": "done"}`, or `{"error": {"kind": ..., "message": ...}}`.

    Args:
        request: converter (upstream's folder), folder, shown (what the person calls it), out, outtype,
            model_name, folder_name (for guesses by it, where it is to be another).
        report: sends a message to the owner.
    """
    _die_with_owner()
    os.chdir(request["converter"])  # whatever looks for files in the current folder finds none of a person's
    _find_upstream(Path(request["converter"]))
    from ropewalk_convert.converter_failures import explain  # noqa: PLC0415  # now it can be found
    from ropewalk_convert.converter_progress import ConversionProgress  # noqa: PLC0415

    try:
        with ConversionProgress(report) as progress:
            _convert(request, progress)
    except Exception as error:
        traceback.print_exc()  # to the log
        failure = explain(error, Path(request["folder"]), request["shown"], str(Path(request["out"]).parent))
        report({"error": {"kind": failure.kind, "message": failure.message}})
    else:
        report({"stage": "done"})


def _die_with_owner() -> None:
    """Ask the system to end this process with its owner, even in the middle of a long native call."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _find_upstream(converter: Path) -> None:
    """Put upstream's packages before the installed ones, and make this package's modules importable."""
    # Upstream's base.py looks for vocabularies beside the script, in sys.path[0]/models.
    sys.path[:0] = [str(converter), str(converter / "gguf-py")]
    package = ModuleType("ropewalk_convert")  # without what its __init__ imports
    package.__path__ = [str(Path(__file__).parent)]
    sys.modules["ropewalk_convert"] = package


def _convert(request: dict[str, Any], progress: ConversionProgress) -> None:
    from ropewalk_convert.converter_failures import UnknownArchitectureError  # noqa: PLC0415
    from ropewalk_convert.converter_refusals import guard_interpreter, guard_libraries  # noqa: PLC0415
    from ropewalk_convert.converter_repairs import repair_hparams  # noqa: PLC0415

    guard_interpreter(Path(request["folder"]))
    guard_libraries()
    _serve_qwen_tokenizer(Path(request["folder"]))
    upstream = importlib.import_module("convert_hf_to_gguf")
    repair_hparams(upstream.ModelBase, lambda name: _has_factors(upstream, name))
    progress.follow(importlib.import_module("gguf").GGUFWriter, Path(request["out"]))
    if request.get("folder_name"):
        _call_folder(upstream.gguf.Metadata, Path(request["folder_name"]))
    find_class: Callable[..., type] = upstream.get_model_class

    def find_known_class(name: str, mmproj: bool = False) -> type:
        """Upstream's, but for the exception: upstream's `main` only logs its own."""
        try:
            return find_class(name, mmproj=mmproj)
        except NotImplementedError as error:
            raise UnknownArchitectureError(name) from error

    vars(upstream)["get_model_class"] = find_known_class
    name = request["model_name"]
    sys.argv = [
        "convert_hf_to_gguf.py",
        request["folder"],
        *("--outfile", str(Path(request["out"]).with_name(_UNUSED_NAME))),
        *("--outtype", request["outtype"]),
        *(("--model-name", name) if name is not None else ()),
    ]
    upstream.main()


def _serve_qwen_tokenizer(checkpoint: Path) -> None:
    """Give upstream our tokenizer of a first Qwen model, where transformers would run the checkpoint's."""
    from ropewalk_convert.converter_qwen import qwen_tokenizer  # noqa: PLC0415

    tokenizer = qwen_tokenizer(checkpoint)
    if tokenizer is not None:
        importlib.import_module("transformers").AutoTokenizer.from_pretrained = lambda *_, **__: tokenizer
        # Upstream asks for this table once for each token and each half of one.
        tables = importlib.import_module("transformers.convert_slow_tokenizer")
        vars(tables)["bytes_to_unicode"] = functools.cache(tables.bytes_to_unicode)


def _call_folder(metadata: type, name: Path) -> None:
    """Have upstream's guesses of `general.*` made by another name than the folder's."""
    guess: Callable[..., object] = vars(metadata)["apply_metadata_heuristic"].__func__

    def guess_by_name(
        known: object, card: object, values: object, _: object, total_params: int = 0
    ) -> object:
        return guess(known, card, values, name, total_params)

    setattr(metadata, "apply_metadata_heuristic", staticmethod(guess_by_name))  # noqa: B010  # unknown to mypy


def _has_factors(upstream: ModuleType, name: str) -> bool:
    """Whether the architecture has the tensor of factors; one that is unknown is refused elsewhere."""
    gguf = upstream.gguf
    try:
        model = upstream.get_model_class(name)
    except Exception:  # the same exception comes again where it is told
        return True
    return gguf.MODEL_TENSOR.ROPE_FREQS in gguf.MODEL_TENSORS[model.model_arch]
