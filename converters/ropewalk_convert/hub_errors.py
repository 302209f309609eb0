"""What can go wrong between a person and the hub, each as one sentence with the remedy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
"""The base of the HTTP library's errors; which library that is differs between huggingface-hub's releases."""

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token that may read it"


class HubError(Exception):
    """Something that the hub did not give; the message is a sentence that names it and the remedy."""


@contextmanager
def explained(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn whatever huggingface-hub raises in the block into a `HubError`.

    Args:
        repo: the repository the block is about.
        revision: the revision that was asked for, if one was.
    """
    try:
        yield
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, HTTP_ERROR) as error:
        raise HubError(_explanation(error, repo, revision)) from error


def _explanation(error: BaseException, repo: str, revision: str | None) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"{repo} was not asked for anything, because HF_HUB_OFFLINE forbids the network and this is not "
            "in the cache; unset it and run the same command again"
        )
    if isinstance(error, HfHubHTTPError):
        return _refusal(error, repo, revision)
    if isinstance(error, LocalEntryNotFoundError):  # says only that the cache is no way out of its cause
        if error.__cause__ is not None and not isinstance(error.__cause__, FileMetadataError):
            return _explanation(error.__cause__, repo, revision)
        return not_a_hub()
    return (
        f"{constants.ENDPOINT} cannot be reached ({connection_failure(error)}); check the network, the "
        "proxy settings and HF_ENDPOINT, and run the same command again"
    )


def not_a_hub() -> str:
    """What to say of an endpoint whose answers are not a hub's."""
    return (
        f"{constants.ENDPOINT} does not answer as a hub does; check the network, the proxy settings "
        "and HF_ENDPOINT"
    )


def connection_failure(error: BaseException) -> str:
    """Why a connection failed, in a few words, from the system's error underneath."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "its name is not found"
        if isinstance(cause, ConnectionRefusedError):
            return "it refuses the connection"
        if isinstance(cause, TimeoutError):
            return "it does not answer in time"
        if isinstance(cause, ssl.SSLError):
            return "no trusted encrypted connection"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _refusal(error: HfHubHTTPError, repo: str, revision: str | None) -> str:
    """A sentence for an answer that is no success."""
    status = error.response.status_code
    if isinstance(error, GatedRepoError):  # a kind of RepositoryNotFoundError: first
        return f"{repo} is gated: accept its terms on its page, then {_with_access()}"
    unknown = status == 401 and "credentials" not in error.response.headers.get("X-Error-Message", "")
    if (
        isinstance(error, RepositoryNotFoundError) or unknown
    ):  # without a token the hub tells neither from a gate
        return f"there is no repository {repo}, or it is private: check the name, or {_with_access()}"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {revision}; name one of its branches, tags or commits"
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{repo} no longer has this file: it has just changed; run the same command again"
    if isinstance(error, DisabledRepoError):
        return f"{repo} has been disabled; choose another repository"
    if status == 401:
        return f"the hub does not accept the token it was given; make a new one, and {_LOG_IN}"
    if status == 403:
        return f"{repo} may not be read by this account; {_with_access()}"
    if status == 429:
        return (
            f"the hub limits how often it may be asked; run the same command again {_when(error)}, "
            "or log in with `hf auth login` for a higher limit"
        )
    if status >= 500:
        return f"the hub has a fault of its own ({status}); run the same command again later"
    return f"the hub answered {status} when asked for {repo}; check the name, and HF_ENDPOINT if it is set"


def _with_access() -> str:
    if get_token() is None:
        return _LOG_IN
    return "use the token of an account that has access: `hf auth login`, or HF_TOKEN"


def _when(error: HfHubHTTPError) -> str:
    seconds = error.response.headers.get("Retry-After", "")
    return f"in {seconds} seconds" if seconds.isdecimal() else "in a few minutes"
