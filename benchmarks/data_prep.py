"""Rows made ready for training: read, mapped, filtered, mixed, decontaminated and turned into tokens, by medrl and row by row.

    python benchmarks/data_prep.py [--rows 200000] [--rounds 1] [--out FILE]

Seeded rows in the columns of PubMedQA and GSM8K, 70 and 30 %, with words by Zipf's law, lie in a folder laid out as on the hub.
The other side is code as a notebook has it: `datasets`, a function a row for each stage, `apply_chat_template` a row, and a set
of the held-out questions' 13-grams. Both draw every row that is there.

Each side is a process of its own, with the same environment and all cores to use as it comes to it: medrl renders prompts in a
second process while it counts, the other side works in one. Each prepares 40 rows first, for which it imports what it needs, and
then all of them. The ratio is of seconds by the clock (``_s``); seconds that processors worked (``_cpu_s``) stand beside them.
``again`` is a second time, when what is cached lies there. Of several rounds the median counts.

The work is not quite the same. The other side makes tokens and keeps them. medrl finds which prompts are too long and keeps no
tokens: TRL makes them when it trains. medrl checks each row, leaves out duplicates, and compares questions, wordings and
abstracts where the other side has n-grams of questions alone.
"""

import gzip
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from decontamination import Writer
from record import ROOT, options, write

from medrl.models.base import EMBEDDED

FEW = 40
"""Rows that are prepared before those that count."""
TINY = EMBEDDED / "tiny"
SYSTEM = "Answer within <reasoning> and <answer> tags."


def lay_out(root: Path, count: int) -> None:
    """Write the rows."""
    writer, draw = Writer(0), random.Random(0)
    pubmedqa = lambda number: {  # noqa: E731
        "pubid": number,
        "question": f"{writer.text(12, False)} {number}?",
        "context": {"contexts": [writer.text(40, False) for _ in range(draw.randint(2, 3))]},
        "long_answer": writer.text(20, False),
        "final_decision": draw.choice(("yes", "no", "maybe")),
    }
    gsm8k = lambda number: {"question": f"{writer.text(40, False)} {number}?", "answer": f"So #### {number}"}  # noqa: E731
    held_out = max(count // 200, 20)
    for name, make, start, rows in (
        ("qiaojin/PubMedQA/pqa_artificial/train", pubmedqa, 0, count * 7 // 10),
        ("qiaojin/PubMedQA/pqa_labeled/train", pubmedqa, 10**7, held_out),
        ("openai/gsm8k/main/train", gsm8k, 0, count * 3 // 10),
        ("openai/gsm8k/main/test", gsm8k, 10**7, held_out),
    ):
        path = root / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt", compresslevel=1) as file:
            for number in range(start, start + rows):
                file.write(json.dumps(make(number)) + "\n")


def by_medrl(root: Path, count: int) -> int:
    """As a run does it."""
    from medrl import lifecycle
    from medrl.config import build, compose
    from medrl.models import template_sandbox

    words = ["algo=grpo", "model=tiny", "hardware=cpu", "source=local", f"source.root={root}", f"data_mix.rows={count}"]
    words += [
        "data_mix=pubmed70",
        "data_mix.weights={pubmedqa:0.7,gsm8k:0.3,health_benchmarks:0}",
        "data_mix.held_out=[pubmedqa,gsm8k]",
    ]
    drawn = lifecycle._rows(build.check(compose.tree(words)))[1].rows
    template_sandbox._worker._end()  # so that its seconds count
    return len(drawn)


def grams(text: str) -> Iterator[str]:
    """Its runs of 13 words."""
    words = text.lower().split()
    return (" ".join(words[at : at + 13]) for at in range(len(words) - 12))


def by_row(root: Path, cache: Path) -> int:
    """As a notebook does it."""
    from datasets import concatenate_datasets, load_dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY)

    def read(name: str) -> Any:
        return load_dataset("json", data_files=str(root / f"{name}.jsonl.gz"), split="train", cache_dir=str(cache))

    def ask(text: str, answer: str) -> dict[str, Any]:
        return {"prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}], "gold": answer}

    def context(row: Any) -> str:
        return "\n".join(row["context"]["contexts"])

    pubmedqa = read("qiaojin/PubMedQA/pqa_artificial/train").filter(lambda row: len(context(row)) < 1024)
    pubmedqa = pubmedqa.map(lambda row: ask(f"{context(row)}\n{row['question']}", row["final_decision"]))
    gsm8k = read("openai/gsm8k/main/train").map(lambda row: ask(row["question"], row["answer"].split("####")[1].strip()))
    mixed = concatenate_datasets([each.select_columns(["prompt", "gold"]) for each in (pubmedqa, gsm8k)]).shuffle(seed=0)
    tests = [read("qiaojin/PubMedQA/pqa_labeled/train"), read("openai/gsm8k/main/test")]
    held_out = {gram for test in tests for row in test for gram in grams(row["question"])}
    clean = mixed.filter(lambda row: not any(gram in held_out for gram in grams(row["prompt"][1]["content"])))
    tokens = clean.map(lambda row: {"ids": tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]})
    return len(tokens.filter(lambda row: len(row["ids"]) <= 1024))


def prepare(side: str, folder: Path, rows: int) -> None:
    """Prepare the rows of a folder, after a few others, and print what that takes."""
    os.environ["MEDRL_CACHE"] = str(folder / "kept")
    made = {"medrl": by_medrl, "row": lambda root, _: by_row(root, folder / "cache")}[side]
    made(folder / "few", FEW)
    begun, worked = time.perf_counter(), processor_seconds()
    made(folder / "root", rows)
    print(json.dumps({"s": time.perf_counter() - begun, "cpu_s": processor_seconds() - worked}))


def processor_seconds() -> float:
    """Seconds that processors have worked for this process and those that it has started and that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def main() -> None:
    """Write the rows, run both sides twice, and write the line."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1, help="how often both are measured")
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "FOLDER"), help="what a process is started with by this one")
    chosen = parser.parse_args()
    rows = 2000 if chosen.tiny else chosen.rows
    if chosen.child:
        prepare(chosen.child[0], Path(chosen.child[1]), rows)
        return
    environment, found = {**os.environ, "PYTHONPATH": str(ROOT)}, defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lay_out(folder / "root", rows)
        lay_out(folder / "few", FEW)
        for _ in range(chosen.rounds):
            for when in ("", "again_"):
                for side in ("medrl", "row"):
                    command = [sys.executable, __file__, "--child", side, scratch, "--rows", str(rows)]
                    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                    for unit, taken in json.loads(done.stdout.splitlines()[-1]).items():
                        found[f"{side}_{when}{unit}"].append(taken)
            for cached in ("kept", "cache"):
                shutil.rmtree(folder / cached, ignore_errors=True)
    figures = {"rows": rows, "rounds": chosen.rounds} | {name: median(taken) for name, taken in found.items()}
    ratio = figures["medrl_s"] / figures["row_s"]
    write(chosen.out, "data_prep", f"{'tiny ' * chosen.tiny}{rows} rows", figures, ratio, 0.2)


if __name__ == "__main__":
    main()
