"""What makes two parts of a configuration the same: kinds and values. Imports no torch.

Every class that YAML builds is `Identified`: it declares a word of its own (`kind`) and which of its fields teach nothing
(`not_learned`). An id is a hash over kinds and values. No module path, no class name and no path of a file is in it, so that
classes and files may move. Weights and rows are known by the bytes of their files, or by name and revision on the hub.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from medrl.errors import UserError
from medrl.files import write_atomically

Values = dict[str, Any]
"""Kinds and values as JSON has them."""

WEIGHTS = (".safetensors", ".bin", ".gguf")
DESCRIPTIONS = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
"""Configuration, tokenizer, chat template and code that lie beside weights."""
ABOUT_TRAINING = ("training_args.bin", "trainer_state.json", "complete.json")
"""What lies beside weights, and nobody loads with them."""
LARGE_BYTES = 32 * 1024 * 1024
"""A file of this size takes a tenth of a second to hash: its digest is kept on the disk, that of a smaller one in the process."""

codes: dict[str, str] = {}
"""Hash of the Python files of each extension, by the modules and packages that it holds (`medrl.config.extensions`)."""
planned: dict[Path, Mapping[str, str]] = {}
"""``run_id`` and ``family`` of runs that a chain is about to start, by resolved folder: later stages are named before the first
has begun."""


class Identified:
    """A part of the configuration. Its identity is its kind and the values of its fields."""

    kind: ClassVar[str]
    """A word that stays when the class moves or is renamed; its own among the classes that can stand in one place."""
    not_learned: ClassVar[frozenset[str]] = frozenset()
    """Fields that change nothing of what is learned. Those of the base classes count, too."""

    def identity(self) -> Values:
        """Kind and values, and the code where it is no part of medrl; a class whose fields name files says here what is in them.
        Raises `UserError` where a file cannot be read.
        """
        left_out = frozenset[str]().union(*(vars(base).get("not_learned", ()) for base in type(self).__mro__))
        names = [field.name for field in dataclasses.fields(self) if field.name not in left_out]  # type: ignore[arg-type]
        code = {"code": found} if (found := code_of(type(self))) else {}
        return {"kind": self.kind, **code, **{name: plain(getattr(self, name)) for name in names}}


def code_of(cls: type) -> str | None:
    """The hash of the extension that a class is of; None for one of medrl's, whose `kind` stands for its code."""
    return next((code for module, code in codes.items() if f"{cls.__module__}.".startswith(f"{module}.")), None)


def digest(node: Any) -> str:
    """Eight hex digits over a node."""
    return hashlib.sha256(json.dumps(plain(node), sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:8]


def plain(node: Any) -> Any:
    """A node as it is hashed: identities for objects, no nulls in mappings, and 1 for 1.0."""
    if isinstance(node, Identified):
        return plain(node.identity())
    if isinstance(node, Mapping):
        return {key: plain(value) for key, value in node.items() if value is not None}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def of_run(folder: Path, which: Literal["run_id", "family"] = "run_id") -> str:
    """The id of another run, or what it shares with those of other seeds, wherever its folder lies. Raises `UserError` where the
    folder is no run's.
    """
    if known := planned.get(folder.resolve()):
        return known[which]
    for name in ("provenance.json", "metrics.json"):  # folders of older versions have it in the second alone
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")).get(which)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(found, str):
            return found
    raise UserError(f"{folder} does not say which run it is (provenance.json has no {which}); run its command again to its end.")


def of_weights(folder: Path) -> dict[str, str]:
    """The files that are loaded from a folder of weights: the weights, and what says how to read them."""
    suffixes = WEIGHTS + DESCRIPTIONS
    files = sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.name not in ABOUT_TRAINING)
    return {"sha256": of_files((path.name, path) for path in files)}


def of_files(files: Iterable[tuple[str, Path]]) -> str:
    """One hash over several files, in their order, and the names by which they are read."""
    whole = hashlib.sha256()
    for name, path in files:
        whole.update(f"{name}\0{of_file(path)}\n".encode())
    return whole.hexdigest()


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes; that of a large file is cached by path, size and time of change. `UserError` if unreadable."""
    try:
        about = path.stat()
        if about.st_size < LARGE_BYTES:
            return _of_small_file(path.resolve(), about.st_size, about.st_mtime_ns)
        cached = cache("sha256") / hashlib.sha256(f"{path.resolve()}\0{about.st_size}\0{about.st_mtime_ns}".encode()).hexdigest()
        if cached.is_file():
            return cached.read_text(encoding="utf-8")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk it lies on."
        ) from None
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, found)
    except OSError:  # a home that cannot be written to: the file is hashed again next time
        pass
    return found


@lru_cache(maxsize=1024)
def _of_small_file(path: Path, *_size_and_change: int) -> str:
    """Hashed once in a process: a multirun asks for the same weights at each of its points."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cache(name: str) -> Path:
    """A folder of the user's cache; what lies in it is a file each, so that several processes need no lock."""
    return Path(os.environ.get("MEDRL_CACHE") or "~/.cache/medrl").expanduser() / name
