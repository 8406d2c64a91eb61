"""Table 1 of the CrysLDM paper as it was printed."""

from __future__ import annotations

from dataclasses import dataclass

from bench.statistics import Metric, cost_per_hit, wilson

PAPER = (
    "Khastagir, Das, Goyal, Lee, Bhattacharjee and Ganguly, "
    "CrysLDM: latent diffusion model for crystal material generation, Table 1"
)
STABILITY_SAMPLES = 1000  # section 5: "we first sample 1000 materials"; no other sample size is stated


@dataclass(frozen=True)
class PrintedRow:
    """One row as printed: validity and stability rates in percent, EMD of density in g/cm3."""

    dataset: str
    method: str
    steps: str
    valid_composition: str
    valid_structure: str
    emd_num_elements: str
    emd_density: str
    stable_rate: str
    steps_per_stable: str

    @property
    def _stable(self) -> int:
        return round(float(self.stable_rate) / 100 * STABILITY_SAMPLES)

    @property
    def stable_rate_metric(self) -> Metric:
        """The stability rate as a fraction, with the 95 % interval of that many among 1000; computed here."""
        return wilson(self._stable, STABILITY_SAMPLES)

    @property
    def steps_per_stable_metric(self) -> Metric:
        """Steps of one crystal / stable ones among 1000, with the interval that the rate's implies; computed here."""
        return cost_per_hit(float(self.steps), self._stable, STABILITY_SAMPLES)


PRINTED_ROWS = (
    PrintedRow("perov5", "CDVAE", "5000", "98.59", "100", "0.0264", "0.1258", "2.5", "200"),
    PrintedRow("perov5", "DiffCSP", "1000", "98.85", "100", "0.0263", "0.111", "1.5", "66.67"),
    PrintedRow("perov5", "CrysLDM", "100", "97.81", "100", "0.045", "1.21", "1.6", "6.25"),
    PrintedRow("mp20", "CDVAE", "5000", "86.7", "100", "0.2778", "0.6875", "33.2", "15.06"),
    PrintedRow("mp20", "DiffCSP", "1000", "83.25", "100", "0.1247", "0.3502", "47.6", "2.1"),
    PrintedRow("mp20", "CrysLDM", "100", "83.02", "99.87", "0.5149", "0.3115", "30.3", "0.33"),
)
