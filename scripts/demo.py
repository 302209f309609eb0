"""The demo: a passkey beyond the trained context, asked of the plain model and of the baked one.

Run by `./scripts/demo`, which sets everything up first, through `run_demo.py`.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from provision.cache import cache_dir
from provision.demo_model import model_path
from ropewalk.cli.failures import report
from ropewalk.cli.progress import Bytes, Measure, ProgressReport, Tokens
from ropewalk.engine import Engine, EngineOptions
from ropewalk.evaluation.passkey import passkey_tasks
from ropewalk.evaluation.retrieval import RetrievalResult
from ropewalk.evaluation.retrieval_run import context_length, run_tasks
from ropewalk.sessions import context_for
from ropewalk_convert.bake import bake
from ropewalk_plan import ContextPlan, GgufHeader, PlanError, make_plan, read_plan, rope_spec_from_gguf

# The demo's numbers, all of them: chosen by trials (docs/methods.md).
METHOD = "dprope"
METHOD_OPTIONS = {"threshold": "1e-4"}
TARGET_LENGTH = 16_384
PASSKEY_LENGTH = 10_500
PASSKEY_DEPTH = 0.1
SEED = 0

_FIRST_CONTEXT = 512  # tokens; until the prompt is built and its length known


@dataclass(frozen=True)
class Answer:
    """What one file said, and up to where it claims to work."""

    result: RetrievalResult
    length: int


def main() -> int:
    """Run the demo.

    Returns:
        0 if the baked file found the key, else 1.
    """
    progress = ProgressReport()
    plain = model_path()
    baked = baked_copy(plain, cache_dir() / "baked", progress)
    answers = [ask(plain, "the plain file", progress), ask(baked, "the baked file", progress)]
    console = Console()
    console.print(comparison(*answers))
    console.print(closing_words(baked, *answers), soft_wrap=True, markup=False, highlight=False)
    return 0 if answers[1].result.hit else 1


def baked_copy(plain: Path, folder: Path, progress: ProgressReport) -> Path:
    """The demo model with the demo's plan: the one made before where its plan is the same, else a new one."""
    spec = rope_spec_from_gguf(GgufHeader.read(plain))
    plan = make_plan(spec, METHOD, TARGET_LENGTH, options=METHOD_OPTIONS)
    target = folder / f"{plain.stem}.{METHOD}-{TARGET_LENGTH}.gguf"
    if _has_plan(target, plan):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with progress.step(f"baking {METHOD} for {TARGET_LENGTH:,} tokens", Bytes()) as update:
        bake(
            plain,
            target,
            method=METHOD,
            target_length=TARGET_LENGTH,
            options=METHOD_OPTIONS,
            force=True,
            progress=update,
        )
    return target


def _has_plan(path: Path, plan: ContextPlan) -> bool:
    if not path.exists():
        return False
    try:
        stored = read_plan(GgufHeader.read(path))
    except (OSError, PlanError):  # whatever it is, it is not what is wanted: it is baked anew
        return False
    return stored is not None and stored.plan == plan


def ask(model: Path, name: str, progress: ProgressReport) -> Answer:
    """Ask one file for the passkey."""
    with Engine.start() as engine:
        with progress.step(f"loading {name}", Measure()) as update:
            description = engine.load(
                model, EngineOptions(n_ctx=_FIRST_CONTEXT), lambda done: update(done, 1.0)
            )
        tasks = passkey_tasks(engine, [PASSKEY_LENGTH], [PASSKEY_DEPTH], trials=1, seed=SEED)
        engine.resize(context_for(context_length(tasks)))
        with progress.step(f"{name} reads {len(tasks[0].tokens):,} tokens", Tokens()) as update:
            (result,) = run_tasks(
                engine, tasks, method=name, on_progress=lambda done, total, _task: update(done, total)
            )
        return Answer(result, description.target_length)


def comparison(plain: Answer, baked: Answer) -> Table:
    """The two answers side by side."""
    result = plain.result
    (key,) = result.expected
    title = f"A passkey in {result.prompt_tokens:,} tokens, at {result.depth:.0%} of the text: {key}"
    table = Table(title=title, title_justify="left")
    for heading in ("", "plain file", "baked file"):
        table.add_column(heading)
    both = (plain, baked)
    table.add_row("good up to", *(f"{answer.length:,} tokens" for answer in both))
    table.add_row("its answer", *(" ".join(answer.result.answer.split()) for answer in both))
    table.add_row("the passkey", *("found" if answer.result.hit else "not found" for answer in both))
    table.add_row("took", *(f"{answer.result.seconds:.0f} s" for answer in both))
    return table


def closing_words(baked: Path, plain_answer: Answer, baked_answer: Answer) -> str:
    """Where the baked file is and how to go on; and the truth, where it is not what a demo would like."""
    lines = []
    if not baked_answer.result.hit:
        lines.append("The baked file did not find the key: this demo has failed.")
    elif plain_answer.result.hit:
        lines.append("The plain file found the key as well: at this length it shows no difference.")
    file, command = _as_typed(baked), shlex.quote(_ropewalk_command())
    lines += [
        f"The baked file: {file}",
        "Go on with:",
        f"  {command} chat {file} YOUR_TEXT.txt",
        f"  {command} ask {file} YOUR_TEXT.txt -q 'YOUR QUESTION'",
        f"  {command} passkey {file} --lengths 4000,12000 --depths 0.1,0.5,0.9",
        f"  {command} inspect {file}",
    ]
    return "\n".join(lines)


def _as_typed(path: Path) -> str:
    """A path as one would type it in a shell."""
    home = Path.home()
    if path.is_relative_to(home):
        return f"~/{shlex.quote(str(path.relative_to(home)))}"
    return shlex.quote(str(path))


def _ropewalk_command() -> str:
    """The command of the environment this runs in, as short as it can be typed here."""
    command = Path(sys.executable).with_name("ropewalk")
    here = Path.cwd()
    return str(command.relative_to(here)) if command.is_relative_to(here) else str(command)


def run() -> int:
    """Run the demo and turn its failures into a sentence on stderr and an exit code."""
    try:
        return main()
    except Exception as error:  # whatever it is, the person gets one sentence
        sentence, code = report(error)
        print(sentence, file=sys.stderr)
        return code
