"""The commands about models, data sets and hulls: what is done before and beside a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Compile, Dataset, Device, DeviceOption, Preset, Seed, Threads, Workers
from bench.cli.screen import show

app = typer.Typer()


@app.command()
def train(
    model: Annotated[
        str,
        typer.Option(
            help="crysldm, diffcsp, cdvae, crysldm-posterior, diffcsp-posterior, diffcsp-csp, composition-first "
            "or crystal-draft"
        ),
    ],
    dataset: Dataset,
    preset: Preset = "cpu",
    max_time: Annotated[str | None, typer.Option(metavar="HH:MM:SS", help="of this call; go on with --resume")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the checkpoint in --out")] = False,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Annotated[int, typer.Option(help="threads of training")] = 1,
    out: Annotated[Path | None, typer.Option(help="folder of checkpoints, logs and weights")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="of the last stage; default: the preset's")] = None,
    init: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="start the last stage from this .safetensors file")
    ] = None,
) -> None:
    """Train a model on a data set's training split."""
    from bench.commands.train import parse_time
    from bench.commands.train import train as train_model
    from bench.interfaces import TrainingPlan

    limit = None if max_time is None else parse_time(max_time)
    plan = TrainingPlan(model, dataset, preset, out, limit, resume, seed, device.value, threads, epochs, init)
    show(f"weights: {train_model(plan)}")


@app.command()
def sample(
    model: Annotated[str, typer.Option(help="as in `bench run --models`, one of them")],
    dataset: Dataset,
    num_samples: Annotated[int, typer.Option(help="crystals to make")],
    out: Annotated[Path, typer.Option(help="NAME.zip (of CIFs), .extxyz, .parquet, .json or .csv")],
    preset: Preset = "cpu",
    device: DeviceOption = Device.auto,
    seed: Seed = 0,
    threads: Threads = None,
    compile: Compile = False,
) -> None:
    """Write the crystals of a model to a file: those that `bench run` samples with the same seed."""
    from bench.commands.sample import sample_file

    show(sample_file(model, dataset, num_samples, out, preset, device.value, seed, threads, compile))


@app.command("sample-external")
def sample_external_command(
    command: Annotated[
        str, typer.Option(help="shell command of any model; {num_samples}, {seed} and {out} are filled in, quoted")
    ],
    num_samples: Annotated[int, typer.Option(help="crystals that it is asked for")],
    out: Annotated[Path, typer.Option(help="where its crystals go: NAME.zip, .extxyz, .pt and so on, or a folder")],
    ready: Annotated[
        str | None, typer.Option(metavar="TEXT", help="what it prints when start-up ends and sampling begins")
    ] = None,
    done: Annotated[str | None, typer.Option(metavar="TEXT", help="what it prints when sampling ends")] = None,
    start_up: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="or one that only starts up: its time is subtracted")
    ] = None,
    result: Annotated[Path | None, typer.Option(help="what the command writes, where it takes no {out}")] = None,
    meta: Annotated[Path | None, typer.Option(help="what they cost; default NAME.meta.json")] = None,
    steps: Annotated[int | None, typer.Option(help="diffusion steps, for the table")] = None,
    network_evaluations: Annotated[float | None, typer.Option(help="per crystal, for the table")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    device: DeviceOption = Device.auto,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="of one run of a command")] = None,
) -> None:
    """Run and time a model of another environment as it is: crystals and costs for `bench run --models NAME=FILE`."""
    from bench.commands.sample_external import External, sample_external
    from bench.device import named_threads, resolve_device
    from bench.sampling.usage import available_cores

    asked = External(
        command,
        num_samples,
        out,
        meta or out.with_name(f"{out.name.split('.')[0]}.meta.json"),
        seed,
        threads or named_threads() or available_cores(),
        resolve_device(device.value),
        ready=ready,
        done=done,
        start_up=start_up,
        result=result,
        timeout_s=timeout,
        steps=steps,
        network_evaluations=network_evaluations,
    )
    show(sample_external(asked))


@app.command()
def models() -> None:
    """List the models, what they are and which weights are in the package."""
    from bench.commands.listing import list_models

    show(list_models())


@app.command()
def data(
    name: Annotated[str, typer.Argument(metavar="NAME", help="perov5, mp20 or that of an installed plug-in")],
    workers: Annotated[int, typer.Option(help="processes that parse")] = 2,
    reference: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="write its reference card there, for a data set of your own")
    ] = None,
    scored: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="of its test split (`bench score TEST.csv`): its figures go beside the card"),
    ] = None,
) -> None:
    """Find or download a data set, verify its hashes and parse it into the cache."""
    from bench.commands.listing import prepare_dataset

    show(prepare_dataset(name, workers, reference, scored))


hull_app = typer.Typer(help="Reference energies that stability is measured against.", no_args_is_help=True)
app.add_typer(hull_app, name="hull")


@hull_app.command("build")
def hull_build(
    potential: Annotated[str, typer.Option(help="such as chgnet or m3gnet")] = "chgnet",
    out: Annotated[Path, typer.Option(help="folder of the hull and of what a killed build leaves")] = Path("hulls"),
    relax_limit: Annotated[
        int | None, typer.Option(help="relax so many of the phases near the hull, the nearest first; default all")
    ] = None,
    extend: Annotated[bool, typer.Option("--extend", help="take over what the hull at hand has computed")] = False,
    workers: Workers = 2,
) -> None:
    """Compute the energies of the reference phases with a potential: hours. A killed build goes on where it was."""
    from bench.commands.listing import build_hull

    show(build_hull(potential, out, relax_limit, extend, workers))


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="load and test every potential as well: a minute")] = False,
) -> None:
    """What this machine can do, what is missing and how to get it: exit 1 where `bench run` cannot work."""
    from bench.commands.doctor import examine, is_fit, render

    findings = examine(deep)
    show(render(findings))
    if not is_fit(findings):
        raise typer.Exit(1)
