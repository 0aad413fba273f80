"""DxBench: rank candidate diseases by a patient's symptoms (Chen et al. 2024, Chain of Diagnosis, arXiv 2407.13301; S3)."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt

from medrl.data.decontaminate import DedupKey, units
from medrl.data.sources import Split
from medrl.errors import Problem
from medrl.tasks import lexicon
from medrl.tasks.base import Example, Language, Task, text_of

if TYPE_CHECKING:
    from medrl.data.sources import Source

CANDIDATES = {"DxBench": 3, "Dxy": 5, "Muzhi": 4}
FIRST_SHARE = 0.549
"""How often the gold stands first among the published candidates, in the twins as in DxBench zh."""
KEY = "possible_diseases"
MOST_CHARACTERS = 5000
"""A longer answer is no list of a few names, and is not parsed."""

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "instruction": "You are a physician. Rank the candidate diseases by how likely they are, given the patient's symptoms.",
        "shape": f'JSON that lists every candidate, the most likely first: {{"{KEY}": ["...", "...", "..."]}}',
        "complains": "The patient complains of: ",
        "asked": "When asked, the patient reports: ",
        "denied": "The patient denies: ",
        "silent": "No symptom is recorded.",
        "candidates": "Candidate diseases: ",
        "comma": ", ",
        "stop": ".",
    },
    "zh": {
        "instruction": "你是一名医生。请根据患者的症状，把候选疾病按可能性从高到低排序。",
        "shape": f'列出全部候选疾病的 JSON，最可能的排在最前：{{"{KEY}": ["…", "…", "…"]}}',
        "complains": "患者自述：",
        "asked": "问诊得知：",
        "denied": "患者否认：",
        "silent": "没有症状记录。",
        "candidates": "候选疾病：",
        "comma": "、",
        "stop": "。",
    },
}


@dataclass(frozen=True, kw_only=True)
class DxBench(Task):
    """Three to five candidates, one of them the gold; the answer ranks them as JSON.

    ``config/language``: DxBench, Dxy or Muzhi, in zh or en. In DxBench the gold stands first in 54.9 % of the published
    cases, so an answer that copies the order looks like a diagnosis; `shuffle_candidates` takes that away.
    """

    kind: ClassVar[str] = "dxbench"
    name: ClassVar[str] = "dxbench"
    version: ClassVar[int] = 1
    hub_id: ClassVar[str] = "FreedomIntelligence/DxBench"

    train_cases: Annotated[int, Gt(0)] | None
    """Cases to train on, of those that are not held out (S3: 800); null takes all."""
    test_cases: Annotated[int, Gt(0)] | None
    """Cases held out (S3: 300); null holds out all, which leaves none to train on where both read one configuration."""
    shuffle_candidates: bool
    """Show the candidates in an order of their own for each case; false is the published order, for published tables."""
    split_seed: Annotated[int, Ge(0)]
    """Decides which cases are held out and how candidates are shuffled: the same for every seed of a run."""

    @property
    def held_out_part(self) -> str:
        return f"{self.test}, candidates {'shuffled' if self.shuffle_candidates else 'in the published order'}"

    @property
    def ranked(self) -> bool:
        return True

    @property
    def language(self) -> Language:  # type: ignore[override]
        return "zh" if self.test.endswith("/zh") else "en"

    @property
    def instruction(self) -> str:  # type: ignore[override]
        return WORDS[self.language]["instruction"]

    @property
    def answer_format(self) -> str:  # type: ignore[override]
        return WORDS[self.language]["shape"]

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
        if source.synthetic:  # twins are made for each split
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
            group=row.get("department") or "",
        )

    def _symptoms(self, row: Mapping[str, Any]) -> str:
        words, lines = WORDS[self.language], []
        denied: list[str] = []
        for column, opening in (("explicit_symptoms", "complains"), ("implicit_symptoms", "asked")):
            present = _flagged(row, column, "True")
            denied += _flagged(row, column, "False")
            if present:
                lines.append(words[opening] + words["comma"].join(present) + words["stop"])
        if denied:
            lines.append(words["denied"] + words["comma"].join(denied) + words["stop"])
        return "\n".join(lines) or words["silent"]  # Dxy_30, published with two empty lists

    def ask(self, example: Example) -> str:
        words = WORDS[self.language]
        return f"{example.question}\n{words['candidates']}{words['comma'].join(example.choices)}{words['stop']}"

    def answer(self, example: Example) -> str:
        """The gold first, the others in the order in which they are shown."""
        others = [name for name in example.choices if name != example.gold]
        return listed([example.gold, *others])

    def parses(self, answer: str, example: Example) -> bool:
        return ranking(answer) is not None

    def valid(self, answer: str, example: Example) -> bool:
        """Every candidate once and nothing else."""
        return sorted(_folded(ranking(answer) or [])) == sorted(_folded(example.choices))

    def credit(self, answer: str, example: Example) -> float:
        """Inverse rank: 1 for the gold first, 0 for the gold last or missing, linear between (three candidates: 1, 0.5, 0)."""
        return inverse_rank(ranking(answer) or [], example.gold, len(example.choices))

    def options(self, example: Example) -> Sequence[str]:
        return example.choices

    def vote(self, answer: str, example: Example) -> str:
        """The disease that is named first."""
        return (_folded(ranking(answer) or []) or [""])[0]

    def position(self, answer: str, example: Example) -> int | None:
        first, shown = self.vote(answer, example), _folded(example.choices)
        return shown.index(first) if first in shown else None

    def references(self, examples: Sequence[Example], train: Callable[[], Iterable[Example]]) -> dict[str, list[str]]:
        """The order of the candidates copied, and the candidates by how often each is the gold of a training case."""
        seen = Counter(example.gold for example in train())
        copied = [listed(example.choices) for example in examples]
        prior = [listed(sorted(example.choices, key=lambda name: -seen[name])) for example in examples]
        return {"copy_order": copied, "prior": prior}

    def content(self, example: Example) -> DedupKey:
        """Cases are compared by symptoms and candidates; the words around the symptoms are ours, not the data's."""
        symptoms = example.question
        for opening in ("complains", "asked", "denied", "silent"):
            symptoms = symptoms.replace(WORDS[self.language][opening], " ")
        return DedupKey(example.task, example.id, " ".join((symptoms, *sorted(example.choices, key=units))), (symptoms,))

    def wrong_answer(self, example: Example, others: Sequence[Example]) -> str:
        """The gold last."""
        rest = [name for name in example.choices if name != example.gold]
        return listed([*rest, example.gold]) if rest else ""

    def all_answers(self, example: Example, others: Sequence[Example]) -> str:
        """All candidates in the first place."""
        return listed([" / ".join(example.choices)])

    def twin(self, rng: random.Random, config: str) -> dict[str, Any]:
        zh = self.language == "zh"
        diseases = rng.sample(lexicon.DISEASES, CANDIDATES[config])
        english, chinese, symptoms = diseases[0]
        shown = [pair[zh] for pair in rng.sample(symptoms, 4)]
        names = [disease[zh] for disease in diseases]
        if rng.random() >= FIRST_SHARE:
            names.insert(rng.randrange(1, len(names)), names.pop(0))
        others = [pair[zh] for pair in diseases[1][2] if pair not in symptoms]
        return {
            "id": f"{config}_{rng.getrandbits(32)}",
            "department": "内科" if zh else "Internal Medicine",
            "explicit_symptoms": [[shown[0], "True"], [shown[1], "True"]],
            "implicit_symptoms": [[shown[2], "True"], [shown[3], "True"], *([[others[0], "False"]] if others else [])],
            "candidate_diseases": names,
            "disease": chinese if zh else english,
        }


def _flagged(row: Mapping[str, Any], column: str, wanted: str) -> list[str]:
    """The symptoms of a column that bear a flag; flags are published as texts."""
    pairs = row[column]
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError(f"{column} should be a list of [symptom, flag]")
    for name, flag in pairs:
        if not isinstance(name, str) or flag not in ("True", "False"):
            raise ValueError(f"{column} should flag {name!r} as 'True' or 'False', flags it as {flag!r}")
    return [name for name, flag in pairs if flag == wanted]


def ranking(answer: str) -> list[str] | None:
    """The names that an answer lists, first to last; None where it is no JSON object with a list of distinct names.

    A fence of Markdown around the JSON is passed over. A list that repeats a name ranks nothing: the first place would be
    taken twice.
    """
    text = answer.strip()
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        text = text[3:-3].strip().removeprefix("json").strip()
    if len(text) > MOST_CHARACTERS or not text.startswith("{"):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    names = values.get(KEY)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        return None
    folded = _folded(names)
    return names if len(set(folded)) == len(folded) else None


def listed(names: Sequence[str]) -> str:
    """Names as an answer that `ranking` reads."""
    return json.dumps({KEY: list(names)}, ensure_ascii=False)


def inverse_rank(names: Sequence[str], gold: str, candidates: int) -> float:
    """What the place of ``gold`` among ``names`` is worth, with so many candidates: 1 at the first, 0 at the last, linear."""
    folded = _folded(names)
    place = folded.index(_folded([gold])[0]) if _folded([gold])[0] in folded else candidates
    return max(0.0, 1 - place / (candidates - 1)) if candidates > 1 else float(place == 0)


def _folded(names: Iterable[str]) -> list[str]:
    """Names as they are compared: white space and capitals do not matter."""
    return [" ".join(name.split()).casefold() for name in names]
