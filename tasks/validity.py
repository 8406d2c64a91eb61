"""Validity of crystals: composition by SMACT, structure by smallest distance and volume.

The published rules (CDVAE, Xie et al. 2022, and after it DiffCSP): different atoms, over periodic images, are more
than 0.5 A apart and the cell has at least 0.1 A^3; one atom alone is valid. An atom's own images do not count there:
a cell that has collapsed onto them stays valid, with a note as its reason and its own rate. `rules` switches on those
of another published evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.arrays import BoolArray, FloatArray, IntArray
from bench.crystals import Crystals, reduced_composition
from bench.interfaces import task_rows, task_schema
from bench.statistics import Metric, wilson
from tasks.closest_pair import closest_pairs, shortest_translations
from tasks.composition import OxidationStates, composition_fault
from tasks.coverage.split_fingerprints import fingerprint_rows
from tasks.rules.charges import charge_fault, charges_protocol, states_table
from tasks.rules.plausibility import plausibility_protocol, structure_fault

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard


MIN_DISTANCE_ANGSTROM = 0.5
MIN_VOLUME_ANGSTROM3 = 0.1
RATES = ("valid_composition", "valid_composition_icsd24", "valid_structure", "valid")
COLLAPSED = "valid, but an atom is near its own image"  # begins the note of a cell that has collapsed


def composition_faults(crystals: Crystals, oxidation_states_set: OxidationStates) -> list[str | None]:
    """What makes each of B compositions invalid by SMACT's rule, None where it is valid."""
    compositions = (reduced_composition(crystals.arrays(b)[0]) for b in range(len(crystals)))
    return [composition_fault(oxidation_states_set, composition) for composition in compositions]


def valid_structures(min_distances: FloatArray, volumes: FloatArray, num_atoms: IntArray) -> BoolArray:
    """(B,) whether a structure is valid. min_distances: (B,) A, NaN where there is none; volumes: (B,) A^3."""
    apart = (num_atoms == 1) | (min_distances > MIN_DISTANCE_ANGSTROM)
    return np.asarray(apart & (volumes >= MIN_VOLUME_ANGSTROM3))


@dataclass(frozen=True)
class Validity:
    """The task. reason: what makes a crystal invalid, or the note that its cell has collapsed.

    rules: those of another evaluation. "cdvae": valid demands CrystalNN's fingerprint, too. "mattergen": compositions
    by the oxidation states that SMACT's elements list. "lemat": both checks are LeMat-GenBench's (`tasks.rules`).
    """

    name: str = "validity"
    rules: str | None = None

    @property
    def schema(self) -> pa.Schema:
        """min_distance in A, null for one atom; volume in A^3."""
        return task_schema({**dict.fromkeys(RATES, pa.bool_()), "min_distance": pa.float64(), "volume": pa.float64()})

    def protocol(self) -> dict[str, Any]:
        """SMACT's version and settings, and the limits of the structure."""
        from smact.screening import ICSD24FilterConfig

        return {
            "smact": version("smact"),
            "composition": {"oxidation_states_set": "smact14", "pauling_test": True, "alloys": True},
            "composition_icsd24": {**asdict(ICSD24FilterConfig()), "pauling_test": True, "alloys": True},
            "min_distance_angstrom": MIN_DISTANCE_ANGSTROM,
            "own_images_count": False,
            "min_volume_angstrom3": MIN_VOLUME_ANGSTROM3,
            **self._rules_protocol(),
        }

    def _rules_protocol(self) -> dict[str, Any]:
        """What differs; nothing by our own rules, so that the protocols of runs made without --rules stay theirs.

        DataUnavailable where the table of a rule cannot be had.
        """
        if self.rules is None:
            return {}
        return {"rules": self.rules, **self._differing()}

    def _differing(self) -> dict[str, Any]:
        if self.rules == "cdvae":
            return {"fingerprint": {"demanded": "CrystalNN order parameters", "pymatgen": version("pymatgen")}}
        if self.rules == "mattergen":
            return {"composition": {"oxidation_states_set": "listed", "pauling_test": True, "alloys": True}}
        if self.rules == "lemat":
            states_table()
            return {"composition": charges_protocol(), "structure": plausibility_protocol()}
        return {}

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal."""
        faults = self._composition_faults(crystals)
        faults_icsd24 = composition_faults(crystals, "icsd24")
        distances, volumes = closest_pairs(crystals), crystals.volumes
        structure = valid_structures(distances, volumes, crystals.num_atoms)
        translations = shortest_translations(crystals.lattices)
        composition = np.array([fault is None for fault in faults], dtype=bool)
        more = self._more_faults(crystals)
        others = np.array([b not in more for b in range(len(crystals))], dtype=bool)
        if self.rules == "lemat":
            structure = others
            reasons = [f"composition: {fault}" if fault else None for fault in faults]
        else:
            measured = zip(faults, crystals.num_atoms, distances, volumes, translations, strict=True)
            reasons = [_reason(*crystal) for crystal in measured]
        for b, fault in more.items():
            own = [reason for reason in [reasons[b]] if reason and not reason.startswith(COLLAPSED)]
            reasons[b] = "; ".join([*own, fault])
        columns = {
            "valid_composition": composition,
            "valid_composition_icsd24": np.array([fault is None for fault in faults_icsd24], dtype=bool),
            "valid_structure": structure,
            "valid": composition & structure & others,
            "min_distance": pa.array(distances, mask=np.isnan(distances)),
            "volume": volumes,
            "reason": reasons,
        }
        return task_rows(self.schema, crystals, columns)

    def _composition_faults(self, crystals: Crystals) -> list[str | None]:
        if self.rules == "lemat":
            table = states_table()
            return [charge_fault(crystals.structure(b), table) for b in range(len(crystals))]
        return composition_faults(crystals, "listed" if self.rules == "mattergen" else "smact14")

    def _more_faults(self, crystals: Crystals) -> dict[int, str]:
        """Crystal -> what else makes it invalid by the rules asked for."""
        if self.rules == "cdvae":
            found = ((b, reason) for b, (_, reason) in enumerate(fingerprint_rows(crystals)))
            return {b: f"no CrystalNN fingerprint: {reason}" for b, reason in found if reason is not None}
        if self.rules == "lemat":
            faults = ((b, structure_fault(crystals.structure(b))) for b in range(len(crystals)))
            return {b: f"structure: {fault}" for b, fault in faults if fault is not None}
        return {}

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """The four rates over all requested crystals, and that of cells collapsed onto an atom's own images."""
        table = tables[self.name]
        metrics = {rate: wilson(pc.sum(table[rate], min_count=0).as_py(), table.num_rows) for rate in RATES}
        collapsed = pc.sum(pc.starts_with(table["reason"], COLLAPSED), min_count=0).as_py()
        return {**metrics, "collapsed_rate": wilson(collapsed, table.num_rows)}


def _reason(composition: str | None, num_atoms: int, distance: float, volume: float, translation: float) -> str | None:
    """The faults of one crystal, or the note of a collapse; None where nothing is to be said."""
    faults = [f"composition: {composition}"] if composition else []
    if num_atoms > 1 and not distance > MIN_DISTANCE_ANGSTROM:
        measured = "too skewed to measure distances" if math.isnan(distance) else f"atoms {distance:.3f} A apart"
        faults.append(f"structure: {measured}")
    if not volume >= MIN_VOLUME_ANGSTROM3:
        faults.append(f"structure: volume {volume:.3g} A^3")
    if not faults and translation <= MIN_DISTANCE_ANGSTROM:
        return f"{COLLAPSED}: {translation:.3f} A"
    return "; ".join(faults) or None
