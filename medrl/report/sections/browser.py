"""All held-out answers and training completions, as data that ``browser.js`` searches and filters on the page itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from markupsafe import Markup

from medrl.report import html
from medrl.report.kept_texts import Answers, Completion, Completions, Line
from medrl.safe_text import visible

MOST_COMPLETIONS = 5000
"""Of training; whole steps are left out where there are more."""
Prompt = list[tuple[str, int]]
"""Role and place of the content among all texts of the page."""


def browser(asked: Mapping[str, Answers], sampled: Completions) -> Markup:
    """The section; empty where the run has no text yet."""
    contents: dict[str, int] = {}
    sets = [_answers(name, each, contents) for name, each in asked.items() if each.before]
    if sampled.found:
        sets.append(_completions(sampled, contents))
    if not sets:
        return Markup("")
    data = {"contents": list(contents), "sets": sets}
    return html.render("browser", data=as_json(data), sampled=sampled)


def as_json(value: object) -> Markup:
    """JSON for a page: no character of it can end the element that holds it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate({ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}))


def _answers(name: str, found: Answers, contents: dict[str, int]) -> dict[str, Any]:
    """One task: a row an answer, with the model's texts before and after training; or a row a pair, with its two scores."""
    trained = bool(found.after)
    pairs: Iterable[Sequence[Line]] = found.paired() if trained else [(line,) for line in found.before]
    return {
        "name": _shown(name),
        "models": ["Before training", "After training"] if trained else ["Model"],
        "preference": found.protocol != "generative",
        "rows": [[*_question(lines[0], contents), *map(_answer, lines)] for lines in pairs],
    }


def _question(line: Line, contents: dict[str, int]) -> list[Any]:
    gold = _shown(line["gold"]) if "gold" in line else [_shown(line["chosen"]), _shown(line["rejected"])]
    return [_shown(line["id"]), gold, _shown(line["group"]), line["sample"], _prompt(line["prompt"], contents)]


def _answer(line: Line) -> list[Any]:
    if "chosen" in line:
        scores = f"{line['score_chosen']:.4g} for the better answer, {line['score_rejected']:.4g} for the worse"
        return ["", line["verdict"], line["verdict"], scores, line["tokens"]]
    return [_shown(line["text"]), line["verdict"], _reader(line), _shown(line["answer"]), line["tokens"]]


def _reader(line: Line) -> str:
    """What a careful reader finds; lines of before there was that reading have one verdict."""
    return str(line.get("readable", line["verdict"]))


def _completions(sampled: Completions, contents: dict[str, int]) -> dict[str, Any]:
    return {
        "name": "Training",
        "rewards": list(map(_shown, sampled.rewards)),
        "rows": [[each.step, _prompt(each.prompt, contents), _shown(each.text), *_numbers(each)] for each in sampled.found],
    }


def _numbers(each: Completion) -> list[float | None]:
    found = (each.reward, each.advantage, *each.scores)
    return [float(f"{value:.4g}") if value is not None and isfinite(value) else None for value in found]


def _prompt(messages: Sequence[Mapping[str, str]], contents: dict[str, int]) -> Prompt:
    return [(_shown(each["role"]), contents.setdefault(_shown(each["content"]), len(contents))) for each in messages]


def _shown(value: object) -> str:
    return "" if value is None else visible(value)
