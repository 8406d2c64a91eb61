"""The options of `bench csp`."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import Meta, Resume, RunDevice, RunOut, RunPreset, RunSeed, Threads, Workers, named_device
from bench.cli.screen import show

app = typer.Typer()


@app.command()
def csp(
    models: Annotated[
        str | None,
        typer.Option(help="such as diffcsp-csp,mine=predictions.zip,module:Class; with `sample_given`, or of files"),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="perov5 or mp20: compositions and structures of its test")] = None,
    num_compositions: Annotated[int | None, typer.Option(help="the first ones of the test split; default: all")] = None,
    draw: Annotated[bool, typer.Option("--draw", help="draw them by the seed instead")] = False,
    samples: Annotated[
        int | None, typer.Option(help="of each composition; papers have 1 and 20; default 1, of files what they hold")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="device time of each model instead of --samples, such as 10m")
    ] = None,
    by_formula: Annotated[
        bool, typer.Option("--by-formula", help="a file's structures go by their atoms, not by their place in it")
    ] = False,
    preset: RunPreset = None,
    device: RunDevice = None,
    seed: RunSeed = None,
    threads: Threads = None,
    workers: Workers = 2,
    meta: Meta = None,
    out: RunOut = None,
    resume: Resume = None,
) -> None:
    """Predict structures for a test split's compositions, and say how many match (crystal structure prediction)."""
    from bench.commands.csp import Asked, predict

    asked = Asked(
        models=models,
        dataset=dataset,
        num_compositions=num_compositions,
        draw=draw,
        samples=samples,
        budget=budget,
        by_formula=by_formula,
        preset=preset,
        device=named_device(device),
        seed=seed,
        threads=threads,
        meta=tuple(meta or ()),
        out=out,
    )
    show(predict(asked, workers, resume))
