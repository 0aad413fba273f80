"""Rows from the hub, from a local folder laid out like it, or from the synthetic twins. Always explicit."""

from __future__ import annotations

import hashlib
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from medrl import __version__, hub, rows
from medrl.errors import Problem, UserError
from medrl.rows import Row

if TYPE_CHECKING:
    from medrl.config.schema import Run
    from medrl.tasks.base import Location, Split, Task


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where rows come from; printed with every result and recorded in every run."""

    name: ClassVar[str]
    synthetic: ClassVar[bool] = False

    def rows(self, task: Task, split: Split) -> Iterator[Row]:
        """All rows of one split of a task, in their published order; those of the user's own file whatever the source is.

        Raises:
            UserError: they cannot be read.
            RowError: one of them is no row.
        """
        place = task.location(split)
        if place.file:
            return rows.read(place.file)
        found = self._rows(task, split, place)
        # Twins are made for one split each: a filter of published rows has nothing to say of them.
        keep = None if self.synthetic else place.keep
        return (row for row in found if keep(row.values)) if keep else found

    def fingerprint(self, task: Task, split: Split) -> dict[str, str]:
        """What tells these rows from any others: recorded with every run, so that a number can be traced to its data.

        Raises:
            UserError: there is no such split here.
        """
        place = task.location(split)
        if place.file:
            return {"file": place.file.name, "sha256": rows.fingerprint(place.file)}
        return self._fingerprint(task, split, place)

    @abstractmethod
    def _rows(self, task: Task, split: Split, place: Location) -> Iterator[Row]:
        """The rows of this source, before the task's filter."""

    @abstractmethod
    def _fingerprint(self, task: Task, split: Split, place: Location) -> dict[str, str]: ...

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

    def _rows(self, task: Task, split: Split, place: Location) -> Iterator[Row]:
        """Twins of a split: the same rows in every run, whatever its seed, as a published data set would be."""
        configs = task.twin_configs if "*" in place.configs else place.configs
        for index in range(self.train_rows if split == "train" else self.test_rows):
            config = configs[index % len(configs)]
            where = f"embedded:{task.hub_id}/{config}/{place.split}:{index + 1}"
            yield Row(task.twin(random.Random(f"{where}:{split}"), config), where, config)

    def _fingerprint(self, task: Task, split: Split, place: Location) -> dict[str, str]:
        """The first rows stand for all: a change of the generator shows in every row."""
        digest = hashlib.sha256()
        for row in islice(self._rows(task, split, place), 100):
            digest.update(json.dumps(row.values, sort_keys=True).encode())
        count = self.train_rows if split == "train" else self.test_rows
        return {"generator": f"medrl {__version__}", "rows": str(count), "sha256_of_first_100": digest.hexdigest()}

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
                place = task.location(split)
                if not place.file and not self._files(task, place):
                    yield Problem("root", self._absence(task, place))

    def _rows(self, task: Task, split: Split, place: Location) -> Iterator[Row]:
        for config, path in self._found(task, place):
            yield from rows.read(path, config)

    def _fingerprint(self, task: Task, split: Split, place: Location) -> dict[str, str]:
        """The files and a hash of their bytes."""
        paths = [path for _, path in self._found(task, place)]
        digests = [rows.fingerprint(path) for path in paths]
        names = [path.relative_to(self.root).as_posix() for path in paths]
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        return {"file": ", ".join(names), "sha256": whole}

    def _found(self, task: Task, place: Location) -> list[tuple[str, Path]]:
        if found := self._files(task, place):
            return found
        raise UserError(f"source.root: {self._absence(task, place)}.")

    def _files(self, task: Task, place: Location) -> list[tuple[str, Path]]:
        """The file of each configuration; none where one of them is absent."""
        folder = Path(self.root) / task.hub_id
        configs = place.configs
        if "*" in configs:
            configs = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()
        found = []
        for config in configs:
            stem = config if place.split == "*" else place.split
            paths = [folder / config / f"{stem}.{end}" for end in ("jsonl.gz", "jsonl")]
            found += [(config, path) for path in paths if path.is_file()][:1]
        return found if len(found) == len(configs) else []

    def _absence(self, task: Task, place: Location) -> str:
        config = place.configs[0] if len(place.configs) == 1 else f"{{{','.join(place.configs)}}}"
        stem = config if place.split == "*" else place.split
        return (
            f"{task.name} is not in {self.root}: {task.hub_id}/{config}/{stem}.jsonl.gz is absent; "
            f"put it there, or choose a data_mix without {task.name}"
        )


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """The Hugging Face hub, or the address in ``HF_ENDPOINT``."""

    name: ClassVar[str] = "hub"

    revision: str | None
    """Branch, tag or commit of every data set; null is the newest, and the commit that was read is recorded."""

    def _rows(self, task: Task, split: Split, place: Location) -> Iterator[Row]:
        """The rows of a split, loaded by ``datasets``."""
        for config in self._configs(task, place):
            name = config if place.split == "*" else place.split
            where = f"{task.hub_id}/{config}/{name}"
            for number, values in enumerate(hub.rows(task.hub_id, config, name, self.revision), start=1):
                yield Row(values, f"{where}:{number}", config)

    def _fingerprint(self, task: Task, split: Split, place: Location) -> dict[str, str]:
        """The commit; no data file is fetched for it."""
        config = self._configs(task, place)[0]
        name = config if place.split == "*" else place.split
        builder = hub.builder(task.hub_id, config, name, self.revision)
        return {"repository": task.hub_id, "config": ", ".join(place.configs), "split": place.split, "commit": builder.hash}

    def _configs(self, task: Task, place: Location) -> tuple[str, ...]:
        return hub.configs(task.hub_id, self.revision) if "*" in place.configs else place.configs
