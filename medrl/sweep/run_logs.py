"""What the run folder of a trial says, while it runs and afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrl.files import read_jsonl
from medrl.tracking import metric_names


class RunLogs:
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
        found = (metric_names.of_line(line) for line in self.lines(folder))
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
        value = metric_names.values(metrics).get(self._metric)
        return value if value is not None else next(reversed(self.history(folder)), None)
