"""`ropewalk convert`: a Hugging Face checkpoint to a GGUF file with its context plan."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from ropewalk.cli.checkpoint_options import CheckpointChoice, checkpoint_options
from ropewalk.cli.failures import InputFileError
from ropewalk.cli.output import print_facts, print_json
from ropewalk.cli.output_file import one_target, output_option
from ropewalk.cli.progress import Bytes, ProgressReport
from ropewalk.cli.quantize_options import quantize_options
from ropewalk.wording.plans import plan_json, plan_lines, where_it_runs
from ropewalk.wording.quantities import count, size
from ropewalk_convert.hub_errors import HubError
from ropewalk_convert.hub_listing import is_repo_name, repo_url
from ropewalk_convert.hub_snapshot import fetch_checkpoint
from ropewalk_convert.huggingface import (
    Checkpoint,
    Conversion,
    ConvertResult,
    check_source,
    convert,
)
from ropewalk_convert.quantization import Quantization
from ropewalk_plan.checkpoint_method import NONE


@click.command("convert")
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path), required=False)
@output_option
@checkpoint_options
@quantize_options
@click.option(
    "--revision", metavar="REVISION", help="A branch, tag or commit of SOURCE [default: its main branch]."
)
@click.option("--check", is_flag=True, help="Read all weights again before OUT gets its name.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists; of a link, the file it names.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as one JSON object.")
def convert_command(
    *,
    source: str,
    target: Path | None,
    output: Path | None,
    choice: CheckpointChoice,
    quantization: Quantization | None,
    revision: str | None,
    check: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a GGUF file of a Hugging Face checkpoint, with a context extension in it.

    SOURCE is a checkpoint's folder, or OWNER/NAME of a Hugging Face repository, whose files go into the hub's
    own cache. The context extension that the checkpoint was trained with is kept, also where llama.cpp has no
    key for it; --method replaces it. Nothing of a checkpoint is executed, and weights in pickle form are
    refused. Needs what `./scripts/setup convert` installs.
    """
    report = ProgressReport()
    wanted = Conversion(
        method=choice.method,
        target_length=choice.target_length,
        train_length=choice.train_length,
        options=choice.options,
        quantization=quantization,
    )
    path = one_target(target, output)
    checkpoint = _checkpoint(source, revision, wanted, report)
    result = convert(
        checkpoint, path, wanted, force=force, check=check, step=lambda label: report.step(label, Bytes())
    )
    if as_json:
        print_json(_as_json(checkpoint, result))
    else:
        _print(result, choice.method)


def _checkpoint(source: str, revision: str | None, wanted: Conversion, report: ProgressReport) -> Checkpoint:
    """The folder that SOURCE names, or the repository's files; a folder that is there comes first."""
    if not source:
        raise click.UsageError(
            "SOURCE is empty; name a checkpoint's folder, or a repository", click.get_current_context()
        )
    path = Path(source)
    if path.is_dir():
        if revision is not None:
            raise click.UsageError(
                f"--revision is for repositories, and {source} is a folder here; leave it out",
                click.get_current_context(),
            )
        return Checkpoint(path, _folder_name(path))
    if path.is_file():
        remedy = "`ropewalk bake` extends GGUF files" if path.suffix == ".gguf" else "name its folder"
        raise InputFileError(f"{source} is a file and no checkpoint's folder; {remedy}")
    if not is_repo_name(source):
        page = _repository_of(source)
        remedy = f"give the repository's name, {page}" if page else "check the name"
        raise InputFileError(f"{source} is no folder here, and no repository's OWNER/NAME either; {remedy}")
    with report.step(f"fetching {source}", Bytes()) as update:
        try:
            fetched = fetch_checkpoint(
                source,
                revision,
                update,
                before_weights=lambda folder: check_source(folder, wanted, called=source),
            )
        except HubError as error:
            if not path.parent.is_dir():
                raise
            raise type(error)(
                f"{error} (and {path.parent}, a folder here, has no {path.name} in it)"
            ) from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Interrupted; the same command goes on where it stopped.") from None
    return Checkpoint(fetched.folder, fetched.repo, fetched.commit, repo_url(fetched.repo))


def _repository_of(source: str) -> str:
    """OWNER/NAME in the address of a repository's page, "" where it is none."""
    address = urlsplit(source)
    name = "/".join(address.path.strip("/").split("/")[:2])
    return name if address.scheme in ("http", "https") and is_repo_name(name) else ""


def _folder_name(path: Path) -> str:
    """What the person calls the folder, which may be a link; its own name where that is none."""
    name = path.absolute().name
    return path.resolve().name if name in ("", "..") else name


def _as_json(checkpoint: Checkpoint, result: ConvertResult) -> dict[str, Any]:
    baked = result.baked
    return {
        "source": checkpoint.name,
        "revision": checkpoint.revision or None,
        "target": str(baked.target),
        "bytes": baked.target.stat().st_size,
        "architecture": result.architecture,
        "context_length": result.context_length,
        "plan": None if baked.plan is None else plan_json(baked.plan, baked.native, baked.native_reason),
        "notes": list(baked.notes),
        "warnings": list(result.warnings),
    }


def _print(result: ConvertResult, method: str) -> None:
    baked = result.baked
    target = baked.target
    print_facts(
        [
            ("converted", f"{target} ({size(target.stat().st_size)})"),
            ("architecture", result.architecture),
            *_plan_lines(result, method),
            *(("note", note) for note in baked.notes),
            *(("warning", warning) for warning in result.warnings),
            *(
                [("next", f"ropewalk chat {shlex.quote(str(target))} YOUR_TEXT.txt")]
                if result.rotates
                else []
            ),
        ]
    )


def _plan_lines(result: ConvertResult, method: str) -> list[tuple[str, str]]:
    baked = result.baked
    if baked.plan is None:
        return [
            ("context", count(result.context_length, "token")),
            ("plan", f"none: {_why_no_plan(result, method)}"),
        ]
    return [
        *plan_lines(baked.plan),
        ("native", f"{'yes' if baked.native else 'no'}: {baked.native_reason}"),
        ("runs in", where_it_runs(baked.plan, baked.native)),
    ]


def _why_no_plan(result: ConvertResult, method: str) -> str:
    if not result.rotates:
        return "this model does not rotate, and runs in llama.cpp, not in Ropewalk"
    if method == NONE:
        return "as asked for; the file says what llama.cpp's converter writes"
    return "llama.cpp's own keys say how this model rotates"
