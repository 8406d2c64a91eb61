"""Options that several commands of the command line share: their values, and what --help says of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Values of --device."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class ExecutorKind(StrEnum):
    """Values of --executor."""

    local = "local"
    dask = "dask"


class BudgetCovers(StrEnum):
    """Values of --budget-covers."""

    sampling = "sampling"
    end_to_end = "end-to-end"


class Rules(StrEnum):
    """Values of --rules."""

    cdvae = "cdvae"
    mattergen = "mattergen"
    lemat = "lemat"


class Format(StrEnum):
    """Values of --format."""

    text = "text"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"


def _a_seed(value: int | None) -> int | None:
    """It. ValueError where no generator of random numbers takes it."""
    if value is not None and not 0 <= value < 2**63:
        raise ValueError(f"--seed {value}: must be a number from 0 to {2**63 - 1}")
    return value


Dataset = Annotated[str, typer.Option(help="perov5 or mp20")]
_PRESETS = "size of our models: cpu (small, weights in the package), cpu-weak (for autoguidance) or paper"
Preset = Annotated[str, typer.Option(help=_PRESETS)]
DeviceOption = Annotated[Device, typer.Option(help="where to compute")]
Threads = Annotated[int | None, typer.Option(help="of sampling; default OMP_NUM_THREADS, or the best as measured")]
# Of commands that go on with a run: None where the run's own manifest says it.
RunPreset = Annotated[str | None, typer.Option(help="size of our models: cpu (default) or paper")]
RunDevice = Annotated[Device | None, typer.Option(help="where to sample; default auto")]
RunSeed = Annotated[int | None, typer.Option(help="of every random number; default 0", callback=_a_seed)]
RunOut = Annotated[Path | None, typer.Option(help="run folder; default runs/<time>-<models>")]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="go on with this run; its manifest says all else")]
Compile = Annotated[
    bool, typer.Option("--compile", help="networks of our models by torch.compile; samples differ in rounding")
]
Seed = Annotated[int, typer.Option(help="of every random number", callback=_a_seed)]
Workers = Annotated[int, typer.Option(help="processes that score, of one thread each; never while sampling is timed")]
Tasks = Annotated[str | None, typer.Option(help="such as validity,properties; default: all that exist")]
_POTENTIALS = "for stability, such as chgnet,m3gnet; the first fills the table. a+b: a relaxes, b goes on and judges"
Potential = Annotated[str | None, typer.Option(help=_POTENTIALS)]
HullFile = Annotated[
    Path | None,
    typer.Option(
        "--hull", help="instead of the package's: of `bench hull build`, entries as JSON, formation energies as CSV"
    ),
]
HullRunTypes = Annotated[
    str | None,
    typer.Option(
        "--hull-run-types", help="of the entries in a JSON --hull, those taken: GGA,GGA+U; the rest is left out"
    ),
]
RulesOption = Annotated[
    Rules | None,
    typer.Option("--rules", help="validity and novelty as another evaluation has them, where its rules differ"),
]
Where = Annotated[
    ExecutorKind, typer.Option("--executor", help="local: processes of this machine; dask: workers of a scheduler")
]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="of a Dask scheduler, such as tcp://host:8786")]
Cluster = Annotated[
    Path | None, typer.Option(metavar="FILE.yml", help="instead: jobs of a batch system such as Slurm (dask-jobqueue)")
]
Meta = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE", help='JSON with what a file cost: {"sampling_seconds", "steps", ...}; repeatable'
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder, or an archive of one")]


def named_device(device: Device | None) -> str | None:
    """The device that an option of a run names; None where the machine is to choose."""
    return None if device is None or device is Device.auto else device.value


def names(text: str | None) -> tuple[str, ...] | None:
    """The names in "a,b"; None where the option was not given. ValueError where it names nothing."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ValueError("a list of names is empty; leave its option out for the default")
    return names
