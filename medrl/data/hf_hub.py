"""The Hugging Face hub: one commit a process, patience with its bad moments, and one sentence for whatever goes wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from medrl.errors import UserError
from medrl.files import NO_RIGHT, NO_ROOM

T = TypeVar("T")
Kind = Literal["dataset", "model"]
"""Of a repository on the hub."""


class Unreachable(UserError):
    """The hub cannot be asked now: not what was asked for is wrong, but the way there."""


ELSEWHERE = {
    "dataset": "read the rows from elsewhere with source=local source.root=FOLDER or source=embedded",
    "model": "set model.weights to a folder that holds the weights",
}

UNSET = "unset HF_HUB_OFFLINE"
AGAIN = "run the same command again later, check the network and HF_ENDPOINT, set HF_HUB_OFFLINE=1 to read from the cache"
"""What helps where nothing but the way to the hub is wrong."""


@cache
def rows(hub_id: str, config: str, split: str, revision: str | None) -> Any:
    """A split as ``datasets`` keeps it on disk, fetched if it is not there yet."""
    found = builder(hub_id, config, split, revision)
    with _explained("dataset", hub_id, f"{config}/{split}"):
        found.download_and_prepare()
        return found.as_dataset(split=split)


@cache
def configs(hub_id: str, revision: str | None) -> tuple[str, ...]:
    """All configurations of a data set, in the order in which its card lists them.

    Raises:
        UserError: no such data set, or the hub cannot be asked.
    """
    from datasets import get_dataset_config_names
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    commit = hub_commit("dataset", hub_id, revision)

    with _explained("dataset", hub_id):
        # The card is in the client's cache. datasets itself answers "default" where it cannot ask, whatever there is.
        with suppress(EntryNotFoundError):
            card = DatasetCard.load(hf_hub_download(hub_id, "README.md", repo_type="dataset", revision=commit))
            if listed := card.data.get("configs"):
                return tuple(config["config_name"] for config in listed)
        return tuple(_patiently(lambda: get_dataset_config_names(hub_id, revision=commit)))


@cache
def builder(hub_id: str, config: str, split: str, revision: str | None) -> Any:
    """What ``datasets`` knows of a configuration at one commit, which is its ``hash``. The splits it has are checked.

    Raises:
        UserError: no such data set, configuration or split, or the hub cannot be asked for them.
    """
    from datasets import disable_progress_bars, load_dataset_builder

    if not sys.stderr.isatty():
        disable_progress_bars()
    commit = hub_commit("dataset", hub_id, revision)
    with _explained("dataset", hub_id, f"{config}/{split}"):
        # With a commit for a revision, datasets asks the hub alone and not the server of its data viewer.
        found = _patiently(lambda: load_dataset_builder(hub_id, config, revision=commit))
    if found.hash != commit:
        # datasets takes the newest rows in its cache, whatever their commit, where it cannot fetch those asked for.
        raise UserError(
            f"{hub_id} at commit {commit} can neither be fetched nor read from the cache, which holds commit {found.hash}; "
            f"set source.revision={found.hash} and HF_HUB_OFFLINE=1 to read that one, or try again when the hub can be reached."
        )
    splits = sorted(map(str, found.info.splits or found.config.data_files))
    if split not in splits:
        raise UserError(
            f"{hub_id} has no split {split!r} in its configuration {config!r} but {', '.join(splits)}; "
            f"set data_mix.tasks.NAME.train or .test to {config}/{splits[0]}, say."
        )
    return found


@cache
def hub_commit(kind: Kind, repository: str, revision: str | None) -> str:
    """The commit that a branch or tag names now, or named when it was fetched where ``HF_HUB_OFFLINE=1`` is set.

    A process asks once, so that all it reads is of one commit.

    Raises:
        UserError: no such repository or revision, or the hub cannot be asked.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download, is_offline_mode
    from huggingface_hub.errors import RemoteEntryNotFoundError

    card = "config.json" if kind == "model" else "README.md"
    with _explained(kind, repository):
        # The client notes in its cache which commit a branch named when a file of it was fetched: offline, it is found there.
        if is_offline_mode():
            return Path(hf_hub_download(repository, card, repo_type=kind, revision=revision)).parent.name
        # Asked first, because it fails at once where the client tries a file of a hub that is down for half a minute.
        seconds = constants.HF_HUB_ETAG_TIMEOUT
        info = _patiently(partial(HfApi().repo_info, repository, repo_type=kind, revision=revision, timeout=seconds))
        with suppress(RemoteEntryNotFoundError):
            hf_hub_download(repository, card, repo_type=kind, revision=revision)
        return str(info.sha)


def _patiently(call: Callable[[], T]) -> T:
    """Ask the hub's API again after a bad moment. For files the client does so itself."""
    from huggingface_hub.errors import HfHubHTTPError

    for seconds in (1, 2, 4):
        try:
            return call()
        except HfHubHTTPError as error:
            if getattr(error.response, "status_code", 0) not in (429, 500, 502, 503, 504):
                raise
            time.sleep(seconds)
    return call()


@contextmanager
def _explained(kind: Kind, repository: str, part: str = "") -> Iterator[None]:
    """Turn anything that goes wrong inside the block into `hub_error`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of httpx, huggingface_hub, datasets, pyarrow, YAML: of a dozen kinds that share no base
        raise hub_error(kind, repository, error, part) from error


def hub_error(kind: Kind, repository: str, error: BaseException, part: str = "") -> UserError:
    """One sentence for anything that can go wrong between here and the hub: what, where, why and what to do.

    Args:
        kind: Data set or model.
        repository: Its name on the hub.
        error: What a library raised.
        part: Configuration and split.
    """
    from huggingface_hub.constants import ENDPOINT

    reason, remedy = _diagnosis(kind, repository, error)
    what = f"{repository} ({part})" if part else repository
    said = Unreachable if remedy in (UNSET, AGAIN) else UserError
    return said(f"{what} cannot be read from {ENDPOINT}: {reason}; {remedy}, or {ELSEWHERE[kind]}.")


def _diagnosis(kind: Kind, repository: str, error: BaseException) -> tuple[str, str]:
    """Why, and what to do about it, by the classes of the errors and the status of the answer."""
    import httpx
    from datasets.exceptions import DatasetGenerationError
    from huggingface_hub import constants, errors
    from pyarrow import ArrowException
    from safetensors import SafetensorError

    causes = _causes(error)
    text = first_line(causes[-1])
    responses = (getattr(cause, "response", None) for cause in causes)
    status = next((response.status_code for response in responses if response is not None), 0)
    refused = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno in NO_ROOM | NO_RIGHT), None)
    if refused and not any(isinstance(cause, httpx.TransportError) for cause in causes):  # a firewall has the same number
        return f"the cache cannot be written ({refused})", "make room or set HF_HOME to another folder"
    noun, section = ("data set", "source") if kind == "dataset" else ("model", "model")
    cached = Path(constants.HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}"

    def caused_by(*classes: type[BaseException]) -> bool:
        return any(isinstance(cause, classes) for cause in causes)

    if caused_by(errors.OfflineModeIsEnabled):
        return "it is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it", UNSET
    if status == 403 or caused_by(errors.GatedRepoError):
        return f"its owner has to permit it ({status})", "accept its terms on its page and set HF_TOKEN"
    if caused_by(errors.RevisionNotFoundError):
        return "it has no such revision", f"check {section}.revision"
    if status == 401 or caused_by(errors.RepositoryNotFoundError):
        remedy = "check the name, set HF_TOKEN to a valid token if it is private"
        return f"there is no such {noun}, or it is private ({status})", remedy
    if status == 429 or status >= 500:
        return f"the hub answered {status}", AGAIN
    if caused_by(httpx.TransportError):
        return f"the hub or the network is in trouble ({text})", AGAIN
    if caused_by(DatasetGenerationError, SafetensorError, ArrowException):
        reason = f"its files are damaged or not of the format that their names say ({text})"
        return reason, f"remove {cached} and run the same command again"
    return (
        f"{type(causes[-1]).__name__}: {text}",
        "run the same command again, check its name and data_mix.tasks.NAME.train and .test (CONFIG/SPLIT)",
    )


def _causes(error: BaseException) -> list[BaseException]:
    """An error, what it was raised from, what that was raised from, ..."""
    causes: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in causes:
        causes.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return causes


def first_line(error: BaseException) -> str:
    """The first line of an error's text, to stand inside a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(" .") if lines else type(error).__name__
