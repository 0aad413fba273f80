"""What decontamination costs, and what it drops: 100,000 training rows of 700 characters against 10,000 held-out rows.

    python benchmarks/decontamination.py [--rule question] [--train 100000] [--held-out 10000] [--real FOLDER]

The rows are seeded and random: a case, what is asked, four options, words by Zipf's law, every twentieth row Chinese; a tenth
of all rows end with the same stock phrase. Some training rows are a held-out row again and must be found, and no other may be.
Promised: under 60 seconds on one core and 1 GB of resident memory for the whole process, rows included, and no row wrong.

``--real`` compares published rows in a folder laid out as on the hub, by both rules: how many are dropped, and why.
"""

import argparse
import gzip
import json
import os
import platform
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

import medrl
from medrl.data.decontaminate import Decontaminator, DedupKey, Rule

MAX_SECONDS = 60.0
MAX_GB = 1.0
LETTERS = 700
PLANTED_OF_EACH = 100
FOUND_BY = {  # how a row is planted -> the reason for which each rule drops it; None keeps it
    "id": {"question": "id", "ngram": "id"},
    "question": {"question": "question", "ngram": "n-gram"},  # with other wrong options
    "wording": {"question": "wording", "ngram": None},  # its words in another order, with the same options
    "case": {"question": "case", "ngram": "n-gram"},  # followed by another question, with other options
    "half": {"question": None, "ngram": "n-gram"},  # half of its case, and of another row's
}


class Writer:
    """Random texts, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        words = {"".join(self.random.choices("etaoinshrdlucmfwypvbgkjqxz", k=self.random.randint(2, 12))) for _ in range(70_000)}
        self.words = self.random.sample(sorted(words), 60_000)
        self.characters = [chr(0x4E00 + index) for index in range(4_000)]
        self.upto = {count: np.cumsum(1 / np.arange(1, count + 1)) for count in (60_000, 4_000)}

    def text(self, count: int, chinese: bool) -> str:
        """Units from a pool whose k-th member is 1/k as frequent as its first."""
        pool = self.characters if chinese else self.words
        places = np.searchsorted(upto := self.upto[len(pool)], self.numbers.random(count) * upto[-1])
        return ("" if chinese else " ").join(pool[place] for place in places)

    def row(self, row_id: str, chinese: bool, stock: str) -> DedupKey:
        """A case of four sentences, what is asked, four options."""
        count = LETTERS // 10 if chinese else LETTERS // 28
        stop = "。" if chinese else ". "
        case = stop.join(self.text(count, chinese) for _ in range(4))
        options = tuple(self.text(3, chinese) for _ in range(4))
        return DedupKey("made", row_id, f"{case}{stop}{self.text(6, chinese)} {stock}?", options)


def planted(kind: str, row: DedupKey, donor: DedupKey, rng: random.Random) -> DedupKey:
    """A training row that is the donor again, in one way."""
    if kind == "id":
        return row._replace(id=donor.id)
    if kind == "question":
        return row._replace(question=donor.question.upper(), choices=(*row.choices[:3], donor.choices[0]))
    if kind == "wording":
        return row._replace(
            question=" ".join(rng.sample(words := donor.question.split(), len(words))), choices=donor.choices[::-1]
        )
    case, asked = donor.question.rsplit(". ", 1)[0], row.question.rsplit(". ", 1)[1]
    if kind == "half":
        half = row.question.split(". ")
        return row._replace(question=". ".join((*donor.question.split(". ")[:2], *half[2:])))
    return row._replace(question=f"{case}. {asked}")


def synthetic(rule: Rule, train_rows: int, held_out_rows: int) -> bool:
    """Make rows, decontaminate them, print what it took, and say whether all promises were kept."""
    writer, rng = Writer(0), random.Random(1)
    stock = writer.text(12, chinese=False)
    held_out = [writer.row(f"test{n}", n % 20 == 0, stock if n % 10 == 1 else "") for n in range(held_out_rows)]
    train = [writer.row(f"train{n}", n % 20 == 0, stock if n % 10 == 1 else "") for n in range(train_rows)]
    kinds = [kind for kind in FOUND_BY for _ in range(PLANTED_OF_EACH)]
    donors = rng.sample([row for row in held_out if " " in row.question[:50]], len(kinds))
    places = rng.sample([n for n in range(train_rows) if n % 20 and n % 10 != 1], len(kinds))
    expected: dict[str, tuple[str, str]] = {}
    for place, kind, donor in zip(places, kinds, donors, strict=True):
        train[place] = planted(kind, train[place], donor, rng)
        if reason := FOUND_BY[kind][rule] if rule != "none" else "id" if kind == "id" else None:
            expected[train[place].id] = (reason, f"made:{donor.id}")
    rows_gb = peak_gb()

    start = time.process_time(), time.perf_counter()
    decontaminator = Decontaminator(held_out, rule)
    matches = {row.id: match for row in train if (match := decontaminator.match(row))}
    cpu, seconds, peak = time.process_time() - start[0], time.perf_counter() - start[1], peak_gb()

    right = sum(row_id in matches and matches[row_id][:2] == wanted for row_id, wanted in expected.items())
    others = len(matches.keys() - expected.keys())
    print(f"rule {rule}: {len(train):,} training rows against {len(held_out):,} held-out rows of about {LETTERS} letters")
    print(f"seconds   {cpu:.1f} of one core (promised: under {MAX_SECONDS:.0f}); {seconds:.1f} by the clock")
    print(f"memory    {peak:.2f} GB at most (promised: under {MAX_GB:.0f}), of which {rows_gb:.2f} GB before, for the rows")
    print(
        f"planted   {right} of {len(expected)} found for the right reason ({reasons(matches.values())}); {others} others dropped"
    )
    return cpu < MAX_SECONDS and peak < MAX_GB and right == len(expected) and not others


def real(folder: Path) -> None:
    """Print what both rules drop of published rows."""
    choices: dict[str, Callable[[Mapping[str, Any]], DedupKey]] = {
        "openlifescienceai/medmcqa/default/validation": lambda row: exam(row, [row[f"op{letter}"] for letter in "abcd"]),
        "cais/mmlu/medical/test": lambda row: exam(row, row["choices"]),
        "cais/mmlu/medical/validation": lambda row: exam(row, row["choices"]),
        "gersteinlab/medagents-benchmark/medbullets/test": lambda row: exam(row, row["options"].values()),
        "gersteinlab/medagents-benchmark/mmlu-pro/test": lambda row: exam(row, row["options"].values()),
        "openai/gsm8k/main/train": lambda row: exam(row, ()),
        "openai/gsm8k/main/test": lambda row: exam(row, ()),
        "qiaojin/PubMedQA/pqa_labeled_official/train": lambda row: exam(row, (), "\n".join(row["context"]["contexts"])),
        "qiaojin/PubMedQA/pqa_labeled_official/test": lambda row: exam(row, (), "\n".join(row["context"]["contexts"])),
        "shibing624/MedicalGPT/sft/train": lambda row: DedupKey(
            "", "", row["conversations"][-2]["value"], others=(row["conversations"][-1]["value"],)
        ),
        "text/medical/train": lambda row: DedupKey("", "", others=(row["text"],)),
    }
    rows: dict[str, list[DedupKey]] = {}
    for name, read in choices.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows[name] = [read(json.loads(line))._replace(task=name, id=str(number)) for number, line in enumerate(lines)]
    names = list(rows)
    medmcqa, mmlu, mmlu_validation, medbullets, mmlu_pro, gsm8k, gsm8k_test, pubmedqa, pubmedqa_test, sft, text = map(
        rows.get, names
    )
    pairs = {
        "MedBullets half, other half": (medbullets[::2], medbullets[1::2]),
        "MedMCQA half, other half": (medmcqa[::2], medmcqa[1::2]),
        "MMLU, MedBullets": (mmlu, medbullets),
        "MMLU-Pro, MMLU": (mmlu_pro, mmlu),
        "MMLU validation, test": (mmlu_validation, mmlu),
        "GSM8K train, test": (gsm8k, gsm8k_test),
        "PubMedQA official train, test": (pubmedqa, pubmedqa_test),
        "conversations half, other half": (sft[::2], sft[1::2]),
        "textbooks, MedMCQA and MMLU": (text, medmcqa + mmlu),
        "textbooks half, other half": (text[::2], text[1::2]),
    }
    print("| training rows, held-out rows | n | dropped by `ngram` | dropped by `question` | seconds |\n|---|---|---|---|---|")
    for name, (train, held_out) in pairs.items():
        cells, start = [], time.process_time()
        for rule in ("ngram", "question"):
            decontaminator, start = Decontaminator(held_out, rule), time.process_time()
            matches = [match for row in train if (match := decontaminator.match(row))]
            cells.append(f"{len(matches)} ({reasons(matches)})" if matches else "0")
        print(
            f"| {name} | {len(train):,}, {len(held_out):,} | {' | '.join(cells)} | {time.process_time() - start:.1f} |",
            flush=True,
        )


def exam(row: Mapping[str, Any], options: Any, context: str = "") -> DedupKey:
    """A published question, without id and data set."""
    return DedupKey("", "", row["question"], tuple(options), context)


def reasons(matches: Any) -> str:
    """How many rows are dropped for what reason."""
    counted: Counter[str] = Counter(match.reason for match in matches)
    return ", ".join(f"{number} {reason}" for reason, number in sorted(counted.items()))


def peak_gb() -> float:
    """The most resident memory that the process has had, in GB of 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def cpu_name() -> str:
    """Name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", choices=get_args(Rule), default="question")
    parser.add_argument("--train", type=int, default=100_000)
    parser.add_argument("--held-out", type=int, default=10_000)
    parser.add_argument("--real", type=Path, help="folder of published rows")
    options = parser.parse_args()
    print(f"medrl {medrl.__version__}, Python {platform.python_version()}, {cpu_name()}, {os.cpu_count()} cores")
    if options.real:
        real(options.real)
    else:
        sys.exit(0 if synthetic(options.rule, options.train, options.held_out) else 1)


if __name__ == "__main__":
    main()
