"""Files of rows: JSON lines, JSON, CSV, TSV, Parquet, Excel, with odd cells, keys and bytes, planned as ``dry_run=true`` does."""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import json
import random
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forks import Ended
from mutations import changed_bytes, changed_text, changed_tree, describe, number_of

SHARE, SECONDS = 50, 30
KINDS = {
    "number": [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(8)],
    "letter": [{"question": f"Which is {n}?", "A": f"{n}", "B": f"{n + 1}", "C": "none", "answer": "A"} for n in range(8)],
    "options": [{"question": f"Which is {n}?", "options": {"A": f"{n}", "B": f"{n + 9}"}, "answer_idx": "B"} for n in range(8)],
    "decision": [
        {"question": f"Does {n} help?", "context": f"It was {n}.", "answer": ("yes", "no", "maybe")[n % 3]} for n in range(8)
    ],
    "free_text": [{"question": f"Name disease {n}.", "answer": f"the disease of {n} caf\u00e9s \u7247"} for n in range(8)],
    "messages": [
        {"messages": [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"So be it: {n}."}]}
        for n in range(8)
    ],
    "date": [{"question": f"When was {n}?", "answer": f"2024-05-{n + 1:02}"} for n in range(8)],
}
ALGORITHMS = {
    "sft": ["data_mix.rows=6", "algo.batch_size=2"],
    "grpo": ["data_mix.rows=6", "algo.batch_size=4", "algo.num_generations=2"],
    "none": [],
}
FILES = [
    ".jsonl",
    ".jsonl",
    ".json",
    ".csv",
    ".csv",
    ".tsv",
    ".parquet",
    ".jsonl.gz",
    *([".xlsx"] if find_spec("openpyxl") else []),
]


@cache
def tree(algo: str) -> dict[str, Any]:
    from medrl.config import compose

    words = ["data_mix.tasks.rows.train=train.jsonl", "data_mix.tasks.rows.test=test.jsonl", "logger=none", *ALGORITHMS[algo]]
    return compose.tree(["hardware=cpu", "data_mix=rows", f"algo={algo}", *words])


def warm() -> None:
    for algo in ALGORITHMS:
        tree(algo)


def attempt(number: int, seed: int, folder: Path) -> Ended:
    from medrl import lifecycle
    from medrl.config import build
    from medrl.evaluation import evaluate

    rng = number_of("rows", seed, number)
    name, suffix, algo = rng.choice([*KINDS]), rng.choice(FILES), rng.choice(("sft", "sft", "none", "grpo"))
    rows, said = copy.deepcopy(KINDS[name]), []
    for _ in range(rng.randint(0, 2)):
        rows, what = changed_tree(rng, rows)
        said.append(what)
    try:
        content = written(rows if isinstance(rows, list) else [rows], suffix, rng)
    except Exception as error:  # the writer of the format takes no such cell, so there is no such file
        describe(folder, name, *said)
        return Ended("sentence", f"not written: {type(error).__name__}")
    for _ in range(rng.randint(0 if said else 1, 1)):
        content, what = changed_bytes(rng, content) if suffix in (".parquet", ".xlsx", ".jsonl.gz") else in_text(rng, content)
        said.append(what)
    broken = folder / f"{'test' if rng.random() < 0.4 else 'train'}{suffix}"
    broken.write_bytes(content)
    describe(folder, f"{suffix} {name}", f"{broken.name} algo={algo}", *said)
    other = folder / ("train.jsonl" if broken.name.startswith("test") else "test.jsonl")
    other.write_text("".join(json.dumps({**row, "id": f"x{n}"}) + "\n" for n, row in enumerate(KINDS[name][4:])))
    config = copy.deepcopy(tree(algo))
    task = config["data_mix"]["tasks"]["rows"]
    task["train"], task["test"] = (str(broken if broken.name.startswith(part) else other) for part in ("train", "test"))
    lifecycle.dry_run(settings := build.check(config), folder / "run")
    for example in evaluate.held_out(settings, "rows"):  # as an evaluation writes them into its file
        json.dumps(dataclasses.asdict(example), ensure_ascii=False).encode()
    return Ended("accepted")


def in_text(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    if rng.random() < 0.4:
        return changed_bytes(rng, content)
    text, what = changed_text(rng, content.decode(errors="surrogatepass"))
    return text.encode(rng.choice(("utf-8", "utf-8", "utf-16", "utf-8-sig")), "surrogatepass"), what


def written(rows: list[Any], suffix: str, rng: random.Random) -> bytes:
    if suffix in (".jsonl", ".jsonl.gz"):
        import gzip

        ascii_only = rng.random() < 0.5
        text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode(errors="surrogatepass")
        return gzip.compress(text) if suffix.endswith(".gz") else text
    if suffix == ".json":
        return json.dumps(rows).encode()
    tables = [row for row in rows if isinstance(row, dict)]
    names = list(dict.fromkeys(str(key) for row in tables for key in row))
    cells = [{str(key): value for key, value in row.items()} for row in tables]
    buffer = io.BytesIO()
    if suffix == ".parquet":
        import pandas

        pandas.DataFrame(cells, columns=names).to_parquet(buffer)
    elif suffix == ".xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for row in [names, *([each.get(name) for name in names] for each in cells)]:
            book.active.append([cell if isinstance(cell, (str, int, float, type(None))) else str(cell) for cell in row])
        book.save(buffer)
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, names, delimiter="\t" if suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(cells)
        return text.getvalue().encode(errors="surrogatepass")
    return buffer.getvalue()
