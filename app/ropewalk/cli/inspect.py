"""`ropewalk inspect`: what a GGUF file says about its context, how it was made, and the memory it takes."""

from __future__ import annotations

from pathlib import Path

import click

from ropewalk.cli.kv_sizes import KvSizes, read_kv_sizes
from ropewalk.cli.memory_table import memory_json, memory_line, print_memory_table
from ropewalk.cli.model_file import ModelWords, read_model_words
from ropewalk.cli.output import print_facts, print_json
from ropewalk.wording.files import general_json, general_lines, shortened
from ropewalk.wording.plans import plan_json, plan_lines, where_it_runs
from ropewalk.wording.quantities import count, size
from ropewalk_convert.model_card import ModelCard, read_card


@click.command("inspect")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, with all numbers of plan and memory."
)
def inspect_command(file: Path, as_json: bool) -> None:
    """Show what a GGUF file's context plan is and where it runs.

    And how the file was made, and the memory that it takes: the table is what contexts of `ask` and `chat`
    would hold. No weight is read for it.
    """
    words = read_model_words(file)
    train_length = words.spec.train_length if words.stored is None else words.stored.plan.train_length
    sizes = read_kv_sizes(words.header, train_length, words.stored)
    if as_json:
        print_json(_as_json(file, words, sizes))
        return
    print_facts([*_lines(file, words), memory_line(words.header, sizes)])
    if not sizes.reason:
        target = None if words.stored is None else words.stored.plan.target_length
        print_memory_table(sizes, train_length, target)


def _as_json(file: Path, words: ModelWords, sizes: KvSizes) -> dict[str, object]:
    spec, stored = words.spec, words.stored
    card = read_card(words.header)
    return {
        "file": str(file),
        "files": [str(part.path) for part in words.header.files],
        "architecture": spec.architecture,
        "layers": spec.n_layer,
        "rotary_dimensions": spec.n_rot,
        "rope_base": spec.base,
        "train_length": spec.train_length,
        "plan": None if stored is None else plan_json(stored.plan, stored.native, stored.native_reason),
        "card": None if card is None else _card_json(card),
        "general": general_json(words.header),
        "memory": memory_json(words.header, sizes),
    }


def _card_json(card: ModelCard) -> dict[str, str | None]:
    return {
        "made_by": card.made_by,
        "version": card.version,
        "base_model": card.base_model,
        "base_model_revision": card.base_model_revision or None,
    }


def _lines(file: Path, words: ModelWords) -> list[tuple[str, str]]:
    spec, stored = words.spec, words.stored
    n_parts = len(words.header.files)
    parts = f" in {n_parts} parts" if n_parts > 1 else ""
    lines = [
        ("file", f"{file} ({size(words.header.model_bytes)}{parts})"),
        *_origin_lines(words),
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
        ("runs in", where_it_runs(stored.plan, stored.native)),
    ]


def _origin_lines(words: ModelWords) -> list[tuple[str, str]]:
    """What the file says of itself; of one of our own, not the description, which the lines below say."""
    card, general = read_card(words.header), general_lines(words.header)
    if card is None:
        return general
    revision = f" at {card.base_model_revision}" if card.base_model_revision else ""
    origin = f", from {card.base_model}{revision}" if card.base_model else ""
    made = shortened(f"`ropewalk {card.made_by}`, version {card.version or 'unknown'}{origin}")
    return [*(line for line in general if line[0] != "description"), ("made by", made)]


def _own_scaling(words: ModelWords) -> str:
    scaled = words.stored is None and not words.spec.is_plain
    return ", with a scaling of the model's own" if scaled else ""
