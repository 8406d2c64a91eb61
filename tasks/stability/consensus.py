"""What several potentials say together: a crystal is stable by all of them, or by more than half."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from bench.interfaces import flags, task_name
from bench.statistics import Metric, wilson
from tasks.novelty import novel_rate


def consensus(tables: Mapping[str, pa.Table], first: str) -> dict[str, Metric]:
    """The share of crystals that are stable by every potential, and with three or more, by more than half of them.

    first: the name of the first potential's table; those of the others begin with it. Empty where it is alone. A
    crystal on which a potential has no verdict (an element that its hull lacks) is not stable by that one. With the
    table of `novelty` the share that is unique and novel, too.
    """
    names = [name for name in tables if name == first or name.startswith(task_name(first, ""))]
    if len(names) < 2:
        return {}
    verdicts = np.array([flags(tables[name]["stable"]) for name in names])  # (potentials, n)
    votes, n = verdicts.sum(axis=0), verdicts.shape[1]
    found = {"stable_by_all_rate": wilson(int((votes == len(names)).sum()), n)}
    if len(names) > 2:
        found["stable_by_majority_rate"] = wilson(int((2 * votes > len(names)).sum()), n)
    if "novelty" in tables:
        unique = flags(tables["novelty"]["unique"])
        found["sun_by_all_rate"] = novel_rate(tables["novelty"], (votes == len(names)) & unique)
    return found
