"""One model's crystals: drawn batch by batch, each timed by the device clock, and recorded at once and in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.budget import PAPER_NUM_SAMPLES, BatchPlanner, Budget
from bench.progress import format_seconds, progress, say
from bench.run_folder.shards import SampleFolder
from bench.sampling.sources import PreparationCost, Request, Source
from bench.sampling.usage import figures
from bench.store import read_state, write_state


@dataclass(frozen=True)
class Sampling:
    """How one model is sampled. batch_size: the largest; a budget of seconds may choose a smaller one.

    score: scores a batch of a folder, by its number, and gives the seconds; None unless the budget covers it.
    announce_cost: say after the first batch what this and the paper's number will take. disturbed: told of batches
    that were not alone on the machine. alone: no other model is sampled at the same time, so a bar may be drawn.
    """

    name: str
    budget: Budget
    batch_size: int
    score: Callable[[SampleFolder, int], float] | None = None
    announce_cost: bool = False
    disturbed: Callable[[str], None] = lambda what: None
    alone: bool = True


def in_batches(how: Sampling, folders: list[SampleFolder], open_source: Callable[[], Source]) -> Iterator[None]:
    """Fills the folders, one per repeat, from where they stand, as it is iterated over; a step ends with each batch.

    A folder that is complete costs its check only.

    open_source is called where something is missing.
    """
    source: Source | None = None
    prepared = PreparationCost()
    try:
        for repeat, folder in enumerate(folders):
            missing, state = folder.recover(), read_state(folder.path)
            sampled = state["sampled"] and not folder.was_cut
            if sampled and not missing:
                continue
            if source is not None and source.single_use:
                source.close()
                source = None
            if source is None:
                source = open_source()
                prepared = source.prepare()
                if prepared.compile_seconds is not None:
                    say(f"{how.name}: compiled in {format_seconds(prepared.compile_seconds)}, which count as loading")
            state |= prepared.state()
            write_state(folder.path, state)
            _repair(how.name, folder, source, repeat, missing)
            if not sampled:
                chosen = folders[0].batches[0].num_crystals if folders[0].batches else None
                yield from _sample_rest(how, folder, source, repeat, prepared, chosen)
            folder.write_batch_table()
            write_state(folder.path, {**read_state(folder.path), "sampled": True})  # scoring may have added its seconds
    finally:
        if source is not None:
            source.close()


def _repair(name: str, folder: SampleFolder, source: Source, repeat: int, missing: list[int]) -> None:
    """Samples batches again whose crystals a kill or a damaged file took. Their cost was recorded; it stays."""
    requests = [Request(repeat, n, folder.first_rows[n], folder.batches[n].num_crystals) for n in missing]
    for number, drawn in zip(missing, source.draws(requests, ahead=True), strict=True):
        if not folder.restore(number, drawn.filtered):
            say(f"{name}: batch {number} sampled again gave other crystals; the model or device is not deterministic")
    if missing:
        say(f"{name}: sampled {len(missing)} of {len(folder.batches)} batches again, their crystals were missing")


def _of_file(how: Sampling, holds: int) -> int:
    """How many of a file's crystals count: the first of them where a smaller number was asked for, else all."""
    asked = how.budget.num_samples
    if asked is None or how.announce_cost or asked >= holds:
        return holds
    say(f"{how.name}: the first {asked} of the {holds} crystals of its file, as --num-samples says")
    return asked


def _sample_rest(
    how: Sampling, folder: SampleFolder, source: Source, repeat: int, prepared: PreparationCost, chosen: int | None
) -> Iterator[None]:
    """Samples until the budget is spent, a batch each step.

    chosen: size of the batches so far, None where nothing was sampled yet.
    """
    budget = how.budget if source.holds is None else Budget(num_samples=_of_file(how, source.holds))
    planner = BatchPlanner(budget, how.batch_size)
    for size, seconds in dict(prepared.warmup).items():  # of two batches of a size, the second: the first woke it up
        planner.measured(size, seconds)
    if budget.seconds is not None and not budget.covers_scoring:
        if chosen is None:
            planner.calibrate()
        else:
            planner.batch_size = chosen
    to_announce = how.announce_cost and source.timed and not folder.batches and repeat == 0
    score = how.score if budget.covers_scoring else None
    if score is not None and folder.batches and folder.batches[-1].scoring_s is None:
        _settle(folder, planner, score)
    for batch in folder.batches:
        if batch.start_s is not None and batch.end_s is not None:
            planner.measured(batch.num_crystals, batch.end_s - batch.start_s, batch.scoring_s)
    by_number = budget.seconds is None

    def spent_s() -> float:
        return 0.0 if by_number else folder.spent_s  # a sum over all batches, which a number of crystals needs not

    total, done = budget.num_samples if by_number else budget.seconds, folder.first_rows[-1]
    label = f"{how.name}: {'sampling' if source.timed else 'storing'}" + (f", repeat {repeat}" if repeat else "")
    unit = "crystals" if by_number else "s of device time"
    recorded = time.perf_counter()
    with progress(label, total or 0, unit, done if by_number else spent_s(), bar=how.alone) as advance:
        for drawn in source.draws(_requests(planner, folder, repeat, spent_s), ahead=by_number):
            spent, size = drawn.seconds, drawn.filtered.requested
            start_s = (folder.batches[-1].end_s or 0.0) if folder.batches else 0.0  # still between batches
            end_s = None if spent is None else start_s + spent
            wall_s, recorded = time.perf_counter() - recorded, time.perf_counter()
            folder.append(
                drawn.filtered,
                start_s=None if spent is None else start_s,
                end_s=end_s,
                handed_over=drawn.handed_over,
                network_evaluations=drawn.network_evaluations,
                steps=drawn.steps,
                counted=planner.counts(spent_s() + (spent or 0.0)),
                wall_s=wall_s,
                **figures(drawn.usage),
            )
            if drawn.usage is not None and drawn.usage.disturbed:
                how.disturbed(f"{how.name}, batch {len(folder.batches) - 1}: {drawn.usage}")
            if score is not None:
                _settle(folder, planner, score)
            batch = folder.batches[-1]
            recorded += batch.scoring_s or 0.0
            planner.measured(size, spent or 0.0, batch.scoring_s)
            if to_announce:
                to_announce = False
                _announce(how.name, budget, planner.batch_size, size, spent or 0.0)
            advance(size if by_number else (spent or 0.0) + (batch.scoring_s or 0.0), size)
            if not batch.counted:
                break
            left = time.perf_counter()
            yield
            recorded += time.perf_counter() - left
    if not folder.counted:
        say(f"{how.name}: no batch ended within {budget}, so nothing counts")


def _announce(name: str, budget: Budget, batch_size: int, size: int, seconds: float) -> None:
    """Says what this number of crystals and the paper's will take by the first batch, where that is worth a word."""
    if budget.num_samples is None:
        return
    planner = BatchPlanner(budget, batch_size)
    planner.measured(size, seconds)
    own, paper = planner.predicted(budget.num_samples), planner.predicted(PAPER_NUM_SAMPLES)
    if paper > 1:
        say(
            f"{name}: {budget} will take about {format_seconds(own)} of device time, the paper's "
            f"{PAPER_NUM_SAMPLES} about {format_seconds(paper)} (estimated from the first batch)"
        )


def _requests(
    planner: BatchPlanner, folder: SampleFolder, repeat: int, spent_s: Callable[[], float]
) -> Iterator[Request]:
    """What is still to be drawn: by a number of crystals known at once, by seconds only after the batch before."""
    number, row = len(folder.batches), folder.first_rows[-1]
    while size := planner.next_size(row, spent_s()):
        yield Request(repeat, number, row, size)
        number, row = number + 1, row + size


def _settle(folder: SampleFolder, planner: BatchPlanner, score: Callable[[SampleFolder, int], float]) -> None:
    """Scores the last batch, if it was sampled in time, and records whether it ended, with that, within the budget."""
    number = len(folder.batches) - 1
    scoring_s = score(folder, number) if folder.batches[number].counted else 0.0
    folder.settle(number, scoring_s, planner.counts(folder.spent_s + scoring_s))
