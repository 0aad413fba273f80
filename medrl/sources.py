"""Rows from the hub, from a local folder laid out like it, or from the synthetic twins. Always explicit."""

from __future__ import annotations

import gzip
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from annotated_types import Gt

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
            splits: list[Split] = ["train"] if key in run.data_mix.weights else []
            splits += ["test"] if key in run.data_mix.held_out else []
            for split in splits:
                if not self._file(task, split):
                    place = task.location(split)
                    yield Problem(
                        "root",
                        f"{task.name} is not in {self.root}: {task.hub_id}/{place.config}/{place.split}.jsonl.gz is absent; "
                        f"put it there, or choose a data_mix without {task.name}",
                    )

    def rows(self, task: Task, split: Split) -> Iterator[Row]:
        """The rows of a file, each named by its line.

        Raises:
            UserError: no such file, or it is no gzip.
            RowError: a line that is no JSON object.
        """
        place = task.location(split)
        path = self._file(task, split)
        if not path:
            raise UserError(f"{Path(self.root) / task.hub_id / place.config} holds no {place.split}.jsonl.gz.")
        opener = gzip.open if path.suffix == ".gz" else open
        try:
            with opener(path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    row = _parsed(line, f"{path}:{number}")
                    if place.keep is None or place.keep(row.values):
                        yield row
        except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged ({error}); fetch it again.") from None

    def _file(self, task: Task, split: Split) -> Path | None:
        place = task.location(split)
        folder = Path(self.root) / task.hub_id / place.config
        return next((path for end in ("jsonl.gz", "jsonl") if (path := folder / f"{place.split}.{end}").is_file()), None)


def _parsed(line: str, where: str) -> Row:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise RowError(f"{where}: no JSON object ({error.msg}).") from None
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
        for number, values in enumerate(self._load(task.hub_id, place.config, place.split), start=1):
            if place.keep is None or place.keep(values):
                yield Row(values, f"{where}:{number}")

    def _load(self, hub_id: str, config: str, split: str) -> Any:
        from datasets import load_dataset
        from datasets.exceptions import DatasetNotFoundError
        from huggingface_hub.errors import HfHubHTTPError
        from requests.exceptions import RequestException

        name = f"{hub_id} ({config}, {split})"
        try:
            return load_dataset(hub_id, config, split=split, revision=self.revision)
        except (DatasetNotFoundError, HfHubHTTPError, RequestException, OSError, ValueError) as error:
            raise hub_error(name, error) from error


def hub_error(name: str, error: BaseException) -> UserError:
    """One sentence for anything that can go wrong between here and the hub."""
    import os

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(
        f"{name} cannot be read from {endpoint} ({type(error).__name__}: {text[:200]}). "
        "Check the name and the network (HF_TOKEN for a gated one), or use source=local source.root=FOLDER or source=embedded."
    )
