"""Rows from files of any kind: JSON, JSON lines, CSV, TSV, Excel, Parquet, plain or gzip, or a folder of them.

A row that cannot be read is a row, too: it says what is wrong with it, so that `parsed` can name all of them in one message.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from medrl.errors import BadRows, RowError, UserError

T = TypeVar("T")
Numbered = tuple[int, Mapping[str, Any] | str]
"""Line or place of a row from 1, and its values, or what is wrong with it."""
SEPARATORS = ",;\t|"
"""Of the columns of a CSV file."""
SPLIT_NAMES = {"train": ("train",), "test": ("test", "validation", "valid", "dev", "val")}
"""Split -> what the names of its files begin with, the first that there is."""

ABOUT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files of a data set that hold no rows."""


class Row(NamedTuple):
    """One row as published, and where it stands, for messages."""

    values: Mapping[str, Any]
    where: str
    config: str = ""
    """The configuration of the data set that it was read from."""
    flaw: str = ""
    """Why it is no row; empty where it is one."""


def parsed(rows: Iterable[Row], parse: Callable[[Row], T]) -> list[T]:
    """What every row says.

    Raises:
        RowError: a row cannot be read. With all that cannot, counted, and the first of them named by file and line.
    """
    found: list[T] = []
    refused: list[str] = []
    for row in rows:
        try:
            if row.flaw:
                raise RowError(f"{row.where}: {row.flaw}.")
            found.append(parse(row))
        except RowError as error:
            refused.append(str(error))
    if refused:
        raise BadRows(refused, len(found) + len(refused))
    return found


@cache
def note(message: str) -> None:
    """Say something about a file: once in a process, and of several processes in the first."""
    if os.environ.get("RANK", "0") == "0":
        print(f"rows     {message}", file=sys.stderr, flush=True)


def files(path: Path, split: str) -> list[Path]:
    """The files of rows that a path names: itself, or those of a folder that are called like the split, or else all of it. A
    folder of the hub has them in a folder of its own (``data``, or one a configuration).

    Raises:
        UserError: there is nothing of a kind that can be read, or folders of rows, among which one has to be named.
    """
    if not path.is_dir():
        return [path]
    found = _rows_in(path)
    inner = [] if found else [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _rows_in(folder)]
    if len(inner) > 1:
        raise UserError(f"{path} holds rows in {', '.join(folder.name for folder in inner)}; name one of these folders.")
    if inner:
        return files(inner[0], split)
    by_split = {
        name: [file for file in found if re.match(rf"{name}\b|{name}_", file.name)] for name in sum(SPLIT_NAMES.values(), ())
    }
    chosen = next((by_split[name] for name in SPLIT_NAMES[split] if by_split[name]), [])
    if not chosen and any(by_split.values()):
        raise UserError(f"{path} holds {', '.join(file.name for file in found)} and no file for {split}; name the file itself.")
    if not found:
        raise UserError(f"{path} holds no file of a kind that can be read; there is {', '.join(SUFFIXES)}.")
    return chosen or found


def suffix_of(name: str) -> str:
    """Which of `SUFFIXES` a file's name ends in, large letters or small; empty where it is none."""
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.lower().endswith(suffix)), "")


def _rows_in(folder: Path) -> list[Path]:
    """The files of rows in a folder, without what `datasets` writes about them."""
    return sorted(file for file in folder.iterdir() if suffix_of(file.name) and file.name not in ABOUT_ROWS)


def read(path: Path, config: str = "") -> Iterator[Row]:
    """The rows of a file, each named by its line (its place where a file has no lines). Empty lines are passed over.

    Raises:
        UserError: no such file, it is damaged, of a kind that is not known, or its columns cannot be told apart.
    """
    suffix = suffix_of(path.name)
    if not suffix:
        raise UserError(f"{path} is of no kind that can be read; there is {', '.join(SUFFIXES)}.")
    number, name = 0, str(path)
    try:
        for number, values in READERS[suffix.removesuffix(".gz")](path):
            if isinstance(values, str):
                yield Row({}, f"{name}:{number}", config, values)
            else:
                yield Row(values, f"{name}:{number}", config)
    except UserError:
        raise
    except UnicodeDecodeError:
        raise _damaged(path, number, "it is not UTF-8; save it as UTF-8 if it is whole") from None
    except (gzip.BadGzipFile, zlib.error, EOFError, csv.Error) as error:
        raise _damaged(path, number, error) from None
    except OSError as error:
        raise unreadable(path, error) from None
    except OverflowError as error:
        raise UserError(f"{path} holds a time after line {number} that no calendar has ({error}); write it as text.") from None
    except Exception as error:  # of pyarrow, of openpyxl and of what they call: each has kinds of its own
        raise _damaged(path, number, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None


def unreadable(path: Path, error: OSError) -> UserError:
    """One sentence for a file that the operating system does not give."""
    return UserError(f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk it lies on.")


def _damaged(path: Path, number: int, error: object) -> UserError:
    return UserError(f"{path} is damaged after line {number} ({error}); fetch it again.")


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix.lower() == ".gz" else content


# --- JSON ------------------------------------------------------------------------------------------------------------


def _jsonl(path: Path) -> Iterator[Numbered]:
    """A JSON object a line, in UTF-8 or with the mark of UTF-16."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as file:
        encoding = _unicode(file.read(2))
    with opener(path, "rt", encoding=encoding) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _object(line)


def _unicode(mark: bytes) -> str:
    return "utf-16" if mark[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _object(line: str) -> Mapping[str, Any] | str:
    try:
        values = _loads(line.rstrip("\n"))
    except json.JSONDecodeError as error:
        return f"no JSON object ({error.msg}, column {error.colno})"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end, a key twice
        return f"no JSON object ({error})"
    return values if isinstance(values, dict) else f"no JSON object but {type(values).__name__}"


def _loads(text: str) -> Any:
    """JSON whose NaN is null, as a table with gaps writes it.

    Raises:
        ValueError: it is none, a key stands twice, a number is infinite, or half of a character stands alone.
    """
    values = _DECODER.decode(text)
    check_characters(values, text)
    return values


def check_characters(values: Any, written: str) -> None:
    """Raises:
    ValueError: half of a character stands alone in what a text spells, which no tokenizer reads and no file holds.
    """
    if "\\u" in written and "\\ud" in written.lower():
        try:
            json.dumps(values, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            raise ValueError("half of a character stands alone, a lone surrogate") from None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return values


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)


def _json(path: Path) -> Iterator[Numbered]:
    """A list of objects, objects by their names, pandas' columns of cells, one of these under a single key, or JSON lines."""
    content = _content(path)
    text = content.decode(_unicode(content))
    try:
        whole = _loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # an object a line, whatever the name of the file says
            yield from _jsonl(path)
            return
        raise UserError(f"{path}:{error.lineno} is no JSON ({error.msg}, column {error.colno}).") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error}).") from None
    found = _objects(whole)
    if found is None:
        what = f"an object of {', '.join(whole) or 'no key'}" if isinstance(whole, dict) else type(whole).__name__
        raise UserError(f"{path} holds {what:.200}; write a list of objects, one a row.")
    for number, values in enumerate(found, start=1):
        yield number, values if isinstance(values, dict) else f"no JSON object but {type(values).__name__}"


def _objects(whole: Any) -> list[Any] | None:
    if isinstance(whole, list):
        return whole
    if not isinstance(whole, dict) or not whole:
        return None
    values = list(whole.values())
    if len(values) == 1 and (isinstance(values[0], list) or _by_name(values[0])):  # {"data": ...}
        return _objects(values[0])
    if not _by_name(whole):
        return None
    if all(key.isdigit() for value in values for key in value):  # as DataFrame.to_json writes it: columns of numbered cells
        return [{column: cells.get(key) for column, cells in whole.items()} for key in values[0]]
    return values


def _by_name(values: Any) -> bool:
    return isinstance(values, dict) and bool(values) and all(isinstance(value, dict) for value in values.values())


# --- Tables ----------------------------------------------------------------------------------------------------------


def _csv(path: Path) -> Iterator[Numbered]:
    text = _decoded(_content(path), path.name)
    return _delimited(path, text, "\t" if suffix_of(path.name).startswith(".tsv") else _separator(path, text))


def _decoded(content: bytes, name: str) -> str:
    """The text of a table: UTF-8, UTF-16 by its mark, GB18030, and at last the one-byte alphabet of Western Europe."""
    try:
        return content.decode(_unicode(content))
    except UnicodeDecodeError:
        pass
    for encoding in ("gb18030", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "cp1252" or _is_chinese(text):
            break
    else:
        encoding, text = "latin-1", content.decode("latin-1")
    note(f"{name} is not UTF-8 and is read as {encoding}; save it as UTF-8 if its letters look wrong")
    return text


def _is_chinese(text: str) -> bool:
    """Whether ideographs stand beside each other; those that two bytes of another alphabet would be stand alone."""
    alone = len(re.findall(r"(?<![^\x00-\x7f])[^\x00-\x7f](?![^\x00-\x7f])", text))
    return 2 * alone < len(re.findall(r"[^\x00-\x7f]", text))


def _separator(path: Path, text: str) -> str:
    """What parts the columns: it stands in the header, and the rows have as many fields as that."""
    sample = "".join(line for _, line in zip(range(200), io.StringIO(text, newline=""), strict=False))
    counts = {}
    for separator in SEPARATORS:
        try:
            sizes = [len(fields) for fields in csv.reader(io.StringIO(sample, newline=""), delimiter=separator) if fields]
        except csv.Error:
            continue
        if sizes and sizes[0] > 1:
            counts[separator] = sum(size == sizes[0] for size in sizes) / len(sizes)
    best = [separator for separator, share in counts.items() if share == max(counts.values())]
    if len(best) > 1:
        raise UserError(
            f"{path} has columns by {' and by '.join(map(repr, best))}; save it as .tsv or .xlsx, which leave no doubt."
        )
    return best[0] if best else ","


def _delimited(path: Path, text: str, separator: str) -> Iterator[Numbered]:
    csv.field_size_limit(sys.maxsize)  # abstracts are longer than the module's 128 KB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    for fields in reader:
        if not any(field.strip() for field in fields) and (len(fields) != len(header or ()) or len(fields) > 1):
            continue
        if header is None:
            header = _header(path, fields)
        elif len(fields) != len(header):
            yield reader.line_num, f"the header has {len(header)} columns, this row has another number"
        else:
            yield reader.line_num, dict(zip(header, fields, strict=True))


def _header(path: Path, fields: Iterable[Any]) -> list[str]:
    names = ["" if name is None else str(name).strip() for name in fields]
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise UserError(f"{path}:1: the column {twice!r} stands twice; give each its own name.")
    return names


def _excel(path: Path) -> Iterator[Numbered]:
    """The first sheet, whose first row names the columns."""
    from zipfile import BadZipFile

    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (BadZipFile, KeyError, ValueError) as error:
        raise _damaged(path, 0, error) from None
    sheet = book.worksheets[0]
    if len(book.worksheets) > 1:
        note(f"{path.name} has {len(book.worksheets)} sheets, of which the first, {sheet.title}, is read")
    header: list[str] = []
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        if not any(cell is not None and str(cell).strip() for cell in cells):
            continue
        if not header:
            header = _header(path, cells)
            continue
        yield number, {name: _cell(cell) for name, cell in zip(header, cells, strict=False) if name}
    book.close()


def _parquet(path: Path) -> Iterator[Numbered]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield number, {name: _cell(value) for name, value in values.items()}
    except ArrowException as error:
        raise _damaged(path, number, error) from None


def _cell(value: Any) -> Any:
    """NaN is nothing, and a day is written as ISO does."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == datetime.min.time() else value.isoformat()
    return value


READERS: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".xlsx": _excel,
    ".parquet": _parquet,
}
SUFFIXES = (*READERS, ".jsonl.gz", ".json.gz", ".csv.gz", ".tsv.gz")
