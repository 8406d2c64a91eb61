"""A hull of formation energies from a CSV file."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tasks.stability.hull import Hull
from tasks.stability.hull.formation import read_formation_hull
from tasks.stability.task import Stability

ELEMENTS = Hull(["Na", "Na", "Cl", "NaCl"], np.array([-1.0, -1.2, -2.0, -9.0]), {"potential": {"name": "toy"}})
HEADER = "material_id,formula,formation_energy_per_atom\n"


def test_compounds_have_the_files_energies_above_the_potentials_own_elements(tmp_path: Path) -> None:
    file = tmp_path / "formation.csv"
    file.write_text(f"{HEADER}mp-1,NaCl,-2.0\nmp-2,NaCl3,-0.5\nmp-3,KCl,-2.2\n")
    hull = read_formation_hull(file, ELEMENTS)
    # NaCl lies 2 eV/atom below the mean of -1.2 and -2.0; the potential's own NaCl is not on this hull.
    assert hull.energy_above({"Na": 1.0, "Cl": 1.0}, -3.5) == pytest.approx(0.1)
    assert hull.energy_above({"Na": 2.0}, -1.2) == pytest.approx(0.0)
    assert "above the elements by toy, whose energies the crystals have: two scales; 1 with elements" in str(hull.card)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("formula,energy\nNaCl,-2\n", "has no column formation_energy_per_atom"),
        (f"{HEADER}mp-1,NaCl,low\n", "line 2: .*NaCl.* cannot be read"),
        (f"{HEADER}mp-1,Nope,-2\n", "line 2: .*Nope.* cannot be read"),
        (f"{HEADER}mp-1,NaCl,nan\n", "line 2: the formation energy of NaCl is nan"),
        (f"{HEADER}mp-1,NaCl\n", "line 2: "),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "formation.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=why):
        read_formation_hull(file, ELEMENTS)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "formation.csv.gz"
    file.write_bytes(gzip.compress(HEADER.encode())[:20])
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_formation_hull(file, ELEMENTS)


def test_the_task_takes_the_elements_from_the_hull_of_the_package_and_names_the_scales(tmp_path: Path) -> None:
    file = tmp_path / "formation.csv"
    file.write_text(f"{HEADER}mp-1,NaCl,-2.0\n")
    task = Stability("chgnet", hull=str(file))
    assert "elements by chgnet" in task.protocol()["hull"]["geometry"]
    assert "fitted with another hull" in task.about()["calibration"]["absent"]
    with pytest.raises(ValueError, match="have no run types"):
        Stability("chgnet", hull=str(file), hull_run_types=("GGA",)).protocol()
