"""Every published row that lies in a local folder: is it read, does its gold earn full marks, does nothing earn none?

    python benchmarks/real_rows.py FOLDER        a folder laid out as on the hub

Prints a line a split with the counts, then the reference answers that tables are held against. Exits with 1 where a gold earns
less than full marks from its task or from the correctness reward, or an empty completion earns anything.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from medrl.config import build, compose
from medrl.data.mix import TrainingRow
from medrl.data.sources import Local
from medrl.grading.answers import layout
from medrl.rewards.base import Completion
from medrl.rewards.correctness import Correctness
from medrl.tasks.base import Task
from medrl.tasks.hash_split import Parted
from medrl.tasks.medical_o1_verifiable import MedicalO1Verifiable

SPLITS = (
    # task, what differs from its YAML, and the part that is read as its test split
    ("pubmedqa", {}, "pqa_labeled/train"),
    ("pubmedqa", {}, "pqa_labeled/test"),
    ("gsm8k", {}, "main/train"),
    ("gsm8k", {}, "main/test"),
    ("medmcqa", {}, "default/validation"),
    ("mmlu_medical", {}, "medical/validation"),
    ("mmlu_medical", {}, "medical/test"),
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
CORRECT = Correctness(weight=1.0, partial=False)


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
    print(f"{'task':<24} {'split':<26} {'rows':>6} {'gold right':>11} {'gold paid':>10} {'empty paid':>11}")
    for task in tasks():
        examples = list(task.examples(source, "test"))
        if isinstance(task, MedicalO1Verifiable | Parted) and task.train == task.test:  # one published split that the task parts
            examples += task.examples(source, "train")
        counts = "         -          -           -"
        if task.answers.graded:
            rows = [TrainingRow(example, task) for example in examples]
            golds = [Completion(layout("why", task.answer(row.example), task.format), row) for row in rows]
            right = sum(completion.verdict.outcome == "right" for completion in golds)
            paid = sum(CORRECT.score(completion) == 1.0 for completion in golds)
            empty = sum((CORRECT.score(Completion("", row)) or 0.0) > 0 for row in rows)
            bad += (len(rows) - right) + (len(rows) - paid) + empty
            counts = f"{right:>11} {paid:>10} {empty:>11}"
        shuffled = " shuffled" if getattr(task, "shuffle_candidates", False) else ""
        print(f"{task.name:<24} {task.test + shuffled:<26} {len(examples):>6} {counts}")
        for name, answers in task.references(examples, lambda: ()).items() if task.answers.graded else ():
            if name in ("always_yes", "copy_order"):
                credits = [task.answers.read(answer, example).credit for answer, example in zip(answers, examples, strict=True)]
                what = f"{'':<24} {name.replace('_', ' '):<26}"
                print(f"{what} {credits.count(1.0):>6} right, mean credit {sum(credits) / len(credits):.3f}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
