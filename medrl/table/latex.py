"""A table in LaTeX, in plain ASCII whatever stands in it, so that any engine sets it without fonts or an input encoding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from medrl.table.formats import HEAD, RIGHT, below, cells
from medrl.table.join import Table

PREAMBLE = "% needs \\usepackage{booktabs} and \\usepackage{graphicx} in the preamble"
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}", "-": "{-}",
}  # fmt: skip
"""What TeX obeys. A bracket after the end of a line would be read as a length; hyphens in a row are one dash."""
SIGNS = {
    "PLUS-MINUS SIGN": r"$\pm$", "MULTIPLICATION SIGN": r"$\times$", "MIDDLE DOT": r"$\cdot$", "MINUS SIGN": "$-$",
    "EN DASH": "--", "EM DASH": "---", "HORIZONTAL ELLIPSIS": r"\ldots{}",
    "LEFT SINGLE QUOTATION MARK": "`", "RIGHT SINGLE QUOTATION MARK": "'",
    "LEFT DOUBLE QUOTATION MARK": "``", "RIGHT DOUBLE QUOTATION MARK": "''", "LESS-THAN OR EQUAL TO": r"$\leq$",
    "GREATER-THAN OR EQUAL TO": r"$\geq$", "ALMOST EQUAL TO": r"$\approx$", "RIGHTWARDS ARROW": r"$\rightarrow$",
    "DEGREE SIGN": r"$^\circ$", "SECTION SIGN": r"\S{}", "MICRO SIGN": r"$\mu$", "LATIN SMALL LETTER SHARP S": r"\ss{}",
    "LATIN SMALL LETTER O WITH STROKE": r"\o{}", "LATIN CAPITAL LETTER O WITH STROKE": r"\O{}", "LATIN SMALL LETTER AE": r"\ae{}",
    "LATIN CAPITAL LETTER AE": r"\AE{}", "LATIN SMALL LIGATURE OE": r"\oe{}", "LATIN SMALL LETTER L WITH STROKE": r"\l{}",
    "LATIN CAPITAL LETTER L WITH STROKE": r"\L{}", "LATIN SMALL LETTER DOTLESS I": r"\i{}",
    **{f"GREEK SMALL LETTER {name.upper()}": rf"$\{name}$" for name in ("alpha", "beta", "gamma", "delta", "epsilon", "sigma")},
    "GREEK SMALL LETTER LAMDA": r"$\lambda$",
}  # fmt: skip
"""Signs by their Unicode names."""
ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".", "\u0308": '"',
    "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip
OTHER = "{[}other script{]}"
"""Stands for what LaTeX without further fonts cannot set, Chinese say."""


def escaped(text: str) -> str:
    """Text as LaTeX sets it, in ASCII: accents as commands, other scripts named and not shown."""
    found: list[str] = []
    for char in unicodedata.normalize("NFD", " ".join(text.split())):
        if char in ACCENTS and found and re.fullmatch(r"[A-Za-z]", found[-1]):
            found[-1] = rf"\{ACCENTS[char]}{{{found[-1]}}}"
        elif sign := SPECIAL.get(char) or SIGNS.get(unicodedata.name(char, "")):
            found.append(sign)
        elif char.isascii():
            found.append(char if char.isprintable() else " ")
        elif not unicodedata.combining(char) and found[-1:] != [OTHER]:
            found.append(OTHER)
    return "".join(found)


def to_latex(tables: Sequence[Table]) -> str:
    """A ``table`` environment for each table, shrunk to the width of the text where it is wider, and what stands below it."""
    return "\n".join([PREAMBLE, *map(_environment, tables)])


def _environment(table: Table) -> str:
    lines = [f"% Rows: {escaped(table.source)}.", r"\begin{table}[htbp]", r"  \centering", r"  \scriptsize"]
    title = f"{table.name}: {table.title}. " if table.name else ""
    lines.append(rf"  \caption{{{escaped(f'{title}Rows: {table.source}.')}}}")
    if rows := cells(table):
        lines += [
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"  \begin{{tabular}}{{@{{}}{''.join('r' if head in RIGHT else 'l' for head in HEAD)}@{{}}}}",
            r"    \toprule",
            f"    {_line(HEAD)}",
            r"    \midrule",
            *(f"    {_line(row)}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}}",
        ]
    remarks = below(table)
    for title, found in remarks.items():
        lines.append(
            rf"  \par\smallskip\raggedright {escaped(title)}: {escaped(' '.join(each.rstrip('.') + '.' for each in found))}"
        )
    return "\n".join([*lines, r"\end{table}", ""])


def _line(row: Sequence[str]) -> str:
    return " & ".join(map(escaped, row)) + r" \\"
