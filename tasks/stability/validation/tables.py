"""The measured figures as Markdown tables, put into a document between two marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.stability.validation.labelled import SOURCES

BEGIN, END = "<!-- validation: generated from here -->", "<!-- validation: to here -->"
HELD_OUT = ("mpts52", "mp20")
Figures = dict[str, dict[str, Any]]  # potential -> content of its file


def read_figures(folder: Path) -> Figures:
    """Those of all potentials in a folder, the one with the most crystals first."""
    files = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.validation.json"))]
    files.sort(key=lambda found: (found["hull"].get("sha256") is None, _relax_seconds(found)))
    return {found["potential"]["name"]: found for found in files}


def write_tables(document: Path, folder: Path) -> None:
    """Replaces what stands between the marks of a document. ValueError where it has none."""
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{document}: has no lines {BEGIN} and {END} to put the tables between")
    document.write_text(f"{before}{BEGIN}\n\n{tables(read_figures(folder))}\n{END}{after}", encoding="utf-8")


CAPTIONS = {
    "relaxed": """Relaxed crystals against the potential's own hull (*: the package has none; against one of single
points). Errors in eV/atom; f+: of the unstable ones, how many are called stable; f-: of the stable ones, how many are
called unstable; in brackets the 95 % interval:""",
    "as_given": "The same crystals as given, against a hull of single points, one basis for all potentials:",
    "confusion": "Who calls what stable, MPTS-52, relaxed:",
    "costs": "User CPU seconds of a crystal, one thread, beside other work on the machine:",
    "chemistry": """Where they fail: kinds of chemistry, MPTS-52 and MP-20 together, relaxed; the MAE in eV/atom, and
how many of how many fall on the wrong side of the line:""",
}


def tables(figures: Figures) -> str:
    """All tables with their captions."""
    rows = {
        "relaxed": _errors(figures, "relaxed"),
        "as_given": _errors(figures, "as_given"),
        "confusion": _confusion(figures),
        "costs": _costs(figures),
        "chemistry": _chemistry(figures),
    }
    return "\n\n".join(f"{CAPTIONS[name]}\n\n" + "\n".join(table) for name, table in rows.items()) + "\n"


def _errors(figures: Figures, kind: str) -> Iterator[str]:
    rows = []
    for source in SOURCES:
        for name, found in figures.items():
            if source not in found["sources"]:
                continue
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


def _confusion(figures: Figures) -> Iterator[str]:
    rows = []
    for name, found in figures.items():
        counts = found["sources"]["mpts52"]["relaxed"]["confusion"]
        rows.append([name + _mark(found, "relaxed"), *counts.values()])
    return _table(["potential", "both", "the potential alone", "DFT alone", "neither"], rows)


def _costs(figures: Figures) -> Iterator[str]:
    rows = []
    for name, found in figures.items():
        for source, compared in found["sources"].items():
            cost = compared["costs"]
            rows.append(
                [
                    name,
                    source,
                    f"{cost['atoms']:.1f}",
                    f"{cost['point_seconds']:.3f}",
                    f"{cost['relax_seconds']:.2f}",
                    f"{cost['steps']:.0f}",
                    f"{100 * cost['converged']:.0f}",
                ]
            )
    return _table(["potential", "crystals", "atoms", "single point", "relaxing", "steps", "converged, %"], rows)


def _chemistry(figures: Figures) -> Iterator[str]:
    kinds = dict.fromkeys(
        kind
        for found in figures.values()
        for s in HELD_OUT
        for kind in found["sources"].get(s, {}).get("chemistry", {})
    )
    rows = []
    for kind in kinds:
        row = [kind]
        for found in figures.values():
            parts = [found["sources"][s]["chemistry"].get(kind) for s in HELD_OUT if s in found["sources"]]
            row.append(_together([part for part in parts if part]))
        rows.append(row)
    return _table(["chemistry", *figures], rows)


def _together(parts: Sequence[dict[str, Any]]) -> str:
    number = sum(part["crystals"] for part in parts)
    if not number:
        return "–"
    mae = sum(part["mae"] * part["crystals"] for part in parts) / number
    return f"{mae:.3f}, {sum(part['wrong_side'] for part in parts)} of {number}"


def _mark(found: dict[str, Any], kind: str) -> str:
    return "*" if kind == "relaxed" and "sha256" not in found["hull"] else ""


def _relax_seconds(found: dict[str, Any]) -> float:
    return float(next(iter(found["sources"].values()))["costs"]["relax_seconds"])


def _percent(rate: dict[str, Any]) -> str:
    return "–" if rate["value"] is None else f"{100 * rate['value']:.0f}"


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
