"""Rows from the hub, from a local folder laid out like it, or from the synthetic twins. Always explicit."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from annotated_types import Gt

from medrl import __version__, hub
from medrl.errors import Problem, RowError, UserError

if TYPE_CHECKING:
    from medrl.config import Run
    from medrl.tasks.base import Split, Task


class Row(NamedTuple):
    """One row as published, and where it stands, for messages."""

    values: Mapping[str, Any]
    where: str


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where rows come from; printed with every result and recorded in every run."""

    name: ClassVar[str]
    synthetic: ClassVar[bool] = False

    @abstractmethod
    def rows(self, task: Task, split: Split) -> Iterator[Row]:
        """All rows of one split of a task, in their published order."""

    @abstractmethod
    def fingerprint(self, task: Task, split: Split) -> dict[str, str]:
        """What tells these rows from any others: recorded with every run, so that a number can be traced to its data.

        Raises:
            UserError: there is no such split here.
        """

    def describe(self) -> str:
        """One phrase for tables and reports."""
        return self.name

    def problems(self, run: Run) -> Iterator[Problem]:
        """Mistakes that can be seen without reading rows."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class Embedded(Source):
    """Synthetic twins of the data sets, made by a seeded generator. They exercise everything and mean nothing."""

    name: ClassVar[str] = "embedded"
    synthetic: ClassVar[bool] = True

    train_rows: Annotated[int, Gt(0)]
    """Rows of a training split."""
    test_rows: Annotated[int, Gt(0)]
    """Rows of a test split."""

    def rows(self, task: Task, split: Split) -> Iterator[Row]:
        """Twins of a split: the same rows in every run, whatever its seed, as a published data set would be."""
        place = task.location(split)
        for index in range(self.train_rows if split == "train" else self.test_rows):
            where = f"embedded:{task.hub_id}/{place.config}/{place.split}:{index + 1}"
            yield Row(task.twin(random.Random(f"{where}:{split}")), where)

    def fingerprint(self, task: Task, split: Split) -> dict[str, str]:
        """The first rows stand for all: a change of the generator shows in every row."""
        digest = hashlib.sha256()
        for row in islice(self.rows(task, split), 100):
            digest.update(json.dumps(row.values, sort_keys=True).encode())
        rows = self.train_rows if split == "train" else self.test_rows
        return {"generator": f"medrl {__version__}", "rows": str(rows), "sha256_of_first_100": digest.hexdigest()}

    def describe(self) -> str:
        return "embedded (synthetic twins: these numbers say nothing about medicine)"


@dataclass(frozen=True, kw_only=True)
class Local(Source):
    """A folder laid out as on the hub: ``<hub id>/<config>/<split>.jsonl.gz`` (or ``.jsonl``)."""

    name: ClassVar[str] = "local"

    root: str
    """The folder."""

    def problems(self, run: Run) -> Iterator[Problem]:
        if not Path(self.root).is_dir():
            yield Problem("root", f"{self.root} is no folder")
            return
        for key, task in run.data_mix.tasks.items():
            splits: list[Split] = ["train"] if run.data_mix.weights.get(key, 0) > 0 else []
            splits += ["test"] if key in run.data_mix.held_out else []
            for split in splits:
                if not self._found(task, split):
                    yield Problem("root", self._absence(task, split))

    def rows(self, task: Task, split: Split) -> Iterator[Row]:
        """The rows of a file, each named by its line. Empty lines are passed over.

        Raises:
            UserError: no such file, or it is damaged.
            RowError: a line that is no JSON object.
        """
        place, path = task.location(split), self._file(task, split)
        opener = gzip.open if path.suffix == ".gz" else open
        number = 0
        try:
            with opener(path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if not line.strip():
                        continue
                    row = _parsed(line, f"{path}:{number}")
                    if place.keep is None or place.keep(row.values):
                        yield row
        except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged after line {number} ({error}); fetch it again.") from None
        except OSError as error:
            raise _unreadable(path, error) from None

    def fingerprint(self, task: Task, split: Split) -> dict[str, str]:
        """The file and a hash of its bytes."""
        path = self._file(task, split)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error) from None
        return {"file": path.relative_to(self.root).as_posix(), "sha256": digest}

    def _file(self, task: Task, split: Split) -> Path:
        if path := self._found(task, split):
            return path
        raise UserError(f"source.root: {self._absence(task, split)}.")

    def _found(self, task: Task, split: Split) -> Path | None:
        place = task.location(split)
        folder = Path(self.root) / task.hub_id / place.config
        return next((path for end in ("jsonl.gz", "jsonl") if (path := folder / f"{place.split}.{end}").is_file()), None)

    def _absence(self, task: Task, split: Split) -> str:
        place = task.location(split)
        return (
            f"{task.name} is not in {self.root}: {task.hub_id}/{place.config}/{place.split}.jsonl.gz is absent; "
            f"put it there, or choose a data_mix without {task.name}"
        )


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk it lies on.")


def _parsed(line: str, where: str) -> Row:
    try:
        values = json.loads(line.rstrip("\n"))
    except json.JSONDecodeError as error:
        raise RowError(f"{where}: no JSON object ({error.msg}, column {error.colno}).") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise RowError(f"{where}: no JSON object ({error}).") from None
    if not isinstance(values, dict):
        raise RowError(f"{where}: no JSON object but {type(values).__name__}.")
    return Row(values, where)


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """The Hugging Face hub, or the address in ``HF_ENDPOINT``."""

    name: ClassVar[str] = "hub"

    revision: str | None
    """Branch, tag or commit of every data set; null is the newest, and the commit that was read is recorded."""

    def rows(self, task: Task, split: Split) -> Iterator[Row]:
        """The rows of a split, loaded by ``datasets``.

        Raises:
            UserError: the hub cannot be reached, or has no such data set, configuration or split.
        """
        place = task.location(split)
        where = f"{task.hub_id}/{place.config}/{place.split}"
        for number, values in enumerate(hub.rows(task.hub_id, place.config, place.split, self.revision), start=1):
            if place.keep is None or place.keep(values):
                yield Row(values, f"{where}:{number}")

    def fingerprint(self, task: Task, split: Split) -> dict[str, str]:
        """The commit; no data file is fetched for it."""
        place = task.location(split)
        builder = hub.builder(task.hub_id, place.config, place.split, self.revision)
        return {"repository": task.hub_id, "config": place.config, "split": place.split, "commit": builder.hash}
