"""From CIF texts to crystals: in parallel, a reason for each text that holds none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.crystal_io.streams import MAX_ATOMS
from bench.crystals import Crystals, FilteredCrystals
from bench.errors import one_line

if TYPE_CHECKING:
    from pymatgen.io.cif import CifParser

MAX_IMAGES = 2 * MAX_ATOMS  # of atom sites by symmetry; those on special positions coincide. 10,000 take 15 s
CHUNK = 256  # texts a worker gets at a time: about half a second of work; for one or two chunks no worker is started

Progress = Callable[[int, int], None]


def plain_crystal(cif: str) -> Crystals:
    """The one crystal of a CIF text in the cell that it gives, every atom site of the text present.

    pymatgen's reading: atoms in order of electronegativity, coordinates within 1e-4 of a third or a sixth moved there.
    ValueError where pymatgen would merge sites (closer than 1e-4 of the cell) or pass over one that it cannot name:
    it would give a smaller crystal without a word, and a generated crystal with two atoms on one site would be valid.
    """
    from pymatgen.io.cif import CifParser

    parser = CifParser.from_str(cif, check_cif=False)
    listed = max(_atom_sites(parser), default=0)
    structures = parser.parse_structures(primitive=False, on_error="raise")
    if len(structures) != 1:
        raise ValueError(f"{len(structures)} crystals in the text of one")
    structure = structures[0]
    if not structure.is_ordered:
        raise ValueError(f"has partial occupancies ({structure.formula}); order it first")
    if len(structure) < listed:
        raise ValueError(f"{listed} atom sites are listed, {len(structure)} differ and have a known element")
    return Crystals.from_structures([structure])


def _atom_sites(parser: CifParser) -> Iterator[int]:
    """Atom sites that each block lists. ValueError where they, or their images, are too many to be placed.

    pymatgen compares every image of a site with every one before it.
    """
    from pymatgen.io.cif import CifBlock

    for name, data in parser.as_dict().items():
        sites = len(data["_atom_site_fract_x"]) if isinstance(data.get("_atom_site_fract_x"), list) else 1
        if sites > MAX_ATOMS:
            raise ValueError(f"{sites} atom sites are listed; at most {MAX_ATOMS} are read")
        most = max([192, *(len(column) for column in data.values() if isinstance(column, list))])
        if sites * most > MAX_IMAGES:
            images = sites * len(parser.get_symops(CifBlock(data, [], name)))
            if images > MAX_IMAGES:
                raise ValueError(f"{images} images of {sites} atom sites; at most {MAX_IMAGES} are placed")
        yield sites


def parse_cifs(
    cifs: Sequence[str], read: Callable[[str], Crystals], workers: int = 2, on_progress: Progress | None = None
) -> FilteredCrystals:
    """Each CIF text through `published_crystal` or `plain_crystal`; one that cannot be read is a reason.

    workers: processes, of one thread each. on_progress is called with (done, total) texts.
    """
    from joblib import Parallel, delayed, parallel_config

    chunks = [cifs[start : start + CHUNK] for start in range(0, len(cifs), CHUNK)]
    workers = min(workers, len(chunks)) if len(chunks) > 2 else 1
    # loky starts workers by itself: no fork of a process with threads, and no guard needed in the caller's main module.
    with parallel_config(backend="loky", inner_max_num_threads=1):
        jobs = Parallel(n_jobs=workers, return_as="generator")(delayed(_parse_chunk)(chunk, read) for chunk in chunks)
        parts, reasons, done = [], {}, 0
        for chunk, (crystals, faults) in zip(chunks, jobs, strict=True):
            reasons.update({done + place: text for place, text in faults.items()})
            parts.append(crystals)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(cifs))
    places = [place for place in range(len(cifs)) if place not in reasons]
    return FilteredCrystals(Crystals.concatenate(parts), np.array(places, dtype=np.int64), reasons)


def _parse_chunk(cifs: Sequence[str], read: Callable[[str], Crystals]) -> tuple[Crystals, dict[int, str]]:
    parts, reasons = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of every rounded coordinate
        for place, cif in enumerate(cifs):
            try:
                parts.append(read(cif))
            except Exception as error:  # a parser fed foreign text raises anything; it becomes the reason
                reasons[place] = one_line(error)
    return Crystals.concatenate(parts), reasons
