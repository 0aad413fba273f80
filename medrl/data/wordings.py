"""Other wordings of the tasks' instructions, written for this project: the same meaning in the same language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

WORDINGS: Mapping[str, list[str]] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
"""For each instruction its other wordings, the same number for all."""
MOST = 1 + min(map(len, WORDINGS.values()))
"""Wordings of an instruction, its own included."""
