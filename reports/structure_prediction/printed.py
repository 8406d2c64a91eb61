"""Match rates and RMSDs as papers printed them."""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "Jiao et al., Crystal structure prediction by joint equivariant diffusion (NeurIPS 2023), Table 1"


@dataclass(frozen=True)
class PrintedRow:
    """One printed pair. match_rate in percent, rmsd normalised; of all compositions of the data set's test split."""

    dataset: str
    method: str
    samples: int
    match_rate: str
    rmsd: str


PRINTED_ROWS = (
    PrintedRow("perov5", "DiffCSP", 1, "52.02", "0.0760"),
    PrintedRow("perov5", "DiffCSP", 20, "98.60", "0.0128"),
    PrintedRow("mp20", "DiffCSP", 1, "51.49", "0.0631"),
    PrintedRow("mp20", "DiffCSP", 20, "77.93", "0.0492"),
)
