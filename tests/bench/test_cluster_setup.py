"""What stands before a run on Dask: options, the extra, the YAML file of a batch system, what a worker must share."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_tasks import FakeValidity

from bench.executor import open_executor
from bench.model_specs import parse_models
from bench.run_folder import manifest as manifests
from bench.runner import Plan, run

ROOT = Path(__file__).parent.parent.parent
SLURM = ROOT / "examples" / "slurm.yml"
needs_dask = pytest.mark.skipif(util.find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed")


def test_a_local_run_imports_no_dask(tmp_path: Path) -> None:
    code = (
        "import sys; from bench import runner; from bench.executor import open_executor\n"
        "with open_executor('local', None, None, 1) as executor: executor.device('cpu')\n"
        "assert not {'dask', 'distributed', 'bench.cluster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "scheduler", "cluster", "told"),
    [
        ("local", "tcp://a:1", None, "--scheduler tcp://a:1 needs --executor dask"),
        ("local", None, SLURM, r"--cluster .*slurm.yml needs --executor dask"),
        ("dask", None, None, "takes either --scheduler ADDRESS or --cluster FILE.yml$"),
        ("dask", "tcp://a:1", SLURM, "FILE.yml, not both$"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(name: Any, scheduler: Any, cluster: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told), open_executor(name, scheduler, cluster, 1):
        pass


@pytest.mark.parametrize("missing", ["dask", "distributed"])
def test_without_dask_one_line_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = util.find_spec
    monkeypatch.setattr("bench.cluster.connection.find_spec", lambda name: None if name == missing else found(name))
    told = pytest.raises(ValueError, match=r"needs dask, which is not installed: `pip install 'crysldm-bench\[dask\]'`")
    with told, open_executor("dask", "tcp://127.0.0.1:1", None, 1):
        pass


@needs_dask
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://a", "host-that-is-not-there.invalid:8786"])
def test_a_scheduler_that_does_not_answer_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.cluster.connection.CONNECT_S", 1.0)
    told = pytest.raises(ValueError, match=f"^--scheduler {address}: no Dask scheduler answers there")
    with told, open_executor("dask", address, None, 1):
        pass


@needs_dask
def test_the_example_for_slurm_gives_a_job_script_of_workers_with_one_thread() -> None:
    from bench.cluster.connection import make_cluster, read_cluster_file

    name, options, jobs = read_cluster_file(SLURM)
    assert jobs > 1
    cluster = make_cluster(SLURM, name, options)
    script = cluster.job_script()
    cluster.close()
    assert f"#SBATCH -p {options['queue']}" in script
    assert f"#SBATCH --cpus-per-task={options['cores']}" in script
    assert f"--nworkers {options['processes']}" in script
    assert "--nthreads 1 " in script
    assert "--nanny" in script


GOOD = {"class": "SLURMCluster", "jobs": 2, "options": {"cores": 4, "processes": 4, "memory": "8GB"}}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("class: [", "not YAML"),
        ("- a", "it has list, and needs class, jobs, options"),
        ({**GOOD, "queue": "long"}, "it has class, jobs, options, queue, and needs"),
        ({**GOOD, "jobs": 0}, "jobs is 0, not a whole number above 0"),
        ({**GOOD, "options": {"cores": 4, "processes": 2}}, "cores is 4 and processes 2; they must be the same"),
        ({**GOOD, "options": {"memory": "8GB"}}, "cores is None and processes None"),
        pytest.param({**GOOD, "class": "Cloud"}, "class is 'Cloud'; known are .*SLURMCluster", marks=needs_dask),
        pytest.param(
            {**GOOD, "options": {**GOOD["options"], "quue": "x"}},  # type: ignore[dict-item]
            "SLURMCluster cannot be made so: .*quue",
            marks=needs_dask,
        ),
    ],
)
def test_a_wrong_cluster_file_is_named_with_what_is_wrong(tmp_path: Path, content: Any, told: str) -> None:
    from bench.cluster.connection import make_cluster, read_cluster_file

    path = tmp_path / "cluster.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(ValueError, match=rf"^--cluster .*cluster\.yml: .*{told}"):
        make_cluster(path, *read_cluster_file(path)[:2])


def set_up_here(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """What a worker does first, in this process; changed: facts of the driver that differ."""
    from bench.cluster import remote

    for name, value in remote.ONE_THREAD.items():
        monkeypatch.setenv(name, value)
    protocols = {"validity": changed.pop("protocol", manifests.as_json(FakeValidity().protocol()))}
    data = changed.pop("data", manifests.data_at_hand("perov5"))
    facts = {**remote.shared_facts(), **changed}
    setup = remote.ScoringSetup("t", facts, [FakeValidity()], protocols, "perov5", data)
    report = remote.set_up(pickle.dumps(setup))
    assert pickle.loads(report).device["kind"] == "cpu"


def test_a_worker_that_shares_all_of_it_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_here(monkeypatch)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"software": {"numpy": "1.0"}}, r'the installation, driver -> worker, .*software.numpy: "1.0" -> "'),
        ({"code": "abc"}, r'code: "abc" -> "[0-9a-f]{16}"'),
        ({"environment": {"OMP_NUM_THREADS": "4"}}, r'environment.OMP_NUM_THREADS: "4" -> "1".*with a nanny'),
        ({"data": {"train": "abc"}}, r'the data of perov5 at hand, .*train: "abc" -> .*BENCH_DATA_DIR'),
        ({"protocol": {"version": "2", "limits": [64.0]}}, r'the protocol, .*validity.version: "2" -> "1"'),
    ],
)
def test_a_worker_that_would_compute_something_else_says_the_difference(
    changed: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=told):
        set_up_here(monkeypatch, **changed)


@pytest.mark.usefixtures("fakes")
def test_the_manifest_says_where_a_session_computed(tmp_path: Path) -> None:
    from bench.budget import Budget
    from bench.store import Run

    run(Plan(parse_models("fake_generators:Fake"), "perov5", Budget(num_samples=3), device="cpu"), tmp_path / "r")
    assert Run.open(tmp_path / "r").manifest["sessions"][0]["executor"] == "local"
