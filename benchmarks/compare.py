"""Compare results with the baselines that are committed, by ratio and not by seconds.

    python benchmarks/compare.py startup rewards        run these benchmarks, then compare
    python benchmarks/compare.py result.jsonl           compare what another machine has written with `--out`
    python benchmarks/compare.py --accept result.jsonl  make it the baseline
    python benchmarks/compare.py --docs                 write the tables of docs/performance.md from the baselines

A ratio that is more than 5 % above its baseline is a regression, and the exit code is 1. A baseline belongs to a benchmark, a
setting and a GPU (or none); a line without one is named and is no regression.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BASELINES = HERE / "baselines"
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- python benchmarks/compare.py --docs -->", "<!-- end of what is made -->"
TOLERANCE = 0.05
"""Share by which a ratio may rise."""

Line = dict[str, Any]


def key(line: Line) -> tuple[str, str, str]:
    """What a baseline is found by."""
    return line["benchmark"], line["setting"], line["machine"]["gpu"] or "CPU"


def read(path: Path) -> list[Line]:
    """Lines of a result, of which a command's other output may be a part."""
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.startswith('{"benchmark"')]


def baselines(folder: Path = BASELINES) -> dict[tuple[str, str, str], Line]:
    """All that are committed."""
    return {key(line): line for path in sorted(folder.glob("*.json")) for line in json.loads(path.read_text(encoding="utf-8"))}


def run(name: str, words: Sequence[str]) -> list[Line]:
    """Lines of a benchmark that is run now."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.jsonl"
        subprocess.run([sys.executable, str(HERE / f"{name}.py"), "--out", str(out), *words], cwd=HERE.parent, check=True)
        return read(out)


def verdict(line: Line, base: Line | None) -> tuple[str, bool]:
    """A sentence about a line, and whether it is a regression."""
    what = ", ".join(key(line))
    if line["ratio"] is None:
        return f"{what}: has no other side", False
    if base is None:
        return f"{what}: ratio {line['ratio']:.3f}, no baseline", False
    change = line["ratio"] / base["ratio"] - 1
    worse = change > TOLERANCE
    return (
        f"{what}: ratio {line['ratio']:.3f}, baseline {base['ratio']:.3f} ({change:+.1%}){' REGRESSION' if worse else ''}",
        worse,
    )


def accept(lines: Iterable[Line], folder: Path = BASELINES) -> None:
    """Make lines the baselines, in a file a benchmark."""
    kept = baselines(folder) | {key(line): line for line in lines}
    for name in {line["benchmark"] for line in kept.values()}:
        own = [line for _, line in sorted(kept.items()) if line["benchmark"] == name]
        text = ",\n".join(json.dumps(line, ensure_ascii=False) for line in own)
        (folder / f"{name}.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


def flat(figures: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """Names and values, those of a side under its name; of lists the line alone holds the values."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{of}{name} ")
        elif not isinstance(value, list):
            yield f"{of}{name} {value}"


def tables(lines: Iterable[Line]) -> str:
    """A section a benchmark: what was measured, on what and when."""
    parts: dict[str, list[str]] = {}
    for line in lines:
        ratio, wanted = line["ratio"], line["wanted"]
        kept = "" if None in (ratio, wanted) else f"{wanted:g}, {'kept' if ratio <= wanted else 'missed'}"
        figures = ", ".join(flat(line["figures"]))
        machine, versions = line["machine"], line["versions"]
        on = (
            f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores; {line['date']}, commit {line['commit']}; "
            + " ".join(f"{name} {version}" for name, version in versions.items())
        )
        shown = "" if ratio is None else f"{ratio:.3f}"
        parts.setdefault(line["benchmark"], []).append(f"| {line['setting']} | {shown} | {kept} | {figures} | {on} |")
    head = "| setting | ratio | wanted | figures | measured on |\n|---|---|---|---|---|\n"
    return "\n".join(f"### {name}\n\n{head}" + "\n".join(rows) + "\n" for name, rows in parts.items())


def page(text: str) -> str:
    """The page with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(baselines().values())}\n{END}{rest.partition(END)[2]}"


def main(words: Sequence[str] | None = None) -> int:
    """Run, compare, accept or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", help="files of lines, or names of benchmarks to run")
    parser.add_argument("--accept", action="store_true", help="make the results the baselines, and write the page")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/performance.md")
    parser.add_argument("--tiny", action="store_true", help="of benchmarks that are run, their short form")
    chosen = parser.parse_args(words)
    lines = [
        line
        for name in chosen.results
        for line in (read(Path(name)) if Path(name).is_file() else run(name, ["--tiny"] * chosen.tiny))
    ]
    known = baselines()
    found = [verdict(line, known.get(key(line))) for line in lines]
    for said, _ in found:
        print(said)
    if chosen.accept:
        accept(lines)
    if chosen.docs or chosen.accept:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return int(any(worse for _, worse in found) and not chosen.accept)


if __name__ == "__main__":
    sys.exit(main())
