"""Odd values and small changes, of texts and of trees, drawn from a seed."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

NUMBERS = (
    *(0, -1, 1, 2, 7, 10**9, 10**20, -(10**30), 2**63),
    *map(float, ["0.0", "-0.0", "1e-320", "1e30", "1e308", "nan", "inf", "-inf"]),
)
WORDS = (
    "", " ", "x", "null", "true", "~", "NaN", "1e5", "0x1F", "012", "a" * 300, "../../etc", "/", ".", "a/b", "\x00", "\x1b[31m",
    "\u202e", "\U0001f600", "caf\u00e9", "cafe\u0301", "\u7247", "${seed}", "${oc.env:HOME}", "${", "{{7*7}}", "%s%n",
    "=1+1", "a,b",
    "[", "{a: b}", "'", '"', "\\", "\n", "\t", "\r\n", "!!python/object:os.system", "&a *a", "_target_", "<script>", "<think>",
    "</answer>", "https://user:pw@host/x?key=sk-1",
)  # fmt: skip
NESTED = (
    None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, [1, "a"], {"_target_": "os.system"}, {"_target_": 3},
)  # fmt: skip
SYNTAX = (*"{}[]'\"#|>%@`,=\t\x00\ufeff\r\u2028\ud800", ": ", "- ", "&a ", "*a ", "!!", "---\n", "...\n")


def number_of(kind: str, seed: int, number: int) -> random.Random:
    """The random numbers of an input."""
    return random.Random(f"{kind}/{seed}/{number}")


def odd(rng: random.Random, like: Any = None) -> Any:
    """An odd value, more often of the kind that stands there: what is checked by its type alone says little."""
    if isinstance(like, (int, float)) and rng.random() < 0.7:
        return rng.choice((*NUMBERS, like * 2, -like, like + 1))
    if isinstance(like, str) and rng.random() < 0.5:
        return rng.choice((changed_text(rng, like)[0], rng.choice(WORDS)))
    return copy.deepcopy(rng.choice(rng.choice((NUMBERS, WORDS, NESTED))))


def changed_text(rng: random.Random, text: str) -> tuple[str, str]:
    """A text with one change, and what it was."""
    at = rng.randrange(len(text) + 1)
    end = min(len(text), at + rng.choice((1, 1, 2, 5, 20, 200)))
    what = rng.choice(("deleted", "doubled", "inserted", "inserted", "replaced", "cut", "line"))
    if what == "cut":
        return text[:at], f"cut at {at}"
    if what == "line":
        lines = text.split("\n")
        place, line = rng.randrange(len(lines)), rng.choice(lines)
        lines.insert(place, line)
        return "\n".join(lines), f"line {line!r} again at {place}"
    more = {"deleted": "", "doubled": 2 * text[at:end], "inserted": rng.choice((*SYNTAX, *WORDS)) + text[at:end]}
    new = more.get(what, rng.choice((*SYNTAX, *WORDS)))
    return text[:at] + new + text[end:], f"{text[at:end]!r} at {at} {what}, now {new!r}"


def changed_bytes(rng: random.Random, content: bytes) -> tuple[bytes, str]:
    """Bytes with one change, and what it was."""
    at = rng.randrange(len(content)) if content else 0
    what = rng.choice(("bit", "bit", "bit", "cut", "deleted", "inserted"))
    if what == "bit" and content:
        bit = 1 << rng.randrange(8)
        return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :], f"bit {bit} of byte {at} flipped"
    if what == "cut":
        return content[:at], f"cut at byte {at}"
    if what == "deleted":
        return content[:at] + content[at + rng.randrange(1, 40) :], f"some bytes at {at} deleted"
    more = rng.choice((b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", rng.randbytes(8)))
    return content[:at] + more + content[at:], f"{more!r} inserted at byte {at}"


def paths(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a tree of dictionaries and lists but its root."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in inside for place in ((*above, key), *paths(value, (*above, key)))]


def changed_tree(rng: random.Random, tree: Any, keys: tuple[Any, ...] = WORDS) -> tuple[Any, str]:
    """A copy of a tree with one value replaced, removed or added (under one of ``keys``), and what it was."""
    tree = copy.deepcopy(tree)
    places = paths(tree)
    if not places:
        return odd(rng), "all of it replaced"
    place = rng.choice(places)
    node = tree
    for key in place[:-1]:
        node = node[key]
    name, what = ".".join(map(str, place)), rng.random()
    if what < 0.15:
        del node[place[-1]]
        return tree, f"{name} removed"
    value = odd(rng, node[place[-1]])
    if what < 0.3 and isinstance(node, dict):
        key = rng.choice(keys)
        node[key] = value
        return tree, f"{name.rpartition('.')[0]} + {key!r}: {value!r}"
    node[place[-1]] = value
    return tree, f"{name} = {value!r}"


def describe(folder: Path, group: str, *changes: str) -> None:
    """Say what the input is, in the first place for a reader who repeats it; its length is its size."""
    text = f"{group}: " + "\n".join(changes)
    (folder / "input").write_text(text.encode(errors="backslashreplace").decode())
