"""What large mixtures have drawn, kept in the user's cache, so that the next run on the same rows draws none.

A file is a draw: ``~/.cache/medrl/rows/DIGEST.json``, or under ``MEDRL_CACHE``. Its name is a hash over all that decides it. Its
first line is a hash over the second, which holds each row once, their order, and what decides the draw, for who wants to know.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

from medrl.config.identity import Values, cache, plain
from medrl.data.example import Example
from medrl.data.mix import DataMix, DrawnMix, TrainingRow
from medrl.errors import UserError
from medrl.files import guarded, write_atomically

FEWEST = 5000
"""Rows of a mixture that is kept; a smaller one is drawn in seconds, and there are many of them."""
FIELDS = tuple(field.name for field in dataclasses.fields(Example) if field.name != "shots")
"""Of an example; demonstrations are those of its task and are kept once."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for cycles, which goes through all rows again and again while more are made; rows are in none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def drawn(mix: DataMix, decides: Callable[[], Values | None], draw: Callable[[], DrawnMix], *, anew: bool) -> DrawnMix:
    """What ``draw`` draws, or has drawn.

    Args:
        mix: The mixture that is drawn.
        decides: All that decides the draw; None where that is not known.
        draw: Draws.
        anew: Whether to draw in any case.
    """
    if mix.rows < FEWEST or (about := decides()) is None:
        return draw()
    about = plain(about)
    path = cache("rows") / f"{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()}.json"
    if not anew and (found := _read(path, mix)):
        print(f"rows     {len(found.rows):,} rows as they were drawn before ({path})", flush=True)
        return found
    found = draw()
    if os.environ.get("RANK", "0") == "0":  # of several processes, which draw the same, the first keeps it
        with suppress(OSError, TypeError):  # no place to write to, or an extension's values that are none of JSON
            _keep(path, mix, found, about)
    return found


def _keep(path: Path, mix: DataMix, found: DrawnMix, about: Values) -> None:
    if any(type(row.example) is not Example for row in found.rows):
        return
    values_of = attrgetter(*FIELDS)
    names = {id(task): name for name, task in mix.tasks.items()}
    once = {id(row): row for row in found.rows}  # a row that is repeated is the same object again
    places = {row: place for place, row in enumerate(once)}
    kept = {
        "about": about,
        **found._asdict(),
        "rows": [places[id(row)] for row in found.rows],
        "examples": [[names[id(row.task)], *values_of(row.example)] for row in once.values()],
        "shots": {names[id(row.task)]: row.example.shots for row in once.values()},
    }
    body = json.dumps(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_suffix(f".{os.getpid()}")  # another run may keep the same at the same time
    write_atomically(own, f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
    own.replace(path)


def _read(path: Path, mix: DataMix) -> DrawnMix | None:
    """A draw that is kept; None where there is none, or a damaged one, which is said."""
    try:
        with guarded(path, "the rows are drawn anew"):
            told, _, body = path.read_bytes().partition(b"\n")
            if hashlib.sha256(body).hexdigest().encode() != told:
                raise ValueError("it is not what was written")
            kept = json.loads(body)
            shots = {name: _tuples(shown) for name, shown in kept["shots"].items()}
            rows = [
                TrainingRow(Example(**dict(zip(FIELDS, map(_tuples, values), strict=True)), shots=shots[name]), mix.tasks[name])
                for name, *values in kept["examples"]
            ]
            return DrawnMix([rows[place] for place in kept["rows"]], kept["report"], kept["contaminated"], kept["rule"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UserError as error:
        print(f"warning  {error}", flush=True)
        return None


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
