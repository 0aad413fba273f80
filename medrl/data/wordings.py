"""Other wordings of the tasks' instructions, written for this project: the same meaning in the same language."""

from __future__ import annotations

from collections.abc import Mapping

from medrl.files import packaged

WORDINGS: Mapping[str, list[str]] = packaged(__file__, "wordings.json")
"""For each instruction its other wordings, the same number for all."""
MOST = 1 + min(map(len, WORDINGS.values()))
"""Wordings of an instruction, its own included."""
