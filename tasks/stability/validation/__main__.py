"""Holds a potential's energies above the hull against published ones, and writes what docs/stability.md shows.

    python -m tasks.stability.validation --potential chgnet --cache DIR

computes what the cache lacks and writes the figures to --out, by default beside the hulls of the package; with another
hull, the same command takes seconds. `--docs docs/stability.md` puts the tables of all potentials there.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrays import BoolArray
from bench.atomic import write_json
from tasks.stability.hull import Hull, hull_path, read_hull, read_hull_columns
from tasks.stability.hull.phases import Phases, read_phases
from tasks.stability.potentials import potential_protocol
from tasks.stability.relaxation import RelaxationSettings
from tasks.stability.task import STABLE_BELOW
from tasks.stability.validation.comparison import above_hull, by_chemistry, compare, costs
from tasks.stability.validation.energies import Measured, hull_of_points, measure
from tasks.stability.validation.labelled import SOURCES
from tasks.stability.validation.tables import write_tables

REFERENCE = Path(__file__).parents[1] / "reference"


def main() -> None:
    """Computes, compares and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--potential", default="chgnet")
    parser.add_argument("--cache", type=Path, default=Path("validation"), help="folder of the energies computed")
    parser.add_argument("--out", type=Path, default=REFERENCE, help="folder of <potential>.validation.json")
    parser.add_argument("--docs", type=Path, help="only puts the tables of all files in --out into this document")
    for source in SOURCES:
        parser.add_argument(
            f"--{source}", type=_numbers, default=(200, 200), metavar="N[,RELAXED]", help=SOURCES[source].title
        )
    given = parser.parse_args()
    if given.docs is None:
        numbers = {source: getattr(given, source) for source in SOURCES if getattr(given, source)[0]}
        found = validate(given.potential, given.cache, numbers, functools.cache(read_phases))
        path = given.out / f"{Path(given.potential).name}.validation.json"
        write_json(path, found)
    else:
        write_tables(given.docs, given.out)


def _numbers(text: str) -> tuple[int, int]:
    """Crystals to compare as given, and to relax: "300,100", or "300" for both."""
    given, _, relaxed = text.partition(",")
    return int(given), int(relaxed or given)


def validate(
    name: str, cache: Path, numbers: Mapping[str, tuple[int, int]], phases: Callable[[], Phases]
) -> dict[str, Any]:
    """Figures of a potential on so many crystals of each source, as plain JSON: as given, and how many of them relaxed.

    Crystals as given are held against the hull of single points, which is the same basis for every potential; relaxed
    ones against the potential's own hull where there is one, else against that of single points too.
    """
    measured = {
        source: measure(name, cache, source, *number, functools.cache(partial(SOURCES[source].read, phases)))
        for source, number in numbers.items()
    }
    try:
        path = hull_path(name)
    except ValueError:
        systems = {system for found in measured.values() for system in found.systems}
        points, ids = hull_of_points(name, cache, systems, phases)
        hull, card = points, {"geometry": "single points of all phases in the systems of the crystals compared"}
    else:
        hull = read_hull(path, potential_protocol(name))
        columns = read_hull_columns(path, ["single_point", "id"])
        points, ids = Hull(hull.formulas, columns["single_point"].to_numpy(), {}), columns["id"].to_pylist()
        card = {name: hull.card[name] for name in ("sha256", "phases", "geometry")}
    return {
        "potential": potential_protocol(name),
        "relaxation": RelaxationSettings().protocol(),
        "hull": card,
        "stable_below_ev_per_atom": STABLE_BELOW,
        "sources": {
            source: _compared(found, SOURCES[source].in_hull, hull, points, ids) for source, found in measured.items()
        },
    }


def _compared(measured: Measured, in_hull: bool, hull: Hull, points: Hull, ids: list[str]) -> dict[str, Any]:
    kept = ~np.isin(ids, measured.ids) if in_hull else np.ones(len(ids), dtype=bool)
    own, of_points = _part(hull, kept), _part(points, kept)
    found = {"as_given": _as_given(measured, of_points), "costs": costs(measured)}
    part = measured[np.isfinite(measured.relaxed)]
    if part.ids:
        above = above_hull(own, part.formulas, part.relaxed)
        found["relaxed"] = compare(above, part.published, part.converged)
        found["as_given_of_relaxed"] = _as_given(part, of_points)
    if in_hull:
        above = above_hull(of_points, measured.formulas, measured.points)
        found["chemistry"] = by_chemistry(measured.formulas, above, measured.published)
    return found


def _as_given(measured: Measured, points: Hull) -> dict[str, Any]:
    above = above_hull(points, measured.formulas, measured.points)
    return compare(above, measured.published, np.ones(len(measured.ids), dtype=np.bool_))


def _part(hull: Hull, kept: BoolArray) -> Hull:
    formulas = [formula for formula, keep in zip(hull.formulas, kept, strict=True) if keep]
    return Hull(formulas, hull.energies[kept], {})


if __name__ == "__main__":
    main()
