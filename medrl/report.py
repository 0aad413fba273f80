"""report.html: one file without a network, for whoever asks what a run did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrl.config import Tree


def write_html(folder: Path, tree: Tree, metrics: dict[str, Any], log: list[dict[str, Any]]) -> None:
    """Write ``report.html``."""
