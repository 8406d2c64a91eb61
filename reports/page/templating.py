"""Templates of pages: every text is escaped, and the only script that may run is the package's own."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import bench
from reports.page.periodic_table import LEGEND_SHARES, shade
from reports.tables.columns import percent

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = "page/templates"
SUBSCRIPT = re.compile(r"(?<=[A-Za-z)])\d+")


def render_template(name: str, title: str, subtitle: Sequence[str], home: str = "", **content: Any) -> str:
    """A page from a template, with this package's style and script in it. home: address of the list of all runs."""
    script = _text("page.js")
    return (
        _environment()
        .get_template(name)
        .render(
            title=title,
            subtitle=subtitle,
            home=home,
            version=bench.__version__,
            style=_safe(_text("style.css")),
            script=_safe(script),
            script_hash=_safe("sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
            **content,
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("reports", TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["formula"] = _formula
    environment.globals["scale"] = [(f"{percent(share, 0)} %", shade(share)) for share in LEGEND_SHARES]
    return environment


def _formula(text: str) -> Markup:
    """A formula with its numbers as subscripts, escaped."""
    from markupsafe import Markup, escape

    return Markup(SUBSCRIPT.sub(r"<sub>\g<0></sub>", str(escape(text))))


def _safe(text: str) -> Markup:
    """A text of this package, which is written as it stands."""
    from markupsafe import Markup

    return Markup(text)


def _text(name: str) -> str:
    return (resources.files("reports") / TEMPLATES / name).read_text(encoding="utf-8")
