"""Why upstream's converter failed, as a sentence for people: what it raises, by its type and text.

Upstream raises whatever is at hand, so much can only be told by its wording, which is that of the pinned
release. Nothing is imported but the standard library: this also runs where torch could not be imported.
"""

from __future__ import annotations

import errno
import json
import re
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ropewalk_convert.converter_qwen import QwenRanksError
from ropewalk_convert.converter_refusals import CheckpointCodeError, PickleRefusedError

FailureKind: TypeAlias = Literal["source", "space", "target", "memory", "extra", "converter"]
"""Which kind of error it is for whoever asked for the conversion."""

_EXTRA = {"torch", "transformers", "sentencepiece", "safetensors", "google", "tokenizers", "numpy", "yaml"}
_OPTIONAL = ("mistral_common", "tiktoken")  # what upstream's converter, and transformers for it, can use
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_TEMPORARY = ".part"
_MOST_TEXT = 200
_ANOTHER = "look for a GGUF file of the same model, which `ropewalk bake` can extend"


class UnknownArchitectureError(Exception):
    """Upstream has no class for a checkpoint's architecture, which is the error's text."""


@dataclass(frozen=True)
class Failure:
    """A failed conversion.

    Attributes:
        kind: what kind of error it is.
        message: one sentence that names the checkpoint and the remedy.
    """

    kind: FailureKind
    message: str


def explain(error: BaseException, folder: Path, checkpoint: str, out_folder: str) -> Failure:
    """What to tell a person about an exception that ended a conversion.

    Args:
        error: the exception.
        folder: the checkpoint's.
        checkpoint: what the person calls it.
        out_folder: the folder that was written to.
    """
    for link in _with_contexts(error):  # a refusal may have made upstream try, and fail at, something else
        if isinstance(link, CheckpointCodeError):
            return Failure(
                "source",
                f"{checkpoint} can only be read with Python code that it brings along, and code from a "
                "checkpoint is never run; look for a version of it in transformers' own format, often with "
                "-hf at the end of its name, or for a GGUF file of it, which `ropewalk bake` can extend",
            )
        if isinstance(link, PickleRefusedError):
            return Failure(
                "source",
                f"{checkpoint} has weights in pickle form, which can run code when it is read, and is never "
                "read here; look for a version of it with safetensors",
            )
    if "pre-tokenizer" in str(error) and not any(map(_VOCABULARY.fullmatch, _names(folder))):
        return _without_tokenizer(checkpoint)  # transformers has made one up that is empty
    cause: BaseException | None = error
    while cause is not None:
        for look in (_vanished, _architecture, _resources, _missing_package, _tokenizer, _weights, _config):
            failure = look(cause, checkpoint, out_folder)
            if failure is not None:
                return failure
        cause = cause.__cause__  # not its context: upstream tries one form of tokenizer after the other
    return Failure(
        "converter",
        f"llama.cpp's converter failed on {checkpoint} ({in_few_words(error)}); check that the checkpoint is "
        f"whole, or {_ANOTHER}",
    )


def in_few_words(error: BaseException) -> str:
    """An exception's type and the beginning of its text; of a bare assertion, what it asserts."""
    text = " ".join(str(error).split())
    if not text and isinstance(error, AssertionError):
        frames = traceback.extract_tb(error.__traceback__)
        text = (frames[-1].line or "").removeprefix("assert ") if frames else ""
        text = text.partition("#")[0].strip()
    if len(text) > _MOST_TEXT:
        text = text[:_MOST_TEXT].rsplit(" ", 1)[0] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _with_contexts(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _architecture(error: BaseException, checkpoint: str, _: str) -> Failure | None:
    if isinstance(error, UnknownArchitectureError):
        return Failure(
            "source",
            f"{checkpoint} is of the architecture {error}, which llama.cpp's converter does not know; "
            "choose a model of another architecture",
        )
    if "Failed to detect model architecture" in str(error):
        return Failure(
            "source", f"the config.json of {checkpoint} does not say which architecture it is; fetch it anew"
        )
    return None


def _resources(error: BaseException, checkpoint: str, out_folder: str) -> Failure | None:
    text = str(error)
    code = error.errno if isinstance(error, OSError) else None
    # NumPy and upstream report a short write without saying why.
    short = re.search(r"\d+ requested and \d+ written", text) or re.search(
        r"wrote \d+ bytes, expected \d+", text
    )
    if code in _DISK_FULL or (short and code is None):
        return Failure(
            "space",
            f"the disk of {out_folder} filled up{', or takes no file this large,' if short else ''} while "
            f"{checkpoint} was converted; make room, or write to another disk",
        )
    if code == errno.EFBIG:
        return Failure(
            "space",
            f"{out_folder} takes no file as large as {checkpoint} becomes; write to another disk, or "
            "raise the limit of this shell (ulimit -f)",
        )
    if isinstance(error, MemoryError) or code == errno.ENOMEM or "can't allocate memory" in text:
        return Failure(
            "memory",
            f"the memory ran out while {checkpoint} was converted; close other programs, or convert it on a "
            "machine with more memory",
        )
    return None


def _missing_package(error: BaseException, checkpoint: str, _: str) -> Failure | None:
    if not isinstance(error, ImportError):
        return None
    if (error.name or "").split(".")[0] in _EXTRA:
        return Failure(
            "extra",
            f"converting {checkpoint} needs {error.name}, which cannot be imported "
            f"({in_few_words(error)}); run ./scripts/setup convert",
        )
    named = (error.name or str(error)).replace("-", "_")
    if any(package in named for package in _OPTIONAL):
        what, remedy = f" ({in_few_words(error)})", f"install it into Ropewalk's environment, or {_ANOTHER}"
    else:  # perhaps the checkpoint's choice: it is not to say what people install
        what, remedy = f" ({error.name})" if error.name else "", _ANOTHER
    return Failure(
        "converter",
        f"converting {checkpoint} needs a Python package that does not come with Ropewalk{what}; {remedy}",
    )


def _vanished(error: BaseException, checkpoint: str, out_folder: str) -> Failure | None:
    if not isinstance(error, FileNotFoundError) or error.filename is None:
        return None
    if str(Path(str(error.filename)).parent) != out_folder or Path(str(error.filename)).suffix != _TEMPORARY:
        return None
    return Failure(
        "target",
        f"what was written to {out_folder} while {checkpoint} was converted is gone; check its disk, and run "
        "the same command again",
    )


def _tokenizer(error: BaseException, checkpoint: str, _: str) -> Failure | None:
    text = str(error)
    if "BPE pre-tokenizer was not recognized" in text or re.search(
        r"pre-tokenizer .* is not supported", text
    ):
        return Failure(
            "source",
            f"the tokenizer of {checkpoint} splits text in a way that llama.cpp does not know; if it was "
            "made from another model, put the tokenizer files of that one into it, else choose another model",
        )
    if isinstance(error, AssertionError) and "vocab_size" in in_few_words(error):
        return Failure(
            "source",
            f"the tokenizer of {checkpoint} has more tokens than the vocab_size of its config.json; fetch "
            "both anew",
        )
    missing = _missing_file(error)
    if "tokenizer" in missing or "vocab" in missing or _NO_TOKENIZER.search(text):
        return _without_tokenizer(checkpoint, missing)
    if isinstance(error, QwenRanksError):
        return Failure("source", f"the tokenizer of {checkpoint} is damaged ({error}); fetch it anew")
    if "ModelProto" in text or "sentencepiece" in text.lower():
        return Failure(
            "source",
            f"the tokenizer.model of {checkpoint} is damaged ({in_few_words(error)}); fetch it anew",
        )
    return None


def _without_tokenizer(checkpoint: str, missing: str = "") -> Failure:
    named = f" ({missing})" if missing else ""
    return Failure(
        "source",
        f"{checkpoint} lacks the files of its tokenizer{named}; fetch them from where it comes from",
    )


def _names(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(path.name for path in folder.iterdir())
    except OSError:
        return ()


_VOCABULARY = re.compile(r".*(?:vocab|merges|tiktoken|tekken).*|.*tokenizer(?!_config).*\.(?:json|model).*")
_NO_TOKENIZER = re.compile(
    r"Can't load tokenizer|Couldn't instantiate the backend tokenizer|Unable to load vocabulary|"
    r"Cannot find (?:Llama|GPT-?2)? ?\w* ?tokenizer",
    re.IGNORECASE,
)


def _missing_file(error: BaseException) -> str:
    """The name of the file that an exception says is missing, "" if it says no such thing."""
    if isinstance(error, FileNotFoundError):
        path = str(error.filename or str(error).rpartition(": ")[2])
    else:
        found = re.fullmatch(r"(?:Error: )?Missing (\S+)", str(error))
        path = found[1] if found else ""
    return re.split(r"[/\\]", path)[-1]


def _weights(error: BaseException, checkpoint: str, _: str) -> Failure | None:
    text = str(error)
    unmapped = re.search(r"[Cc]an ?not map tensor:? '?([^']+)'?", text)
    if unmapped:
        return Failure(
            "converter",
            f"llama.cpp's converter has no place for the tensor {unmapped[1]} of {checkpoint}; check that "
            f"its config.json belongs to its weights, or {_ANOTHER}",
        )
    if _OTHER_WEIGHTS.search(text):
        return Failure(
            "source",
            f"the weights of {checkpoint} are not those that its index lists; fetch the missing files, or "
            "all of them anew",
        )
    if _CUT.search(text):
        return Failure("source", f"a weights file of {checkpoint} is cut short or damaged; fetch it anew")
    if _QUANTIZED.search(text):
        return Failure(
            "source",
            f"the weights of {checkpoint} are quantized in a way that llama.cpp's converter cannot read "
            f"({in_few_words(error)}); convert the checkpoint that it was quantized from",
        )
    return None


_OTHER_WEIGHTS = re.compile(
    r"Missing or incomplete model files|Mismatch between weight map|Can't load 'weight_map'"
)
_CUT = re.compile(
    r"mmap length is greater than file size|Could not read complete metadata|"
    r"Failed to parse safetensors metadata|cannot reshape array of size|"
    r"shape '.*' is invalid for input of size"
)
_QUANTIZED = re.compile(
    r"Quant method is not yet supported|Quant format .* is not yet supported|gptq dequantization|"
    r"multiple config groups"
)


def _config(error: BaseException, checkpoint: str, _: str) -> Failure | None:
    if type(error).__module__.startswith("yaml."):
        return Failure(
            "source",
            f"the head of the README.md of {checkpoint} is damaged ({in_few_words(error)}); mend it, or "
            "remove the file",
        )
    missing = _missing_file(error)
    if missing:
        return Failure(
            "source", f"{checkpoint} lacks {missing}; fetch it from where the checkpoint comes from"
        )
    if isinstance(error, KeyError) and "could not find any of" in str(error):
        names = re.findall(r"'(\w+)'", str(error))
        return Failure("source", f"the config.json of {checkpoint} lacks {' or '.join(names)}; fetch it anew")
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return Failure(
            "source",
            f"a file of {checkpoint} is damaged ({in_few_words(error)}); fetch its JSON files anew",
        )
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return Failure(
            "source",
            f"{error.filename} cannot be read ({error.strerror}); check its permissions and the disk",
        )
    if isinstance(error, NotImplementedError) and str(error):
        return Failure(
            "source",
            f"llama.cpp's converter does not convert such a checkpoint as {checkpoint} "
            f"({in_few_words(error)}); {_ANOTHER}",
        )
    return None
