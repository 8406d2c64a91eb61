"""The measured figures as Markdown tables, put into a document between two marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.atomic import write_text
from tasks.stability.validation.labelled import SOURCES

BEGIN, END = "<!-- validation: generated from here -->", "<!-- validation: to here -->"
DASH = "–"
HELD_OUT = ("mpts52", "mp20")
Figures = dict[str, dict[str, Any]]  # potential -> content of its file


def read_figures(folder: Path) -> Figures:
    """Those of all potentials in a folder, the ones that have a hull of their own first."""
    files = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.validation.json"))]
    files.sort(key=lambda found: (found["hull"].get("sha256") is None, found["potential"]["name"]))
    return {found["potential"]["name"]: found for found in files}


def write_tables(document: Path, folder: Path) -> None:
    """Replaces what stands between the marks of a document. ValueError where it has none."""
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{document}: has no lines {BEGIN} and {END} to put the tables between")
    write_text(document, f"{before}{BEGIN}\n\n{tables(read_figures(folder))}\n{END}{after}")


CAPTIONS = {
    "relaxed": """Relaxed crystals against the potential's own hull (*: the package has none; against one of single
points), and in brackets under *agree* the 95 % interval. Errors in eV/atom; *f+*: of the unstable ones, how many are
called stable; *f-*: of the stable ones, how many are called unstable:""",
    "as_given": "More of the same crystals as given, against a hull of single points, one basis for all potentials:",
    "gain": "What relaxing adds, on the crystals of the first table:",
    "confusion": "Who calls what stable, MPTS-52, as given:",
    "costs": "User CPU seconds of a crystal, one thread, beside other work on the machine:",
    "chemistry": """Where they fail: kinds of chemistry, MPTS-52 and MP-20 together, as given; the MAE in eV/atom, and
how many of how many fall on the wrong side of the line:""",
}


def tables(figures: Figures) -> str:
    """All tables with their captions."""
    rows = {
        "relaxed": _errors(figures, "relaxed"),
        "as_given": _errors(figures, "as_given"),
        "gain": _gain(figures),
        "confusion": _confusion(figures),
        "costs": _costs(figures),
        "chemistry": _chemistry(figures),
    }
    return "\n\n".join(f"{CAPTIONS[name]}\n\n" + "\n".join(table) for name, table in rows.items()) + "\n"


def _errors(figures: Figures, kind: str) -> Iterator[str]:
    rows = []
    for source, name, found in _compared(figures, kind):
        row = found["sources"][source][kind]
        rows.append(
            [
                SOURCES[source].title,
                name + _mark(found, kind),
                row["crystals"],
                f"{row['mae']:.3f}",
                f"{row['median_error']:.3f}",
                f"{row['bias']:+.3f}",
                f"{row['pearson']:.2f}",
                f"{_percent(row['agree'])} [{100 * row['agree']['low']:.0f}, {100 * row['agree']['high']:.0f}]",
                _percent(row["unstable_called_stable"]),
                _percent(row["stable_called_unstable"]),
                f"{_percent(row['stable_rate'])} / {_percent(row['published_stable_rate'])}",
            ]
        )
    titles = ["crystals", "potential", "n", "MAE", "median", "bias", "Pearson", "agree, %", "f+, %", "f-, %"]
    return _table([*titles, "stable, % (published)"], rows)


def _gain(figures: Figures) -> Iterator[str]:
    rows = []
    for source, name, found in _compared(figures, "relaxed"):
        before, after = (found["sources"][source][kind] for kind in ("as_given_of_relaxed", "relaxed"))
        agree = f"{_percent(before['agree'])} → {_percent(after['agree'])}"
        mae = f"{before['mae']:.3f} → {after['mae']:.3f}"
        bias = f"{before['bias']:+.3f} → {after['bias']:+.3f}"
        rows.append([source, name + _mark(found, "relaxed"), after["crystals"], mae, bias, agree])
    return _table(["crystals", "potential", "n", "MAE", "bias", "agree, %"], rows)


def _confusion(figures: Figures) -> Iterator[str]:
    rows = []
    for source, name, found in _compared(figures, "as_given"):
        if source == "mpts52":
            rows.append([name, *found["sources"][source]["as_given"]["confusion"].values()])
    return _table(["potential", "both", "the potential alone", "DFT alone", "neither"], rows)


def _costs(figures: Figures) -> Iterator[str]:
    rows = []
    for source, name, found in _compared(figures, "as_given"):
        cost = found["sources"][source]["costs"]
        relaxing = [DASH] * 3
        if "relax_seconds" in cost:
            relaxing = [f"{cost['relax_seconds']:.2f}", f"{cost['steps']:.0f}", f"{100 * cost['converged']:.0f}"]
        rows.append([source, name, f"{cost['atoms']:.1f}", f"{cost['point_seconds']:.3f}", *relaxing])
    return _table(["crystals", "potential", "atoms", "single point", "relaxing", "steps", "converged, %"], rows)


def _chemistry(figures: Figures) -> Iterator[str]:
    chosen = {
        name: [found["sources"][s]["chemistry"] for s in HELD_OUT if s in found["sources"]]
        for name, found in figures.items()
    }
    kinds = dict.fromkeys(kind for parts in chosen.values() for part in parts for kind in part)
    rows = [[kind, *(_together([p[kind] for p in parts if kind in p]) for parts in chosen.values())] for kind in kinds]
    return _table(["chemistry", *figures], rows)


def _together(parts: Sequence[dict[str, Any]]) -> str:
    number = sum(part["crystals"] for part in parts)
    if not number:
        return DASH
    mae = sum(part["mae"] * part["crystals"] for part in parts) / number
    return f"{mae:.3f}, {sum(part['wrong_side'] for part in parts)} of {number}"


def _compared(figures: Figures, kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for source in SOURCES:
        for name, found in figures.items():
            if kind in found["sources"].get(source, {}):
                yield source, name, found


def _mark(found: dict[str, Any], kind: str) -> str:
    return "*" if kind == "relaxed" and "sha256" not in found["hull"] else ""


def _percent(rate: dict[str, Any]) -> str:
    return DASH if rate["value"] is None else f"{100 * rate['value']:.0f}"


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
