"""Every published row that lies in a local folder, in all five formats: is it read, and graded as it should be?

    python benchmarks/real_rows.py FOLDER        a folder laid out as on the hub

Prints a line a split: rows; golds that are right in both readings; empty answers that are unparsed in both; wrong answers
that are wrong and earn nothing, of those that have a provably wrong one. Then the reference answers that tables are held
against. Exits with 1 where one of these does not hold.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from medrl.config import build, compose
from medrl.data.example import Example
from medrl.data.sources import Local
from medrl.grading.answers import Format, layout
from medrl.grading.verdicts import Attempt, readable, strict
from medrl.tasks.base import Task
from medrl.tasks.hash_split import HashSplitTask

SPLITS = (
    # task, what differs from its YAML, and the part that is read as its test split
    ("pubmedqa", {}, "pqa_labeled/train"),
    ("pubmedqa", {}, "pqa_labeled/test"),
    ("gsm8k", {}, "main/train"),
    ("gsm8k", {}, "main/test"),
    ("medmcqa", {}, "default/validation"),
    ("mmlu_medical", {}, "medical/validation"),
    ("mmlu_medical", {}, "medical/test"),
    ("mmlu_pro", {"repository": "gersteinlab/medagents-benchmark", "categories": ["health"]}, "mmlu-pro/test"),
    ("medbullets", {"repository": "gersteinlab/medagents-benchmark", "options": 5}, "medbullets/test"),
    *(
        ("dxbench", {"test_cases": None, "shuffle_candidates": shuffled}, f"{config}/{language}")
        for config in ("DxBench", "Dxy", "Muzhi")
        for language in ("zh", "en")
        for shuffled in (False, True)
    ),
    ("medical_o1_verifiable", {}, "default/train"),
    ("medical_o1_sft", {}, "en/train"),
    ("medicalgpt_sft", {}, "sft/train"),
    ("medicalgpt_preference", {}, "preference_medical/train"),
    ("medicalgpt_preference", {}, "preference_general/train"),
    ("medicalgpt_pt", {"repository": "text"}, "medical/train"),
)
FORMATS: tuple[Format, ...] = get_args(Format)


def tasks() -> Iterator[Task]:
    """Each split as a task that evaluates it."""
    for name, changes, split in SPLITS:
        node = compose.tree([f"+task@only={name}"])["only"]
        train = split if name == "dxbench" else node["train"]
        yield build.build({**node, **changes, "train": train, "test": split})


def main() -> int:
    """Print the counts and say whether every gold was paid."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print(__doc__)
        return 2
    source, bad = Local(root=sys.argv[1]), 0
    print(f"{'task':<24} {'split':<26} {'rows':>6} {'gold right':>11} {'empty unparsed':>15} {'wrong is wrong':>16}")
    for task in tasks():
        examples = list(task.examples(source, "test"))
        if isinstance(task, HashSplitTask) and task.train == task.test:  # one published split that the task parts
            examples += task.examples(source, "train")
        counts, failed = graded(task, examples) if task.answers.graded else ("-", 0)
        bad += failed
        shuffled = " shuffled" if getattr(task, "shuffle_candidates", False) else ""
        print(f"{task.name:<24} {task.test + shuffled:<26} {len(examples):>6} {counts}", flush=True)
        for name, answers in task.references(examples, lambda: ()).items() if task.answers.graded else ():
            if name in ("always_yes", "copy_order"):
                credits = [reading.credit for reading in task.answers.read_all(answers, examples)]
                what = f"{'':<24} {name.replace('_', ' '):<26}"
                print(f"{what} {credits.count(1.0):>6} right, mean credit {sum(credits) / len(credits):.3f}")
    return 1 if bad else 0


def graded(task: Task, examples: Sequence[Example]) -> tuple[str, int]:
    """How many rows of a split are graded as they should be in every format and both readings, and how many are not."""
    wrong = [task.answers.wrong(example, examples[at + 1 : at + 50] or examples[:50]) for at, example in enumerate(examples)]
    asked = {
        "right": [(task.answer(example), example) for example in examples],
        "unparsed": [("", example) for example in examples],
        "wrong": [(answer, example) for answer, example in zip(wrong, examples, strict=True) if answer],
    }
    counts = []
    for outcome, answers in asked.items():
        held = [True] * len(answers)
        for form in FORMATS:
            attempts = [Attempt(layout("why", answer, form), example) for answer, example in answers]
            verdicts = strict(attempts, task.answers, form)
            for at, verdict in [*enumerate(verdicts), *enumerate(readable(attempts, task.answers, form, verdicts))]:
                held[at] &= verdict.outcome == outcome and (outcome == "right" or task.answers.ranked or verdict.credit == 0)
        counts.append((sum(held), len(held)))
    right, empty, other = (str(held) if held == of else f"{held} of {of}" for held, of in counts)
    return f"{right:>11} {empty:>15} {other:>16}", sum(of - held for held, of in counts)


if __name__ == "__main__":
    sys.exit(main())
