"""A section is written once, as a template of plain text, and read twice: as HTML with drawings, and as Markdown.

The blocks of a section are filters of its template: ``{% filter text %}A sentence with {{ values }}.{% endfilter %}``. A block
makes everything in it safe for its format, so that no value has to be escaped by itself. Jinja drops the line break after a tag:
no line of a sentence ends in one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup, escape

from medrl.report import html
from medrl.report.progress import duration
from medrl.safe_text import visible
from medrl.table.table import Column, Table, escape_markdown

if TYPE_CHECKING:
    from jinja2 import Environment

Format = Literal["html", "markdown"]
PATTERNS = {
    "text": ("<p>{}</p>\n", "{}\n\n"),
    "strong": ("<p><strong>{}</strong></p>\n", "**{}**\n\n"),
    "item": ("<li>{}</li>", "- {}\n"),
}
"""Blocks of one line, in HTML and in Markdown."""
LONG = 12
"""Rows up to which a table is not folded."""


@cache
def _environment(kind: Format) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from medrl.statistics.metrics import over_seeds
    from medrl.sweep.report import caveats, effects, formatting, noise, tables

    options: dict[str, Any] = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    found = Environment(loader=PackageLoader("medrl.sweep.report"), extensions=["jinja2.ext.do"], **options)
    found.filters.update({name: partial(_line, patterns[kind == "markdown"], kind) for name, patterns in PATTERNS.items()})
    for block in (_fact, _items, _command, _table, _drawing):
        found.filters[block.__name__.strip("_")] = partial(block, kind)
    found.filters.update(show=formatting.show, fixed=html.fixed, count=lambda cost: "" if cost is None else f"{cost:,.0f}")
    found.globals.update(counted=html.counted, versions=html.versions, duration=duration)
    found.globals.update(caveats=caveats, effects=effects, noise=noise, tables=tables, over_seeds=over_seeds)
    found.globals.update({name: getattr(formatting, name) for name in ("key", "number_or_none", "p_value", "seeds", "show")})
    return found


def render(section: str, kind: Format, **values: Any) -> str:
    """A section in a format."""
    return _environment(kind).get_template(f"{section}.j2").render(values).strip("\n")


def _line(pattern: str, kind: Format, said: str) -> str:
    line = " ".join(said.split())
    return pattern.format(escape(visible(line)) if kind == "html" else escape_markdown(line))


def _fact(kind: Format, said: str, name: str, **look: bool) -> str:
    """What the head of the report says under a name; nothing where it is not known."""
    line = " ".join(said.split())
    if line and kind == "html":
        return str(html.macros("macros.html.j2").fact(name, line, **look))
    return f"- {name}: {escape_markdown(line)}\n" if line else ""


def _items(kind: Format, made: str) -> str:
    return f"<ul>{made}</ul>\n" if kind == "html" else f"{made}\n"


def _command(kind: Format, said: str) -> str:
    """A command, ready to be copied."""
    if kind == "html":
        return f"<pre>{escape(visible(said))}</pre>\n"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", said)), default=0))
    return f"{fence}\n{said}\n{fence}\n\n"


def _drawing(kind: Format, caption: str, drawn: Sequence[tuple[str, Markup]], style: str = "axis-left") -> str:
    """Drawings under a caption, each with its own name where there are several; Markdown leaves them out."""
    return str(html.macros("macros.html.j2").drawing(" ".join(caption.split()), drawn, style)) if kind == "html" else ""


def _table(
    kind: Format, caption: str, rows: Sequence[Sequence[Any]], head: Sequence[str], *, left: Sequence[int] = (), best: str = "",
    claims: bool = False, fold: str = "", folded: str = "", shades: Sequence[Sequence[int]] = (),
) -> str:  # fmt: skip
    """A table of text and whole numbers under its caption. Columns ``left`` and the first hold words. The row named ``best``
    stands out, and with ``claims`` those whose verdict, in the last column, claims something. Many rows, of what ``fold`` says,
    are folded under a line, as with ``folded``.
    """
    columns = [Column(each, right=place > 0 and place not in left) for place, each in enumerate(head)]
    strong = {place for place, row in enumerate(rows) if row[0] == best or (claims and row[-1].startswith("significant"))}
    folded = f"All {len(rows)} {fold}" if fold and len(rows) > LONG else folded
    found = Table(columns, rows, " ".join(caption.split()), strong=frozenset(strong), folded=folded, shades=shades)
    return found.html() + "\n" if kind == "html" else found.markdown() + "\n\n"
