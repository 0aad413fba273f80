"""A document that is written once and read twice: as HTML with drawings, and as Markdown without."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medrl.report import html
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
    style: str = "axis-both"
    """Class of the frame of each."""

    def markdown(self) -> str:
        return ""


Block = Text | Note | Items | Command | Table | Drawing


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Collection[int] = (),
    strong: Collection[int] = (),
    folded: str = "",
    shades: Sequence[Sequence[int]] = (),
) -> Table:
    """A table whose columns hold numbers, the first and those of ``left`` aside."""
    columns = [Column(name, right=place > 0 and place not in left) for place, name in enumerate(head)]
    return Table(columns, rows, caption, strong=frozenset(strong), folded=folded, shades=shades)


def to_html(blocks: Sequence[Block]) -> Markup:
    """The blocks of a section."""
    return html.render("document", blocks=[(type(block).__name__, block) for block in blocks])


def to_markdown(blocks: Sequence[Block]) -> str:
    """The same, without drawings."""
    return "\n\n".join(text for block in blocks if (text := block.markdown()))
