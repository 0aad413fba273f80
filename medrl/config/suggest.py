"""What a user may have meant by a word that is no option."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from medrl.errors import Problem

OWN = {
    # What is written for something of one's own where a group has options alone.
    "model": "model=pretrained model.weights={}",
    "data_mix": "data_mix=jsonl data_mix.tasks.jsonl.train={} and data_mix.tasks.jsonl.test=FILE",
    "source": "source=local source.root={}",
}
PARTS = {
    # Groups whose options are parts of a section, not sections themselves.
    "task": "is chosen with data_mix=OPTION; for one more write +task@data_mix.tasks.NAME=OPTION",
    "reward": "is chosen with reward_set=OPTION; for one more write +reward@reward_set.rewards.NAME=OPTION",
}
FILES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gguf", ".gz")
HINTS = {
    "hardware": "; hardware=auto, the default, takes the NVIDIA GPU that is here, whichever it is",
    "model": "; a model of your own is model=pretrained model.weights=FOLDER or a hub id",
    "data_mix": "; files of your own are data_mix=jsonl",
}
"""What else is said where no option is near."""
MOST = 3
"""So many words are offered as what may be meant; more are a list."""


@cache
def names() -> dict[str, dict[str, Any]]:
    """Names that others have for our options, and that we had."""
    import yaml

    found: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"))
    return found


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
    """What is said of an option that a group does not have.

    Args:
        group: Without the place that ``@`` gives it.
        value: What was chosen.
        options: Those that there are.
        placed: Whether a place was given.
    """
    word = str(value)
    if group in PARTS and not placed:
        return Problem(group, PARTS[group])
    if value is None:  # Hydra takes no null for a group
        return Problem(group, f"names an option or is left out; there is: {', '.join(options) or 'none'}")
    if isinstance(value, list):
        one = f"; write {group}={value[0]}" if value and value[0] in options else ""
        return Problem(group, f"takes one option and no list{one}")
    if "/" in word or Path(word).suffix in FILES:
        own = OWN.get(group)
        return Problem(group, f"{word} is no option; write {own.format(word)}" if own else f"has no option {word!r}")
    hint = "" if near(word, options) else HINTS.get(group, "")
    return Problem(group, f"has no option {value!r}; {nearest(word, options)}{hint}")


def unknown(key: str, known: Iterable[str]) -> str:
    """Message for an option that no class declares, with the new name where it is one of TRL's.

    Args:
        key: Dotted, as on a command line.
        known: The options beside which it would stand.
    """
    options = list(known)
    if message := _renamed(key, options):
        return message
    if now := names()["before"].get(key.rpartition(".")[2]):
        return f"no such option; write {now}"
    return f"no such option; {nearest(key.rpartition('.')[2], options)}"


def unknown_key(key: str, tree: Any) -> str:
    """The same in company of the whole configuration, which may have the option at another place.

    Args:
        key: Dotted, as on a command line.
        tree: The composed configuration.
    """
    level, name, inside = _level(key, tree)
    siblings = [str(option) for option in level if option not in HIDDEN]
    if message := _renamed(key, siblings):
        return message
    for exactly in (True, False):
        meant = _reached(key, tree, exactly=exactly)
        if any(path.rpartition(".")[0] == inside for path in meant):  # beside it: the level need not be said
            meant = [path.rpartition(".")[2] for path in meant if path.rpartition(".")[0] == inside]
        if meant:
            written = " or ".join(meant[:MOST])
            return f"no such option; write {written}" if exactly else f"no such option; did you mean {written}?"
        if exactly and (now := names()["before"].get(key.rpartition(".")[2])):
            return f"no such option; write {now}"
    return f"no such option; {nearest(name, siblings)}"


HIDDEN = ("_target_", "hydra", "tuned")
"""Names that no command line sets."""


def _reached(key: str, tree: Any, *, exactly: bool) -> list[str]:
    """The keys of the configuration that have every part of a mistaken one, the shortest of them."""
    parts = key.lower().split(".")
    found = [path for path in _paths(tree) if _has_all(path.lower().split("."), parts, exactly=exactly)]
    fewest = min((path.count(".") for path in found), default=0)
    return [path for path in found if path.count(".") == fewest]


def _has_all(there: Sequence[str], parts: Sequence[str], *, exactly: bool) -> bool:
    """Whether each part stands among those that are there, misspelt and in another order where that is allowed."""
    rest = iter(there)
    if exactly:
        return all(part in rest for part in parts)
    return all(any(part == other or _alike(part, other) for other in there) for part in parts)


def _alike(part: str, other: str) -> bool:
    """Whether two parts of a key differ by a slip: a letter or two in a long word, an ending."""
    return len(part) > 2 and difflib.SequenceMatcher(None, part, other).ratio() >= 0.8


def _renamed(key: str, siblings: Collection[str]) -> str:
    """The name that we have for another project's; empty where there is none."""
    lower = key.lower()
    leaf = lower.rpartition(".")[2]
    if leaf in siblings:
        return ""
    new = names()["elsewhere"].get(lower) or names()["elsewhere"].get(leaf)
    if new and new.startswith("nothing: "):
        return f"no such option, and none is needed: {new.removeprefix('nothing: ')}"
    return f"no such option; write {new}" if new else ""


def _level(key: str, tree: Any) -> tuple[Mapping[Any, Any], str, str]:
    """The deepest part of the configuration that a key reaches: its options, the first name that it lacks, and its own key."""
    level, inside = tree, ""
    for name in key.split("."):
        if not isinstance(level.get(name), Mapping):
            return level, name, inside
        level, inside = level[name], f"{inside}.{name}".lstrip(".")
    return level, "", inside


def _paths(tree: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all that a configuration holds."""
    for key, value in tree.items():
        if key not in HIDDEN:
            yield f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from _paths(value, f"{prefix}{key}.")
