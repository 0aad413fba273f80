"""What decontamination costs: 40,000 training rows of 250 words against 10,000 held-out rows of 200 words.

    python benchmarks/decontamination.py [--train 40000] [--held-out 10000]

The rows are seeded and random: words by Zipf's law, every twentieth row Chinese. Some training rows share an id, a
question, 13 words or 13 characters with a held-out row and must be found; as many share 12 and must be kept. Promised:
under 60 seconds on one core, under 2 GB of resident memory for the whole process, rows included, and no row wrong.
"""

import argparse
import os
import platform
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import medrl
from medrl.data.decontaminate import Decontaminator, DedupKey

MAX_SECONDS = 60.0
MAX_GB = 2.0
VOCABULARY = 60_000
CHARACTERS = 4_000
PLANTED_OF_EACH = 100
KINDS = ("id", "question", "13 words", "13 characters")


def vocabulary(rng: random.Random) -> list[str]:
    """Words of 1 to 12 letters, all different."""
    words: set[str] = set()
    while len(words) < VOCABULARY:
        words.add("".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", k=rng.randint(1, 12))))
    return rng.sample(sorted(words), VOCABULARY)


class Writer:
    """Random rows, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.words = np.array(vocabulary(self.random), dtype=object)
        self.characters = np.array([chr(0x4E00 + index) for index in range(CHARACTERS)], dtype=object)

    def units(self, pool: np.ndarray, count: int) -> list[str]:
        """Draws from a pool whose k-th member is 1/k as frequent as its first."""
        cumulated = np.cumsum(1 / np.arange(1, len(pool) + 1))
        return list(pool[np.searchsorted(cumulated, self.numbers.random(count) * cumulated[-1])])

    def rows(self, count: int, length: int, prefix: str) -> Iterator[tuple[str, list[str], list[str], str]]:
        """Id, question and context as units, and what joins them; an eighth of the units is the question."""
        for index in range(count):
            chinese = index % 20 == 0
            pool = self.characters if chinese else self.words
            total = round(length * self.random.uniform(0.5, 1.5))
            units = self.units(pool, total)
            yield f"{prefix}{index}", units[: total // 8], units[total // 8 :], "" if chinese else " "


def content(row_id: str, question: list[str], context: list[str], joint: str) -> DedupKey:
    """A row of joined units."""
    text = joint.join(question)
    return DedupKey("made", row_id, text, (text, joint.join(context)))


def planted(context: list[str], donor: list[str], joint: str, length: int, rng: random.Random) -> list[str]:
    """The context with a run of the donor's units at a random place, between zeros, which the donor does not have."""
    start, place = rng.randint(0, len(donor) - length), rng.randint(0, len(context))
    return [*context[:place], f" 0 {joint.join(donor[start : start + length])} 0 ", *context[place:]]


def main() -> None:
    """Make the rows, decontaminate them, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=40_000)
    parser.add_argument("--held-out", type=int, default=10_000)
    options = parser.parse_args()
    writer, rng = Writer(0), random.Random(1)
    held_out = list(writer.rows(options.held_out, 200, "test"))
    donors = rng.sample(held_out, len(held_out))  # none gives twice, so each planted row has one right answer
    english, chinese = (iter([row for row in donors if bool(row[3]) is spaced]) for spaced in (True, False))

    train: list[DedupKey] = []
    expected: dict[str, str] = {}
    kinds = rng.sample([*KINDS, "12 units"] * PLANTED_OF_EACH, 5 * PLANTED_OF_EACH)
    places = dict(zip(rng.sample(range(options.train), len(kinds)), kinds, strict=True))
    for index, (row_id, question, context, joint) in enumerate(writer.rows(options.train, 250, "train")):
        kind = places.get(index)
        if kind is not None:
            donor = next(chinese if kind == "13 characters" else english)
        if kind == "id":
            row_id = donor[0]
        elif kind == "question":
            question, joint = [word.upper() + "," for word in donor[1]], "\n"
        elif kind is not None:
            context = planted(context, donor[2], donor[3], 12 if kind == "12 units" else 13, rng)
        train.append(content(row_id, question, context, joint))
        if kind in KINDS:
            expected[train[-1].id] = f"made:{donor[0]}"
    tests = [content(*row) for row in held_out]
    count = sum(max(len(question) - 12, 0) + max(len(context) - 12, 0) for _, question, context, _ in held_out)
    del held_out, donors, english, chinese
    rows_gb = peak_gb()

    start = time.process_time(), time.perf_counter()
    decontaminator = Decontaminator(tests)
    indexed = time.perf_counter()
    matches = {row.id: match for row in train if (match := decontaminator.match(row))}
    end = time.perf_counter()
    cpu, seconds, peak = time.process_time() - start[0], end - start[1], peak_gb()

    found = sum(row_id in matches and matches[row_id].held_out == name for row_id, name in expected.items())
    others = len(matches.keys() - expected.keys())
    print(f"medrl {medrl.__version__}, Python {platform.python_version()}, {cpu_name()}, {os.cpu_count()} cores")
    print(f"{len(train):,} training rows against {len(tests):,} held-out rows with {count:,} n-grams")
    print(f"seconds   {seconds:.1f} (promised: under {MAX_SECONDS:.0f}); indexing {indexed - start[1]:.1f}; on the CPU {cpu:.1f}")
    print(f"rows/s    {len(train) / (end - indexed):,.0f} matched, {len(tests) / (indexed - start[1]):,.0f} indexed")
    print(f"memory    {peak:.2f} GB at most (promised: under {MAX_GB:.0f}), of which {rows_gb:.2f} GB before, for the rows")
    reasons = ", ".join(f"{number} by {reason}" for reason, number in sorted(Counter(m.reason for m in matches.values()).items()))
    print(f"planted   {found} of {len(expected)} found with the right held-out row ({reasons}); {others} others dropped")
    sys.exit(0 if seconds < MAX_SECONDS and peak < MAX_GB and found == len(expected) and not others else 1)


def peak_gb() -> float:
    """The most resident memory that the process has had, in GB of 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def cpu_name() -> str:
    """Name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
