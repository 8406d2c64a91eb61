"""The stability task: crystals relaxed with a machine-learned potential, and their energy above the hull."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.arrays import BoolArray
from bench.crystals import Crystals
from bench.interfaces import flags, task_rows, task_schema
from bench.statistics import Metric, median, wilson
from tasks.stability.calibration import (
    Calibration,
    NoCalibration,
    find_calibration,
    first_difference,
    measured_error,
    stable_rate,
)
from tasks.stability.chain import (
    SCREEN_ABOVE,
    Stage,
    Verdict,
    chain_label,
    chain_names,
    chain_protocol,
    judge,
    stage_settings,
)
from tasks.stability.consensus import consensus
from tasks.stability.hull import Hull, HullNotHere, hull_path, read_hull
from tasks.stability.hull.formation import ENDINGS, read_formation_hull
from tasks.stability.hull.mp_entries import LEVELS, read_mp_hull
from tasks.stability.potentials import DEFAULT_POTENTIAL, load_potential, potential_protocol
from tasks.stability.relaxation import RelaxationSettings
from tasks.stability.relaxed_table import kept_table

if TYPE_CHECKING:
    from bench.datasets import ReferenceCard

STABLE_BELOW = 0.1  # eV/atom above the hull, the paper's
OTHER_LIMITS = (0.0, 0.05)  # shown beside it
PLAIN_NAME = "stability"


@dataclass(frozen=True)
class Stability:
    """The task. potential: a name or a path (`load_potential`), or a chain of them, "first+judge" (`judge`).

    name: another one for a second potential. hull: the judge's, None for the one in the package, or the path of the
    user's own: a Parquet file that `bench hull build` wrote, a JSON file of Materials Project entries, of which those
    of `hull_run_types` are taken (`read_mp_hull`), or a CSV file of formation energies (`read_formation_hull`). Stable
    is a crystal that converged and ends less than 0.1 eV/atom above the hull.
    """

    potential: str = DEFAULT_POTENTIAL
    name: str = PLAIN_NAME
    hull: str | None = None
    hull_run_types: Sequence[str] = ()
    device: str = "cpu"
    settings: RelaxationSettings = field(default_factory=RelaxationSettings)

    kind: ClassVar[str] = PLAIN_NAME
    # Relaxing takes a tenth of a second to seconds a crystal: a kill should not lose minutes, nor one process end last.
    chunk_crystals = 64

    @property
    def schema(self) -> pa.Schema:
        """energy_per_atom and e_above_hull in eV/atom, of the relaxed crystal; relax_steps: evaluations.

        potential_of_verdict: the one of the chain that relaxed it last, whose energies these are. stable_probability:
        that DFT puts it below the line; 0 where it was not relaxed, null without a number or a calibration.
        """
        return task_schema(
            {
                "energy_per_atom": pa.float64(),
                "e_above_hull": pa.float64(),
                "stable": pa.bool_(),
                "converged": pa.bool_(),
                "relax_steps": pa.int64(),
                "potential_of_verdict": pa.string(),
                "stable_probability": pa.float64(),
            }
        )

    def protocol(self) -> dict[str, Any]:
        """Potential with checksum, relaxation, hull with checksum, thresholds, calibration with checksum."""
        calibration = self._calibration_or_why()
        return {
            **self._measured_by(),
            "calibration": None if isinstance(calibration, str) else calibration.sha256,
            "stable_below_ev_per_atom": STABLE_BELOW,
            "stable_is_converged": True,
            "lone_atoms_are_stable": False,
            "pymatgen": version("pymatgen"),
        }

    def score(self, crystals: Crystals) -> pa.Table:
        """One row per crystal; without a number only where an element has no reference phase."""
        return self.score_and_relaxed(crystals)[0]

    def score_and_relaxed(self, crystals: Crystals) -> tuple[pa.Table, pa.Table]:
        """The rows of `score`, and `kept_table` of the crystals that were relaxed."""
        stages = [Stage(load_potential(name, self.device), self.hull_of(name)) for name in self._names]
        elements = stages[-1].potential.elements
        unknown = [_unknown_elements(crystals, b, self._hull(), elements) for b in range(len(crystals))]
        known = np.array([b for b, symbols in enumerate(unknown) if not symbols], dtype=np.int64)
        rows = [_without_number(symbols, stages[-1].potential.name) for symbols in unknown]
        verdicts = judge(crystals[known], stages, self.settings)
        for b, verdict in zip(known, verdicts, strict=True):
            rows[b] = _row(verdict, int(crystals.num_atoms[b]))
        found = self._calibration_or_why()
        for row in rows:
            row["stable_probability"] = None if isinstance(found, str) else _probability(found, row)
        columns = {name: [row[name] for row in rows] for name in self.schema.names if name not in ("index", "formula")}
        hulls = {stage.potential.name: stage.hull for stage in stages}
        return task_rows(self.schema, crystals, columns), kept_table(crystals, known, verdicts, hulls)

    def renewed(self, table: pa.Table, protocol: Mapping[str, Any]) -> pa.Table:
        """A stored table with today's verdicts and probabilities on its energies.

        ValueError where these come of another potential, hull or relaxation (packages' versions may differ).
        """
        other = first_difference(protocol, self._measured_by())
        if other is not None:
            raise ValueError(f"its energies come of another {other} than today's")
        rows = table.to_pylist()
        found = self._calibration_or_why()
        for row in rows:
            row.setdefault("potential_of_verdict", self._names[-1])
            row["stable"] = _is_stable(row["converged"], row["e_above_hull"])
            row["stable_probability"] = None if isinstance(found, str) else _probability(found, row)
        return pa.Table.from_pylist(rows, schema=self.schema)

    def summary(self, tables: Mapping[str, pa.Table], reference: ReferenceCard, seed: int) -> dict[str, Metric]:
        """Rates over all requested crystals; the median energy above the hull over those that have one."""
        table = tables[self.name]
        suffix = "" if self.name == PLAIN_NAME else f"[{chain_label(self.potential)}]"
        above, n = table["e_above_hull"], table.num_rows
        metrics = {"stable_rate": wilson(_count(table["stable"]), n)}
        for limit in OTHER_LIMITS:
            below = pc.and_(pc.fill_null(pc.less(above, limit), False), table["converged"])
            metrics[f"stable_below_{limit:g}_rate"] = wilson(_count(below), n)
        metrics |= self._calibrated(tables, seed)
        metrics["converged_rate"] = wilson(_count(table["converged"]), n)
        metrics["e_above_hull_median"] = median(above.drop_null().to_numpy())
        if self.name != PLAIN_NAME and PLAIN_NAME in tables:
            differ = pc.not_equal(table["stable"], tables[PLAIN_NAME]["stable"])
            metrics["stable_disagreement_rate"] = wilson(_count(differ), n)
        if self.name == PLAIN_NAME:
            metrics |= consensus(tables, PLAIN_NAME)
        return {name + suffix: metric for name, metric in metrics.items()}

    def about(self) -> dict[str, Any]:
        """The chain's error on generated crystals, null where it was not measured; of the user's own hull, what it is.

        calibration: what it was fitted on, or why there is none.
        """
        own = {} if self.hull is None else {"hull": self._hull().card.get("geometry")}
        found = self._calibration_or_why()
        calibration = (
            {"absent": found}
            if isinstance(found, str)
            else {"fitted_on": found.card["fitted_on"], "left_out": found.card["calibrated_leave_one_out"]}
        )
        error = measured_error(chain_label(self.potential), chain_protocol(self.potential))
        return {"error": error, "calibration": calibration, **own}

    def calibration(self) -> Calibration:
        """From this chain's energies to DFT's verdict. NoCalibration says why there is none."""
        return _find_calibration(chain_label(self.potential), json.dumps(self._measured_by()))

    def hull_of(self, name: str) -> Hull | None:
        """The hull of a potential of the chain; None where an earlier one has none at hand."""
        return self._hull() if name == self._names[-1] else self._screening(name)

    def _calibration_or_why(self) -> Calibration | str:
        try:
            return self.calibration()
        except NoCalibration as error:
            return str(error)

    def _measured_by(self) -> dict[str, Any]:
        """What energies above the hull depend on."""
        hull = self._hull()
        return {
            "potential": chain_protocol(self.potential),
            **self._of_chain(),
            "relaxation": self.settings.protocol(),
            "hull": {name: hull.card.get(name) for name in ("sha256", "phases", "geometry")},
        }

    def _calibrated(self, tables: Mapping[str, pa.Table], seed: int) -> dict[str, Metric]:
        """The rate by DFT's measure, and that of crystals that are unique and novel too; empty where none is known.

        A table without the column was scored before there was a calibration.
        """
        table, calibration = tables[self.name], self._calibration_or_why()
        if isinstance(calibration, str) or "stable_probability" not in table.column_names:
            return {}
        formulas = np.array(table["formula"].to_pylist(), dtype=object)
        above = table["e_above_hull"].to_numpy()
        relaxed = flags(table["converged"]) & np.isfinite(above)

        def rate(chosen: BoolArray) -> Metric:
            return stable_rate(calibration, above[chosen], formulas[chosen].tolist(), table.num_rows, seed)

        metrics = {"stable_rate_calibrated": rate(relaxed)}
        if "novelty" in tables:
            unique, novel = flags(tables["novelty"]["unique"]), tables["novelty"]["novel"]
            few, many = (rate(relaxed & unique & flags(novel, if_null)) for if_null in (False, True))
            value = few.value if few.value == many.value else None
            metrics["sun_rate_calibrated"] = Metric(value, few.low, many.high, table.num_rows)
        return metrics

    def _hull(self) -> Hull:
        return _read_hull(self._names[-1], self.hull, tuple(self.hull_run_types))

    @property
    def _names(self) -> tuple[str, ...]:
        return chain_names(self.potential)

    def _screening(self, name: str) -> Hull | None:
        """The hull that an earlier potential of the chain screens by; None where it has none at hand."""
        if self.hull is not None and self.hull.endswith(".parquet"):
            return None  # of the judge's energies
        if self.hull is not None and not self.hull.endswith(ENDINGS) and name not in LEVELS:
            return None
        try:
            return _read_hull(name, self.hull, tuple(self.hull_run_types))
        except HullNotHere:
            return None

    def _of_chain(self) -> dict[str, Any]:
        """Of a chain, what the earlier potentials screen by, and how the later ones relax."""
        if len(self._names) == 1:
            return {}
        hulls = [self._screening(name) for name in self._names[:-1]]
        known = [None if hull is None else hull.card.get("sha256") for hull in hulls]
        later = stage_settings(self.settings, 1).protocol()
        return {"screen": {"above_ev_per_atom": SCREEN_ABOVE, "hulls": known}, "relaxation_after_the_first": later}


@functools.lru_cache(maxsize=8)  # a worker scores many chunks against the same one
def _read_hull(potential: str, path: str | None, run_types: tuple[str, ...]) -> Hull:
    if path is None or path.endswith(".parquet"):
        if run_types:
            raise ValueError("--hull-run-types chooses among the entries of a JSON file: name one with --hull")
        weights = potential_protocol(potential)  # first: it knows which names there are
        return read_hull(hull_path(potential) if path is None else Path(path), weights)
    if path.endswith(ENDINGS):
        if run_types:
            raise ValueError(f"{path}: formation energies have no run types; leave out --hull-run-types")
        return read_formation_hull(Path(path), _read_hull(potential, None, ()))
    return read_mp_hull(path, potential, run_types)


@functools.lru_cache(maxsize=8)  # asked for each row
def _find_calibration(label: str, about: str) -> Calibration:
    return find_calibration(label, json.loads(about))


def _unknown_elements(crystals: Crystals, b: int, hull: Hull, of_potential: frozenset[int]) -> list[str]:
    from pymatgen.core import Element

    elements = [Element.from_Z(int(z)) for z in np.unique(crystals.arrays(b)[0])]
    return [str(e.symbol) for e in elements if e.symbol not in hull.elements or e.Z not in of_potential]


def _without_number(symbols: list[str], potential: str) -> dict[str, Any]:
    return {
        "energy_per_atom": None,
        "e_above_hull": None,
        "stable": False,
        "converged": False,
        "relax_steps": None,
        "potential_of_verdict": potential,
        "reason": f"the hull has no phase of {', '.join(symbols)}",
    }


def _row(verdict: Verdict, num_atoms: int) -> dict[str, Any]:
    outcome, above, energy = verdict.relaxed, verdict.above, verdict.relaxed.energy / num_atoms
    number = above if isinstance(above, float) else None
    reasons = [outcome.reason, None if number is not None else str(above)]
    return {
        "energy_per_atom": energy if np.isfinite(energy) else None,
        "e_above_hull": number,
        "stable": _is_stable(outcome.converged, number),
        "converged": outcome.converged,
        "relax_steps": outcome.steps,
        "potential_of_verdict": verdict.potential,
        "reason": "; ".join(filter(None, reasons)) or None,
    }


def _is_stable(converged: bool, above: float | None) -> bool:
    return bool(converged and above is not None and above < STABLE_BELOW)


def _probability(calibration: Calibration, row: Mapping[str, Any]) -> float | None:
    if row["e_above_hull"] is None:
        return None
    return float(calibration.probability(np.array([row["e_above_hull"]]))[0]) if row["converged"] else 0.0


def _count(column: pa.ChunkedArray) -> int:
    return int(pc.sum(column, min_count=0).as_py())
