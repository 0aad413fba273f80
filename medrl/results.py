"""Records of finished runs, as tables and results files hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""The content of a run's ``metrics.json`` with the words of its command line and the machine it ran on."""


def of_run(folder: Path) -> Record:
    """The record of one finished run."""
    metrics: Record = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    machine = {key: provenance[key] for key in ("cpu", "cpus", "gpus", "packages")}
    return {**metrics, "words": [word for word in provenance["command"] if "=" in word], "machine": machine}
