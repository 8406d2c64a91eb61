"""What this machine can do, what is missing, and the command that gets it; on a broken installation as well.

Nothing but the standard library is imported before a check needs it, and a check that fails is a line of the table.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from bench.errors import one_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "missing", "broken"]
DISTRIBUTION = "crysldm-bench"
SHOWN = ("torch", "numpy", "pymatgen", "smact", "chgnet", "matgl", "scipy", "pyarrow")
# Package, what for, how to get it.
EXTRAS = (
    ("dask", "more than one machine", "pip install dask distributed"),
    ("mkdocs-material", "building the documentation", "pip install mkdocs-material 'mkdocstrings[python]'"),
    ("pytest", "the tests", "pip install -e '.[test]'"),
)
PROGRAMS = (
    (("chromium", "chromium-browser", "google-chrome"), "tests of pages", "apt-get install chromium"),
    (("c++", "g++", "clang++"), "compiled training on Perov-5", "apt-get install g++"),
)
FREE_GB = 1.0  # of the disk; a run of a thousand crystals takes a hundredth, parsed data sets a fifth


class Finding(NamedTuple):
    """One line. what: of which part. required: whether `bench run` as README has it needs it.

    remedy: a command, or what to do; empty where nothing is amiss.
    """

    part: str
    what: str
    state: State
    found: str
    remedy: str = ""
    required: bool = False


def examine(deep: bool = False) -> list[Finding]:
    """All findings, in the order of the table. deep: import torch, and load and test every potential."""
    checks: list[tuple[str, bool, Callable[[], Iterable[Finding]]]] = [
        ("software", True, _software),
        ("machine", True, lambda: _machine(deep)),
        ("folders", True, _folders),
        ("data", True, _data),
        ("models", True, _models),
        ("potentials", True, lambda: _potentials(deep)),
        ("optional", False, _extras),
    ]
    return [finding for part, required, check in checks for finding in _guarded(part, part, required, check)]


def render(findings: Iterable[Finding]) -> str:
    """The table, and below it what is amiss with the command that mends it."""
    findings = list(findings)
    widths = [max(len(f.part) for f in findings), max(len(f.what) for f in findings), max(map(len, _STATES.values()))]
    lines, part = [], ""
    for finding in findings:
        cells = ("" if finding.part == part else finding.part, finding.what, _STATES[finding.state])
        lines.append("  ".join([*(c.ljust(w) for c, w in zip(cells, widths, strict=True)), finding.found]).rstrip())
        part = finding.part
    for title, wanted in (("To repair:", broken(findings)), ("To add:", missing(findings))):
        remedies: dict[str, list[str]] = {}
        for finding in wanted:
            remedies.setdefault(finding.remedy, []).append(finding.what)
        names = {remedy: ", ".join(parts) for remedy, parts in remedies.items()}
        named = max(map(len, names.values()), default=0)
        lines += ["", title] * bool(names) + [f"  {names[remedy].ljust(named)}  {remedy}" for remedy in names]
    return "\n".join([*lines, "", verdict(findings)])


_STATES: dict[State, str] = {"ok": "ok", "missing": "not here", "broken": "BROKEN"}


def broken(findings: Iterable[Finding]) -> list[Finding]:
    """What is there and wrong, or not there and required."""
    return [f for f in findings if f.state == "broken" or (f.required and f.state == "missing")]


def missing(findings: Iterable[Finding]) -> list[Finding]:
    """What is not there and could be."""
    return [f for f in findings if f.state == "missing" and not f.required]


def verdict(findings: Iterable[Finding]) -> str:
    """Whether the main job runs here, in a line."""
    stops = [f.what for f in broken(findings) if f.required]
    if stops:
        return f"`bench run` does not work here: {', '.join(stops)}"
    return "`bench run --models crysldm,diffcsp --dataset perov5` works here."


def is_fit(findings: Iterable[Finding]) -> bool:
    """Whether nothing required is missing or broken."""
    return not any(finding.required for finding in broken(findings))


def _guarded(part: str, what: str, required: bool, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check; whatever stops it is one, as an installation may be broken in any way."""
    try:
        yield from check()
    except ModuleNotFoundError as error:
        yield Finding(part, what, "broken", one_line(error, limit=None), f"pip install {error.name}", required)
    except Exception as error:
        yield Finding(
            part, what, "broken", one_line(error, limit=None), "repair what it names, or install anew", required
        )


def _software() -> Iterator[Finding]:
    yield Finding("software", "python", "ok", f"{platform.python_version()} ({sys.executable})")
    try:
        yield Finding("software", DISTRIBUTION, "ok", f"{version(DISTRIBUTION)} ({Path(__file__).parent.parent})")
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        place = Path(__file__).parent.parent
        yield Finding("software", DISTRIBUTION, "missing", f"a bare checkout at {place}", f"pip install -e {place}")
        declared = []
    from packaging.requirements import Requirement

    needed = [r for r in map(Requirement, declared) if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = {finding.what: finding for finding in map(_requirement, needed)}
    shown = [f"{name} {version(name)}" for name in SHOWN if name in wrong and wrong[name].state == "ok"]
    amiss = [finding for finding in wrong.values() if finding.state != "ok"]
    if needed:
        text = f"{len(needed) - len(amiss)} of {len(needed)} as required: {', '.join(shown)}"
        yield Finding("software", "packages", "broken" if amiss else "ok", text, "see below", bool(amiss))
    yield from amiss


def _requirement(requirement: Requirement) -> Finding:
    name, specifier = requirement.name, requirement.specifier
    remedy = f"pip install '{name}{specifier}'"
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(
            "software", name, "missing", f"not installed; {specifier or 'any version'} is required", remedy, True
        )
    if not specifier.contains(found, prereleases=True):
        return Finding("software", name, "broken", f"{found}, but {specifier} is required", remedy, True)
    return Finding("software", name, "ok", found)


def _machine(deep: bool) -> Iterator[Finding]:
    from bench.device import describe_device, named_threads, resolve_device

    if deep:
        import torch

        torch.ones(2).sum()
    device = describe_device(resolve_device("auto"))
    yield Finding("machine", "device", "ok", f"{device['kind']}: {device['name']}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    named = named_threads()
    threads = f"{named} for sampling (OMP_NUM_THREADS)" if named else "for sampling: the best by measurement"
    yield Finding("machine", "threads", "ok", f"{threads}; {cores} cores")


def _folders() -> Iterator[Finding]:
    for name in ("BENCH_DATA_DIR", "BENCH_POTENTIALS_DIR", "BENCH_HULL_DIR"):
        named = os.environ.get(name)
        if named and not Path(named).is_dir():
            remedy = f"unset {name}, or name a folder that exists"
            yield Finding("folders", name, "broken", f"{named}: no such folder", remedy, name == "BENCH_DATA_DIR")
    from bench.datasets.parsed import cache_dir

    for what, folder, remedy in (
        ("cache", cache_dir(), "export BENCH_CACHE_DIR=a folder that can be written"),
        ("run folders", Path("runs").resolve(), "start in another folder, or use --out"),
    ):
        yield _writable(what, folder, remedy)


def _writable(what: str, folder: Path, remedy: str) -> Finding:
    """Whether a file can be made in a folder, or in the one above it that exists, and what the disk has left."""
    place = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free / 1e9
    except OSError as error:
        return Finding("folders", what, "broken", f"{folder}: cannot be written ({error.strerror})", remedy, True)
    text = f"{folder}: {free:.1f} GB free"
    if free < FREE_GB:
        return Finding("folders", what, "broken", f"{text}, and {FREE_GB:g} GB are wanted", remedy)
    return Finding("folders", what, "ok", text)


def _data() -> Iterator[Finding]:
    from bench.datasets.files import DATASETS, known_datasets

    for name in DATASETS:  # a run stops where a file of its data set is damaged, and not where it is absent
        yield from _guarded("data", f"{name} reference card", True, partial(_card, name))
        yield from _guarded("data", f"{name} crystals", True, partial(_splits, name))
    for name in known_datasets():
        if name not in DATASETS:
            yield from _guarded("data", f"{name} reference card", False, partial(_card, name))
            yield from _guarded("data", f"{name} crystals", False, partial(_splits, name))


def _card(name: str) -> Iterator[Finding]:
    from bench.datasets import reference_card, training_formulas

    card = reference_card(name)
    text = f"{len(card.test)} test crystals, {len(training_formulas(name))} training formulas, {card.sha256[:8]}"
    yield Finding("data", f"{name} reference card", "ok", text)


def _splits(name: str) -> Iterator[Finding]:
    """The three files, hashed. A file that is not the published one is used with a warning, so it is no fault."""
    import warnings

    from bench.datasets.files import SPLITS, dataset_spec, find_file

    spec, texts, absent = dataset_spec(name), [], []
    for split in SPLITS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said here
            found = find_file(spec, split)
        if found is None:
            absent.append(split)
        else:
            as_published = "verified" if spec.blobs else "found"
            state = as_published if found.published else f"not the published file ({found.blob[:8]})"
            texts.append(f"{split} {state}")
    remedy = f"python -m bench data {name}" if spec.urls else f"put the files into $BENCH_DATA_DIR/{spec.folder}"
    if absent:
        text = f"{', '.join([*texts, *(f'{split} not at hand' for split in absent)])}; for training and controls only"
        yield Finding("data", f"{name} crystals", "missing", text, remedy)
    else:
        yield Finding("data", f"{name} crystals", "ok", ", ".join(texts))


def _models() -> Iterator[Finding]:
    import hashlib
    import json

    from bench import registry
    from bench.commands.listing import shipped_weight_files

    registry.check_packages()
    names = [*registry.known("generator"), *registry.plugin_generators()]
    yield Finding("models", "models", "ok", ", ".join(names))
    tasks = [*registry.known("task"), *registry.plugin_tasks()]
    yield Finding("models", "tasks", "ok", ", ".join(tasks))
    wrong, files = [], list(shipped_weight_files())
    for card, weights in files:
        with suppress(OSError, ValueError):
            recorded = json.loads(card.read_text(encoding="utf-8")).get("sha256")
            if hashlib.sha256(weights.read_bytes()).hexdigest() == recorded:
                continue
        wrong.append(weights.stem)
    again = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
    if wrong or not files:
        text = f"damaged: {', '.join(wrong)}" if wrong else "none in the package"
        yield Finding("models", "weights", "broken", text, again, True)
    else:
        yield Finding("models", "weights", "ok", ", ".join(weights.stem for _, weights in files))


def _potentials(deep: bool) -> Iterator[Finding]:
    from bench import registry

    examine_potentials = registry.plugin("examination", "potentials")
    with redirect_stdout(sys.stderr):  # libraries announce themselves
        for what, state, found, remedy, required in examine_potentials(deep):
            yield Finding("potentials", what, state, found, remedy, required)


def _extras() -> Iterator[Finding]:
    for package, purpose, remedy in EXTRAS:
        try:
            yield Finding("optional", package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding("optional", package, "missing", f"for {purpose}", remedy)
    for programs, purpose, remedy in PROGRAMS:
        found = next(filter(None, map(shutil.which, programs)), None)
        if found:
            yield Finding("optional", programs[0], "ok", found)
        else:
            yield Finding("optional", programs[0], "missing", f"for {purpose}", remedy)
