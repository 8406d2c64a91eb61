"""The same run on Dask: a real scheduler and real workers, which are killed, refused and restarted."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_tasks
import pytest
from dask_processes import HERE, ROOT, DaskProcesses

from bench.budget import Budget
from bench.crystal_io import write_crystals
from bench.executor import open_executor
from bench.model_specs import file_model, parse_models
from bench.rescoring import Rescoring, rescore
from bench.runner import Plan, resume, run
from bench.store import Run
from tests.bench import fake_runs
from tests.bench.fake_runs import counted_metrics, kept

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'crysldm-bench[dask]'")
pytestmark = [pytest.mark.usefixtures("fakes"), pytest.mark.slow]

NewCluster = Callable[..., DaskProcesses]


plan = functools.partial(fake_runs.plan, budget=Budget(num_samples=48))


@pytest.fixture
def new_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewCluster]:
    """Starts a scheduler of its own, for tests that kill something."""
    started: list[DaskProcesses] = []

    def start(**environment: str) -> DaskProcesses:
        started.append(DaskProcesses(tmp_path_factory.mktemp("dask"), **environment))
        return started[-1]

    yield start
    for processes in started:
        processes.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    """A scheduler with two workers that nobody kills."""
    processes = DaskProcesses(tmp_path_factory.mktemp("dask"))
    processes.worker()
    processes.worker()
    yield processes
    processes.close()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.scoring.tables.CHUNK_CRYSTALS", 4)


def on(processes: DaskProcesses) -> Any:
    return open_executor("dask", processes.address, None, 1)


@pytest.mark.usefixtures("small_chunks")
def test_crystals_and_tables_are_those_of_a_local_run(tmp_path: Path, cluster: DaskProcesses) -> None:
    asked = plan("fake_generators:Fake,fake_generators:NotFinite", repeats=2)
    run(asked, tmp_path / "local")
    with on(cluster) as executor:
        run(asked, tmp_path / "dask", executor=executor)
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")
    assert len(kept(tmp_path / "dask")) > 8
    stored = Run.open(tmp_path / "dask")
    batches = stored.batches("fake").to_pylist()
    assert all(b["end_s"] > b["start_s"] for b in batches)
    assert all(now["start_s"] == then["end_s"] for then, now in itertools.pairwise(batches) if now["batch"])
    assert stored.manifest["sessions"][0]["executor"] == f"dask {cluster.address}"
    assert not list((tmp_path / "dask").rglob("parts"))


@pytest.mark.usefixtures("small_chunks")
def test_workers_killed_in_a_batch_and_in_a_chunk_cost_nothing_but_time(
    tmp_path: Path, new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan(), tmp_path / "local")
    processes = new_cluster()
    for _ in range(3):
        processes.worker(FAKE_DEATH=str(tmp_path / "death"))
    with on(processes) as executor:
        run(plan("fake_generators:Dying", tasks=()), tmp_path / "dask", executor=executor)
        assert (tmp_path / "death").exists()
        assert [worker.poll() for worker in processes.workers].count(-signal.SIGKILL) == 1
        (tmp_path / "death").unlink()
        monkeypatch.setattr(fake_tasks, "FakeValidity", fake_tasks.DyingValidity)
        rescore(tmp_path / "dask", Rescoring(["validity", "novelty"]), executor=executor)
    assert [worker.poll() for worker in processes.workers].count(-signal.SIGKILL) == 2
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")


@pytest.mark.nightly
def test_the_only_worker_comes_back_through_its_nanny(tmp_path: Path, new_cluster: NewCluster) -> None:
    run(plan(), tmp_path / "local")
    processes = new_cluster()
    processes.worker(nanny=True, FAKE_DEATH=str(tmp_path / "death"))
    with on(processes) as executor:
        run(plan("fake_generators:Dying"), tmp_path / "dask", executor=executor)
    assert (tmp_path / "death").exists()
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")


def test_a_worker_with_other_weights_is_refused_and_the_others_do_its_work(
    tmp_path: Path, new_cluster: NewCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run(plan(), tmp_path / "local")
    processes = new_cluster()
    processes.worker(FAKE_WEIGHTS="def")
    processes.worker(threads=2)
    processes.worker()
    with on(processes) as executor:
        run(plan(), tmp_path / "dask", executor=executor)
    said = capsys.readouterr().err
    assert "refused: it has 2 threads; start it with `--nthreads 1`" in said
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")


@pytest.mark.nightly
def test_a_batch_that_kills_every_worker_is_given_up(tmp_path: Path, new_cluster: NewCluster) -> None:
    processes = new_cluster(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    processes.worker(FAKE_DEATH=str(tmp_path / "death"))
    with on(processes) as executor, pytest.raises(ValueError, match="given up after 1 workers died with it"):
        run(plan("fake_generators:Dying"), tmp_path / "r", executor=executor)


def test_a_scheduler_without_workers_is_borne_for_a_while(
    tmp_path: Path, new_cluster: NewCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cluster.connection.PATIENCE_S", 1.0)
    with on(new_cluster()) as executor, pytest.raises(ValueError, match=r"no worker joined tcp://.* in 1 s; start"):
        run(plan(), tmp_path / "r", executor=executor)


def test_where_no_worker_may_take_part_nothing_is_left_behind(tmp_path: Path, new_cluster: NewCluster) -> None:
    processes = new_cluster()
    processes.worker(FAKE_WEIGHTS="def")
    with on(processes) as executor, pytest.raises(ValueError, match=r'no worker of .* may take part: .*"abc" -> "def"'):
        run(plan(), tmp_path / "r", executor=executor)
    assert not (tmp_path / "r").exists()


def test_a_scheduler_that_dies_is_one_line_and_the_run_goes_on_elsewhere(
    tmp_path: Path, new_cluster: NewCluster
) -> None:
    run(plan(), tmp_path / "local")
    processes = new_cluster()
    processes.worker(FAKE_BATCH_SECONDS="0.3")
    driver = start(processes, tmp_path / "dask")
    wait_for_batches(tmp_path / "dask", 2)
    processes.scheduler.kill()
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 2
    lines = [line for line in said.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert f"the Dask scheduler of {processes.address} is gone" in lines[0]
    assert "--resume" in lines[0]
    assert "Traceback" not in said
    assert len(Run.open(tmp_path / "dask").folders("fake")[0].batches) >= 2
    resume(tmp_path / "dask", 1)
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")


def test_a_driver_that_is_killed_loses_the_batches_in_flight_only(tmp_path: Path, new_cluster: NewCluster) -> None:
    run(plan(), tmp_path / "local")
    processes = new_cluster()
    processes.worker(FAKE_BATCH_SECONDS="0.3")
    driver = start(processes, tmp_path / "dask")
    wait_for_batches(tmp_path / "dask", 2)
    driver.kill()
    driver.communicate()
    before = len(Run.open(tmp_path / "dask").folders("fake")[0].batches)
    assert 2 <= before < 10
    with on(processes) as executor:
        resume(tmp_path / "dask", executor=executor)
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")


@pytest.mark.nightly
def test_the_commands_of_the_docs_run(tmp_path: Path, unused_tcp_port: int) -> None:
    document = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    (commands,) = [block for block in re.findall(r"```sh\n(.*?)```", document, re.DOTALL) if "scheduler" in block]
    python = shlex.quote(sys.executable)
    commands = commands.replace("8786", str(unused_tcp_port)).replace("runs/on-dask", str(tmp_path / "r"))
    commands = re.sub(r"^(dask|python) ", lambda m: f"{python} {'-m dask ' * (m[1] == 'dask')}", commands, flags=re.M)
    shell = subprocess.Popen(
        commands, shell=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert shell.wait(timeout=300) == 0
        assert Run.open(tmp_path / "r").summary()["models"]["crysldm@10"]["requested"] == 100
    finally:
        os.killpg(shell.pid, signal.SIGKILL)


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(processes: DaskProcesses, out: Path) -> subprocess.Popen[str]:
    """A process that does what `plan()` asks for."""
    command = [sys.executable, str(HERE / "fake_bench.py"), "run", "--models", "fake_generators:Fake"]
    command += ["--dataset", "perov5", "--num-samples", "48", "--threads", "1", "--device", "cpu"]
    command += ["--executor", "dask", "--scheduler", processes.address, "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_batches(root: Path, number: int) -> None:
    """Until so many batches of the fake model are recorded."""
    deadline, journal = time.monotonic() + 60, root / "fake" / "batches.jsonl"
    while time.monotonic() < deadline and (not journal.exists() or journal.read_bytes().count(b"\n") < number):
        time.sleep(0.05)


def test_a_damaged_shard_is_drawn_again_by_a_worker(tmp_path: Path, cluster: DaskProcesses) -> None:
    run(plan(), tmp_path / "r")
    before = kept(tmp_path / "r")
    shard = sorted((tmp_path / "r" / "fake" / "samples").glob("*.parquet"))[3]
    shard.write_bytes(shard.read_bytes()[:-9])
    with on(cluster) as executor:
        resume(tmp_path / "r", executor=executor)
    assert kept(tmp_path / "r") == before


@pytest.mark.nightly
def test_a_budget_of_seconds_is_spent_one_batch_at_a_time(tmp_path: Path, new_cluster: NewCluster) -> None:
    processes = new_cluster()
    processes.worker(FAKE_BATCH_SECONDS="0.05")
    processes.worker(FAKE_BATCH_SECONDS="0.05")
    with on(processes) as executor:
        run(plan(budget=Budget(seconds=1.0)), tmp_path / "dask", executor=executor)
        end_to_end = plan(budget=Budget(seconds=1.0, covers="end-to-end"))
        with pytest.raises(ValueError, match="--budget-covers end-to-end .* --executor local"):
            run(end_to_end, tmp_path / "refused", executor=executor)
    assert not (tmp_path / "refused").exists()
    batches = Run.open(tmp_path / "dask").batches("fake").to_pylist()
    assert 5 < len(batches) <= 20
    assert 0.5 < batches[-1]["end_s"] < 1.5
    assert Run.open(tmp_path / "dask").task_table("fake", "validity").num_rows == sum(
        b["num_crystals"] for b in batches if b["counted"]
    )


def test_a_file_is_scored_on_workers_as_it_is_here(tmp_path: Path, cluster: DaskProcesses) -> None:
    from fake_generators import random_crystals

    write_crystals(random_crystals(30, 0), tmp_path / "mine.extxyz")
    asked = Plan([file_model(tmp_path / "mine.extxyz")], "perov5", device="cpu", workers=1)
    run(asked, tmp_path / "local")
    with on(cluster) as executor:
        run(asked, tmp_path / "dask", executor=executor)
        before = kept(tmp_path / "dask")
        rescore(tmp_path / "dask", executor=executor)
    assert before == kept(tmp_path / "local") == kept(tmp_path / "dask")


def test_no_more_than_a_few_jobs_are_taken_ahead_of_their_answers(cluster: DaskProcesses) -> None:
    from bench.cluster import remote
    from bench.cluster.crew import JOBS_PER_WORKER, Crew
    from bench.sampling.sources import Recipe, Request

    (spec,) = parse_models("fake_generators:Fake")
    recipe = Recipe("fake", spec, "perov5", "cpu", "cpu", 1, 0, (1,))
    setup = remote.SamplingSetup("ahead", remote.shared_facts(), recipe, {"sha256": "abc"})
    taken = 0

    def requests() -> Iterator[Request]:
        nonlocal taken
        for taken in range(1, 101):
            yield Request(0, taken, 0, 5)

    with on(cluster) as executor:
        crew = Crew(executor.connection, setup)
        most = 0
        for given, (request, _) in enumerate(crew.map(remote.draw, requests(), ordered=True)):
            most = max(most, taken - given)
            assert request.number == given + 1
    assert 1 < most <= 2 * JOBS_PER_WORKER * 2


@pytest.mark.usefixtures("small_chunks")
def test_an_error_of_a_generator_is_told_and_what_is_done_is_kept(tmp_path: Path, cluster: DaskProcesses) -> None:
    told = pytest.raises(ValueError, match=r"^buggy: sampling failed: IndexError: .*go on with .*--resume")
    with on(cluster) as executor, told:
        run(plan("fake_generators:Buggy"), tmp_path / "r", executor=executor)
    assert len(Run.open(tmp_path / "r").folders("buggy")[0].batches) >= 1


@pytest.mark.nightly
def test_our_model_and_task_give_the_same_on_workers(tmp_path: Path, cluster: DaskProcesses) -> None:
    command = [sys.executable, "-m", "bench", "run", "--models", "crysldm@10", "--dataset", "perov5"]
    command += ["--num-samples", "60", "--tasks", "validity,properties", "--threads", "2", "--workers", "1"]
    elsewhere = ["--executor", "dask", "--scheduler", cluster.address]
    for name, options in (("local", []), ("dask", elsewhere)):
        subprocess.run([*command, *options, "--out", str(tmp_path / name)], cwd=ROOT, check=True, capture_output=True)
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")
    metrics = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("local", "dask")]
    local, dask = (summary["models"]["crysldm@10"]["metrics"] for summary in metrics)
    assert counted_metrics(local) == counted_metrics(dask)


SBATCH = """#!/bin/bash
cp "$1" "$1.copy"
setsid bash "$1.copy" > "$1.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
kill -- -"$1"
"""


def batch_system(folder: Path, monkeypatch: pytest.MonkeyPatch, **commands: str) -> Path:
    """A cluster file, and commands in place of Slurm's; a job is a group of processes of this machine."""
    for name, script in commands.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    file = folder / "cluster.yml"
    file.write_text("class: SLURMCluster\njobs: 1\noptions: {cores: 2, processes: 2, memory: 4GB, interface: lo}\n")
    return file


@pytest.mark.nightly
def test_jobs_of_a_batch_system_bring_the_workers_and_end_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")
    file = batch_system(tmp_path, monkeypatch, sbatch=SBATCH, scancel=SCANCEL)
    run(plan(), tmp_path / "local")
    with open_executor("dask", None, file, 1) as executor:
        run(plan(), tmp_path / "dask", executor=executor)
    assert kept(tmp_path / "dask") == kept(tmp_path / "local")


def test_a_batch_system_that_takes_no_job_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    refuses = "#!/bin/bash\necho 'sbatch: error: invalid partition' >&2\nexit 1\n"
    file = batch_system(tmp_path, monkeypatch, sbatch=refuses)
    told = pytest.raises(ValueError, match="a job cannot be submitted: .*invalid partition")
    with told, open_executor("dask", None, file, 1):
        pass
