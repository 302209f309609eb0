"""`ropewalk pull`: a ready GGUF model from a Hugging Face repository into the cache."""

from __future__ import annotations

import shlex
from pathlib import Path

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
from ropewalk_convert.hub_cache import is_safe_name


@click.command("pull")
@click.argument("repo", metavar="REPO")
@click.argument("file", metavar="[FILE]", required=False)
@click.option(
    "--revision",
    metavar="REVISION",
    help="A branch, tag or commit of REPO; the hub is asked whether FILE has changed there.  "
    "[default: whatever is in the cache, else the main branch]",
)
@click.option("--json", "as_json", is_flag=True, help="Print what there is now as one JSON object.")
def pull_command(repo: str, file: str | None, revision: str | None, as_json: bool) -> None:
    """Fetch a GGUF model from a Hugging Face repository into the cache.

    REPO is OWNER/NAME. FILE may be left out where the repository has one GGUF model; where it has several,
    they are listed. A split model is fetched whole, and its first file is printed. Interrupted, the same
    command goes on where it stopped. Private and gated repositories need a token
    (`hf auth login`, or HF_TOKEN).
    """
    context = click.get_current_context()
    if not is_repo_name(repo):
        raise click.UsageError(f"REPO is OWNER/NAME, which {repo!r} is not.", context)
    if file is not None and not is_safe_name(file):
        raise click.UsageError(f"FILE is the name of a file in {repo}, which {file!r} cannot be.", context)
    folder = repo_folder(user_cache_path("ropewalk") / "models", repo)
    model = None if file is None else find_fetched(folder, file)
    if model is None or revision not in (None, model.commit):
        listing = list_gguf_files(repo, revision)
        wanted = _only_model(listing) if file is None else listing.model(file)
        model = _fetched(listing, wanted, folder)
    else:
        _say_it_was_there(model.path)
    if as_json:
        print_json(_as_json(repo, model))
    else:
        click.echo(str(model.path))
        click.echo(f"next: ropewalk chat {shlex.quote(str(model.path))} YOUR_TEXT.txt", err=True)


def _only_model(listing: HubListing) -> HubModel:
    """The one model of a repository that has one; a list of them, and a usage error, otherwise."""
    if len(listing.models) == 1:
        return listing.models[0]
    print_table(
        ("file", "size"), [(model.name, _size_and_parts(model)) for model in listing.models], err=True
    )
    raise click.UsageError(
        f"{listing.repo} has {len(listing.models)} GGUF models; name one of these as FILE.",
        click.get_current_context(),
    )


def _size_and_parts(model: HubModel) -> str:
    return size(model.size) + (f" in {count(len(model.parts), 'part')}" if len(model.parts) > 1 else "")


def _fetched(listing: HubListing, wanted: HubModel, folder: Path) -> FetchedModel:
    if not missing_parts(listing, wanted, folder):
        _say_it_was_there(folder / wanted.name)
    with ProgressReport().step(f"fetching {Path(wanted.name).name}", Bytes()) as update:
        try:
            return fetch_gguf(listing, wanted, folder, update)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Interrupted; the same command goes on where it stopped.") from None


def _say_it_was_there(path: Path) -> None:
    click.echo(f"ropewalk: {path.name} is in the cache already; nothing was fetched.", err=True)


def _as_json(repo: str, model: FetchedModel) -> dict[str, object]:
    return {
        "path": str(model.path),
        "repo": repo,
        "file": model.file,
        "revision": model.commit,
        "bytes": model.size,
    }
