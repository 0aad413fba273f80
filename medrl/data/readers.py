"""Rows from a file: JSON lines (plain or gzip), CSV, Parquet; every mistake in it named by file and line."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medrl.errors import RowError, UserError

SUFFIXES = (".jsonl.gz", ".jsonl", ".csv", ".parquet")


class Row(NamedTuple):
    """One row as published, and where it stands, for messages."""

    values: Mapping[str, Any]
    where: str
    config: str = ""
    """The configuration of the data set that it was read from."""


def read(path: Path, config: str = "") -> Iterator[Row]:
    """The rows of a file, each named by its line. Empty lines are passed over.

    Raises:
        UserError: no such file, it is damaged, or of a kind that is not known.
        RowError: a line that is no row.
    """
    kind = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")
    if not kind:
        raise UserError(f"{path} is of no kind that can be read; there is {', '.join(SUFFIXES)}.")
    try:
        found = {".csv": _csv, ".parquet": _parquet}.get(kind, _jsonl)(path)
        for number, values in found:
            yield Row(values, f"{path}:{number}", config)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> UserError:
    """One sentence for a file that the operating system does not give."""
    return UserError(f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk it lies on.")


def _damaged(path: Path, number: int, error: Exception) -> UserError:
    return UserError(f"{path} is damaged after line {number} ({error}); fetch it again.")


def _jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parsed(line, f"{path}:{number}")
    except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise _damaged(path, number, error) from None


def _parsed(line: str, where: str) -> Mapping[str, Any]:
    try:
        values = json.loads(line.rstrip("\n"))
    except json.JSONDecodeError as error:
        raise RowError(f"{where}: no JSON object ({error.msg}, column {error.colno}).") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise RowError(f"{where}: no JSON object ({error}).") from None
    if not isinstance(values, dict):
        raise RowError(f"{where}: no JSON object but {type(values).__name__}.")
    return values


def _csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(sys.maxsize)  # abstracts are longer than the module's 128 KB
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a byte-order mark in front
            reader = csv.DictReader(file, strict=True)
            for values in reader:
                number = reader.line_num
                if None in values or None in values.values():
                    columns = len(reader.fieldnames or ())
                    raise RowError(f"{path}:{number}: the header has {columns} columns, this row has another number.")
                yield number, values
    except (csv.Error, UnicodeDecodeError) as error:
        raise _damaged(path, number, error) from None


def _parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield number, values
    except ArrowException as error:
        raise _damaged(path, number, error) from None
