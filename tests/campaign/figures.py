"""The journal of a kind, and the table of all: JSON for programs, Markdown for docs/reliability.md."""

from __future__ import annotations

import json
import os
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
NAMED = "CAMPAIGN_COMMIT"
"""Variable that names the commit, for files that were copied without their history."""


def commit() -> str:
    if NAMED in os.environ or not shutil.which("git"):
        return os.environ.get(NAMED, "no-git")
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
            "cpu_seconds": round(sum(each.cpu for each in outcomes), 1),
            "found": [
                {"result": result, "where": where, "count": len(equal), **smallest(equal, name, seed, out)}
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


def by_group(outcomes: list[Outcome]) -> dict[str, dict[str, int]]:
    """How many ended how, by the first word of the input's description."""
    groups: dict[str, dict[str, int]] = {}
    for each in outcomes:
        counts = groups.setdefault(each.group.partition(":")[0].strip(), {"tried": 0, "good": 0})
        counts["tried"] += 1
        counts["good"] += each.result in GOOD
    return dict(sorted(groups.items(), key=lambda item: -item[1]["tried"])[:40])


def smallest(equal: list[Outcome], kind: str, seed: int, out: Path) -> dict[str, Any]:
    """Of equal faults the one with the smallest input: what it said, the command that repeats it, and the end of its output."""
    least = min(equal, key=lambda each: each.size)
    kept = [path for name in ("traceback", "log") if (path := out / kind / str(least.number) / name).exists()]
    output = kept[0].read_text(errors="replace")[-1500:] if kept else ""
    command = f"python tests/campaign {kind} seed={seed} only={least.number}"
    return {"said": least.said, "size": least.size, "command": command, "output": output}


def added(values: list[Any]) -> Any:
    """Figures of several campaigns as one: numbers added, of equal faults the smallest input's."""
    first = values[0]
    if isinstance(first, dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: added([value[key] for value in values if key in value]) for key in keys}
    if isinstance(first, list):
        groups: dict[tuple[str, str], list[Any]] = {}
        for fault in (fault for value in values for fault in value):
            groups.setdefault((fault["result"], fault["where"]), []).append(fault)
        least = [
            {**min(equal, key=lambda each: each["size"]), "count": sum(x["count"] for x in equal)} for equal in groups.values()
        ]
        return sorted(least, key=lambda each: -each["count"])
    return sum(values)


def markdown(found: list[dict[str, Any]]) -> str:
    """The table of the figures of one or more campaigns, added up; the faults below it."""
    lines = [f"Commit {found[0]['commit']}."]
    for each in found:
        packages = ", ".join(f"{name} {number}" for name, number in each["packages"].items())
        lines.append(f"Seed {each['seed']}: {each['machine']}; {packages}.")
    kinds = added([each["kinds"] for each in found])
    rows = [
        *dict.fromkeys(lines),
        "",
        "| kind | tried | right | accepted | one sentence | faults | minutes of work | of a core |",
        "|---|--:|--:|--:|--:|---|--:|--:|",
    ]
    for name, kind in kinds.items():
        most_first = sorted(kind["faults"].items(), key=lambda item: (-item[1], item[0]))
        faults = ", ".join(f"{count} {result}" for result, count in most_first) or "0"
        counts = " | ".join(f"{kind[key]:,}" for key in ("tried", "right", "accepted", "sentence"))
        rows.append(f"| {name} | {counts} | {faults} | {kind['seconds'] / 60:.1f} | {kind['cpu_seconds'] / 60:.1f} |")
    skipped = {name: reason for each in found for name, reason in each["skipped"].items()}
    rows += [f"| {name} | skipped: {reason} | | | | | | |" for name, reason in skipped.items()]
    if kills := kinds.get("kills"):
        whole, hit = kills["whole_processes"], kills["kills_that_hit"]
        rounds = ", ".join(f"{name} {counts['good']} of {counts['tried']}" for name, counts in kills["by_group"].items())
        rows += [
            "",
            f"Kills: {hit} hit in the rounds that ended right, of which {whole} were whole processes and the rest forked. "
            f"Rounds that ended right: {rounds}.",
        ]
    listed = [(name, fault) for name, kind in kinds.items() for fault in kind["found"]]
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


def put(found: list[dict[str, Any]], page: Path) -> int:
    """Write the table of figures into a page, in the place of the one that stands there; the exit code."""
    if len(commits := {each["commit"] for each in found}) > 1:
        print(f"These figures are of several commits ({', '.join(sorted(commits))}); outcomes of two are no table.")
        return 2
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + markdown(found) + END + rest.split(END)[1])
    return 0


def write(out: Path, seed: int) -> tuple[dict[str, Any], int]:
    """Write both files and return the figures and the number of faults."""
    found = table(out, seed)
    (out / "figures.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (out / "figures.md").write_text(markdown([found]))
    return found, sum(sum(kind["faults"].values()) for kind in found["kinds"].values())
