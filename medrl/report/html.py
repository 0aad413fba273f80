"""Templates of the report pages, and text made safe for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from medrl.report import phrases
from medrl.report.progress import duration
from medrl.safe_text import visible

if TYPE_CHECKING:
    from jinja2 import Environment

MINUS = "\N{MINUS SIGN}"


def fixed(value: float, digits: int = 1, sign: str = "") -> str:
    """A number with so many digits after the point."""
    return f"{value:{sign}.{digits}f}".replace("-", MINUS)


def signed(share: float) -> str:
    """A difference of shares, in points."""
    return fixed(100 * share, 1, "+")


def number(value: float) -> str:
    """A number in few characters: 12.5k, 0.04, 5e-5."""
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    elif size >= 1e6:
        text = f"{value / 1e6:.4g}M"
    else:
        text = f"{value / 1e3:.4g}k" if size >= 1e4 else f"{value:.4g}"
    return text.replace("-", MINUS)


@cache
def css() -> Markup:
    """The style sheet of the reports."""
    return Markup(Path(__file__).with_name("report.css").read_text(encoding="utf-8"))


@cache
def script() -> Markup:
    """The program of a run's page: searches its texts, and loads nothing."""
    return Markup(Path(__file__).with_name("browser.js").read_text(encoding="utf-8"))


def script_hash() -> str:
    """By which the page's policy knows that program; a browser runs nothing else, whatever a model wrote."""
    import base64
    import hashlib

    return "sha256-" + base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()


@cache
def environment() -> Environment:
    """Templates that escape every value, and show its invisible characters, unless it is HTML that a template made."""
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("medrl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else visible(value),
    )  # fmt: skip
    found.globals.update(phrases=phrases, css=css, script=script, script_hash=script_hash, counted=counted, versions=versions)
    found.filters.update(
        count=lambda value: f"{value:,.0f}", date=date, duration=duration,
        fixed=fixed, interval=phrases.interval, percent=lambda share: f"{100 * share:.1f}",
        pixels=lambda place: f"{place:.2f}".rstrip("0").rstrip("."), points=signed, share=lambda place: f"{100 * place:.2f}%",
        yaml=partial(yaml.safe_dump, sort_keys=False, allow_unicode=True),
    )  # fmt: skip
    return found


def macros(template: str) -> Any:
    """What templates share, to be called from Python."""
    return environment().get_template(template).module


def render(template: str, **values: Any) -> Markup:
    """A part of a page; empty where its template has nothing to say."""
    return Markup(environment().get_template(f"{template}.html.j2").render(values).strip())


def page(
    title: str,
    heading: str,
    rows: str,
    facts: Markup,
    sections: Mapping[str, tuple[str, Markup]],
    sources: str,
    *,
    synthetic: bool,
    said: str = "",
    loud: bool = False,
) -> str:
    """A whole file that loads nothing: a window's title, a heading, where the ``rows`` came from, `fact`s of ``macros.html.j2``,
    sections (heading and content by anchor; one without content is left out), and where the numbers come from for the foot.
    ``said`` stands on top, ``loud`` where it tells of a failure; ``synthetic`` rows, or some of them, say nothing about medicine.
    """
    import time

    values = {
        "title": f"{title}{' (synthetic twins)' if synthetic else ''}", "heading": heading, "rows": rows, "synthetic": synthetic,
        "facts": facts, "css": css(), "sources": sources, "said": said, "loud": loud,
        "sections": {key: section for key, section in sections.items() if section[1]}, "now": date(time.time()),
    }  # fmt: skip
    return str(render("page", **values)) + "\n"


def date(seconds: float) -> str:
    """Day and minute."""
    import time

    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def counted(names: Sequence[object]) -> str:
    """Names with how often each occurs: "2 x H200"."""
    distinct = dict.fromkeys(map(str, names))
    return ", ".join(f"{list(map(str, names)).count(name)} \N{MULTIPLICATION SIGN} {name}" for name in distinct)


def versions(machine: Mapping[str, Any]) -> str:
    """The packages of a machine with their versions."""
    return ", ".join(f"{name} {version}" for name, version in (machine.get("packages") or {}).items())
