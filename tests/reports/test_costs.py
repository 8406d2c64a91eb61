"""`bench report --costs`: what crystals took of time, memory and energy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.statistics import Metric
from reports.tables.costs import render

MakeRun = Callable[..., Path]


def with_costs(folder: Path, model: str, energy: str = "", **metrics: Metric) -> Path:
    """A run whose summary has these metrics of a model too, and whose state says that of energy."""
    summary = json.loads((folder / "summary.json").read_text())
    summary["models"][model]["metrics"] |= {name: metric.to_json() for name, metric in metrics.items()}
    (folder / "summary.json").write_text(json.dumps(summary))
    state = {"load_seconds": 0.0, "warmup_seconds": 0.0, "sampled": True, "scoring_seconds": {}}
    (folder / model).mkdir()
    (folder / model / "state.json").write_text(json.dumps({**state, "energy": energy} if energy else state))
    return folder


def row(text: str, title: str) -> str:
    [line] = [line for line in text.splitlines() if line.lstrip("| ").startswith(title)]
    return " ".join(line.replace("|", " ").split()).removeprefix(title).strip()


def test_memory_and_energy_stand_beside_time_and_for_each_stable_crystal(make_run: MakeRun) -> None:
    folder = with_costs(
        make_run({"crysldm": {"stable": 100}}),
        "crysldm",
        "NVML, the GPU alone",
        peak_memory_bytes=Metric(3 * 2**30, n=20),
        energy_wh=Metric(2.5, n=20),
        energy_wh_per_stable=Metric(0.025, 0.02, 0.03, 1000),
    )
    text = render([folder])
    assert row(text, "device seconds / crystal") == "0.0400 [0.0388, 0.0412]"
    assert row(text, "peak memory of the process, GiB") == "3.00"
    assert row(text, "energy / stable crystal, Wh") == "0.0250 [0.0200, 0.0300]"
    number = row(text, "energy of sampling, Wh").removeprefix("2.50 ")
    assert f"{number} NVML, the GPU alone" in text.splitlines()


@pytest.mark.parametrize("format", ["text", "markdown", "latex"])
def test_where_energy_is_not_known_a_dash_has_the_reason(make_run: MakeRun, format: str) -> None:
    reason = "the processor's energy counter (RAPL) is not there: no /sys/class/powercap/intel-rapl:0"
    text = render([with_costs(make_run({"crysldm": {}}), "crysldm", reason, energy_wh=Metric(None))], format)  # type: ignore[arg-type]
    assert reason in text
    assert "stability was not scored in this run" in text
    assert "sampled on a CPU" in text


def test_a_run_of_an_earlier_version_has_dashes(make_run: MakeRun) -> None:
    text = render([with_costs(make_run({"crysldm": {}}), "crysldm")])
    assert row(text, "undisturbed, % of the seconds").startswith("–")
    assert "energy was not looked for in this run" in text


def test_csv_has_the_metrics_as_they_are(make_run: MakeRun) -> None:
    folder = with_costs(make_run({"crysldm": {}}), "crysldm", energy_wh=Metric(2.5, n=20))
    header, values = render([folder], "csv").splitlines()
    assert dict(zip(header.split(","), values.split(","), strict=True))["energy_wh"] == "2.5"
