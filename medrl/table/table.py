"""One table for every reader: lines for a terminal, Markdown, HTML and LaTeX."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from medrl.safe_text import printable, visible

if TYPE_CHECKING:
    from rich.text import Text

Cell = str | int | float | None
"""None is an empty cell."""
UNLIMITED = 100_000
"""Width of a page that wraps nothing."""
NARROWEST = 16
"""Columns of a terminal that a cell which wraps has at least; a terminal too narrow for that breaks the lines itself."""


@dataclass(frozen=True)
class Column:
    """A column, and how its numbers are written."""

    name: str
    right: bool = False
    """Whether its cells end at one place, as numbers do."""
    spec: str = ""
    """Format of its numbers, ``.1f`` say; text is written as it is."""
    widest: int | None = None
    """Columns of a terminal after which its text goes on in the next line."""

    def shown(self, cell: Cell) -> str:
        """A cell as text."""
        if cell is None or isinstance(cell, str):
            return cell or ""
        return format(cell, self.spec)


@dataclass(frozen=True)
class Table:
    """Rows under named columns, a caption above them and notes below."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Sentences below the rows, each list under its heading."""
    groups: int = 0
    """So many leading columns name a group of rows. A terminal shows their names on a line above the group; the other formats
    leave out what stands in the row above."""
    strong: frozenset[int] = frozenset()
    """Rows that stand out in Markdown and HTML."""
    folded: str = ""
    """Where given, HTML shows this line, and the table on demand."""
    shades: Sequence[Sequence[int]] = ()
    """From 0 to 10 for each cell after the first: how dark HTML shows it."""

    @property
    def heads(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    def shown(self) -> list[list[str]]:
        """All cells as text."""
        return [[column.shown(cell) for column, cell in zip(self.columns, row, strict=True)] for row in self.rows]

    def grouped(self) -> list[list[str]]:
        """The same without names of groups that the row above has, too."""
        before: list[str] = []
        found = []
        for row in self.shown():
            names = row[: self.groups]
            same = next((place for place in range(self.groups) if names[: place + 1] != before[: place + 1]), self.groups)
            found.append([*[""] * same, *row[same:]])
            before = names
        return found

    def text(self, width: int | None = None) -> str:
        """Lines for a terminal of so many columns, without those that are empty.

        Only cells of columns with a ``widest`` wrap: at it, and before it where the terminal is narrow.
        """
        parts = [printable(self.caption)] if self.caption else []
        parts += ["\n".join(self._lines(width or UNLIMITED))] if self.rows else []
        parts += ["\n".join([f"{title}:", *(f"  {printable(note)}" for note in said)]) for title, said in self.notes.items()]
        return "\n\n".join(parts)

    def _lines(self, width: int) -> Iterator[str]:
        """Head, rule and rows, drawn by rich; the rules between groups give way to the names of the groups."""
        import io

        from rich.box import Box
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table as RichTable

        box = Box("    \n    \n────\n    \n────\n────\n    \n    \n")
        drawn = RichTable(box=box, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        shown, needed, names = self.shown(), 0, []
        places = [place for place in range(self.groups, len(self.columns)) if any(row[place] for row in shown)]
        for column, cells in ((self.columns[place], [row[place] for row in shown]) for place in places):
            side: Literal["left", "right"] = "right" if column.right else "left"
            drawn.add_column(
                _drawn(column.name), justify=side, max_width=column.widest, overflow="fold", no_wrap=not column.widest
            )
            natural = max(cell_len(printable(cell)) for cell in (column.name, *cells))
            needed += 2 + (min(natural, NARROWEST) if column.widest else natural)
        for name, rows in groupby(shown, lambda row: ": ".join(filter(None, row[: self.groups]))):
            names.append(printable(name))
            for row in rows:
                drawn.add_row(*(_drawn(row[place]) for place in places))
            drawn.add_section()
        out = io.StringIO()
        Console(file=out, width=max(needed, width - 2 * bool(self.groups)), color_system=None, force_terminal=False).print(drawn)
        indent = "  " if self.groups else ""
        first = True
        for line in out.getvalue().splitlines():
            if not line or set(line) != {"─"}:
                yield f"{indent}{line}".rstrip()
                continue
            if first:
                yield "-" * (len(indent) + len(line))
            if self.groups:
                yield names.pop(0)
            first = False

    def markdown(self) -> str:
        """A Markdown table."""
        rows = [[f"**{escaped}**" if (escaped := escape_markdown(cell)) and index in self.strong else escaped for cell in row]
                for index, row in enumerate(self.grouped())]  # fmt: skip
        lines = [list(map(escape_markdown, self.heads)), ["--:" if column.right else ":--" for column in self.columns], *rows]
        parts = [escape_markdown(self.caption)] if self.caption else []
        parts += ["\n".join(f"| {' | '.join(line)} |" for line in lines)] if self.rows else []
        for title, said in self.notes.items():
            parts += [f"{title}:", "\n".join(f"- {escape_markdown(note)}" for note in said)]
        return "\n\n".join(parts)

    def html(self) -> str:
        """A figure of a report's page, through its template."""
        from medrl.report.html import macros

        return str(macros("macros.html.j2").table(self))

    def latex(self) -> str:
        """A ``table`` environment in UTF-8 for ``booktabs`` and ``graphicx``, no wider than the text."""
        from pandas import DataFrame

        lines = [r"\begin{table}[htbp]", r"\centering\scriptsize"]
        lines += [rf"\caption{{{escape_latex(self.caption)}}}"] if self.caption else []
        if self.rows:
            places = "".join("r" if column.right else "l" for column in self.columns)
            cells = [list(map(printable, row)) for row in self.grouped()]
            drawn = DataFrame(cells, columns=list(map(printable, self.heads))).to_latex(
                index=False, escape=True, column_format=f"@{{}}{places}@{{}}"
            )
            # A bracket at the start of a row would be read as a length of the row before.
            drawn = re.sub(r"^\[", "{[}", drawn.rstrip(), flags=re.MULTILINE)
            lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", f"{drawn}}}"]
        for title, said in self.notes.items():
            sentences = " ".join(f"{note.rstrip('.')}." for note in said)
            lines.append(rf"\par\smallskip\raggedright {escape_latex(f'{title}: {sentences}')}")
        return "\n".join([*lines, r"\end{table}"])


def terminal_width() -> int | None:
    """Columns of the terminal that this program writes to; None where its output goes elsewhere, which wraps nothing."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def red(text: str) -> str:
    """Text that a terminal shows in red; as it is where output goes elsewhere, or NO_COLOR is set (no-color.org)."""
    return f"\x1b[31m{text}\x1b[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def _drawn(text: str) -> Text:
    from rich.text import Text

    return Text(printable(text).replace("─", "-"))


_MARKS = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown would take for a mark; intervals keep their brackets, links lose theirs."""


_BLOCK = re.compile(r"^(#{1,6}|[-+>=])(?=\s|$)|(?<=^\d)[.)](?=\s|$)|^>")
"""What Markdown would take for the begin of a heading, an item or a quotation."""


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    line = " ".join(visible(text).split())
    line = re.sub(r"&(?=#?\w+;)", "&amp;", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", line))
    return _BLOCK.sub(r"\\\g<0>", _MARKS.sub(r"\\\g<0>", line))


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is; pandas escapes cells only, so that it is made one."""
    from pandas import DataFrame

    lines = DataFrame([[printable(text)]]).to_latex(index=False, header=False, escape=True).splitlines()
    return str(next(line for line in lines if line.endswith(r" \\"))).removesuffix(r" \\")
