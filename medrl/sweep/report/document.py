"""A document that is written once and read twice: as HTML with drawings, and as Markdown. ``prose.yaml`` has its words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from medrl.report import html
from medrl.report.html import Fact
from medrl.sweep.report import formatting
from medrl.table.table import Column, Table, escape_markdown


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text; whatever it holds stays text."""

    text: str
    strong: bool = False

    def markdown(self) -> str:
        return f"**{escape_markdown(self.text)}**" if self.strong else escape_markdown(self.text)


@dataclass(frozen=True)
class Note:
    """A paragraph of Markdown that the sweep's owner wrote; HTML shows it as it was typed."""

    note: str

    def markdown(self) -> str:
        return self.note


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]

    def markdown(self) -> str:
        return "\n".join(f"- {escape_markdown(item)}" for item in self.items)


@dataclass(frozen=True)
class Command:
    """A command, ready to be copied."""

    command: str

    def markdown(self) -> str:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", self.command)), default=0))
        return f"{fence}\n{self.command}\n{fence}"


@dataclass(frozen=True)
class Drawing:
    """Drawings under a caption, each with its own name where there are several; Markdown leaves them out."""

    caption: str
    charts: Sequence[tuple[str, Markup]]
    style: str = "axis-left"
    """Class of the frame of each."""

    def markdown(self) -> str:
        return ""


Block = Text | Note | Items | Command | Table | Drawing


@cache
def _prose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("prose.yaml").read_text(encoding="utf-8"))
    return found


@cache
def _template(source: str) -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined)  # plain text, which the blocks escape
    environment.globals.update(seeds=formatting.seeds, show=formatting.show)
    return environment.from_string(source)


def text(name: str, /, **values: Any) -> str:
    """A sentence of ``prose.yaml``."""
    return str(_template(_prose()["texts"][name]).render(values))


def sentences(name: str, /, **values: Any) -> Iterator[str]:
    """Those sentences of a list that say something."""
    return filter(None, (str(_template(each).render(values)) for each in _prose()["lists"][name]))


def table(name: str, rows: Sequence[Sequence[str]], *, strong: Collection[int] = (), folded: str = "", **values: Any) -> Table:
    """A table whose caption and head are in ``prose.yaml``."""
    found = _prose()["tables"][name]
    head = [str(_template(each).render(values)) for each in found["head"]]
    columns = [Column(each, right=place > 0 and place not in found["left"]) for place, each in enumerate(head)]
    caption = str(_template(found["caption"]).render(values))
    return Table(columns, rows, caption, strong=frozenset(strong or found.get("strong", ())), folded=folded)


def facts(**values: Any) -> list[Fact]:
    """What stands at the head of the report: those facts of ``prose.yaml`` that are known."""
    shown = [(each, str(_template(each["value"]).render(values))) for each in _prose()["facts"]]
    return [Fact(each["name"], value, each.get("wide", False), each.get("code", False)) for each, value in shown if value]


def to_html(blocks: Sequence[Block]) -> Markup:
    """The blocks of a section."""
    return html.render("document", blocks=[(type(block).__name__, block) for block in blocks])


def to_markdown(blocks: Sequence[Block]) -> str:
    """The same, without drawings."""
    return "\n\n".join(text for block in blocks if (text := block.markdown()))
