"""What sections share: numbers and cut text as HTML, the frame of a table, and that of a whole page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medrl.report.charts import escaped
from medrl.report.css import STYLE


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


def page(title: str, header: str, sections: Mapping[str, tuple[str, str]], footer: str, style: str = STYLE) -> str:
    """A whole file that loads nothing.

    Args:
        title: Plain text.
        header: In HTML; links to the sections follow it.
        sections: Heading and content in HTML by anchor; one without content is left out.
        footer: In HTML.
        style: The style sheet.
    """
    shown = {key: section for key, section in sections.items() if section[1]}
    links = "".join(f'<a href="#{key}">{heading}</a>' for key, (heading, _) in shown.items())
    parts = (f'<section id="{key}"><h2>{heading}</h2>\n{content}\n</section>' for key, (heading, content) in shown.items())
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        # Whatever a model wrote, a browser will run and fetch nothing for this page.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<header>\n{header}\n<nav aria-label="Sections">{links}</nav>\n</header>\n<main>\n{body}\n</main>\n'
        f"<footer>{footer}</footer>\n</body>\n</html>\n"
    )
