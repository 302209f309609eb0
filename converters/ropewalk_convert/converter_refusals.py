"""Nothing of a checkpoint is executed: what makes that impossible in the process that converts it.

Upstream asks transformers in a dozen places to run the checkpoint's own code, and reads weights in pickle
form. Here both are refused where they happen, and once more underneath, by the interpreter itself: an audit
hook sees code of the checkpoint about to run however it came there, a pickle that looks up a class, and any
connection to the network.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn


class CheckpointCodeError(ValueError):
    """Code of the checkpoint was about to run.

    A `ValueError`, as what transformers raises for it: where it has another way, it takes that.
    """


class PickleRefusedError(ValueError):
    """A file in pickle form was about to be read."""


class NetworkRefusedError(ConnectionError):
    """A connection was about to be made."""


def guard_interpreter(checkpoint: Path) -> None:
    """Have the interpreter refuse the checkpoint's code, pickled classes, and the network; for good.

    Args:
        checkpoint: its folder.
    """
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface") / "modules"
    modules = os.environ.get("HF_MODULES_CACHE") or cache  # where transformers copies such code to
    foreign = _both_names(checkpoint) + _both_names(Path(modules))
    # A person's environment may lie inside the checkpoint's folder.
    names = [name for entry in sys.path for name in _both_names(Path(entry))]
    own = tuple(name for name in names if name.startswith(foreign) and name not in foreign)

    def is_foreign(file: object) -> bool:
        if not isinstance(file, str) or file.startswith("<"):  # <string>: no file
            return False
        path = os.path.abspath(file)  # noqa: PTH100  # called for all code that runs: quick, and no link followed
        return path.startswith(foreign) and not path.startswith(own)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "exec":
            code = arguments[0]
            if isinstance(code, CodeType) and is_foreign(code.co_filename):
                raise CheckpointCodeError(f"{code.co_filename} is code of the checkpoint")
        elif event == "import":
            if is_foreign(arguments[1]):
                raise CheckpointCodeError(f"{arguments[1]} is code of the checkpoint")
        elif event == "ctypes.dlopen":
            if is_foreign(arguments[0]):
                raise CheckpointCodeError(f"{arguments[0]} is code of the checkpoint")
        elif event == "pickle.find_class":
            raise PickleRefusedError(f"a pickle asks for {arguments[0]}.{arguments[1]}")
        elif event in ("socket.connect", "socket.getaddrinfo"):
            raise NetworkRefusedError("no connection is made while a checkpoint is converted")

    sys.addaudithook(hook)


def _both_names(folder: Path) -> tuple[str, ...]:
    """A folder's name as it is given, and with links followed; each with a separator at the end."""
    names = {os.path.abspath(folder), os.path.realpath(folder)}  # noqa: PTH100
    return tuple(os.path.join(name, "") for name in names)  # noqa: PTH118


def guard_libraries() -> None:
    """Have transformers and torch refuse the checkpoint's code and pickles; for good."""
    import torch  # noqa: PLC0415  # slow, and only in the child
    from transformers import dynamic_module_utils  # noqa: PLC0415

    for name in _RUNS_CODE:
        _replace(getattr(dynamic_module_utils, name), _refuse_code)
    _replace(dynamic_module_utils.resolve_trust_remote_code, _never_trust)
    torch.load = torch.serialization.load = torch.jit.load = _refuse_pickle

    from transformers.models.auto import tokenization_auto  # noqa: PLC0415

    by_name = tokenization_auto.tokenizer_class_from_name
    _replace(by_name, _only_tokenizers(by_name))

    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415

    for auto in (AutoConfig, AutoTokenizer):
        auto.from_pretrained = staticmethod(_without_trust(auto.from_pretrained))


_RUNS_CODE = (
    "get_class_from_dynamic_module",
    "get_class_in_module",
    "get_cached_module_file",
    "create_dynamic_module",
    "init_hf_modules",
)


def _replace(function: Callable[..., object], by: Callable[..., object]) -> None:
    """Replace a function of transformers in all of its modules that have it, under whatever name."""
    for name, module in tuple(sys.modules.items()):
        if name.startswith("transformers."):
            for attribute in [known for known, value in vars(module).items() if value is function]:
                setattr(module, attribute, by)


def _refuse_code(*arguments: object, **_: object) -> NoReturn:
    raise CheckpointCodeError(f"code of the checkpoint was asked for: {arguments[:1]}")


def _refuse_pickle(*arguments: object, **_: object) -> NoReturn:
    raise PickleRefusedError(f"a pickle was about to be read: {arguments[:1]}")


def _never_trust(
    _: object, name: object, has_own: bool, has_foreign: bool, *__: object, **___: object
) -> bool:
    """In place of transformers' question whether to run the code; refuses where there is no other."""
    if has_foreign and not has_own:
        raise CheckpointCodeError(f"{name} has code of its own and no class in transformers")
    return False


def _only_tokenizers(find: Callable[..., object]) -> Callable[..., object]:
    """Transformers' search for a tokenizer's class, which gives any other class as well, a model's too."""
    from transformers import PreTrainedTokenizerBase  # noqa: PLC0415

    def find_tokenizer(name: str) -> object:
        found = find(name)
        return found if isinstance(found, type) and issubclass(found, PreTrainedTokenizerBase) else None

    return find_tokenizer


def _without_trust(function: Callable[..., object]) -> Callable[..., object]:
    def untrusting(*arguments: object, **options: object) -> object:
        return function(*arguments, **{**options, "trust_remote_code": False})

    return untrusting
