"""What sections share: numbers and cut text as HTML, and the frame of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from medrl.charts import escaped


def text(value: Any, most: int) -> str:
    """The first ``most`` characters, with a count of what is left out."""
    whole = str(value)
    left_out = max(0, len(whole) - most)
    return escaped(whole[:most]) + (f'<span class="more"> … {left_out:,} more characters</span>' if left_out else "")


def signed(share: float) -> str:
    """A difference in points."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")


def heads(*words: str) -> str:
    """Head cells."""
    return "".join(f'<th scope="col">{word}</th>' for word in words)


def row(label: str, cells: Iterable[str], style: str = "") -> str:
    """A row of a table, its label and cells in HTML already."""
    classes = f' class="{style}"' if style else ""
    return f'<tr{classes}><th scope="row">{label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def table(label: str, head: str, bodies: str, caption: str = "") -> str:
    """A table that scrolls by itself where the page is narrow.

    Args:
        label: What it is, for who cannot see it.
        head: Head cells.
        bodies: Rows, or whole bodies.
        caption: In HTML.
    """
    said = f"<caption>{caption}</caption>" if caption else ""
    rows = bodies if bodies.startswith("<tbody") else f"<tbody>{bodies}</tbody>"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(label)}"><table>{said}'
        f"<thead><tr>{head}</tr></thead>{rows}</table></div>"
    )
