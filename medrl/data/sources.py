"""Rows from the hub, from a local folder laid out like it, or from the synthetic twins. Always explicit."""

from __future__ import annotations

import hashlib
import json
import random
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

from annotated_types import Gt

from medrl.config.bounds import Most
from medrl.config.identity import Identified, Values, of_file, of_files
from medrl.config.version import __version__
from medrl.data import hf_hub, readers
from medrl.data.example import Example
from medrl.data.lazy import Lazy
from medrl.data.readers import Row
from medrl.errors import Problem, UserError

Split = Literal["train", "test"]
TWINS = Most(10**6, "twins are made anew in every process and held in memory")


@dataclass(frozen=True)
class Location:
    """Rows on the hub, in a local folder of the same layout, made by the task's twin, or in the user's own file."""

    configs: tuple[str, ...]
    """Configurations, read one after the other; ``*`` is every one that there is."""
    split: str
    """``*`` is the split that has its configuration's name."""
    keep: Callable[[Mapping[str, Any]], bool] | None = None
    """Which published rows belong; twins are generated for one split each and need no filter."""
    file: Path | None = None
    """A file of the user's own, or a folder of some, read whatever the source is."""
    repository: str = ""
    """On the hub, or its folder in a local source; empty: the task's own."""
    yours: str = ""
    """Option that names rows of the user's own; empty for a published data set."""

    def split_of(self, config: str) -> str:
        """Name of the split within a configuration."""
        return config if self.split == "*" else self.split


class Published(Protocol):
    """What a source asks of a task to find its rows."""

    twin_configs: ClassVar[tuple[str, ...]]

    @property
    def name(self) -> str:
        """Of the data set."""

    @property
    def hub_id(self) -> str:
        """Its repository on the hub."""

    def location(self, split: Split) -> Location:
        """Where the rows of a split lie."""

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """A synthetic row in the published column names."""

    def parse(self, row: Row) -> Example:
        """The example that a row holds."""

    def stem(self, example: Example) -> str:
        """What tells its question from others of the data set."""


@dataclass(frozen=True, kw_only=True)
class Source(Identified, ABC):
    """Where rows come from; printed with every result and recorded in every run."""

    name: ClassVar[str]
    synthetic: ClassVar[bool] = False
    fetches: ClassVar[bool] = False
    """Whether rows may come over a network."""

    def rows(self, task: Published, split: Split) -> Iterable[Row]:
        """All rows of one split of a task, in their published order; those of the user's own file whatever the source is.
        Twins are `Lazy`.

        Raises:
            UserError: they cannot be read.
            RowError: one of them is no row.
        """
        place = task.location(split)
        if place.file:
            return (row for path in readers.files(place.file, split) for row in readers.read(path))
        found = self._rows(task, split, place)
        # Twins are made for one split each: a filter of published rows has nothing to say of them.
        keep = None if self.synthetic else place.keep
        return (row for row in found if row.flaw or keep(row.values)) if keep else found

    def invents(self, task: Published, split: Split) -> bool:
        """Whether the rows of a split are synthetic twins, which may well repeat themselves."""
        return self.synthetic and task.location(split).file is None

    def fingerprint(self, task: Published, split: Split) -> dict[str, str]:
        """What tells these rows from any others: recorded with every run, so that a number can be traced to its data.

        Raises:
            UserError: there is no such split here.
        """
        place = task.location(split)
        if place.file:
            return {"file": place.file.name, "sha256": _of_own(place.file, split)}
        return self._fingerprint(task, split, place)

    def identity_of(self, task: Published, split: Split) -> Values:
        """Which rows these are, whatever folder they lie in; asks no network.

        Raises:
            UserError: there is no such split here.
        """
        place = task.location(split)
        if place.file:
            return {"sha256": _of_own(place.file, split)}
        named = {"kind": self.kind, "data": _repository(task, place), "configs": list(place.configs), "split": place.split}
        return named | self._identity_of(task, split, place)

    @abstractmethod
    def _identity_of(self, task: Published, split: Split, place: Location) -> Values:
        """What tells the rows of this source from others of the same name."""

    @abstractmethod
    def _rows(self, task: Published, split: Split, place: Location) -> Iterable[Row]:
        """The rows of this source, before the task's filter."""

    @abstractmethod
    def _fingerprint(self, task: Published, split: Split, place: Location) -> dict[str, str]: ...

    def describe(self) -> str:
        """One phrase for tables and reports."""
        return self.name

    def problems(self, splits: Iterable[tuple[Published, Split]]) -> Iterator[Problem]:
        """Mistakes that can be seen without reading rows.

        Args:
            splits: What a run reads.
        """
        return iter(())


def _repository(task: Published, place: Location) -> str:
    """The data set of a location."""
    return place.repository or task.hub_id


def _of_own(path: Path, split: Split) -> str:
    """A hash over a file, or over those of a folder."""
    found = readers.files(path, split)
    return of_file(path) if found == [path] else of_files((file.name, file) for file in found)


@dataclass(frozen=True, kw_only=True)
class Embedded(Source):
    """Synthetic twins of the data sets, made by a seeded generator. They exercise everything and mean nothing."""

    kind: ClassVar[str] = "embedded"
    name: ClassVar[str] = "embedded"
    synthetic: ClassVar[bool] = True

    train_rows: Annotated[int, Gt(0), TWINS]
    """Rows of a training split."""
    test_rows: Annotated[int, Gt(0), TWINS]
    """Rows of a test split."""

    def problems(self, splits: Iterable[tuple[Published, Split]]) -> Iterator[Problem]:
        for task, split in splits:
            if repository := task.location(split).repository:
                yield Problem(
                    "", f"is embedded, and {repository} is no file or folder here; write source=hub to read it from the hub"
                )

    def _rows(self, task: Published, split: Split, place: Location) -> Lazy[Row]:
        """Twins of a split: the same rows in every run, whatever its seed, as a published data set would be.

        No question stands in both splits, so that none can be known by heart.
        """
        configs = task.twin_configs if "*" in place.configs else place.configs
        made: Callable[..., Row] = _twin if _known_by_fields(task) else _twin.__wrapped__

        def twin(index: int) -> Row:
            config = configs[index % len(configs)]
            return made(task, split, config, f"embedded:{task.hub_id}/{config}/{place.split}:{index + 1}")

        return Lazy(self.train_rows if split == "train" else self.test_rows, twin)

    def _identity_of(self, task: Published, split: Split, place: Location) -> Values:
        return {"rows": self.train_rows if split == "train" else self.test_rows}

    def _fingerprint(self, task: Published, split: Split, place: Location) -> dict[str, str]:
        """The first rows stand for all: a change of the generator shows in every row."""
        digest = hashlib.sha256()
        for row in islice(self._rows(task, split, place), 100):
            digest.update(json.dumps(row.values, sort_keys=True).encode())
        count = self.train_rows if split == "train" else self.test_rows
        return {"generator": f"medrl {__version__}", "rows": str(count), "sha256_of_first_100": digest.hexdigest()}

    def describe(self) -> str:
        return "embedded (synthetic twins: these numbers say nothing about medicine)"


@lru_cache(maxsize=2**14)
def _twin(task: Published, split: Split, config: str, where: str) -> Row:
    """One twin. A run reads its training rows about ten times, and making one takes ten times as long as parsing it."""
    rng = random.Random(f"{where}:{split}")
    row = Row(task.twin(rng, config), where, config)
    while _part(task, row) != split:
        row = Row(task.twin(rng, config), where, config)
    return row


def _known_by_fields(task: Published) -> bool:
    """Whether equal tasks have equal twins: their own fields decide, and no file. An extension's may hold what has no hash."""
    try:
        hash(task)
    except TypeError:
        return False
    return not (task.location("train").file or task.location("test").file)


def _part(task: Published, row: Row) -> Split:
    """The split that a twin belongs to, by what it asks: an eighth is tested on."""
    return "train" if zlib.crc32(task.stem(task.parse(row)).encode()) % 8 else "test"


@dataclass(frozen=True, kw_only=True)
class Local(Source):
    """A folder laid out as on the hub: ``<hub id>/<config>/<split>.jsonl.gz`` (or ``.jsonl``)."""

    kind: ClassVar[str] = "local"
    name: ClassVar[str] = "local"

    root: str
    """The folder."""

    def problems(self, splits: Iterable[tuple[Published, Split]]) -> Iterator[Problem]:
        if not Path(self.root).is_dir():
            yield Problem("root", f"{self.root} is no folder")
            return
        for task, split in splits:
            place = task.location(split)
            if not place.file and not self._files(task, place):
                yield Problem("root", self._absence(task, place))

    def _rows(self, task: Published, split: Split, place: Location) -> Iterator[Row]:
        for config, path in self._found(task, place):
            yield from readers.read(path, config)

    def _identity_of(self, task: Published, split: Split, place: Location) -> Values:
        return {"sha256": of_files(self._found(task, place))}

    def _fingerprint(self, task: Published, split: Split, place: Location) -> dict[str, str]:
        """The files and a hash of their bytes."""
        paths = [path for _, path in self._found(task, place)]
        digests = [of_file(path) for path in paths]
        names = [path.relative_to(self.root).as_posix() for path in paths]
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        return {"file": ", ".join(names), "sha256": whole}

    def _found(self, task: Published, place: Location) -> list[tuple[str, Path]]:
        if found := self._files(task, place):
            return found
        raise UserError(f"source.root: {self._absence(task, place)}.")

    def _files(self, task: Published, place: Location) -> list[tuple[str, Path]]:
        """The file of each configuration; none where one of them is absent."""
        folder = Path(self.root) / _repository(task, place)
        configs = place.configs
        if "*" in configs:
            configs = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ()
        found = []
        for config in configs:
            paths = [folder / config / f"{place.split_of(config)}.{end}" for end in ("jsonl.gz", "jsonl")]
            found += [(config, path) for path in paths if path.is_file()][:1]
        return found if len(found) == len(configs) else []

    def _absence(self, task: Published, place: Location) -> str:
        if place.yours:
            return f"{self.root} has no rows of your own; write data_mix.tasks.{task.name}.{place.yours}=FILE"
        config = place.configs[0] if len(place.configs) == 1 else f"{{{','.join(place.configs)}}}"
        return (
            f"{task.name} is not in {self.root}: {_repository(task, place)}/{config}/{place.split_of(config)}.jsonl.gz is "
            f"absent; put it there, or choose a data_mix without {task.name}"
        )


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """The Hugging Face hub, or the address in ``HF_ENDPOINT``."""

    kind: ClassVar[str] = "hub"
    name: ClassVar[str] = "hub"
    fetches: ClassVar[bool] = True

    revision: str | None
    """Branch, tag or commit of every data set; null is the newest, and the commit that was read is recorded."""

    def _rows(self, task: Published, split: Split, place: Location) -> Iterator[Row]:
        """The rows of a split, loaded by ``datasets``."""
        for config in self._configs(task, place):
            name = place.split_of(config)
            where = f"{_repository(task, place)}/{config}/{name}"
            for number, values in enumerate(hf_hub.rows(_repository(task, place), config, name, self.revision), start=1):
                yield Row(values, f"{where}:{number}", config)

    def _identity_of(self, task: Published, split: Split, place: Location) -> Values:
        return {"revision": self.revision}

    def _fingerprint(self, task: Published, split: Split, place: Location) -> dict[str, str]:
        """The commit; no data file is fetched for it."""
        config = self._configs(task, place)[0]
        repository = _repository(task, place)
        builder = hf_hub.builder(repository, config, place.split_of(config), self.revision)
        return {"repository": repository, "config": ", ".join(place.configs), "split": place.split, "commit": builder.hash}

    def _configs(self, task: Published, place: Location) -> tuple[str, ...]:
        return hf_hub.configs(_repository(task, place), self.revision) if "*" in place.configs else place.configs
