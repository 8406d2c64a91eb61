"""Whether the machine was free while a batch was timed."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fake_generators
import pytest
from machine_load import busy_processes

from bench.budget import Budget
from bench.model_specs import parse_models
from bench.runner import Plan, run
from bench.sampling.energy import Rapl, energy_counter
from bench.sampling.usage import Meter, Reading, Usage, read_counters
from bench.store import Run

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what others use")


def metered(readings: Sequence[Reading], threads: int = 1) -> Usage:
    """What a meter says of the time from the first of these readings to the last."""
    counters: Callable[[], Reading] = functools.partial(next, iter(readings))
    meter = Meter(threads=threads, read=counters, cores=2)
    meter.start()
    return meter.stop()


def at(wall_s: float, cpu_s: float, busy_s: float, steal_s: float = 0.0, waits: float | None = 0.0) -> Reading:
    return Reading(wall_s, cpu_s, cpu_s, busy_s, steal_s, None if waits is None else {1: 0.0, 2: waits})


def test_a_batch_alone_on_the_machine_is_undisturbed() -> None:
    found = metered([at(10, 5, 100), at(20, 14.9, 110)])
    assert found.cpu_s == pytest.approx(9.9)
    assert (found.waited_share, found.others_share) == (0.0, pytest.approx(0.005))
    assert found.disturbed is False


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (at(20, 14.8, 113), "others used 16 % of the machine's cores"),
        (at(20, 14.8, 110, steal_s=3.0), "others used 16 % of the machine's cores"),
        (at(20, 14.9, 110, waits=2.0), "waited 20 % of its time for a core"),
    ],
    ids=["other processes", "the hypervisor", "one thread that waited"],
)
def test_a_batch_is_disturbed_by_what_others_use_or_by_waiting(end: Reading, why: str) -> None:
    found = metered([at(10, 5, 100), end], threads=2)
    assert found.disturbed is True
    assert str(found) == why


def test_where_waits_are_not_told_the_missing_time_of_a_single_thread_is_one() -> None:
    readings = [at(10, 5, 100, waits=None), at(20, 13, 108, waits=None)]
    assert metered(readings).waited_share == pytest.approx(0.2)
    assert metered(readings, threads=2).waited_share is None  # threads that wait for each other are no sign


def test_of_a_time_too_short_to_count_in_nothing_is_told() -> None:
    assert metered([at(10, 5, 100), at(10.1, 5.1, 101)]).disturbed is None


def test_a_short_batch_is_judged_by_the_half_second_until_its_end_unless_there_was_a_pause() -> None:
    ends = [at(10 + 0.05 * step, 0.05 * step, 0.1 * step) for step in range(12)]
    meter = Meter(read=functools.partial(next, iter([*ends, at(11, 0.6, 5), at(11.05, 0.65, 5.05)])), cores=2)
    for _ in range(6):
        meter.start()
        found = meter.stop()
    assert found.others_share == pytest.approx(0.5)
    meter.start()
    assert meter.stop().others_share is None


def test_a_machine_that_tells_nothing_disturbs_nothing() -> None:
    found = metered([Reading(0.0, 0.0, 0.0), Reading(9.0, 1.0, 1.0)], threads=2)
    assert found.cpu_s == 1.0
    assert found.waited_share is found.others_share is found.disturbed is None


class Spinning(fake_generators.Fake):
    """Computes for a while before it gives crystals."""

    name = "spinning"

    def sample(self, num_crystals: int, seed: int) -> fake_generators.SampleBatch:
        end = time.perf_counter() + 0.4
        while time.perf_counter() < end:
            pass
        return super().sample(num_crystals=num_crystals, seed=seed)


def sampled(root: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(fake_generators, "Fake", Spinning)
    models = parse_models("fake_generators:Fake")
    run(Plan(models, "perov5", Budget(num_samples=15), ("validity",), workers=1, device="cpu", threads=1), root)
    return Run.open(root)


@linux
@pytest.mark.usefixtures("fakes")
def test_a_run_beside_other_work_says_so_once_and_its_seconds_are_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with busy_processes():
        found = sampled(tmp_path / "r", monkeypatch)
    assert capsys.readouterr().err.count("the machine is busy: times will not count (spinning, batch 0: ") == 1
    batches = found.batches("spinning")
    assert batches["disturbed"].to_pylist() == [True] * 3
    assert found.summary()["models"]["spinning"]["metrics"]["undisturbed_share"]["value"] == 0.0


@linux
@pytest.mark.usefixtures("fakes")
def test_a_run_on_a_free_machine_is_undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def counters() -> Reading:  # the real machine may well be busy: others are left out, and so are waits
        real = read_counters()
        return Reading(real.wall_s, real.cpu_s, real.family_s, real.family_s, 0.0, {1: 0.0})

    monkeypatch.setattr(Meter, "of", lambda device, threads: Meter(device, threads, read=counters))
    metrics = sampled(tmp_path / "r", monkeypatch).summary()["models"]["spinning"]["metrics"]
    assert metrics["undisturbed_share"]["value"] == 1.0


@linux
def test_the_counters_see_the_work_of_others_and_leave_out_that_of_our_own_children() -> None:
    import subprocess

    spin = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    before = read_counters()
    subprocess.run([sys.executable, "-c", spin], check=True)
    after = read_counters()
    assert after.family_s - before.family_s > 0.35
    assert after.cpu_s - before.cpu_s < 0.3
    assert after.busy_s is not None
    assert before.busy_s is not None
    assert after.busy_s - before.busy_s > 0.3


def test_joules_of_a_processor_are_those_of_all_its_packages_and_go_on_when_a_counter_runs_over(tmp_path: Path) -> None:
    zones = [tmp_path / f"intel-rapl:{n}" for n in range(2)]
    for zone in (*zones, tmp_path / "intel-rapl:0:0"):
        zone.mkdir()
        (zone / "max_energy_range_uj").write_text("10000000")
        (zone / "energy_uj").write_text("9000000")
    counter = Rapl(zones)
    (zones[0] / "energy_uj").write_text("500000")
    (zones[1] / "energy_uj").write_text("9250000")
    assert counter.joules() == pytest.approx(1.5 + 0.25)


def test_without_a_counter_of_energy_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.sampling.energy.POWERCAP", tmp_path)
    counter, reason = energy_counter("cpu")
    assert counter is None
    assert reason.startswith("the processor's energy counter (RAPL) is not there")
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("10000000")
    assert "cannot be read" in energy_counter("cpu")[1]
    assert energy_counter("cuda", (None, "NVML: no driver")) == (None, "NVML: no driver")
