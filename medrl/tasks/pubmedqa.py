"""PubMedQA: does the abstract answer its own question with yes, no or maybe? (Jin et al. 2019, arXiv 1909.06146)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from medrl.data.example import Example
from medrl.data.sources import Location, Split
from medrl.errors import Problem
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.decision import Decision
from medrl.tasks import lexicon
from medrl.tasks.base import Task, text_of

DECISIONS = ("yes", "no", "maybe")
YES_SHARE = 0.552
"""Of the published 1,000, and of the twins."""


@dataclass(frozen=True, kw_only=True)
class PubMedQA(Task):
    """Questions of biomedical papers with the abstract, less its conclusion, as context."""

    kind: ClassVar[str] = "pubmedqa"
    version: ClassVar[int] = 2
    hub_id: ClassVar[str] = "qiaojin/PubMedQA"
    instruction: ClassVar[str] = "Read the abstract and decide what it says about the question: yes, no or maybe."
    answer_format: ClassVar[str] = "yes, no or maybe"
    answers: ClassVar[AnswerType] = Decision(DECISIONS)

    train: str
    """``pqa_artificial/train`` (211,269 rows, S0) or ``pqa_labeled/train`` (the 500 outside the official test)."""
    max_context_chars: Annotated[int, Gt(0)] | None
    """Training rows with a longer context are left out (S0: 1,024). Evaluation keeps every row."""

    def location(self, split: Split) -> Location:
        """``pqa_labeled`` is one published file of 1,000; its official split is a list of 500 test ids."""
        config, _, name = getattr(self, split).partition("/")
        if config != "pqa_labeled":
            return Location((config,), name)
        return Location((config,), "train", lambda row: (row.get("pubid") in official_test_ids()) == (name == "test"))

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        for split in ("train", "test"):
            config, _, name = getattr(self, split).partition("/")
            if config == "pqa_labeled" and name not in ("train", "test"):
                yield Problem(split, f"names the split {name!r} of pqa_labeled, which has the official train and test")

    def example(self, row: Mapping[str, Any]) -> Example:
        """Contexts are joined by newlines, as S0 does."""
        decision = text_of(row, "final_decision")
        if decision not in DECISIONS:
            raise ValueError(f"final_decision should be yes, no or maybe, is {decision!r}")
        contexts, pubid = row["context"]["contexts"], row["pubid"]
        if not contexts or not isinstance(contexts, list) or not all(isinstance(part, str) for part in contexts):
            raise ValueError("context.contexts should be a list of texts")
        if not isinstance(pubid, int) or isinstance(pubid, bool):  # as text it would match none of the official test ids
            raise ValueError(f"pubid should be a whole number, is {pubid!r:.80}")
        return Example(
            id=str(pubid),
            task=self.name,
            question=text_of(row, "question"),
            context="\n".join(contexts),
            gold=decision,
            rationale=text_of(row, "long_answer"),
            group=decision,
        )

    def keep_for_training(self, example: Example) -> bool:
        """The context limit of the training rows."""
        return self.max_context_chars is None or len(example.context) < self.max_context_chars

    def references(self, examples: Sequence[Example], train: Callable[[], Iterable[Example]]) -> dict[str, list[str]]:
        """S0's obvious hack, whatever the commonest answer of the split is."""
        return {"always_yes": ["yes"] * len(examples)}

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        """Two treatments with two results, of which one is what the question asks for, and the question asks about either.

        The same words stand in an abstract that says yes and in one that says no: who reads which result belongs to which
        treatment, and which direction was asked, can answer, and a bag of words cannot.
        """
        texts = lexicon.TEXTS["pubmedqa"]
        what, other = rng.sample(lexicon.DRUGS + lexicon.PRACTICES, 2)
        outcome, who = rng.choice(lexicon.OUTCOMES), rng.choice(lexicon.PATIENTS)
        asked, opposite = rng.sample(("lower", "higher"), 2)
        # With YES_SHARE these weights make 33.8 % no and 11.0 % maybe, as in the published 1,000.
        kinds = ["yes", rng.choices(("opposite", "unchanged", "maybe"), weights=(169, 169, 110))[0]]
        if rng.random() >= YES_SHARE:
            kinds.reverse()
        effect = {"yes": asked, "maybe": asked, "opposite": opposite, "unchanged": "unchanged"}
        said = [rng.choice(texts["did"][effect[kind]]) for kind in kinds]
        parts = [rng.choice(texts["parts"]) if kind == "maybe" else "" for kind in kinds]
        words = {"outcome": outcome, "who": who, "what": what, "asked": asked, "direction": effect[kinds[0]]}
        results = [
            lexicon.fill(texts["result"], rng, given=given, did=did, part=part, **words)
            for given, did, part in zip((what, other), said, parts, strict=True)
        ]
        meaning = lexicon.fill(texts["meanings"][kinds[0]], rng, **words)
        conclusion = lexicon.fill(texts["conclusion"], rng, did=said[0], meaning=meaning, **words)
        rng.shuffle(results)
        words["first"], words["second"] = rng.sample((what, other), 2)
        words["change"] = "reduce" if asked == "lower" else "increase"
        background, methods = (lexicon.fill(rng.choice(texts[part]), rng, **words) for part in ("backgrounds", "methods"))
        return {
            "pubid": rng.randint(10_000_000, 39_999_999),
            "question": lexicon.fill(texts["question"], rng, **words),
            "context": {
                "contexts": [background, methods, " ".join(results)],
                "labels": ["BACKGROUND", "METHODS", "RESULTS"],
                "meshes": [lexicon.capital(outcome), "Humans"],
            },
            "long_answer": conclusion,
            "final_decision": {"opposite": "no", "unchanged": "no"}.get(kinds[0], kinds[0]),
        }


@cache
def official_test_ids() -> frozenset[int]:
    """PubMed ids of the official 500 test questions (pubmedqa/pubmedqa, data/test_ground_truth.json)."""
    text = (Path(__file__).parent / "pubmedqa_test_ids.txt").read_text(encoding="utf-8")
    return frozenset(int(line) for line in text.split() if line.isdigit())
