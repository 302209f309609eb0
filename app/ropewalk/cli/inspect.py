"""`ropewalk inspect`: what a GGUF file says about its context."""

from __future__ import annotations

from pathlib import Path

import click

from ropewalk.cli.model_file import ModelWords, read_model_words
from ropewalk.cli.output import print_facts, print_json
from ropewalk.wording.plans import plan_json, plan_lines, where_it_runs
from ropewalk.wording.quantities import count, size


@click.command("inspect")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all numbers of the plan.")
def inspect_command(file: Path, as_json: bool) -> None:
    """Show what a GGUF file's context plan is and where it runs."""
    words = read_model_words(file)
    if as_json:
        print_json(_as_json(file, words))
    else:
        print_facts(_lines(file, words))


def _as_json(file: Path, words: ModelWords) -> dict[str, object]:
    spec, stored = words.spec, words.stored
    return {
        "file": str(file),
        "architecture": spec.architecture,
        "layers": spec.n_layer,
        "rotary_dimensions": spec.n_rot,
        "rope_base": spec.base,
        "train_length": spec.train_length,
        "plan": None if stored is None else plan_json(stored.plan, stored.native, stored.native_reason),
    }


def _lines(file: Path, words: ModelWords) -> list[tuple[str, str]]:
    spec, stored = words.spec, words.stored
    lines = [
        ("file", f"{file} ({size(file.stat().st_size)})"),
        ("architecture", f"{spec.architecture}, {count(spec.n_layer, 'layer')}"),
        ("RoPE", f"{count(spec.n_rot // 2, 'pair')}, base {spec.base:g}{_own_scaling(words)}"),
    ]
    if stored is None:
        return [
            *lines,
            ("train length", count(spec.train_length, "token")),
            ("plan", "none; bake one in with `ropewalk bake`"),
        ]
    return [
        *lines,
        *plan_lines(stored.plan),
        ("native", f"{'yes' if stored.native else 'no'}: {stored.native_reason}"),
        ("runs in", where_it_runs(stored.native)),
    ]


def _own_scaling(words: ModelWords) -> str:
    scaled = words.stored is None and not words.spec.is_plain
    return ", with a scaling of the model's own" if scaled else ""
