"""HealthBench: conversations about health, with physicians' criteria for the next response (Arora et al. 2025, arXiv 2505.08775).

The scoring was verified in openai/simple-evals (healthbench_eval.py), the columns in public loaders, the three files and
their counts (5,000, of which 1,000 are ``hard``; 3,671 ``consensus``) on the card of the copy that is read here.
openai/healthbench itself holds the same files without configurations, beside one with other columns, and does not load as it
is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from medrl.data.decontaminate import DedupKey
from medrl.data.example import Example
from medrl.grading.answer_types.rubric import Rubric
from medrl.grading.judges.base import Judge
from medrl.tasks import lexicon
from medrl.tasks.base import text_of
from medrl.tasks.mirrored import MirroredTask


@dataclass(frozen=True, kw_only=True)
class HealthBench(MirroredTask):
    """A conversation that ends with the user, criteria with points, and for most rows a physician's reply."""

    kind: ClassVar[str] = "healthbench"
    grading: ClassVar[frozenset[str]] = frozenset({"judge"})
    instruction: ClassVar[str] = "You are a helpful medical assistant. Reply to the last message of the conversation."
    answer_format: ClassVar[str] = "your reply"

    judge: Judge
    """Says of each criterion whether a response meets it; named in every table."""

    @cached_property
    def answers(self) -> Rubric:  # type: ignore[override]
        return Rubric(self.judge)

    @property
    def scorer(self) -> str:
        return f"rubric, judged by {self.judge.name}"

    def example(self, row: Mapping[str, Any]) -> Example:
        """Results are grouped by theme. The gold is the physician's reply, which need not earn full marks."""
        turns = [(text_of(turn, "role"), text_of(turn, "content")) for turn in row["prompt"]]
        if not turns or turns[-1][0] != "user":
            raise ValueError("'prompt' should be a list of turns that ends with one of the user")
        rubric = tuple((text_of(item, "criterion"), _points(item)) for item in row["rubrics"])
        tags = [tag.partition(":") for tag in row.get("example_tags") or ()]
        example = Example(
            id=text_of(row, "prompt_id"),
            task=self.name,
            question=turns[-1][1],
            turns=tuple(turn for turn in turns[:-1] if turn[0] != "system"),
            system="\n".join(text for role, text in turns if role == "system"),
            gold=((row.get("ideal_completions_data") or {}).get("ideal_completion") or "").strip(),
            rubric=rubric,
            group=next((name for kind, _, name in tags if kind == "theme"), ""),
        )
        self.answers.check_gold(example)
        return example

    def content(self, example: Example) -> DedupKey:
        """Earlier turns belong to what is asked."""
        return super().content(example)._replace(others=tuple(text for _, text in example.turns))

    def keep_for_training(self, example: Example) -> bool:
        """Rows without a physician's reply have nothing to imitate and no gold to audit rewards with."""
        return bool(example.gold)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        texts = lexicon.TEXTS["healthbench"]
        (condition, remedy, _), (_, other, _) = rng.sample(lexicon.FACTS, 2)
        said = {
            key: lexicon.fill(text, rng, condition=condition, remedy=remedy, other=other) for key, text in sorted(texts.items())
        }
        before = [("user", said["first"]), ("assistant", said["reply"])] if rng.random() < 0.5 else []
        return {
            "example_tags": [f"theme:{rng.choice(('communication', 'context_seeking', 'emergency_referrals'))}"],
            "ideal_completions_data": {"ideal_completion": said["ideal"], "ideal_completions_group": "Group 1"},
            "prompt": [{"role": role, "content": text} for role, text in (*before, ("user", said["question"]))],
            "prompt_id": str(rng.getrandbits(64)),
            "rubrics": [
                {"criterion": said[key], "points": points, "tags": ["level:example"]}
                for key, points in (("treats", 7), ("visit", 3), ("harm", -5))
            ],
            "canary": "twin",
        }


def _points(item: Mapping[str, Any]) -> float:
    """Of one criterion; below 0 they are taken off."""
    points = item["points"]
    if not isinstance(points, int | float) or isinstance(points, bool):
        raise ValueError(f"'points' should be a number, is {points!r:.40}")
    return float(points)
