"""Writing to disk so that a kill or a full disk never leaves half a file."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from medrl.errors import UserError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: afterwards it holds the old content or the new, never half."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON object a line, in one step."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[Any]:
    """Read a file of :func:`write_jsonl`; a last line torn by a kill is left out.

    Raises:
        UserError: another line is damaged.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):  # bytes: a kill may tear a character too
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path}:{number} is damaged; remove the file and run the same command again.") from None
    return rows


def appending(path: Path) -> IO[str]:
    """The file opened to append whole lines: what a kill left of the last one is cut off first."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    return path.open("a", encoding="utf-8")


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write under ``folder`` into one sentence.

    torch and safetensors report a full disk as errors of their own kinds, so those are told by their text.

    Raises:
        UserError: no room, no right, or no such place to write to.
    """
    kept = "What was written before is kept: make room and run the same command again."
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        where = error.filename or folder
        if error.errno in NO_ROOM:
            raise UserError(f"No room left to write {where} ({os.strerror(error.errno)}). {kept}") from error
        if error.errno in NO_RIGHT:
            raise UserError(
                f"{where} cannot be written ({os.strerror(error.errno)}); set runs=FOLDER to another place."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"{where} is no folder one can write to; set runs=FOLDER to another place.") from error
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if any(sign in text for sign in ("PytorchStreamWriter failed", "unexpected pos", "No space left", "File too large")):
            raise UserError(f"No room left to write under {folder} ({text.splitlines()[0][:120]}). {kept}") from error
        raise
