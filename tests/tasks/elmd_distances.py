"""Stores distances of 200 pairs of compositions by the package ElMD 0.5, on its scale "petti".

`python -m tests.tasks.elmd_distances` writes elmd_distances.json anew, in an environment that has ElMD beside this
project. That scale puts 17 elements elsewhere than pymatgen's table of Pettifor's numbers, which we use; compositions
with them are left out.
"""

import itertools
import json
from pathlib import Path

from bench.crystals import Crystals
from tests.stored_samples import MODELS, stored

ELSEWHERE = {"Sc", "Y", "Nb", "Mo", "Tc", "Ru", "Rh", "Dy", "Ho", "Er", "Tm", "Lu", "Ta", "W", "Re", "Os", "Ir"}
PAIRS = 200


def main() -> None:
    """Writes the file: each of some compositions of stored crystals beside the next."""
    from ElMD import ElMD  # type: ignore[import-not-found]
    from pymatgen.core import Composition

    crystals = Crystals.concatenate([stored(*place)[::10] for place in MODELS])
    formulas = [crystals.formula(b) for b in range(len(crystals))]
    fitting = [f for f in formulas if not ELSEWHERE & {element.symbol for element in Composition(f)}]
    rows = []
    for one, two in list(itertools.pairwise(fitting))[:PAIRS]:
        rows.append([one, two, round(float(ElMD(one, metric="petti").elmd(two)), 6)])
    Path(__file__).with_suffix(".json").write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
