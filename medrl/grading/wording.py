"""Words that turn an answer around, put a second one beside it, or give none."""

from __future__ import annotations

import re

NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|without|cannot|except|excluding|excludes?|excluded|unlikely|less\s+likely|unlike|doubtful|incorrect|wrong|denie[sd]|absen(?:t|ce)|no|non|"
    r"rul(?:e|ed|es|ing)\s+(?:it\s+)?out|rather\s+than|instead\s+of|anything\s+but|other\s+than|far\s+from|opposite\s+of|negative\s+for)\b"
    r"|n't\b|[不无没非未否勿别]|排除|除外|而是|可能性小",
    re.IGNORECASE,
)
"""What denies, wherever it stands: beside it nothing is chosen for sure."""
ALTERNATIVE = re.compile(r"\b(?:or|and|versus|vs|plus|both|either|alternatively)\b|[,;/|&]|[或和与及]|还是|以及", re.IGNORECASE)
"""What stands between two answers."""
REFUSAL = re.compile(
    r"\A(?:n\s*/\s*a|none|null|unknown|unclear|undetermined|sorry\b.*|i\s+am\s+(?:not|unable)\b.*|i'm\s+(?:not|unable|sorry)\b.*|"
    r"(?:i|we|it|one)?\s*(?:really\s+)?(?:can\s*not|can't|could\s+not|couldn't|do\s+not|don't|would\s+rather\s+not)\b.*|it\s+depends\b.*|"
    r"(?:there\s+is\s+)?(?:not\s+enough|insufficient|no\s+(?:answer|information|data|abstract))\b.*|none\s+of\s+(?:these|the|them|above)\b.*|"
    r"not\s+(?:sure|known|given|stated|possible|applicable)\b.*|as\s+an\s+ai\b.*|(?:无法|不能|难以|不可|暂无法)(?:判断|确定|回答|计算|诊断|得出|评估|给出).*|"
    r"(?:我)?(?:不知道|不清楚|不确定|抱歉|对不起).*|以上都不(?:是|对).*|信息不足.*)\Z",
    re.IGNORECASE | re.DOTALL,
)
"""A whole answer that answers nothing."""


def denied(text: str) -> bool:
    """Whether a text denies something."""
    return NEGATION.search(text) is not None


_DENIED_PART = re.compile(
    r"(?:\b(?:but\s+)?(?:not|cannot|rather\s+than|instead\s+of|never|neither|nor|except|excluding|unlikely\s+to\s+be)\b|n't\b"
    r"|\b(?:(?:any|every|no)thing|all)\s+but\b|\bother\s+than\b|而不是|不是|而非|不选|排除)(?:(?!\bbut\b)[^,.;:!?()])*"
    r"|(?:\b[A-Z],\s*(?=(?:and\s+|or\s+)?[A-Z]\b))*(?:(?!\b(?:because|since|as|while|whereas)\b)[^,.;:!?()])*?(?:\b(?:is|are|was|were|(?:would|must|can|could)\s+be)(?:"
    r"\s+(?:wrong|incorrect|unlikely(?!\s+to\s+be)|less\s+likely|false|excluded|ruled\s+out|the\s+wrong\s+(?:answer|choice|option))"
    r"|(?:\s+not|n't)\s+(?:the\s+)?(?:(?:right|correct|best)\s+)?(?:answer|choice|option|right|correct|true)\b(?=\s*(?:[,.;:!?()]|\Z)))"
    r"|错误|不正确)",
    re.IGNORECASE,
)


def without_denied(text: str) -> str:
    """A text without the parts that it denies, up to the next mark: ``C (not D)`` -> ``C ()``."""
    return _DENIED_PART.sub(" ", text)
