"""An export to the hub: one commit, so that a repository holds all of it or what it held before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrl.errors import UserError
from medrl.export.asked_again import Line
from medrl.files import read_json

RECORD = "export.json"
"""What the export was made of, its files and their agreement; the last file that is written."""


def check(repository: str) -> None:
    """Whether an export may be pushed there, asked before anything is computed. Raises `UserError` for no token, no such name, no
    answer, or a repository with what no export has written.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise UserError(f"push={repository} is no name of a repository; write push=ORG/NAME.") from None
    if repository.count("/") != 1:
        raise UserError(f"push={repository} is no name of a repository; write push=ORG/NAME.")
    if not get_token():
        raise UserError(f"push={repository} needs a token that may write there: set HF_TOKEN, or log in with `hf auth login`.")
    with _explained(repository, "nothing was exported"):
        HfApi().whoami()
        try:
            there = HfApi().list_repo_files(repository)
        except RepositoryNotFoundError:
            return
    others = set(there) - {".gitattributes", "README.md"}
    if others and RECORD not in there:
        raise UserError(
            f"{repository} holds a model that no export has written ({', '.join(sorted(others)[:3])}); take another name."
        )


def push(out: Path, repository: str, *, private: bool) -> str:
    """Make the repository what the folder is, files of an earlier export gone; its address. Raises `UserError` where the hub
    refuses, or does not answer; the export is kept.
    """
    from huggingface_hub import HfApi

    record: Line = read_json(out / RECORD, "export again")
    api = HfApi()
    with _explained(repository, "the export is kept, and the same command pushes it"):
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=out,
            commit_message=f"medrl run {record['run']}-{record['run_id']}",
            delete_patterns="*",
        )
    return str(address)


@contextmanager
def _explained(repository: str, state: str) -> Iterator[None]:
    """Raises `UserError` for anything that goes wrong between here and the hub; ``state`` says what is left of the work."""
    import httpx
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError

    from medrl.data.hf_hub import first_line

    try:
        yield
    except (HfHubHTTPError, httpx.HTTPError, OSError, RuntimeError) as error:
        response: Any = getattr(error, "response", None)
        status = getattr(response, "status_code", 0)
        if status in (401, 403):
            why = f"The token may not write to {repository} on {ENDPOINT} ({status})"
            raise UserError(f"{why}; {state}. Set HF_TOKEN to one that may.") from error
        raise UserError(f"{repository} cannot be pushed to {ENDPOINT} ({first_line(error)}); {state}.") from error
