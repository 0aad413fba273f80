"""A document that is written once and read twice: as HTML with drawings, and as Markdown without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medrl.report.charts import escaped, visible
from medrl.report.html import table

SHORT = 40
"""Characters of words that stay on one line of a table."""


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text; whatever it holds stays text."""

    words: str
    strong: bool = False

    def html(self) -> str:
        inner = escaped(self.words)
        return f"<p><strong>{inner}</strong></p>" if self.strong else f"<p>{inner}</p>"

    def markdown(self) -> str:
        return f"**{plain(self.words)}**" if self.strong else plain(self.words)


@dataclass(frozen=True)
class Note:
    """A paragraph of Markdown that the sweep's owner wrote; HTML shows it as it was typed."""

    words: str

    def html(self) -> str:
        return f"<p>{escaped(self.words)}</p>"

    def markdown(self) -> str:
        return self.words


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: Sequence[str]

    def html(self) -> str:
        return f"<ul>{''.join(f'<li>{escaped(item)}</li>' for item in self.items)}</ul>"

    def markdown(self) -> str:
        return "\n".join(f"- {plain(item)}" for item in self.items)


@dataclass(frozen=True)
class Command:
    """A command, ready to be copied."""

    words: str

    def html(self) -> str:
        return f"<pre>{escaped(self.words)}</pre>"

    def markdown(self) -> str:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", self.words)), default=0))
        return f"{fence}\n{self.words}\n{fence}"


@dataclass(frozen=True)
class Table:
    """Rows of plain text under a head; the first cell of a row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset()
    """Columns that hold words and not numbers, the first, 0, aside."""

    strong: frozenset[int] = frozenset()
    """Rows that stand out."""

    folded: str = ""
    """Where given, HTML shows this and the table only on demand."""

    shades: Sequence[Sequence[int]] = ()
    """0 to 10, of each cell after the first: how dark HTML shows it."""

    def html(self) -> str:
        left = ' class="left"'
        head = "".join(
            f'<th scope="col"{left if column in self.words else ""}>{escaped(cell)}</th>' for column, cell in enumerate(self.head)
        )
        rows = "".join(map(self._row, range(len(self.rows))))
        # The caption stands outside of what scrolls, so that it is read whole where the table is wider than the page.
        drawn = f"<figure><figcaption>{escaped(self.caption)}</figcaption>{table(self.caption, head, rows)}</figure>"
        return f"<details><summary>{escaped(self.folded)}</summary>{drawn}</details>" if self.folded else drawn

    def _row(self, index: int) -> str:
        first, *others = self.rows[index]
        cells = []
        for column, cell in enumerate(others):
            shade = f"h{self.shades[index][column]}" if self.shades else ""
            style = self._words(column + 1) if column + 1 in self.words else shade
            cells.append(f'<td class="{style}">{escaped(cell)}</td>' if style else f"<td>{escaped(cell)}</td>")
        style = ' class="strong"' if index in self.strong else ""
        return f'<tr{style}><th scope="row">{escaped(first)}</th>{"".join(cells)}</tr>'

    def _words(self, column: int) -> str:
        """Columns of long words break into lines, short ones need no room for it."""
        return "words" if any(len(row[column]) > SHORT for row in self.rows) else "left"

    def markdown(self) -> str:
        rule = [":--" if column == 0 or column in self.words else "--:" for column in range(len(self.head))]
        rows = [self.head, rule, *self.rows]
        marked = [
            [f"**{plain(cell)}**" if cell and index - 2 in self.strong and index > 1 else cell if index == 1 else plain(cell)
             for cell in row]
            for index, row in enumerate(rows)
        ]  # fmt: skip
        return f"{plain(self.caption)}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in marked)


@dataclass(frozen=True)
class Drawing:
    """Drawings under a caption; Markdown leaves them out, for the tables hold their numbers."""

    caption: str
    svg: str
    legend: str = ""
    """In HTML, after the caption."""

    style: str = "axis-both"
    """Class of the frame."""

    def html(self) -> str:
        caption = f'<figcaption class="numbered">{escaped(self.caption)}{self.legend}</figcaption>'
        return f'<figure>{caption}<div class="{self.style}">{self.svg}</div></figure>'

    def markdown(self) -> str:
        return ""


Block = Text | Note | Items | Command | Table | Drawing


def html(blocks: Sequence[Block]) -> str:
    """The blocks of a section."""
    return "\n".join(block.html() for block in blocks)


def markdown(blocks: Sequence[Block]) -> str:
    """The same, without drawings."""
    return "\n\n".join(text for block in blocks if (text := block.markdown()))


_UNSAFE = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown would take for a mark; intervals keep their brackets, links lose theirs."""


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = " ".join(visible(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return _UNSAFE.sub(lambda found: "\\" + found[0], line)
