"""``python -m medrl.table``: join, print, store. Imports no torch."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from medrl.config import frozen, options, suggest
from medrl.errors import UserError, exit_code
from medrl.files import explained, write_atomically
from medrl.safe_text import printable
from medrl.table import figure, formats, published, readme, results
from medrl.table.join import Comparison, joined, of_setting
from medrl.table.results import Record, Results
from medrl.table.rows import METRICS
from medrl.tracking import run_folder

ABOUT = """\
Published and measured numbers side by side, with what each is worth.

  python -m medrl.table                          every paper and study
  python -m medrl.table pangu_dxbench            one of them (paper=NAME or study=NAME where both have the name)
  python -m medrl.table chain-algorithms         what is stored in experiments/results/NAME.json
  python -m medrl.table runs/RUN runs/RUN ...    finished runs; seeds of one configuration are put together
  python -m medrl.table runs/RUN ... --results NAME --title TEXT --note TEXT     store them in experiments/results/NAME.json
  python -m medrl.table real-gsm8k --figure      the same numbers as real-gsm8k.pdf and real-gsm8k.svg in this folder
  python -m medrl.table --readme                 write experiments/README.md from experiments/results/
"""
FORMATS: dict[str, Callable[[Sequence[Comparison]], str]] = {
    "terminal": lambda tables: f"\n{'=' * 100}\n\n".join(map(formats.to_terminal, tables)),
    "markdown": lambda tables: "\n".join(map(formats.to_markdown, tables)),
    "csv": formats.to_csv,
    "latex": formats.to_latex,
}
Found = list[tuple[str, Record]]
"""Records, each with where it was read."""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m medrl.table", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", help="a paper, a study, stored results, run folders; runs=FOLDER looks for a paper's runs there"
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="terminal")
    parser.add_argument("--results", metavar="NAME", help="store the named runs under this name")
    parser.add_argument("--title", help="of the stored results")
    parser.add_argument("--note", nargs="+", metavar="TEXT", help="paragraphs of Markdown for the stored results")
    parser.add_argument("--metric", action="append", default=[], help="shown beside the accuracy: unparsed, mean_credit, ...")
    parser.add_argument(
        "--figure", action="store_true", help="draw one paper, study or stored results: NAME.pdf and NAME.svg here"
    )
    parser.add_argument("--readme", action="store_true", help="write experiments/README.md")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str]) -> int:
    """Print or store what is asked for; 0 when all went well."""
    return exit_code(lambda: _main(argv))


def _main(argv: Sequence[str]) -> int:
    with explained(frozen.root("experiments"), "look at its owner and its rights"):
        print(_answer(arguments(argv)), end="")
    return 0


def _answer(parsed: argparse.Namespace) -> str:
    """What goes to standard output."""
    words = [word for word in parsed.what if not word.startswith("runs=")]
    for metric in parsed.metric:
        if metric not in METRICS and not re.fullmatch(r"pass@[1-9]\d*", metric):
            raise UserError(f"--metric {metric} is no metric; {suggest.nearest(metric, [*METRICS, 'pass@8'])}.")
    if parsed.results:
        return _store(parsed, words)
    if parsed.title or parsed.note:
        raise UserError("--title and --note go with --results NAME, which stores runs under a name.")
    if parsed.readme:
        path = frozen.root("experiments") / "README.md"
        write_atomically(path, readme.markdown(results.stored()))
        return f"{path}\n"
    runs = next((word.removeprefix("runs=") for word in parsed.what if word.startswith("runs=")), None)
    shown, left_out = tables(words, runs, parsed.metric)
    for remark in left_out:
        print(f"medrl: left out: {printable(remark)}", file=sys.stderr)
    if parsed.figure:
        return "".join(f"{path}\n" for path in _figures(words, shown))
    return FORMATS[parsed.format](shown)


def _figures(words: Sequence[str], shown: Sequence[Comparison]) -> list[Path]:
    """Draw the table of one name, or of some run folders; what a table of several papers is called nobody knows."""
    if not words or len(shown) != 1:
        raise UserError(f"--figure draws one table, and this is {len(shown)}; name one paper, study or stored results.")
    name = shown[0].setting.name or (Path(words[0]).name.removesuffix(".json") if len(words) == 1 else "runs")
    return figure.draw(shown[0], name, Path())


def tables(words: Sequence[str], runs: str | None, also: Sequence[str] = ()) -> tuple[list[Comparison], list[str]]:
    """The tables that names and folders ask for, none for every paper and study, with these metrics beside the accuracy; and what
    of ``runs``, the folder of a paper's runs (None: ``runs`` where there is one), could not be read. Raises `UserError` for a
    name that nothing has, a folder that is no finished run, or results that contradict one another.
    """
    settings, found = _named(words)
    if not words:
        settings = [(group, name) for group in options.NAMED for name in options.group_options(group)]
    known: Found = []
    left_out: list[str] = []
    if settings:
        beside, left_out = _finished(runs)
        known = [*results.of_stored(results.stored()), *beside]
    results.distinct([*known, *found])  # no two tables of one answer may say two things of one run
    of_settings = [of_setting(published.read(group, name), known, also) for group, name in settings]
    return [*of_settings, *joined(found, also)], left_out


def _named(words: Sequence[str]) -> tuple[list[tuple[str, str]], Found]:
    """Papers and studies, and the records of everything else that is named."""
    settings: list[tuple[str, str]] = []
    found: Found = []
    for word in words:
        group, _, name = word.rpartition("=")
        if group and group not in options.NAMED:
            raise UserError(f"{word}: there is no {group}=; write paper=NAME, study=NAME or runs=FOLDER.")
        having = [each for each in options.NAMED if name in options.group_options(each) and group in ("", each)]
        if len(having) > 1:
            raise UserError(f"{name} is a paper and a study; write paper={name} or study={name}.")
        if having:
            settings.append((having[0], name))
        elif group:
            raise UserError(f"There is no {group} {name!r}; {suggest.nearest(name, options.group_options(group))}")
        else:
            where, content = _results(word)
            found += [(where, record) for record in content["runs"]]
    return settings, found


def _results(word: str) -> tuple[str, Results]:
    """What a word names that is no paper and no study: stored results, a results file, a run folder."""
    stored, path = results.folder() / f"{word}.json", Path(word)
    if stored.exists():
        return f"experiments/results/{word}.json", results.read(stored)
    if path.is_file():
        return word, results.read(path)
    if path.is_dir():
        return word, {"kind": "runs", "runs": [results.of_run(path)]}
    known = [*(name for group in options.NAMED for name in options.group_options(group))]
    known += [each.stem for each in results.folder().glob("*.json")]
    raise UserError(f"{word!r} is no paper, study, stored results or run folder; {suggest.nearest(word, known)}")


def _finished(runs: str | None) -> tuple[Found, list[str]]:
    """The finished runs of a folder, and what in it could not be read."""
    folder = Path(runs or "runs")
    if runs is not None and not folder.is_dir():
        raise UserError(f"runs={runs} is no folder.")
    found: Found = []
    left_out = []
    for path in sorted(folder.glob("*/metrics.json")):
        try:
            found.append((str(path.parent), results.of_run(path.parent)))
        except UserError as error:
            left_out.append(str(error))
    return found, left_out


def _store(parsed: argparse.Namespace, words: Sequence[str]) -> str:
    """Write the named runs, or one results file, to ``experiments/results/NAME.json``; what is not given again is kept."""
    name = parsed.results
    if not words:
        raise UserError(f"--results {name} stores runs: name their folders.")
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"{name!r} is no name for results; use letters, digits, - and _.")
    read = list(map(_results, words))
    path = results.folder() / f"{name}.json"
    before = results.read(path) if path.exists() else {}
    whole = [each for _, each in read if each["kind"] != "runs"]
    if whole and len(read) > 1:
        raise UserError(f"A {whole[0]['kind']} is stored alone, not beside other runs.")
    records = results.distinct((where, record) for where, each in read for record in each["runs"])
    new = whole[0] if whole else {"schema": results.SCHEMA, "kind": "runs", "command": _commands(records), "runs": records}
    if before and before["kind"] != new["kind"]:
        raise UserError(f"{path} holds a {before['kind']} and would be overwritten by a {new['kind']}; choose another name.")
    about = {
        "schema": new["schema"],
        "kind": new["kind"],
        "name": name,
        "title": parsed.title or before.get("title") or new.get("title", name),
        "command": new["command"] or before.get("command", ""),
        "notes": parsed.note if parsed.note is not None else before.get("notes") or new.get("notes", []),
    }
    if metrics := parsed.metric or before.get("metrics"):
        about["metrics"] = metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_json(path, {**about, **{key: value for key, value in new.items() if key not in about}})
    return f"{path}\nwrite experiments/README.md again with python -m medrl.table --readme\n"


def _commands(records: Sequence[Record]) -> str:
    """A command for each configuration, over its seeds."""
    families: dict[str, list[Record]] = {}
    for record in records:
        families.setdefault(record["family"], []).append(record)
    lines = []
    for members in families.values():
        seeds = sorted({record["seed"] for record in members})
        words = [word for word in members[0]["words"] if not word.startswith("seed=")]
        flag = ["-m"] if len(seeds) > 1 else []
        if members[0]["words"]:
            lines.append(shlex.join(["python", "-m", "medrl", *flag, *words, f"seed={','.join(map(str, seeds))}"]))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
