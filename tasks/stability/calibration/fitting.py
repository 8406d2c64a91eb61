"""Fits a chain's calibration to generated crystals with DFT labels, and says how good it is."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.arrays import BoolArray, FloatArray
from bench.atomic import replacement
from bench.chemistry import KINDS, kind_of, symbols_in
from bench.crystals import Crystals
from bench.statistics import wilson
from tasks.stability.calibration.logistic import fit, probabilities, spread_between
from tasks.stability.calibration.probability import FITTED_WITH
from tasks.stability.chain import SCREEN_ABOVE, chain_label, chain_names, stage_settings
from tasks.stability.potentials import load_potential, potential_protocol
from tasks.stability.relaxation import RelaxationSettings, Relaxed, relax
from tasks.stability.relaxed_table import read_relaxed, relaxed_table
from tasks.stability.task import STABLE_BELOW, Stability

DFT_COLUMN = "dft_e_above_hull_corrected"
# Of the logit's offset of unlike chemistry, at least: a factor of e in the odds. With some 100 crystals the spread
# between kinds of chemistry can be estimated as nothing by chance.
MIN_OUTSIDE_SD = 1.0
DIGITS = 6


@dataclass(frozen=True)
class LabelledFile:
    """B crystals with DFT's (B,) eV/atom above the hull. name, sha256: of the file."""

    crystals: Crystals
    dft: FloatArray
    name: str
    sha256: str

    @classmethod
    def read(cls, path: Path) -> LabelledFile:
        """A CSV (.gz) with the columns `structure`, pymatgen's JSON, and `dft_e_above_hull_corrected`.

        ValueError names the row and column that cannot be read.
        """
        from pymatgen.core import Structure

        csv.field_size_limit(sys.maxsize)
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        structures, labels = [], []
        for number, row in enumerate(csv.DictReader(text.splitlines())):
            try:
                structures.append(Structure.from_dict(json.loads(row["structure"])))
                labels.append(float(row[DFT_COLUMN]))
            except (KeyError, ValueError, TypeError) as error:
                raise ValueError(f"{path}: row {number}: structure or {DFT_COLUMN} cannot be read ({error})") from error
            if not np.isfinite(labels[-1]):
                raise ValueError(f"{path}: row {number}: {DFT_COLUMN} is {labels[-1]}")
        return cls(
            Crystals.from_structures(structures), np.array(labels), path.name, hashlib.sha256(content).hexdigest()
        )


@dataclass(frozen=True)
class Compared:
    """What a chain says of B labelled crystals. above: (B,) eV/atom; relaxed: (B,) whether it may be stable at all.

    screened, dft: (B,), see `Verdict` and `LabelledFile`.
    """

    above: FloatArray
    relaxed: BoolArray
    screened: BoolArray
    dft: FloatArray

    @property
    def is_stable(self) -> BoolArray:
        """(B,) DFT's verdict."""
        return self.dft < STABLE_BELOW


def compare(chain: str, labelled: LabelledFile, cache: Path) -> Compared:
    """Every labelled crystal through the chain. Relaxations are kept in the folder `cache` and depend on no hull."""
    from tasks.stability.hull import energies_above

    names, settings = chain_names(chain), RelaxationSettings()
    task, count = Stability(chain), len(labelled.crystals)
    above, relaxed = np.full(count, np.nan), np.zeros(count, dtype=bool)
    screened = np.zeros(count, dtype=bool)
    start = labelled.crystals
    for number, name in enumerate(names):
        outcomes = _relaxed(names[: number + 1], start, labelled.sha256, stage_settings(settings, number), cache)
        hull = task.hull_of(name)
        energies = np.array([o.energy for o in outcomes]) / start.num_atoms
        found = [np.nan] * count if hull is None else energies_above(hull, start, energies)
        for b, over in enumerate(found):
            if not screened[b]:
                above[b] = over if isinstance(over, float) else np.nan
                relaxed[b] = outcomes[b].converged
        if number < len(names) - 1:
            screened |= (above > SCREEN_ABOVE) | ~np.isfinite([o.fmax for o in outcomes])
        start = Crystals(
            start.num_atoms,
            start.atomic_numbers,
            np.concatenate([_geometry(o, start, b)[0] for b, o in enumerate(outcomes)]),
            np.stack([_geometry(o, start, b)[1] for b, o in enumerate(outcomes)]),
        )
    return Compared(above, relaxed, screened, labelled.dft)


def _geometry(outcome: Relaxed, start: Crystals, b: int) -> tuple[FloatArray, FloatArray]:
    return (outcome.frac_coords, outcome.lattice) if np.isfinite(outcome.fmax) else start.arrays(b)[1:]


def _relaxed(
    names: tuple[str, ...], start: Crystals, source: str, settings: RelaxationSettings, cache: Path
) -> list[Relaxed]:
    import pyarrow.parquet as pq

    depends_on = [[potential_protocol(name)["sha256"] for name in names], source, settings.protocol()]
    digest = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:16]
    file = cache / f"{'+'.join(Path(name).name for name in names)}-{digest}.parquet"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        outcomes = relax(start, load_potential(names[-1]), settings)
        with replacement(file) as temporary:
            pq.write_table(relaxed_table(outcomes), temporary)
    return read_relaxed(pq.read_table(file))


def calibrate(chain: str, labelled: LabelledFile, compared: Compared) -> dict[str, Any]:
    """The content of a calibration's file. ValueError where there is nothing to fit."""
    used = compared.relaxed & np.isfinite(compared.above)
    features = np.column_stack([np.ones(used.sum()), compared.above[used]])
    labels = compared.is_stable[used]
    coefficients, covariance = fit(features, labels)
    formulas = [labelled.crystals.formula(int(b)) for b in np.flatnonzero(used)]
    systems = [symbols_in(formula) for formula in formulas]
    kinds = [kind_of(system) for system in systems]
    order = list(KINDS)
    groups = np.array([float(order.index(kind)) for kind in kinds])
    spread = spread_between(groups, labels, probabilities(features, coefficients))
    protocol = Stability(chain).protocol()
    return {
        "chain": chain_label(chain),
        "line_ev_per_atom": STABLE_BELOW,
        "features": ["1", "e_above_hull in eV/atom"],
        "coefficients": coefficients.round(DIGITS).tolist(),
        "covariance": covariance.round(DIGITS).tolist(),
        "outside_logit_sd": round(max(MIN_OUTSIDE_SD, spread), 3),
        "spread_between_kinds_logit_sd": round(spread, 3),
        "elements": sorted(set().union(*systems)),
        "kinds": {kind: kinds.count(kind) for kind in order if kind in kinds},
        "fitted_on": {
            "file": labelled.name,
            "sha256": labelled.sha256,
            "crystals": int(used.sum()),
            "stable_by_dft": int(labels.sum()),
            "left_out": int((~used).sum()),
        },
        "fitted_with": {name: protocol.get(name) for name in FITTED_WITH},
        "raw": raw_quality(compared),
        "calibrated_leave_one_out": _leave_one_out(features, labels),
    }


def raw_quality(compared: Compared) -> dict[str, Any]:
    """The uncalibrated verdict against DFT: agreement about the line, errors in eV/atom, what the screen loses."""
    says = compared.relaxed & (compared.above < STABLE_BELOW)
    known = np.isfinite(compared.above)
    errors = (compared.above - compared.dft)[known]
    stable = compared.is_stable
    return {
        "crystals": len(says),
        "stable_by_dft": _share(stable),
        "called_stable": _share(says),
        "agree": _share(says == stable),
        "unstable_called_stable": _share(says[~stable]),
        "mae_ev_per_atom": round(float(np.abs(errors).mean()), 4),
        "bias_ev_per_atom": round(float(errors.mean()), 4),
        "screened": int(compared.screened.sum()),
        "stable_lost_by_the_screen": int((compared.screened & stable).sum()),
    }


def _share(hits: BoolArray) -> dict[str, Any]:
    return wilson(int(hits.sum()), len(hits)).to_json()


def _leave_one_out(features: FloatArray, labels: BoolArray) -> dict[str, Any]:
    """Each crystal judged by a fit to all others: Brier score, and agreement of P >= 0.5 with DFT."""
    found = np.empty(len(labels))
    for place in range(len(labels)):
        others = np.arange(len(labels)) != place
        found[place] = probabilities(features[place : place + 1], fit(features[others], labels[others])[0])[0]
    return {"brier": round(float(((found - labels) ** 2).mean()), 4), "agree": _share((found >= 0.5) == labels)}


def check(card: Mapping[str, Any], compared: Compared) -> dict[str, Any]:
    """A stored calibration on labelled crystals that it has not seen: Brier score, agreement, rate by it and by DFT."""
    coefficients = np.array(card["coefficients"], dtype=np.float64)
    used = compared.relaxed & np.isfinite(compared.above)
    expected = np.zeros(len(compared.above))
    expected[used] = probabilities(np.column_stack([np.ones(used.sum()), compared.above[used]]), coefficients)
    labels = compared.is_stable
    return {
        "crystals": len(labels),
        "brier": round(float(((expected - labels) ** 2).mean()), 4),
        "agree": _share((expected >= 0.5) == labels),
        "rate": round(float(expected.mean()), 4),
        "stable_by_dft": _share(labels),
    }
