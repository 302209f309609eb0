"""That no model file calls a rope function of ggml past the members that hide them.

The patch hides `ggml_rope_ext` and its siblings behind members of `llm_graph_context` of the same names. A
call that did not come to the member would leave an undefined symbol of ggml's in the object file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from checks import report
from checks.builds import Build, compile_targets
from provision.commands import output_of
from provision.failure import ProvisionError

_ROPE_OF_GGML = re.compile(r"^\s*U _?(ggml_rope\w*)$", re.MULTILINE)
_MEMBER = re.compile(r"llm_graph_context::(ggml_rope\w*)\(")
_INCLUDED = re.compile(r'^#include "([^"]+)"', re.MULTILINE)
_OBJECTS = Path("src") / "CMakeFiles" / "llama.dir"


@dataclass(frozen=True)
class ObjectFile:
    """What an object file of the library refers to.

    Attributes:
        name: the source file's, or the unity batch's.
        models: the model files compiled into it.
        ggml: rope functions of ggml that it calls.
        members: rope members of `llm_graph_context` that it calls.
    """

    name: str
    models: tuple[str, ...]
    ggml: tuple[str, ...]
    members: tuple[str, ...]


def object_files(build: Build, jobs: int | None) -> list[ObjectFile]:
    """Every object file of the library, compiled.

    Raises:
        ProvisionError: a compiler fails, or `nm` is not there.
    """
    compile_targets(build, ["llama"], "the library", jobs)
    folder = build.folder / _OBJECTS
    return [read_object(path, folder) for path in sorted(folder.rglob("*.o"))]


def read_object(path: Path, folder: Path) -> ObjectFile:
    """What one object file refers to, and which models are in it.

    Args:
        path: the object file; a unity batch's source lies beside it, under the same name without `.o`.
        folder: that the paths of other object files are relative to, as their sources' are to `src`.

    Raises:
        ProvisionError: `nm` is not there.
    """
    said = output_of(["nm", "-uC", path])
    if said is None:
        raise ProvisionError(f"nm cannot read {path.name}; install binutils and run again.")
    source = path.with_suffix("")  # unity_0_cxx.cxx.o -> unity_0_cxx.cxx, which lies beside it
    if source.is_file():
        included = [Path(name) for name in _INCLUDED.findall(source.read_text(encoding="utf-8"))]
    else:
        included = [path.relative_to(folder).with_suffix("")]
    return ObjectFile(
        name=source.name,
        models=tuple(name.name for name in included if name.parent.name == "models"),
        ggml=tuple(sorted(set(_ROPE_OF_GGML.findall(said)))),
        members=tuple(sorted(set(_MEMBER.findall(said)))),
    )


def problems(objects: Iterable[ObjectFile], model_sources: Iterable[str]) -> list[str]:
    """What is not as it must be."""
    objects = list(objects)
    found = [f"{one.name} calls {', '.join(one.ggml)} of ggml" for one in objects if one.models and one.ggml]
    seen = {model for one in objects for model in one.models}
    if missing := sorted(set(model_sources) - seen):
        found.append(f"no object file of {', '.join(missing)} was looked at")
    if not any(one.members for one in objects if one.models):
        found.append("no model file calls a member either: is this the patched tree?")
    if not any(one.ggml for one in objects):
        found.append("no object at all calls ggml's rope functions, not even the members: nm was misread")
    return found


def model_sources(build: Build) -> list[str]:
    """The names of all model files."""
    return sorted(path.name for path in (build.tree.source / "src" / "models").glob("*.cpp"))


def section(objects: Iterable[ObjectFile], sources: list[str], wrong: list[str]) -> str:
    """The report."""
    objects = list(objects)
    models = [one for one in objects if one.models]
    called = sorted({name for one in models for name in one.members})
    others = [(one.name, ", ".join(one.ggml)) for one in objects if one.ggml and not one.models]
    return "\n\n".join(
        [
            f"{len(sources)} files of `src/models/` in {len(models)} object files: "
            f"{sum(bool(one.ggml) for one in models)} of them refer to a rope function of ggml. "
            f"The members that they refer to: {', '.join(f'`{name}`' for name in called)}.",
            "Elsewhere (the members themselves, the K-shift, the loader's question to a device):",
            report.table(("object", "rope functions of ggml"), others),
            "Not as expected: " + ("; ".join(wrong) or "nothing") + ".",
        ]
    )
