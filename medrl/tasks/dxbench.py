"""DxBench: rank candidate diseases by a patient's symptoms (Chen et al. 2024, Chain of Diagnosis, arXiv 2407.13301; S3)."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from medrl.config.bounds import SEED
from medrl.data import cells
from medrl.data.decontaminate import DedupKey
from medrl.data.example import Example
from medrl.data.sources import Split
from medrl.errors import Problem
from medrl.files import packaged
from medrl.grading.answer_types.base import AnswerType
from medrl.grading.answer_types.ranking import Ranking, listed
from medrl.tasks import lexicon
from medrl.tasks.base import Language, Task, text_of

if TYPE_CHECKING:
    from medrl.data.sources import Source

CANDIDATES = {"DxBench": 3, "Dxy": 5, "Muzhi": 4}
FIRST_SHARE = 0.549
"""How often the gold stands first among the published candidates, in the twins as in DxBench zh."""
WORDS: dict[Language, dict[str, str]] = packaged(__file__, "dxbench.json")
"""Parts of the prompt by language: what is asked, what stands before symptoms and candidates, punctuation."""
COLUMNS = {"explicit_symptoms": "present", "implicit_symptoms": "reported"}
"""Column of symptoms -> words before those that the patient has."""


@dataclass(frozen=True, kw_only=True)
class DxBench(Task):
    """Three to five candidates, one of them the gold; the answer ranks them as JSON.

    ``config/language``: DxBench, Dxy or Muzhi, in zh or en. In DxBench the gold stands first in 54.9 % of the published
    cases, so an answer that copies the order looks like a diagnosis; `shuffle_candidates` takes that away.
    """

    kind: ClassVar[str] = "dxbench"
    version: ClassVar[int] = 2
    hub_id: ClassVar[str] = "FreedomIntelligence/DxBench"
    answers: ClassVar[AnswerType] = Ranking()

    train_cases: Annotated[int, Gt(0)] | None
    """Cases to train on, of those that are not held out (S3: 800); null takes all."""
    test_cases: Annotated[int, Gt(0)] | None
    """Cases held out (S3: 300); null holds out all, which leaves none to train on where both read one configuration."""
    shuffle_candidates: bool
    """Show the candidates in an order of their own for each case; false is the published order, for published tables."""
    split_seed: Annotated[int, Ge(0), SEED]
    """Decides which cases are held out and how candidates are shuffled: the same for every seed of a run."""

    @property
    def held_out_part(self) -> str:
        return f"{self.test}, candidates {'shuffled' if self.shuffle_candidates else 'in the published order'}"

    @property
    def language(self) -> Language:  # type: ignore[override]
        return "zh" if self.test.endswith("/zh") else "en"

    @property
    def instruction(self) -> str:  # type: ignore[override]
        return WORDS[self.language]["instruction"]

    @property
    def answer_format(self) -> str:  # type: ignore[override]
        return WORDS[self.language]["answer_format"]

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        for split in ("train", "test"):
            config, _, language = getattr(self, split).partition("/")
            if config not in CANDIDATES or language not in WORDS:
                yield Problem(split, f"is {config}/{language}, should be one of {', '.join(CANDIDATES)} and zh or en")
        if self.train.rpartition("/")[2] != self.test.rpartition("/")[2]:
            yield Problem("train", f"is {self.train} and test is {self.test}; both should be of one language")

    def examples(self, source: Source, split: Split) -> Iterator[Example]:
        """The cases of a split. There is one published file: a seeded draw by id parts it, the same in both languages."""
        found = list(super().examples(source, split))
        if source.invents(self, split):  # twins are made for each split
            yield from found
            return
        order = sorted(found, key=lambda example: self._draw(example.id))
        held_out = order[: self.test_cases]
        rest = order[self.test_cases :] if self.test_cases is not None else []
        both = self.train.partition("/")[0] == self.test.partition("/")[0]
        kept = held_out if split == "test" else (rest if both else order)[: self.train_cases]
        chosen = {example.id for example in kept}
        yield from (example for example in found if example.id in chosen)

    def _draw(self, row_id: str) -> bytes:
        return hashlib.sha256(f"{self.split_seed}:{row_id}".encode()).digest()

    def example(self, row: Mapping[str, Any]) -> Example:
        """The English file repeats a candidate in 85 cases, where two Chinese names have one translation: it is shown once."""
        gold, listed = text_of(row, "disease"), row["candidate_diseases"]
        if not isinstance(listed, list) or not all(isinstance(name, str) and name.strip() for name in listed):
            raise ValueError("candidate_diseases should be a list of names")
        candidates = list(dict.fromkeys(name.strip() for name in listed))
        if gold not in candidates:
            raise ValueError(f"the disease {gold!r} is not among its candidates: {', '.join(candidates)}")
        row_id = text_of(row, "id")
        if self.shuffle_candidates:
            random.Random(f"{self.split_seed}:{row_id}").shuffle(candidates)
        return Example(
            id=row_id,
            task=self.name,
            question=self._symptoms(row),
            gold=gold,
            choices=tuple(candidates),
            group=cells.optional(row.get("department"), "department"),
        )

    def _symptoms(self, row: Mapping[str, Any]) -> str:
        words, lines = WORDS[self.language], []
        absent: list[str] = []
        for column, opening in COLUMNS.items():
            symptoms = _flagged(row, column)
            absent += [name for name, present in symptoms if not present]
            lines.append((opening, [name for name, present in symptoms if present]))
        lines.append(("absent", absent))
        sentences = [words[opening] + words["comma"].join(names) + words["stop"] for opening, names in lines if names]
        return "\n".join(sentences) or words["none"]  # Dxy_30, published with two empty lists

    def ask(self, example: Example) -> str:
        words = WORDS[self.language]
        return f"{example.question}\n{words['candidates']}{words['comma'].join(example.choices)}{words['stop']}"

    def references(self, examples: Sequence[Example], train: Callable[[], Iterable[Example]]) -> dict[str, list[str]]:
        """The order of the candidates copied, and the candidates by how often each is the gold of a training case."""
        seen = Counter(example.gold for example in train())
        copied = [listed(example.choices) for example in examples]
        prior = [listed(sorted(example.choices, key=lambda name: -seen[name])) for example in examples]
        return {"copy_order": copied, "prior": prior}

    def content(self, example: Example) -> DedupKey:
        """Cases are compared by symptoms and candidates; the words around the symptoms are ours, not the data's."""
        symptoms = example.question
        for opening in ("present", "reported", "absent", "none"):
            symptoms = symptoms.replace(WORDS[self.language][opening], " ")
        return DedupKey(example.task, example.id, symptoms, example.choices)

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        zh = self.language == "zh"
        diseases = rng.sample(lexicon.DISEASES, CANDIDATES[config])
        english, chinese, _ = diseases[0]
        names = [disease[zh] for disease in diseases]
        # Two symptoms of each candidate are asked about, so that their names say nothing: the patient has both of the gold's.
        known = Counter(pair[zh] for *_, symptoms in diseases for pair in symptoms)
        asked = [rng.sample([pair[zh] for pair in symptoms if known[pair[zh]] == 1], 2) for *_, symptoms in diseases]
        has = [[True, True], *([rng.random() < 0.5, False] for _ in diseases[1:])]
        signs = [
            [name, str(here)] for pair, flags in zip(asked, has, strict=True) for name, here in zip(pair, flags, strict=True)
        ]
        rng.shuffle(signs)
        complaints = [sign for sign in signs if sign[1] == "True"][:2]
        if rng.random() >= FIRST_SHARE:
            names.insert(rng.randrange(1, len(names)), names.pop(0))
        return {
            "id": f"{config}_{rng.getrandbits(32)}",
            "department": "内科" if zh else "Internal Medicine",
            "explicit_symptoms": complaints,
            "implicit_symptoms": [sign for sign in signs if sign not in complaints],
            "candidate_diseases": names,
            "disease": chinese if zh else english,
        }


def _flagged(row: Mapping[str, Any], column: str) -> list[tuple[str, bool]]:
    """The symptoms of a column, each with its flag; flags are published as texts."""
    pairs = row[column]
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError(f"{column} should be a list of [symptom, flag]")
    for name, flag in pairs:
        if not isinstance(name, str) or flag not in ("True", "False"):
            raise ValueError(f"{column} should flag {name!r} as 'True' or 'False', flags it as {flag!r}")
    return [(name, flag == "True") for name, flag in pairs]
