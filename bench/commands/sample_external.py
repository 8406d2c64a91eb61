"""`bench sample-external`: any command that writes crystals, timed as it is, in whatever environment it needs."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.atomic import write_json
from bench.budget import DeviceClock, device_clock
from bench.commands.timed_process import Timing, run_command
from bench.crystal_io import read_crystals
from bench.device import THREAD_VARIABLES, describe_device
from bench.progress import format_seconds

PLACEHOLDERS = ("num_samples", "seed", "out")


@dataclass(frozen=True)
class External:
    """What is asked for. command, start_up: shell commands, in which {num_samples}, {seed} and {out} are filled in.

    Sampling is timed from the moment the command prints `ready` to the moment it prints `done`, or else to its end.
    start_up: a command that only starts up and ends; what it takes is subtracted where there is no `ready`.
    result: the file or folder that the command writes where it takes no {out}. timeout_s: of each run of a command.
    steps, network_evaluations (per crystal): as the caller knows them; nobody can measure them from outside.
    """

    command: str
    num_samples: int
    out: Path
    meta: Path
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    ready: str | None = None
    done: str | None = None
    start_up: str | None = None
    result: Path | None = None
    timeout_s: float | None = None
    steps: int | None = None
    network_evaluations: float | None = None

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"--num-samples {self.num_samples}: must be at least 1")
        if (self.result is None) == ("{out}" not in self.command):
            raise ValueError(
                "--command must say where it writes: put {out} into it, or name with --result the file that it writes"
            )
        if self.ready is not None and self.start_up is not None:
            raise ValueError("--ready and --start-up: start-up is told from sampling by one of them, not both")
        for name, value in (("steps", self.steps), ("network-evaluations", self.network_evaluations)):
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"--{name} {value}: must be 0 or more")
        if self.done is not None and self.ready is None:
            raise ValueError("--done needs --ready: the clock starts there")
        for place in (self.out, self.meta, self.result):
            if place is not None and os.path.lexists(place):
                raise ValueError(f"{place} exists; choose another, or remove it, so that what is there then is new")

    def filled(self, command: str, out: Path) -> str:
        """The command with its placeholders filled in, quoted for the shell; other braces stay."""
        values = (self.num_samples, self.seed, out)
        for name, value in zip(PLACEHOLDERS, values, strict=True):
            command = command.replace(f"{{{name}}}", shlex.quote(str(value)))
        return command

    def environment(self) -> Mapping[str, str]:
        """As ours, with the threads of the run, unbuffered Python, and on a CPU without a view of any GPU."""
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        return {**os.environ, **threads, **hidden, "PYTHONUNBUFFERED": "1"}


def sample_external(asked: External, clock: DeviceClock | None = None) -> str:
    """Runs the command, puts its crystals at `out` and what they cost at `meta`; gives a line that says so.

    The whole time counts as sampling where start-up cannot be told from it: the seconds are then an upper bound, and
    the files say so. ValueError where the command fails, takes too long, or writes nothing that can be read.
    """
    clock = clock or device_clock("cpu")  # a process that has ended has waited for its device
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    log = asked.meta.with_name(f"{asked.meta.name.split('.')[0]}.log")
    starts: list[float] = []
    with open(log, "wb") as output:

        def run(command: str, place: Path, ready: str | None = None, done: str | None = None) -> Timing:
            filled = asked.filled(command, place)
            return run_command(filled, asked.environment(), output, clock, ready, done, asked.timeout_s)

        for _ in range(0 if asked.start_up is None else 2):  # the first finds cold caches; the shorter subtracts less
            with _place(asked) as nowhere:
                starts.append(run(asked.start_up or "", nowhere).wall)
                if asked.result is not None and asked.result.exists():
                    shutil.move(asked.result, nowhere.parent / "start-up")
        with _place(asked) as place:
            timing = run(asked.command, place, asked.ready, asked.done)
            written = asked.result or place
            if not written.exists():
                raise ValueError(f"--command ended well but wrote no {written.name}; its output is in {log}")
            shutil.move(written, asked.out)
    start_up, sampling = timing.start_up, timing.sampling
    if starts:
        start_up, sampling = min(starts), timing.wall - min(starts)
        if sampling <= 0:
            raise ValueError(
                f"{asked.out}: written, but --start-up took {min(starts):.3g} s and all of --command {timing.wall:.3g} "
                "s: ask for more crystals, or tell start-up apart with --ready"
            )
    found = read_crystals(asked.out).filtered
    given, number = found.requested, max(found.requested, asked.num_samples)
    costs = {
        "sampling_seconds": sampling,
        "load_seconds": start_up,
        "num_samples": number,
        "steps": asked.steps,
        "network_evaluations": asked.network_evaluations,
        "measured": {
            "by": "bench sample-external",
            "command": asked.command,
            "start_up": _how(asked, start_up),
            "wall_seconds": timing.wall,
            "seed": asked.seed,
            "threads": asked.threads,
            "device": describe_device(asked.device),
        },
    }
    write_json(asked.meta, {key: value for key, value in costs.items() if value is not None})
    apart = "start-up included" if start_up is None else f"after {format_seconds(start_up)} of start-up"
    name = asked.meta.name.split(".")[0]
    return (
        f"{asked.out}: {len(found.crystals)} crystals of {asked.num_samples} asked for"
        + (f", {len(found.reasons)} of {given} places hold none" if found.reasons else "")
        + f"; {sampling:.3g} s of sampling, {sampling / number:.3g} s a crystal, {apart}\n"
        f"compare: bench run --models crysldm,{name}={asked.out} --meta {name}={asked.meta} --dataset ..."
    )


def _how(asked: External, start_up: float | None) -> str:
    if start_up is None:
        return "included in sampling_seconds, which are therefore an upper bound"
    return f"until {asked.ready!r} was printed" if asked.start_up is None else f"the time of {asked.start_up!r}"


@contextmanager
def _place(asked: External) -> Iterator[Path]:
    """Where the command writes: a name like that of `out`, in a folder of its own beside it, which goes at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f".{asked.out.name}.", dir=asked.out.parent)).resolve()
    try:
        place = folder / asked.out.name
        if not asked.out.suffix:
            place.mkdir()
        yield place
    finally:
        shutil.rmtree(folder, ignore_errors=True)
