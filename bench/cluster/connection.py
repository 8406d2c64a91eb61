"""A Dask scheduler: one that runs somewhere, or one whose workers a batch system starts as a YAML file says."""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.errors import one_line, reason_of

if TYPE_CHECKING:
    from bench.cluster.crew import Connection

CONNECT_S = 20.0
PATIENCE_S = 600.0  # without a worker; a batch system may take days
KEYS = ("class", "jobs", "options")


@contextmanager
def connect(scheduler: str | None, cluster: Path | None) -> Iterator[Connection]:
    """A connection to the scheduler at an address, or to one of this process with the workers that a file names.

    ValueError where Dask is not installed, the file is wrong, or nobody answers at the address.
    """
    require("dask", "distributed")
    started = None if cluster is None else start_cluster(cluster)
    from distributed import Client

    from bench.cluster.crew import Connection

    quieten()
    try:
        try:
            client = Client(scheduler if started is None else started, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            reason = one_line(error)
            raise ValueError(
                f"--scheduler {scheduler}: no Dask scheduler answers there ({reason}); start one with `dask scheduler`"
            ) from error
        try:
            yield Connection(client, str(cluster or scheduler), PATIENCE_S if started is None else None)
        finally:
            with suppress(Exception):  # a scheduler that is gone cannot be told
                client.close(timeout=2)
    finally:
        if started is not None:
            started.close()


def require(package: str, *modules: str) -> None:
    """ValueError where an optional package is missing."""
    if any(find_spec(module) is None for module in (package, *modules)):
        raise ValueError(
            f"--executor dask needs {package}, which is not installed: `pip install 'crysldm-bench[dask]'`"
        )


def start_cluster(path: Path) -> Any:
    """The dask-jobqueue cluster of a YAML file, with its jobs asked for.

    class: its name in dask_jobqueue, such as SLURMCluster. options: its arguments. jobs: how many to submit.
    """
    name, options, jobs = read_cluster_file(path)
    cluster = make_cluster(path, name, options)
    command = str(cluster.job_cls.submit_command).split()[0]
    if shutil.which(command) is None:
        cluster.close()
        raise ValueError(f"--cluster {path}: {name} submits jobs with {command}, which is not on this machine's path")

    async def submit() -> None:
        cluster.scale(jobs=jobs)
        await cluster._correct_state()  # which scale only begins: so that what goes wrong with it is heard of here

    try:
        cluster.sync(submit)
    except RuntimeError as error:
        with suppress(AssertionError):  # of distributed, about workers that never were
            cluster.close()
        raise ValueError(f"--cluster {path}: a job cannot be submitted: {one_line(error)}") from error
    return cluster


def read_cluster_file(path: Path) -> tuple[str, dict[str, Any], int]:
    """class, options and jobs of a file. ValueError names the file and what is wrong in it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--cluster {path}: cannot be read ({reason_of(error)})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"--cluster {path}: not YAML ({one_line(error)})") from error
    if not isinstance(content, dict) or set(content) != set(KEYS):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"--cluster {path}: it has {found}, and needs {', '.join(KEYS)}")
    name, options, jobs = content["class"], content["options"], content["jobs"]
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ValueError(f"--cluster {path}: jobs is {jobs!r}, not a whole number above 0")
    if not isinstance(options, dict):
        raise ValueError(f"--cluster {path}: options is {options!r}, not the arguments of {name}")
    if options.get("cores") is None or options.get("cores") != options.get("processes"):
        raise ValueError(
            f"--cluster {path}: cores is {options.get('cores')} and processes {options.get('processes')}; "
            "they must be the same number, as a worker is one process of one thread"
        )
    return str(name), options, jobs


def make_cluster(path: Path, name: str, options: dict[str, Any]) -> Any:
    """A dask-jobqueue cluster without jobs. ValueError where there is no such class, or it takes other options."""
    require("dask", "distributed")
    require("dask-jobqueue".replace("-", "_"))
    quieten()
    module = importlib.import_module("dask_jobqueue")
    known = [found for found in dir(module) if found.endswith("Cluster") and found != "JobQueueCluster"]
    if name not in known:
        raise ValueError(f"--cluster {path}: class is {name!r}; known are {', '.join(known)}")
    try:
        return getattr(module, name)(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"--cluster {path}: {name} cannot be made so: {one_line(error)}") from error


def quieten() -> None:
    """Keeps Dask's own log off the screen: what matters of it is said in a line of ours."""
    importlib.import_module("distributed")  # gives its loggers a level each
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("asyncio", "distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
