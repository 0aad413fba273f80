"""Command lines: those of the documents with one to three changes, composed and checked as before a run, multirun or chain."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

from forks import Ended
from mutations import NUMBERS, SYNTAX, WORDS, changed_text, describe, number_of

SHARE, SECONDS = 10, 60
ROOT = Path(__file__).resolve().parents[2]


@cache
def lines() -> list[list[str]]:
    """The words of every documented command of ``python -m medrl``, and each of an option's value alone."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [
        text for page in pages for text in re.findall(r"^python -m medrl +(\S.*?)(?:  .*)?$", page.read_text(), re.MULTILINE)
    ]
    found = []
    for text in dict.fromkeys(texts):
        try:
            found.append(shlex.split(text))
        except ValueError:
            continue
    return [words for words in found if "..." not in words and not any("hydra/launcher" in word for word in words)]


def attempt(number: int, seed: int, folder: Path) -> Ended:
    rng = number_of("command_lines", seed, number)
    words = list(rng.choice(lines()))
    for _ in range(rng.randint(1, 3)):
        what, at = rng.random(), rng.randrange(len(words)) if words else 0
        if what < 0.4 and words:
            key = words[at].partition("=")[0]
            words[at] = f"{key}={rng.choice([*map(str, NUMBERS), *WORDS])}"
        elif what < 0.7 and words:
            words[at] = changed_text(rng, words[at])[0]
        elif what < 0.8 and words:
            del words[at]
        else:
            words.insert(
                at, rng.choice([*words, *rng.choice(lines()), *SYNTAX, "--cfg", "--help", "-m", "+a=b", "~algo", "algo@x=sft"])
            )
    words = [word.replace("\x00", "") for word in words]  # which no process is ever given
    words = [word.encode(errors="surrogateescape" if "\udc80" <= word < "\udcff" else "replace").decode() for word in words]
    describe(
        folder, "-m" if "-m" in words else "chain" if any(word.startswith("chain=") for word in words) else "run", repr(words)
    )
    checked(words)
    return Ended("accepted")


def checked(words: list[str]) -> None:
    """What the command does before it begins a run."""
    from medrl import __main__ as line
    from medrl.config import compose, extensions
    from medrl.jobs import chain, multirun

    arguments = line.parse(words)
    extensions.name(arguments.overrides)
    if arguments.help or arguments.version or arguments.of_hydra:
        return
    if any(word.startswith("chain=") for word in arguments.overrides):
        chain.resolve_all(arguments.overrides, several=arguments.multirun)
    elif arguments.cfg:
        line.config_text(arguments.overrides, arguments.package, resolve=arguments.resolve)
    elif arguments.multirun:
        multirun.Multirun.parse(arguments.overrides).points()
    else:
        compose.compose(arguments.overrides)
