"""`ropewalk pull`: a ready GGUF model from a Hugging Face repository into the cache."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
from platformdirs import user_cache_path

from ropewalk.cli.output import print_json, print_table
from ropewalk.cli.progress import Bytes, ProgressReport
from ropewalk.wording.quantities import count, size
from ropewalk_convert.hub import (
    FetchedModel,
    HubListing,
    HubModel,
    fetch_gguf,
    find_fetched,
    is_repo_name,
    list_gguf_files,
    missing_parts,
    repo_folder,
)
from ropewalk_convert.hub_cache import fetched_models, is_safe_name
from ropewalk_convert.hub_quantization import ChoiceError, choose_file, is_companion, quantization_of


@dataclass(frozen=True)
class _Wanted:
    """What was asked for: a repository, and a file or a quantization of it, or neither."""

    repo: str
    file: str | None
    quantization: str | None

    @property
    def folder(self) -> Path:
        """Where the repository's models are in the cache."""
        return repo_folder(user_cache_path("ropewalk") / "models", self.repo)


@click.command("pull")
@click.argument("repo", metavar="REPO[:QUANTIZATION]")
@click.argument("choice", metavar="[FILE|QUANTIZATION]", required=False)
@click.option("--list", "only_list", is_flag=True, help="Show which GGUF models REPO has, and fetch none.")
@click.option(
    "--revision",
    metavar="REVISION",
    help="A branch, tag or commit of REPO; the hub is asked whether the model has changed there.  "
    "[default: whatever is in the cache, else the main branch]",
)
@click.option("--json", "as_json", is_flag=True, help="Print what there is now as one JSON object.")
def pull_command(repo: str, choice: str | None, only_list: bool, revision: str | None, as_json: bool) -> None:
    """Fetch a GGUF model from a Hugging Face repository into the cache.

    REPO is OWNER/NAME; a quantization such as Q4_K_M chooses among its models (`OWNER/NAME Q4_K_M`, or
    `OWNER/NAME:Q4_K_M`), and so does a file's name. Both may be left out where there is one model; where
    there are several, they are listed. A split model is fetched whole, and its first file is printed.
    Interrupted, the same command goes on where it stopped. Private and gated repositories need a token
    (`hf auth login`, or HF_TOKEN).
    """
    wanted = _wanted(repo, choice)
    if only_list:
        if wanted.file is not None or wanted.quantization is not None:
            raise click.UsageError("--list shows all models of REPO; give REPO alone.", _context())
        _list(list_gguf_files(wanted.repo, revision), wanted.folder, as_json)
        return
    model = _in_cache(wanted)
    if model is None or revision not in (None, model.commit):
        listing = list_gguf_files(wanted.repo, revision)
        model = _fetched(listing, _chosen(listing, wanted), wanted.folder)
    else:
        _say_it_was_there(model.path)
    if as_json:
        print_json(_as_json(wanted.repo, model))
    else:
        click.echo(str(model.path))
        click.echo(f"next: ropewalk chat {shlex.quote(str(model.path))} YOUR_TEXT.txt", err=True)


def _wanted(repo: str, choice: str | None) -> _Wanted:
    name, colon, quantization = repo.partition(":")
    if not is_repo_name(name) or (colon and not quantization):
        raise click.UsageError(
            f"REPO is OWNER/NAME or OWNER/NAME:QUANTIZATION, which {repo!r} is not.", _context()
        )
    if choice is None:
        return _Wanted(name, None, quantization or None)
    if colon:
        raise click.UsageError(
            f"{repo} names a quantization already; leave it out, or {choice!r}.", _context()
        )
    if not choice.lower().endswith(".gguf"):
        return _Wanted(name, None, choice)
    if not is_safe_name(choice):
        raise click.UsageError(
            f"FILE is the name of a file in {name}, which {choice!r} cannot be.", _context()
        )
    return _Wanted(name, choice, None)


def _in_cache(wanted: _Wanted) -> FetchedModel | None:
    """What was asked for, if it has been fetched before: the hub need not be asked then."""
    if wanted.file is not None:
        return find_fetched(wanted.folder, wanted.file)
    if wanted.quantization is None:
        return None
    models = {model.file: model for model in fetched_models(wanted.folder)}
    try:
        return models[choose_file(wanted.repo, list(models), wanted.quantization)]
    except ChoiceError:
        return None


def _chosen(listing: HubListing, wanted: _Wanted) -> HubModel:
    """The model that was asked for; a table of those there are, and a usage error, where that is not told."""
    if wanted.file is not None:
        return listing.model(wanted.file)
    if wanted.quantization is not None:
        try:
            return listing.model(choose_file(listing.repo, listing.names, wanted.quantization))
        except ChoiceError as error:
            _refuse(listing, error.files, str(error))
    models = [name for name in listing.names if not is_companion(name)] or listing.names
    if len(models) == 1:
        return listing.model(models[0])
    _refuse(
        listing,
        listing.names,
        f"{listing.repo} has {len(models)} GGUF models; name one of these, by file or quantization",
    )


def _refuse(listing: HubListing, files: Collection[str], sentence: str) -> NoReturn:
    print_table(
        ("file", "quantization", "size"),
        [_row(model) for model in listing.models if model.name in files],
        err=True,
    )
    raise click.UsageError(f"{sentence}.", _context())


def _list(listing: HubListing, folder: Path, as_json: bool) -> None:
    there = {model.name: not missing_parts(listing, model, folder) for model in listing.models}
    if as_json:
        print_json(
            {
                "repo": listing.repo,
                "revision": listing.commit,
                "models": [
                    {
                        "file": model.name,
                        "quantization": quantization_of(model.name),
                        "bytes": model.size,
                        "parts": len(model.parts),
                        "in_cache": there[model.name],
                    }
                    for model in listing.models
                ],
            }
        )
    else:
        print_table(
            ("file", "quantization", "size", "in the cache"),
            [(*_row(model), "yes" if there[model.name] else "no") for model in listing.models],
        )


def _row(model: HubModel) -> tuple[str, str, str]:
    parts = f" in {count(len(model.parts), 'part')}" if len(model.parts) > 1 else ""
    return model.name, quantization_of(model.name) or "-", size(model.size) + parts


def _fetched(listing: HubListing, chosen: HubModel, folder: Path) -> FetchedModel:
    if not missing_parts(listing, chosen, folder):
        _say_it_was_there(folder / chosen.name)
    with ProgressReport().step(f"fetching {Path(chosen.name).name}", Bytes()) as update:
        try:
            return fetch_gguf(listing, chosen, folder, update)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Interrupted; the same command goes on where it stopped.") from None


def _say_it_was_there(path: Path) -> None:
    click.echo(f"ropewalk: {path.name} is in the cache already; nothing was fetched.", err=True)


def _context() -> click.Context:
    return click.get_current_context()


def _as_json(repo: str, model: FetchedModel) -> dict[str, object]:
    return {
        "path": str(model.path),
        "repo": repo,
        "file": model.file,
        "quantization": quantization_of(model.file),
        "revision": model.commit,
        "bytes": model.size,
    }
