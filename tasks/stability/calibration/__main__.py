"""`python -m tasks.stability.calibration`: fits a chain's calibration, or checks a stored one on other crystals."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.atomic import write_json
from tasks.stability.calibration.fitting import LabelledFile, calibrate, check, compare, raw_quality
from tasks.stability.calibration.probability import NoCalibration
from tasks.stability.chain import chain_label
from tasks.stability.task import Stability


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes <chain>.calibration.json into --out, or with --check prints figures of the package's own."""
    parser = argparse.ArgumentParser(prog="python -m tasks.stability.calibration", description=__doc__)
    parser.add_argument("--potential", required=True, help="a potential or a chain, such as chgnet+sevennet-l3i5")
    parser.add_argument("--labelled", required=True, type=Path, help="CSV of crystals with DFT's energy above hull")
    parser.add_argument("--cache", required=True, type=Path, help="folder where relaxations are kept")
    parser.add_argument("--out", type=Path, default=Path("tasks/stability/reference"), help="folder of the JSON file")
    parser.add_argument("--check", action="store_true", help="try the stored calibration on these crystals instead")
    options = parser.parse_args(arguments)
    try:
        labelled = LabelledFile.read(options.labelled)
        compared = compare(options.potential, labelled, options.cache)
        if options.check:
            card = Stability(options.potential).calibration().card
            figures = {"raw": raw_quality(compared), "calibrated": check(card, compared)}
            sys.stdout.write(json.dumps(figures, indent=1) + "\n")
            return 0
        card = calibrate(options.potential, labelled, compared)
    except (NoCalibration, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    file = options.out / f"{chain_label(options.potential)}.calibration.json"
    write_json(file, card)
    sys.stdout.write(f"{file}: {json.dumps(card['calibrated_leave_one_out'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
