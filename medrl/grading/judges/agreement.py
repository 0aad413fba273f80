"""How far a judge agrees with people: its verdicts on a labelled sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medrl.data import readers
from medrl.errors import RowError, UserError
from medrl.grading.judges.base import Claim, Judge
from medrl.statistics import metrics

TEXTS = Claim._fields
"""Columns of a labelled sample beside ``right``."""


class Labelled(NamedTuple):
    """A claim and what a person says of it."""

    claim: Claim
    right: bool


def labelled_rows(path: Path) -> list[Labelled]:
    """Read a labelled sample: a JSON object a line with ``question``, ``gold``, ``answer`` and ``right``.

    Other columns are passed over. Raises `UserError` where there is no such file, or it is damaged or empty, and `RowError` for a
    line that is no such object.
    """
    found = readers.parsed(readers.read(path), _labelled)
    if not found:
        raise UserError(f"{path} holds no labelled answers; add some, or set judge.calibration_file=null.")
    return found


def agreement(judge: Judge, sample: Sequence[Labelled]) -> dict[str, Any]:
    """Compare a judge with labels (`labelled_rows`): ``n`` rows on which it gave a verdict, ``abstained`` rows on which it did
    not, ``rate`` of equal verdicts among the n with ``ci95``, Cohen's ``kappa`` with ``kappa_ci95``; None what cannot be
    computed. Raises `UserError` where the judge failed and is configured to stop the run.
    """
    verdicts = judge.judge([row.claim for row in sample])
    pairs = [(verdict, row.right) for verdict, row in zip(verdicts, sample, strict=True) if verdict is not None]
    counts = {"n": len(pairs), "abstained": len(sample) - len(pairs)}
    if not pairs:
        return {**counts, "rate": None, "ci95": None, "kappa": None, "kappa_ci95": None}
    found = metrics.cohen_kappa([verdict for verdict, _ in pairs], [right for _, right in pairs])
    return {
        **counts,
        "rate": found.rate,
        "ci95": list(found.rate_ci95),
        "kappa": found.kappa,
        "kappa_ci95": None if found.kappa_ci95 is None else list(found.kappa_ci95),
    }


def _labelled(row: readers.Row) -> Labelled:
    """One line, with a mistake in it named by its place."""
    if missing := [column for column in (*TEXTS, "right") if column not in row.values]:
        raise RowError(f"{row.where}: {missing[0]!r} is missing; a labelled answer has {', '.join(TEXTS)} and right.")
    for column in TEXTS:
        if not isinstance(row.values[column], str):
            raise RowError(f"{row.where}: {column!r} should be text, is {row.values[column]!r:.80}.")
    right = row.values["right"]
    if not isinstance(right, bool):
        raise RowError(f"{row.where}: 'right' should be true or false, is {right!r:.80}.")
    return Labelled(Claim(**{column: row.values[column] for column in TEXTS}), right)
