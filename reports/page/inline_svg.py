"""Figures as SVG inside a page: colours are the page's variables, text stays text, names are unique."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as tree
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from reports.figures.files import COLOURS, METADATA, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
INK = "#010101"  # matplotlib leaves black out, and what is left out cannot be replaced
# What a figure is drawn in -> the page's variable, which is another one in the dark.
VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        **{colour.lower(): f"var(--series-{place})" for place, colour in enumerate(COLOURS)},
        INK: "var(--ink)",
        "#000000": "var(--ink)",
        "#ffffff": "var(--surface)",
        "#bfbfbf": "var(--bar)",
        "#e5e5e5": "var(--band)",
        "#cccccc": "var(--rule)",
    }
)
PAGE_STYLE: Mapping[str, Any] = MappingProxyType(
    {
        **STYLE,
        "svg.fonttype": "none",
        "text.parse_math": False,  # a name with a dollar sign is a name
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "axes.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
        "lines.solid_capstyle": "round",
    }
)
HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
LONG_NUMBER = re.compile(r"(\d+\.\d\d)\d+")  # of a path, whose unit is a point: a hundredth is not seen
FONT = re.compile(r"font: ([^;\"]*?)([\d.]+px)[^;\"]*")


def inline_svg(draw: Callable[[], Figure], name: str) -> str:
    """The <svg> element of a figure, without a size of its own. name: prefix of its ids, unique within the page.

    It is hidden from screen readers: what holds it says what it shows.
    """
    from matplotlib import style

    buffer = io.StringIO()
    with style.context(["default", dict(PAGE_STYLE)]):
        figure = draw()
        figure.savefig(buffer, format="svg", metadata=METADATA["svg"], transparent=True)
    tree.register_namespace("", SVG)
    root = tree.fromstring(buffer.getvalue())
    for parent in [*root.iter()]:
        for child in [*parent]:
            # A style element would hold for the whole page; metadata and an invisible background are dead weight.
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        _rename(element, name)
    view_box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view_box, "aria-hidden": "true", "focusable": "false"})
    text = tree.tostring(root, encoding="unicode")
    return FONT.sub(_font, HEX.sub(lambda found: VARIABLES.get(found[0].lower(), found[0]), text))


def _rename(element: tree.Element, name: str) -> None:
    """Ids that begin with the figure's name, and the references to them."""
    if LINK in element.attrib:
        element.attrib["href"] = element.attrib.pop(LINK)
    for key, value in element.attrib.items():
        if key == "d":
            element.attrib[key] = LONG_NUMBER.sub(r"\1", value)
        elif key == "id":
            element.attrib[key] = f"{name}-{value}"
        elif key == "href" and value.startswith("#"):
            element.attrib[key] = f"#{name}-{value[1:]}"
        elif "url(#" in value:
            element.attrib[key] = value.replace("url(#", f"url(#{name}-")


def _font(found: re.Match[str]) -> str:
    """Size and weight of a text; its family is the page's."""
    weight = re.search(r"\b(bold|[1-9]00)\b", found[1])
    return f"font-size: {found[2]}" + (f"; font-weight: {weight[0]}" if weight else "")
