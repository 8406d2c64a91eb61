"""Calibrated stability: the fit, what its interval covers, and when there is none."""

import json
from importlib import resources

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from bench.statistics import Metric
from tasks.cost import costs_per_calibrated
from tasks.stability import task
from tasks.stability.calibration import Calibration, NoCalibration, find_calibration, measured_error, stable_rate
from tasks.stability.calibration.logistic import fit, probabilities, spread_between
from tasks.stability.potentials import potential_protocol
from tasks.stability.task import Stability

TRUE = np.array([0.8, -33.0])


def features(above):
    return np.column_stack([np.ones(len(above)), above])


def drawn(rng, n):
    """Energies above hull like those of generated crystals, and DFT's verdicts."""
    above = rng.normal(0.12, 0.12, n)
    return above, rng.random(n) < expit(features(above) @ TRUE)


def calibration(coefficients=TRUE, covariance=None, outside_sd=1.0, elements=("Na", "Cl"), kinds=("halides",)):
    covariance = np.zeros((2, 2)) if covariance is None else covariance
    return Calibration(coefficients, covariance, frozenset(elements), frozenset(kinds), outside_sd, {}, "of a file")


def test_the_fit_is_that_of_greatest_likelihood_with_the_covariance_of_the_curvature_there():
    above, labels = drawn(np.random.default_rng(0), 300)
    coefficients, covariance = fit(features(above), labels)

    def loss(w):
        logits = features(above) @ w
        return np.logaddexp(0, logits).sum() - logits[labels].sum()

    best = minimize(
        loss, coefficients + np.array([0.3, 3.0]), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}
    )
    np.testing.assert_allclose(coefficients, best.x, rtol=1e-4)
    step = np.array([1e-3, 1e-2])
    curvature = [
        (loss(coefficients + step * e) - 2 * loss(coefficients) + loss(coefficients - step * e)) / (step @ e) ** 2
        for e in np.eye(2)
    ]
    np.testing.assert_allclose(np.diag(np.linalg.inv(covariance)), curvature, rtol=1e-3)
    assert probabilities(features(above), coefficients).mean() == pytest.approx(labels.mean(), abs=1e-9)


@pytest.mark.parametrize("labels", [[True] * 6, [False] * 6, [True, True, True, False, False, False]])
def test_labels_without_an_exception_are_not_fitted(labels):
    with pytest.raises(ValueError, match="nothing to fit|without an exception"):
        fit(features(np.linspace(0, 0.5, 6)), np.array(labels))


def test_kinds_that_differ_only_by_chance_have_no_spread_and_others_have():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(6.0), 400)
    expected = expit(rng.normal(0, 1, len(groups)))
    assert spread_between(groups, rng.random(len(groups)) < expected, expected) < 0.25
    offsets = np.array([-2, -1, 0, 0, 1, 2.0])[groups.astype(int)]
    shifted = expit(np.log(expected / (1 - expected)) + offsets)
    assert spread_between(groups, rng.random(len(groups)) < shifted, expected) > 0.7


def test_the_interval_covers_dfts_rate_on_crystals_that_the_fit_has_not_seen():
    rng, covered, widths, values = np.random.default_rng(2), 0, [], []
    trials, n = 200, 104
    for trial in range(trials):
        own = calibration(*fit(*(lambda above, labels: (features(above), labels))(*drawn(rng, 104))))
        above, labels = drawn(rng, n)
        metric = stable_rate(own, above, ["NaCl"] * n, n, trial)
        covered += metric.low <= labels.mean() <= metric.high
        widths.append(metric.high - metric.low)
        values.append(metric.value - labels.mean())
    assert covered / trials >= 0.95
    assert np.mean(widths) < 0.25
    assert abs(np.mean(values)) < 0.01


def test_without_error_of_the_fit_the_interval_is_that_of_the_sample():
    above = np.full(1000, 0.8 / 33)  # P = 1/2
    metric = stable_rate(calibration(), above, ["NaCl"] * 1000, 1000, 0)
    assert metric.value == pytest.approx(0.5)
    assert metric.high - metric.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(1000), rel=0.1)


@pytest.mark.parametrize("formula", ["NaBr", "NaO"])  # an element, and a kind of chemistry, that were not there
def test_chemistry_that_was_not_fitted_widens_the_interval_and_moves_no_rate(formula):
    own, above = calibration(elements=("Na", "Cl", "O")), np.full(1000, 0.03)
    known = stable_rate(own, above, ["NaCl"] * 1000, 1000, 0)
    unknown = stable_rate(own, above, [formula] * 1000, 1000, 0)
    assert unknown.value == known.value
    assert unknown.high - unknown.low > 3 * (known.high - known.low)


def test_crystals_that_were_not_relaxed_count_as_not_stable():
    above = np.full(10, -1.0)
    metric = stable_rate(calibration(), above, ["NaCl"] * 10, 20, 0)
    assert metric.value == pytest.approx(0.5, abs=1e-6)
    assert stable_rate(calibration(), np.zeros(0), [], 0, 0).value is None
    assert stable_rate(calibration(), np.zeros(0), [], 20, 0).value == 0.0


def table(**columns):
    plain = {
        "formula": ["NaCl", "MgO", "NaCl", "NaCl"],
        "e_above_hull": [0.0, 0.01, 0.3, None],
        "stable": [True, False, False, False],
        "converged": [True, False, True, False],
    }
    return pa.table({**plain, **columns})


@pytest.fixture
def calibrated(monkeypatch):
    monkeypatch.setattr(task, "_find_calibration", lambda label, about: calibration())
    return Stability()


def test_the_summary_has_the_raw_rate_and_the_calibrated_one_side_by_side(calibrated):
    tables = {
        "stability": table(stable_probability=[0.7, 0.0, 0.0, None]),
        "novelty": pa.table({"unique": [True] * 4, "novel": [True, True, None, False]}),
    }
    metrics = calibrated.summary(tables, None, 0)
    assert metrics["stable_rate"].value == 0.25
    expected = expit([0.8, 0.8 - 9.9]).sum() / 4
    assert metrics["stable_rate_calibrated"].value == pytest.approx(expected)
    assert metrics["stable_rate_calibrated"].n == 4
    assert metrics["sun_rate_calibrated"].value is None  # it is not known of the third whether it is novel
    assert metrics["sun_rate_calibrated"].low <= expit(0.8) / 4


def test_stored_tables_without_probabilities_have_the_raw_rate_alone(calibrated):
    metrics = calibrated.summary({"stability": table()}, None, 0)
    assert "stable_rate" in metrics
    assert "stable_rate_calibrated" not in metrics


def test_a_chain_without_a_calibration_has_none_and_says_why(monkeypatch):
    def none(label, about):
        raise NoCalibration(f"{label} was not calibrated against DFT")

    monkeypatch.setattr(task, "_find_calibration", none)
    stability = Stability("chgnet")
    assert stability.about()["calibration"] == {"absent": "chgnet was not calibrated against DFT"}
    assert stability.protocol()["calibration"] is None
    assert "stable_rate_calibrated" not in stability.summary({"stability": table()}, None, 0)


def test_a_calibration_holds_only_for_what_it_was_fitted_with():
    about = Stability("chgnet")._measured_by()
    own = find_calibration("chgnet", about)
    assert own.card["fitted_on"]["crystals"] == 104
    assert own.coefficients[1] < 0
    upgraded = {**about, "potential": {**about["potential"], "package": "chgnet 9"}}
    assert find_calibration("chgnet", upgraded).sha256 == own.sha256
    for what, other in (
        ("hull", {**about["hull"], "sha256": "other"}),
        ("potential", {**about["potential"], "sha256": "other"}),
        ("relaxation", {**about["relaxation"], "fmax": 0.5}),
        ("screen", {"above_ev_per_atom": 0.1, "hulls": []}),
        ("relaxation after the first", about["relaxation"]),
    ):
        with pytest.raises(NoCalibration, match=f"fitted with another {what} than"):
            find_calibration("chgnet", {**about, what.replace(" ", "_"): other})
    with pytest.raises(NoCalibration, match="gnome was not calibrated"):
        find_calibration("gnome", about)


@pytest.mark.parametrize("name", ["chgnet", "m3gnet", "chgnet+sevennet-l3i5"])
def test_a_shipped_calibration_is_of_the_shipped_hull_and_knows_which_chemistry_it_has_not_seen(name):
    folder = resources.files("tasks.stability") / "reference"
    own = Calibration.of((folder / f"{name}.calibration.json").read_bytes())
    hull = json.loads((folder / f"{name.split('+')[-1]}.json").read_text())
    assert own.card["fitted_with"]["hull"]["sha256"] == hull["sha256"]
    potential = own.card["fitted_with"]["potential"]
    assert potential.get("chain", [potential])[-1]["sha256"] == hull["potential"]["sha256"]
    assert (np.linalg.eigvalsh(own.covariance) > 0).all()
    assert own.card["line_ev_per_atom"] == task.STABLE_BELOW
    assert own.is_outside(["He", "Be2O", "NaCl"]).tolist() == [True, True, False]


def test_the_error_of_a_chain_is_the_one_measured_on_generated_crystals():
    chgnet = potential_protocol("chgnet")
    error = measured_error("chgnet", {**chgnet, "package": "another version"})
    assert error["measured_on"] == "generated crystals"
    assert error["crystals"] == error["agree"]["n"] == 104
    assert error["hull"] is not None


def test_other_weights_of_a_name_have_no_measured_error():
    assert measured_error("chgnet", {**potential_protocol("chgnet"), "sha256": "another"}) is None
    assert measured_error("gnome", {"name": "gnome"}) is None


def test_costs_of_what_dft_would_call_stable_have_the_rates_interval():
    batches = pa.table(
        {
            "start_s": [0.0, 5.0],
            "end_s": [5.0, 10.0],
            "network_evaluations": [500, 500],
            "steps": [10, 10],
            "num_crystals": [50, 50],
            "counted": [True, True],
        }
    )
    found = costs_per_calibrated(batches, Metric(0.2, 0.1, 0.4, 100), scoring_seconds=30.0)
    assert found["seconds_per_stable_calibrated"] == Metric(0.5, 0.25, 1.0, 100)
    assert found["seconds_per_stable_end_to_end_calibrated"].value == pytest.approx(2.0)
    assert found["steps_per_stable_calibrated"].value == pytest.approx(10 / (0.2 * 1000))
    assert costs_per_calibrated(batches, Metric(0.0, 0.0, 0.4, 100))["seconds_per_stable_calibrated"].value is None
