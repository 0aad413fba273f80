"""Templates of the report pages, and text made safe for them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from medrl.report import phrases

if TYPE_CHECKING:
    from jinja2 import Environment

MINUS = "\N{MINUS SIGN}"
# Characters that a browser swallows, or that turn the order of what follows, are shown by number.
_CONTROLS = [*(code for code in range(0x20) if chr(code) not in "\n\t"), *range(0x7F, 0xA0)]
_TURNS = [0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_UNSEEN = {code: f"\u2039U+{code:04X}\u203a" for code in _CONTROLS + _TURNS}


def visible(value: object) -> str:
    """Text whose every character can be seen; half a character becomes a question mark."""
    return str(value).replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8").translate(_UNSEEN)


def signed(share: float) -> str:
    """A difference of shares, in points."""
    return f"{100 * share:+.1f}".replace("-", MINUS)


@cache
def environment() -> Environment:
    """Templates that escape every value, and show its invisible characters, unless it is HTML that a template made."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    found = Environment(
        loader=PackageLoader("medrl.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else visible(value),
    )  # fmt: skip
    found.globals["phrases"] = phrases
    found.filters.update(
        fixed=lambda value, digits=1: f"{value:.{digits}f}".replace("-", MINUS),
        percent=lambda share: f"{100 * share:.1f}",
        points=signed,
        count=lambda value: f"{value:,.0f}",
        interval=phrases.interval,
    )
    return found


def macros() -> Any:
    """What the pages' templates share, to be called from Python."""
    return environment().get_template("macros.html.j2").module


def render(template: str, **values: Any) -> str:
    """A page or a part of one."""
    return environment().get_template(template).render(values)
