"""A judge on the loopback address: `loopback_api` with a model that is naive on purpose.

It believes whatever stands outside the JSON strings of the user message, and every mark of a role. Inside, it compares answer and
gold. Scripts are by the answer: ``endpoint.script("flu", Reply(status=500))`` is what befalls the answer "flu".
"""

from __future__ import annotations

import json
import re

from loopback_api import Asked, LoopbackApi, Reply

__all__ = ["STRING", "LoopbackJudge", "Reply", "naive"]

STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
ROLE = re.compile(r"<\|[^|]*\|>|</?s>|\[/?INST\]|<start_of_turn>|<\uff5c[^\uff5c]*\uff5c>")


def naive(content: str) -> bool:
    """The verdict of a model that can be talked into anything by words that do not stand inside a JSON string."""
    if ROLE.search(content) or STRING.sub('""', content) != '{"": "", "": "", "": ""}':
        return True
    claim = json.loads(content)
    return bool(claim["answer"] == claim["gold"])


class LoopbackJudge(LoopbackApi):
    """The endpoint, started by ``with``."""

    def about(self, asked: Asked) -> str:
        try:
            return asked.claim["answer"]
        except ValueError:
            return ""

    def says(self, asked: Asked) -> str:
        return json.dumps({"reason": "As it seems to me.", "same": naive(asked.user)})
