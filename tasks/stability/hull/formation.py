"""A hull from a table of formation energies, such as those that a data base computed with DFT."""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
from pathlib import Path

import numpy as np

from tasks.stability.hull.energies import Hull, composition_of_formula

COLUMNS = ("formula", "formation_energy_per_atom")
ENDINGS = (".csv", ".csv.gz")


def read_formation_hull(path: Path, elements: Hull) -> Hull:
    """The hull of a CSV file (.gz) with the columns formula and formation_energy_per_atom, in eV/atom.

    elements: a hull of the potential's own energies. Its lowest phase of each element is what formation energies are
    counted from, on both sides. So the compounds' energies are the file's and the crystals' the potential's: two scales
    that agree no better than the potential agrees with the file. ValueError names the row that cannot be read.
    """
    content = path.read_bytes()
    try:
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as CSV ({error})") from error
    lowest = {next(iter(system)): min(of.values()) for system, of in elements.lowest.items() if len(system) == 1}
    formulas, energies, left_out = list(lowest), list(lowest.values()), 0
    reader = csv.DictReader(text.splitlines())
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise ValueError(f"{path}: has no column {', '.join(missing)}; a hull of formation energies needs both")
    for number, row in enumerate(reader, start=2):
        try:
            composition = composition_of_formula(row["formula"])
            formation = float(row["formation_energy_per_atom"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: line {number}: {row} cannot be read ({error})") from error
        if not math.isfinite(formation):
            raise ValueError(f"{path}: line {number}: the formation energy of {row['formula']} is {formation}")
        if not composition.keys() <= lowest.keys():
            left_out += 1
            continue
        amount = sum(composition.values())
        formulas.append(row["formula"])
        energies.append(formation + sum(lowest[symbol] * n for symbol, n in composition.items()) / amount)
    without = f"; {left_out} with elements that it lacks left out" if left_out else ""
    return Hull(
        formulas,
        np.array(energies),
        {
            "sha256": hashlib.sha256(content).hexdigest(),
            "phases": len(formulas),
            "geometry": f"formation energies of {path.name} above the elements by "
            f"{elements.card['potential']['name']}, whose energies the crystals have: two scales{without}",
        },
    )
