"""What a point's run folder says of it, while it runs and afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrl import logged
from medrl.errors import UserError
from medrl.files import read_jsonl

UNTRIED: dict[str, Any] = {
    "state": "left",
    "value": None,
    "message": "",
    "steps": 0,
    "seconds": 0.0,
    "tokens": 0,
    "run_id": None,
}
"""What a results file says of a point that nobody has begun."""


class Curves:
    """The logs of the runs of a sweep, each read again only when it has grown."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._known: dict[Path, tuple[int, list[dict[str, Any]]]] = {}

    def lines(self, folder: Path) -> list[dict[str, Any]]:
        """Every logged step of a run."""
        path = folder / "train" / "log.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if self._known.get(path, (-1, []))[0] != size:
            self._known[path] = size, read_jsonl(path)
        return self._known[path][1]

    def history(self, folder: Path) -> list[float]:
        """What a run has logged of the metric, in order."""
        found = (logged.of_line(line) for line in self.lines(folder))
        return [numbers[self._metric] for numbers in found if self._metric in numbers]

    def effort(self, folder: Path) -> dict[str, float]:
        """What training took: steps, seconds, and tokens that went through the model."""
        lines = self.lines(folder)
        return {
            "steps": lines[-1]["step"] if lines else 0,
            "seconds": round(sum(line["seconds"] for line in lines), 1),
            "tokens": next((line["num_tokens"] for line in reversed(lines) if "num_tokens" in line), 0),
        }

    def final(self, metrics: Mapping[str, Any], folder: Path) -> float | None:
        """The metric of a finished run; of one that only training logs, the last."""
        value = logged.values(metrics).get(self._metric)
        return value if value is not None else next(reversed(self.history(folder)), None)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file that a sweep wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run the same command again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged (no JSON object); remove it and run the same command again.")
    return found


def wall_seconds(results: Path) -> float:
    """What a sweep took before, by its results file; 0 where there is none.

    Raises:
        UserError: it is damaged.
    """
    return float(read_json(results).get("sweep", {}).get("wall_seconds", 0.0)) if results.exists() else 0.0
