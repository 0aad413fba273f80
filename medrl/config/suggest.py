"""What a user may have meant by a word that is no option."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from medrl.errors import Problem
from medrl.files import packaged

FILES = (".json", ".jsonl", ".csv", ".tsv", ".xlsx", ".parquet", ".gguf", ".gz")
MOST = 3
"""So many words are offered as what may be meant; more are a list."""


@cache
def names() -> dict[str, dict[str, Any]]:
    """What to write for what users type first: the tables of names.yaml."""
    tables: dict[str, dict[str, Any]] = packaged(__file__, "names.yaml")
    return tables


def near(word: str, known: Iterable[str]) -> list[str]:
    """The known words that a mistyped one may stand for, the likeliest first; none where none is near."""
    options = sorted(known)
    lower = word.lower()
    if same := [option for option in options if option.lower() == lower]:
        return same
    if swapped := [option for option in options if sorted(option.lower()) == sorted(lower)]:  # gpro is grpo, not gspo
        return swapped
    if sum(option.lower().startswith(lower) for option in options) > 1:  # the beginning of several stands for none
        return []
    ratios = {option: difflib.SequenceMatcher(None, lower, option.lower()).ratio() for option in options}
    if len(word) < 6:  # in which another first letter makes another word: gpu is not cpu, and v100 is not h100
        ratios = {option: ratio for option, ratio in ratios.items() if ratio > 0.75 or option.lower()[0] == lower[:1]}
    best = max(ratios.values(), default=0.0)
    return [option for option, ratio in ratios.items() if ratio == best and best >= 0.6]


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean x?`` for the nearest known word, else the list of what there is."""
    options = sorted(known)
    close = near(word, options)
    if not close and len(word) > 2:
        close = [option for option in options if option.lower().startswith(word.lower())]
    if len(close) > MOST:
        return f"there is: {', '.join(close)}"
    return f"did you mean {' or '.join(close)}?" if close else f"there is: {', '.join(options) or 'none'}"


def no_option(group: str, value: Any, options: Collection[str], *, placed: bool) -> Problem:
    """What is said of an option that a group does not have; ``placed``: a place was given with ``@``, which the group's name
    lacks.
    """
    word, listed = str(value), ", ".join(options) or "none"
    if group in names()["parts"] and not placed:
        return Problem(group, names()["parts"][group])
    if value is None:  # Hydra takes no null for a group
        return Problem(group, f"names an option or is left out; there is: {listed}")
    if isinstance(value, list):
        one = f"; write {group}={value[0]}" if value and value[0] in options else ""
        return Problem(group, f"takes one option and no list{one}")
    if now := names()["options"].get(group, {}).get(word, ""):
        return Problem(group, f"{word} is called {now} now; write {group}={now} (and data_mix.tasks.{now} for its options)")
    if "/" in word or Path(word).suffix in FILES:
        own = names()["own"].get(group)
        return Problem(group, f"{word} is no option; write {own.format(word)}" if own else f"has no option {word!r}")
    hint = "" if near(word, options) else names()["hints"].get(group, "")
    return Problem(group, f"has no option {value!r}; {nearest(word, options)}{hint}")


def meant(group: str, word: str, options: Collection[str]) -> str:
    """The option that a word probably stands for: what it is called now, or the nearest; empty where none is near."""
    return names()["options"].get(group, {}).get(word) or next(iter(near(word, options)), "")


def former(key: str, value: Any) -> str:
    """What a value of an option is called now; empty where it never was one."""
    now = names()["values"].get(key.rpartition(".")[2], {}).get(value) if isinstance(value, str) else None
    return f"; it is called {now} now" if now else ""


def unknown(key: str, options: Iterable[str]) -> str:
    """Message for an option, by its dotted key, that no class declares among ``options``; with our name where it is another
    project's.
    """
    options = list(options)
    return _renamed(key, options) or f"no such option; {nearest(key.rpartition('.')[2], options)}"


def unknown_key(key: str, tree: Mapping[Any, Any]) -> str:
    """The same in company of the whole configuration, which may have the option at another place."""
    parts = key.split(".")
    level, depth = tree, 0
    while depth < len(parts) and isinstance(level.get(parts[depth]), Mapping):
        level, depth = level[parts[depth]], depth + 1
    siblings = [str(option) for option in level if option not in HIDDEN]
    if message := _renamed(key, siblings):
        return message
    inside = ".".join(parts[:depth])
    for exactly, verb in ((True, "write "), (False, "did you mean ")):
        meant = _reached(key, tree, exactly=exactly)
        beside = [path.rpartition(".")[2] for path in meant if path.rpartition(".")[0] == inside]  # the level need not be said
        if meant:
            return f"no such option; {verb}{' or '.join((beside or meant)[:MOST])}{'' if exactly else '?'}"
    return f"no such option; {nearest(parts[depth] if depth < len(parts) else '', siblings)}"


HIDDEN = ("_target_", "hydra", "tuned", "chosen")
"""Names that no command line sets."""


def _reached(key: str, tree: Mapping[Any, Any], *, exactly: bool) -> list[str]:
    """The keys of the configuration that have every part of a mistaken one, the shortest of them."""
    parts = key.lower().split(".")
    found = [path for path in _paths(tree) if _has_all(path.lower().split("."), parts, exactly=exactly)]
    fewest = min((path.count(".") for path in found), default=0)
    return [path for path in found if path.count(".") == fewest]


def _has_all(names: Sequence[str], parts: Sequence[str], *, exactly: bool) -> bool:
    """Whether each part is one of the names: in this order, or else in any order and with a letter or two mistyped."""
    rest = iter(names)
    if exactly:
        return all(part in rest for part in parts)

    def alike(part: str, name: str) -> bool:
        return part == name or (len(part) > 2 and difflib.SequenceMatcher(None, part, name).ratio() >= 0.8)

    return all(any(alike(part, name) for name in names) for part in parts)


def _renamed(key: str, siblings: Collection[str]) -> str:
    """The name that we have for another project's, or for one that we had; empty where there is none."""
    lower = key.lower()
    leaf = lower.rpartition(".")[2]
    table = names()["elsewhere"] | names()["before"]
    new = None if leaf in siblings else table.get(lower) or table.get(leaf)
    if new and new.startswith("nothing: "):
        return f"no such option, and none is needed: {new.removeprefix('nothing: ')}"
    return f"no such option; write {new}" if new else ""


def _paths(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of all that a configuration holds."""
    for key, value in tree.items():
        if key not in HIDDEN:
            yield f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from _paths(value, f"{prefix}{key}.")
