"""The commands together, and their errors in one line. Imports come when a command runs, so that --help is quick.

Exit codes: 0 done, 1 a gate failed, 2 bad input (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bench.cli.csp import app as csp
from bench.cli.learn import app as learn
from bench.cli.models_and_data import app as models_and_data
from bench.cli.options import (
    BudgetCovers,
    Cluster,
    Compile,
    Dataset,
    Device,
    DeviceOption,
    ExecutorKind,
    Format,
    HullFile,
    HullRunTypes,
    Meta,
    Potential,
    Preset,
    Resume,
    RulesOption,
    RunDevice,
    RunFolder,
    RunOut,
    RunPreset,
    RunSeed,
    Scheduler,
    Seed,
    Tasks,
    Threads,
    Where,
    Workers,
    named_device,
    names,
)
from bench.cli.rows import app as rows
from bench.cli.screen import show
from bench.cli.stored_runs import app as stored_runs
from bench.device import let_threads_sleep
from bench.errors import one_line
from bench.progress import say, show_warning

app = typer.Typer(
    name="bench",
    help="How many good crystals does a generative model give for the device time you pay?",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show the trace of an error; also behind the command")] = False,
) -> None:
    """Taken out of the arguments by `main`, so that it may stand anywhere; here for the help."""


@app.command("run")
def run_command(
    models: Annotated[
        str | None,
        typer.Option(help="such as crysldm,diffcsp@100,mine=samples.zip,my=weights.safetensors; `bench models` lists"),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="perov5 or mp20")] = None,
    num_samples: Annotated[
        int | None, typer.Option(help="crystals of each model; the paper's protocol is 1000")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="device time of each model instead, such as 90s, 10m or 1h")
    ] = None,
    budget_covers: Annotated[
        BudgetCovers, typer.Option(help="what the time pays for: sampling alone, or scoring (relaxation) as well")
    ] = BudgetCovers.sampling,
    tasks: Tasks = None,
    preset: RunPreset = None,
    device: RunDevice = None,
    potential: Potential = None,
    hull: HullFile = None,
    hull_run_types: HullRunTypes = None,
    rules: RulesOption = None,
    seed: RunSeed = None,
    repeats: Annotated[int | None, typer.Option(help="times that each model is sampled, with different seeds")] = None,
    threads: Threads = None,
    compile: Compile = False,
    in_turns: Annotated[
        bool, typer.Option("--in-turns", help="a batch of each model in turns: all meet the same busy or free machine")
    ] = False,
    workers: Workers = 2,
    executor: Where = ExecutorKind.local,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    meta: Meta = None,
    out: RunOut = None,
    resume: Resume = None,
) -> None:
    """Sample models, score their crystals and write Table 1."""
    from functools import partial

    from bench.commands.run import Asked, run
    from bench.executor import open_executor

    asked = Asked(
        models=models,
        dataset=dataset,
        num_samples=num_samples,
        budget=budget,
        budget_covers=budget_covers.value,
        tasks=names(tasks),
        preset=preset,
        device=named_device(device),
        potentials=names(potential),
        hull=hull,
        hull_run_types=names(hull_run_types),
        rules=rules and rules.value,
        seed=seed,
        repeats=repeats,
        threads=threads,
        compiled=compile,
        in_turns=in_turns,
        meta=tuple(meta or ()),
        out=out,
    )
    show(run(asked, workers, partial(open_executor, executor.value, scheduler, cluster, workers), resume))


@app.command()
def score(
    file: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="CIF, extxyz, JSON, CSV, Parquet, zip, eval_gen.pt")
    ],
    dataset: Dataset,
    name: Annotated[str | None, typer.Option(help="name in the table; default: that of the file")] = None,
    tasks: Tasks = None,
    potential: Potential = None,
    hull: HullFile = None,
    hull_run_types: HullRunTypes = None,
    rules: RulesOption = None,
    workers: Workers = 2,
    executor: Where = ExecutorKind.local,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    seed: Seed = 0,
    meta: Meta = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/<time>-<name>")] = None,
) -> None:
    """Score crystals that were made elsewhere. Needs no data set, only the reference card in the package."""
    from bench import runner
    from bench.executor import open_executor
    from bench.model_specs import file_model, with_meta

    plan = runner.Plan(
        models=with_meta([file_model(file, name)], meta or ()),
        dataset=dataset,
        tasks=names(tasks),
        potentials=names(potential) or (),
        hull=hull,
        hull_run_types=names(hull_run_types) or (),
        rules=rules and rules.value,
        device="cpu",
        seed=seed,
        workers=workers,
    )
    with open_executor(executor.value, scheduler, cluster, workers) as chosen:
        show(runner.run(plan, out, executor=chosen).text)


@app.command()
def report(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN]...", help="default: the newest below runs/")
    ] = None,
    format: Annotated[Format, typer.Option(help="of the table")] = Format.text,
    paper: Annotated[bool, typer.Option("--paper", help="put the paper's printed rows beside ours")] = False,
    at: Annotated[
        list[str] | None,
        typer.Option(metavar="TIME", help="instead: crystals by a smaller budget, such as 60s; may be repeated"),
    ] = None,
    costs: Annotated[
        bool, typer.Option("--costs", help="instead: what crystals took, of time, evaluations, memory and energy")
    ] = False,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="instead: a table of these metrics, such as valid,p1_share")
    ] = None,
    by_size: Annotated[
        bool, typer.Option("--by-size", help="instead: valid, stable and S.U.N. rates by the number of atoms")
    ] = False,
    disagreements: Annotated[
        bool, typer.Option("--disagreements", help="instead: where several potentials disagree, by chemistry")
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="all of it as one page for a browser, too")] = None,
) -> None:
    """Table 1 of one or more runs; writes tables and figures into their report/ anew."""
    from bench.budget import parse_duration
    from bench.commands import report as reporting
    from bench.store import newest_run

    seconds = [parse_duration(text, "--at") for text in at or ()]
    folders = runs or [newest_run(Path("runs"))]
    tables = {"--costs": costs, "--by-size": by_size, "--disagreements": disagreements}
    tables |= {"--at": bool(seconds), "--columns": columns is not None}
    asked = [name for name, given in tables.items() if given]
    if len(asked) > 1:
        raise ValueError(f"{' and '.join(asked)} show different tables; leave one of them out")
    if costs:
        show(reporting.costs(folders, format.value))
    elif by_size:
        show(reporting.by_size(folders, format.value))
    elif disagreements:
        show(reporting.disagreements(folders, format.value))
    else:
        show(reporting.report(folders, format.value, paper, seconds, names(columns)))
    if html is not None:
        say(reporting.write_page(folders, html, paper))


@app.command()
def plan(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="take the times of its models; default: measure --models")
    ] = None,
    rate: Annotated[float, typer.Option(help="about the share of crystals that are stable, or valid")] = 0.3,
    difference: Annotated[float | None, typer.Option(help="of two rates, to be shown: 0.05 for 30 and 35 %")] = None,
    cost_ratio: Annotated[float | None, typer.Option(help="of two costs a hit: 1.25 for a quarter dearer")] = None,
    power: Annotated[float, typer.Option(help="how often a difference that exists is to be found")] = 0.8,
    models: Annotated[str, typer.Option(help="whose device time is wanted")] = "crysldm,diffcsp",
    dataset: Annotated[str, typer.Option(help="perov5 or mp20")] = "perov5",
    preset: Preset = "cpu",
    device: DeviceOption = Device.auto,
) -> None:
    """Say how many crystals and how much device time show a difference."""
    from bench.commands.plan import Planned
    from bench.commands.plan import plan as plan_sizes

    asked = Planned(rate, difference, cost_ratio, power)
    show(plan_sizes(asked, run, models, dataset, preset, device.value))


@app.command()
def leaderboard(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders of one protocol")],
    by: Annotated[
        str | None, typer.Option(metavar="METRIC", help="to rank by; default: S.U.N. rate, else stable, else valid")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="as one page for a browser, too")] = None,
) -> None:
    """The models of several runs in order; those that noise cannot tell apart share a rank."""
    from bench.commands import report as reporting

    show(reporting.leaderboard(runs, by))
    if html is not None:
        say(reporting.write_page(runs, html, leaderboard=True, by=by))


@app.command()
def baseline(
    run: RunFolder, out: Annotated[Path, typer.Option(help="JSON file of metrics, intervals and protocol")]
) -> None:
    """Write the metrics of a run as a baseline for `bench check`."""
    from bench.commands.check import write_baseline

    write_baseline(run, out)


@app.command()
def check(
    run: RunFolder,
    against: Annotated[Path, typer.Option(help="a file that `bench baseline` wrote")],
    rtol: Annotated[
        float | None, typer.Option(help="fail by this relative change for the worse, in place of noise")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="fail by any change beyond --rtol (1e-9), better or worse")
    ] = False,
    times: Annotated[bool, typer.Option("--times", help="let device and wall times fail too")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="show what did not move as well")] = False,
) -> None:
    """Compare the metrics of a run with a baseline: exit 1 for a regression, 2 where they cannot be compared."""
    from bench.commands.check import check as compare
    from bench.commands.check import verdict_lines

    found = compare(run, against, rtol, exact, times)
    show("\n".join(verdict_lines(found, verbose)))
    if any(comparison.failed for comparison in found):
        raise typer.Exit(1)


app.add_typer(stored_runs)
app.add_typer(csp)
app.add_typer(learn)
app.add_typer(models_and_data)
app.add_typer(rows, name="rows")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs a command and exits; errors become one line, with their trace under --debug."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    warnings.showwarning = show_warning
    let_threads_sleep()
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    try:
        code = app(arguments, prog_name="bench", standalone_mode=False) or 0
        sys.stdout.flush()
    except Exception as error:
        if debug:
            raise
        code = _explain(error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = 130
    sys.exit(code)


def _explain(error: Exception) -> int:
    """One line about an error on stderr; the exit code."""
    if isinstance(error, BrokenPipeError):  # `bench report | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    code = int(getattr(error, "exit_code", 2))
    usage = getattr(error, "format_message", None)  # of the parser: unknown option, missing argument
    if usage is not None:
        text = f"{usage()} (--help shows the options)"
    elif code == 130:
        text = str(error)
    elif isinstance(error, OSError | ValueError):
        text = one_line(error, limit=None)
    else:
        text = f"unexpected {one_line(error, limit=None)} (--debug shows where)"
    sys.stderr.write(f"{'' if code == 130 else 'error: '}{' '.join(text.split())}\n")
    return code
