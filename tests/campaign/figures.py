"""The journal of a kind, and the table of all: JSON for programs, Markdown for docs/reliability.md."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from forks import GOOD, Outcome

ROOT = Path(__file__).resolve().parents[2]


def commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() or "no-git"


class Journal:
    """What a kind has tried: a line each in ``KIND-SEED.jsonl``. Of equal faults the folder of the smallest input is kept."""

    def __init__(self, out: Path, kind: str, seed: int) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.kind, self.seed, self.folder, self.path = kind, seed, out / kind, out / f"{kind}-{seed}.jsonl"
        self.outcomes = read(self.path)
        self.tried = {each.number for each in self.outcomes}

    def note(self, outcome: Outcome) -> None:
        same = [each for each in self.outcomes if (each.result, each.where) == (outcome.result, outcome.where)]
        self.outcomes.append(outcome)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        smaller = min(same, key=lambda each: each.size, default=None)
        if outcome.result in GOOD or (smaller and smaller.size <= outcome.size):
            shutil.rmtree(self.folder / str(outcome.number), ignore_errors=True)
        elif smaller:
            shutil.rmtree(self.folder / str(smaller.number), ignore_errors=True)

    def skip(self, reason: str) -> None:
        self.path.with_suffix(".skipped").write_text(reason)

    def summary(self) -> str:
        return f"{self.kind}: {len(self.outcomes)} tried, " + ", ".join(
            f"{count} {result}" for result, count in Counter(each.result for each in self.outcomes).most_common()
        )


def read(path: Path) -> list[Outcome]:
    """The outcomes of a journal; a last line that a kill has torn is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [Outcome(**json.loads(line)) for line in lines]


def table(out: Path, seed: int) -> dict[str, Any]:
    """Everything that was found, by kind."""
    kinds = {}
    for path in sorted(out.glob(f"*-{seed}.jsonl")):
        name, outcomes = path.stem.removesuffix(f"-{seed}"), [each for each in read(path) if each.result != "absent"]
        bad = [each for each in outcomes if each.result not in GOOD]
        groups: dict[tuple[str, str], list[Outcome]] = {}
        for each in bad:
            groups.setdefault((each.result, each.where), []).append(each)
        taken = Counter(each.said for each in outcomes if each.result == "accepted" and each.said)
        kinds[name] = {
            "tried": len(outcomes),
            **{result: sum(each.result == result for each in outcomes) for result in GOOD if result != "absent"},
            "faults": dict(Counter(each.result for each in bad)),
            "by_group": by_group(outcomes),
            "accepted_as": dict(taken.most_common(30)),
            "whole_processes": sum("whole processes" in each.said for each in outcomes),
            "kills_that_hit": sum(int(hit[1]) for each in outcomes if (hit := re.match(r"(\d+) kills hit", each.said))),
            "seconds": round(sum(each.seconds for each in outcomes), 1),
            "found": [
                {"result": result, "where": where, "count": len(equal), **smallest(equal, name, seed)}
                for (result, where), equal in sorted(groups.items(), key=lambda item: -len(item[1]))
            ],
        }
    skipped = {path.stem.removesuffix(f"-{seed}"): path.read_text() for path in sorted(out.glob(f"*-{seed}.skipped"))}
    packages = {name: version(name) for name in ("torch", "transformers", "trl", "hydra-core", "datasets")}
    machine = f"{platform.system()} {platform.machine()}, {cpu()}, Python {platform.python_version()}"
    return {"seed": seed, "commit": commit(), "machine": machine, "packages": packages, "kinds": kinds, "skipped": skipped}


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def by_group(outcomes: list[Outcome]) -> dict[str, str]:
    """Good ones of all, by the first word of the input's description."""
    tried, good = Counter(), Counter()
    for each in outcomes:
        group = each.group.partition(":")[0].strip()
        tried[group] += 1
        good[group] += each.result in GOOD
    return {group: f"{good[group]} of {count}" for group, count in tried.most_common(40)}


def smallest(equal: list[Outcome], kind: str, seed: int) -> dict[str, str]:
    least = min(equal, key=lambda each: each.size)
    return {"said": least.said, "command": f"python tests/campaign {kind} seed={seed} only={least.number}"}


def markdown(found: dict[str, Any]) -> str:
    """The table of figures, the faults below it."""
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    rows = [
        f"Commit {found['commit']}, seed {found['seed']}; {found['machine']}; {packages}.",
        "",
        "| kind | tried | right | accepted | one sentence | faults | minutes of work |",
        "|---|--:|--:|--:|--:|---|--:|",
    ]
    for name, kind in found["kinds"].items():
        faults = ", ".join(f"{count} {result}" for result, count in kind["faults"].items()) or "0"
        counts = " | ".join(f"{kind[key]:,}" for key in ("tried", "right", "accepted", "sentence"))
        rows.append(f"| {name} | {counts} | {faults} | {kind['seconds'] / 60:.1f} |")
    if kills := found["kinds"].get("kills"):
        whole, hit = kills["whole_processes"], kills["kills_that_hit"]
        after = [
            "",
            f"Kills: {hit} hit in the rounds that ended right, of which {whole} were whole processes and the rest forked.",
        ]
    else:
        after = []
    rows += [f"| {name} | skipped: {reason} | | | | | |" for name, reason in found["skipped"].items()]
    rows += after
    listed = [(name, fault) for name, kind in found["kinds"].items() for fault in kind["found"]]
    if listed:
        rows += ["", "| fault | where | count | the smallest input |", "|---|---|--:|---|"]
        rows += [
            f"| {name}: {fault['result']} | {fault['where']} | {fault['count']} | `{fault['command']}` |"
            for name, fault in listed
        ]
    return "\n".join(rows) + "\n"


BEGIN, END = "<!-- the campaign's table begins -->\n", "<!-- the campaign's table ends -->"


def same_commit(out: Path) -> bool:
    """Whether what ``out`` holds was found at this commit: outcomes of two are no table."""
    out.mkdir(parents=True, exist_ok=True)
    noted = out / "commit"
    if not noted.exists():
        noted.write_text(commit())
    return noted.read_text() == commit()


def put(out: Path, page: Path) -> int:
    """Write the table of ``figures.json`` into a page, in the place of the one that stands there."""
    text = page.read_text()
    before, rest = text.split(BEGIN)
    page.write_text(before + BEGIN + markdown(json.loads((out / "figures.json").read_text())) + END + rest.split(END)[1])
    return 0


def write(out: Path, seed: int) -> tuple[str, int]:
    """Write both files and return the text and the number of faults."""
    found = table(out, seed)
    (out / "figures.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (out / "figures.md").write_text(markdown(found))
    return markdown(found), sum(sum(kind["faults"].values()) for kind in found["kinds"].values())
