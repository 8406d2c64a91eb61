"""Which potentials and hulls are at hand, and what each needs that is not: what stands behind `bench doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from bench.errors import one_line
from tasks.stability.chain import chain_names
from tasks.stability.hull import hull_path, read_hull
from tasks.stability.potentials import DEFAULT_POTENTIAL, known_potentials, load_potential, potential_protocol
from tasks.stability.potentials.files import BUILT_IN, MATGL_FOLDERS, MATGL_ORGANISATION, PotentialNotHere, find_source

# What, state (ok, missing, broken), what was found, how to get it, whether a run without options needs it.
Line = tuple[str, str, str, str, bool]


def examine_potentials(deep: bool = False) -> Iterator[Line]:
    """Two lines for each potential: its weights, and the hull computed with it. Downloads nothing.

    deep: load each one and run its self-test, which takes seconds.
    """
    for name in known_potentials():
        required = name in chain_names(DEFAULT_POTENTIAL)
        line = _weights(name, deep, required)
        yield line
        if line[1] == "ok":
            yield _hull(name, required)


def _weights(name: str, deep: bool, required: bool) -> Line:
    found = "of another package"
    try:
        if name in BUILT_IN:
            source = find_source(name, download=False)
            found = f"{source.version}, {source.description()['package']} ({source.path})"
        if deep:
            load_potential(name)
            found = f"self-test passed; {found}"
    except PotentialNotHere as error:
        return name, "missing", str(error), _how_to_get(name, "pip install"), required
    except Exception as error:  # of any library, on an installation that may be broken in any way
        remedy = _how_to_get(name, "pip install --force-reinstall --no-deps")
        return name, "broken", one_line(error), remedy, required
    return name, "ok", found, "", required


def _how_to_get(name: str, install: str) -> str:
    if name in MATGL_FOLDERS:
        return f"hf download {MATGL_ORGANISATION}/{MATGL_FOLDERS[name]}"
    if name in BUILT_IN:
        return f"{install} {'chgnet' if name == 'chgnet' else 'sevenn'}"
    return "install the package that brings it anew"


def _hull(name: str, required: bool) -> Line:
    what = f"{name} hull"
    again = f"python -m bench hull build --potential {name} --out hulls && export BENCH_HULL_DIR=hulls"
    try:
        path = hull_path(name)
    except ValueError:
        return what, "missing", f"no stability with {name} without one, or --hull FILE; hours to build", again, required
    try:
        card = read_hull(path, potential_protocol(name)).card
    except Exception as error:  # a damaged file fails in the ways of its reader
        return what, "broken", one_line(error), again, required
    return what, "ok", f"{card.get('phases')} phases, SHA-256 {str(card.get('sha256'))[:8]}", "", required
