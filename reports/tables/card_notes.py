"""What stands under a table about published models: what their cards say, with a dash for what they do not."""

from __future__ import annotations

from collections.abc import Sequence

from reports.run_results import ModelResult
from reports.tables.formats import DASH

NOT_RANKED = {"chosen": "a choice of its crystals, not ranked", "relaxed": "relaxed by its author, not ranked"}
SAID = ("device", "steps", "parameters", "trained_on", "reference", "licence", "source")


def card_notes(results: Sequence[ModelResult]) -> list[str]:
    """A line for each row: which crystals they are, and what its author says of the model."""
    lines = []
    for result in results:
        if result.card is not None:
            kind = NOT_RANKED.get(str(result.card.get("crystals")), "all crystals as the model made them")
            said = [f"{name.replace('_', ' ')} {result.card.get(name, DASH)}" for name in SAID]
            note = f" {str(result.card['note']).rstrip('.')}." if result.card.get("note") else ""
            lines.append(f"{result.method}, a published model: {kind}; {', '.join(said)}.{note}")
    return lines
