"""The disk: a kill or a full disk never leaves half a file, and whatever is wrong with one that is read is one sentence."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from medrl.errors import UserError, of_system

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}
START_OVER = "bring it back, or start the run over with force=true"
"""The way out of a damaged file that nothing else says again."""
REMOVE = "remove the file, or this line, and run the same command again"
"""That of a damaged line which is made again, or whose loss is small."""
ELSEWHERE = "name another output"
"""What to do where the ``output=FILE`` of a command cannot be written."""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: afterwards it holds the old content or the new, never half."""
    if path.is_dir():  # said before anything is written beside it
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON object a line, in one step."""
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@contextmanager
def guarded(place: object, mend: str) -> Iterator[None]:
    """The one guard of all files that are read back: raises `UserError` where ``place``, a file and its line, cannot be read or
    holds something else, and says how to ``mend`` it. That there is none is no damage.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(f"{place} cannot be read ({os.strerror(error.errno or errno.EIO)}); {mend}.") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{place} is damaged; {mend} ({' '.join(str(error).split())[:120]}).") from None


def read_json(path: Path, mend: str = START_OVER, needs: Iterable[str] = ()) -> dict[str, Any]:
    """Read a file of one JSON object that ``needs`` these keys. Raises `FileNotFoundError` where there is none, `UserError` with
    how to ``mend`` it where it is damaged.
    """
    with guarded(path, mend):
        return _object(json.loads(path.read_bytes()), needs)


def read_jsonl(path: Path, mend: str = REMOVE, needs: Iterable[str] = ()) -> list[Any]:
    """Read a file of :func:`write_jsonl`; a last line torn by a kill is left out, and no file has no lines. Raises `UserError`
    with how to ``mend`` it for any other damaged line, and for one without the keys that it ``needs``: none where lines may be no
    objects.
    """
    try:
        with guarded(path, mend):
            content = path.read_bytes()  # bytes: a kill may tear a character too
    except (FileNotFoundError, NotADirectoryError):
        return []
    rows = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        with guarded(f"{path}:{number}", mend):
            row = json.loads(line)
            rows.append(_object(row, needs) if needs else row)
    return rows


def packaged(module: str, name: str) -> Any:
    """What a YAML or JSON file of the package holds that lies beside a module, by the module's ``__file__``."""
    text = Path(module).with_name(name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        return json.loads(text)
    import yaml

    return yaml.safe_load(text)


def _object(value: Any, needs: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    if lacking := [key for key in needs if key not in value]:
        raise ValueError(f"it says nothing of {lacking[0]}")
    return value


def appending(path: Path) -> IO[str]:
    """The file opened to append whole lines: what a kill left of the last one is cut off first."""
    _cut_torn(path)
    return path.open("a", encoding="utf-8")


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line that survives a kill of this process from then on; safe beside other processes and threads."""
    with path.open("ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut_torn(path)  # nobody else writes now, so it was torn by a kill or a full disk
        file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())


def _cut_torn(path: Path) -> None:
    """Cut off what is behind the last line's end, looking for it from behind: a file may be long."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        whole = file.seek(0, os.SEEK_END)
        while whole:
            begin = max(0, whole - 2**16)
            file.seek(begin)
            if (place := file.read(whole - begin).rfind(b"\n")) >= 0:
                whole = begin + place + 1
                break
            whole = begin
        file.truncate(whole)


def check_folder(output: Path) -> None:
    """Raises `UserError` where there is no folder for a file that a command will write, before it does its work."""
    if not output.parent.is_dir():
        raise UserError(f"There is no folder {output.parent} to write {output.name} to; make it, or {ELSEWHERE}.")


@contextmanager
def explained(folder: Path, elsewhere: str = "set runs=FOLDER to another place") -> Iterator[None]:
    """Turn the operating system's refusals to write under ``folder`` into one sentence, which says how to write ``elsewhere``.

    torch and safetensors report a full disk as errors of their own kinds, so those are told by their text. Raises `UserError` for
    no room, no right, no such place to write to, and other refusals.
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
            raise UserError(f"{where} cannot be written ({os.strerror(error.errno)}); {elsewhere}.") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"{where} is no folder one can write to; {elsewhere}.") from error
        if said := of_system(error, folder):
            raise UserError(said) from error
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if any(sign in text for sign in ("PytorchStreamWriter failed", "unexpected pos", "No space left", "File too large")):
            raise UserError(f"No room left to write under {folder} ({text.splitlines()[0][:120]}). {kept}") from error
        raise
