"""Batches of an epoch, and the learning rate over a training."""

from dataclasses import replace

import pytest

from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.dense import pack
from models.presets import StageConfig
from models.training.stage import EpochBatches, Stage, rate_factor
from tests.tiny_training import NET, STAGE, crystals


def test_a_held_learning_rate_does_not_depend_on_the_number_of_epochs_before_it_falls():
    held = replace(STAGE, schedule="hold", warmup_steps=10)
    assert [rate_factor(held, step, 1000) for step in range(700)] == [
        rate_factor(held, step, 2000) for step in range(700)
    ]
    assert rate_factor(held, 1000, 1000) == pytest.approx(0.01)
    assert rate_factor(held, 850, 1000) == pytest.approx(0.505)
    assert rate_factor(held, 0, 1000) == pytest.approx(1 / 11)


def test_the_cosine_ends_at_a_hundredth():
    factors = [rate_factor(STAGE, step, 100) for step in (0, 50, 100)]
    assert factors == pytest.approx([1.0, 0.505, 0.01])


def test_every_crystal_is_in_one_batch_of_its_size():
    buckets = pack(crystals(0))
    for epoch in range(3):
        epoch_batches = EpochBatches(buckets, STAGE, seed=0, epoch=epoch)
        taken = {k: [] for k in range(len(buckets))}
        for k, part in epoch_batches.plan:
            assert len(part) <= STAGE.batch_size + 1
            taken[k].extend(part.tolist())
        assert all(sorted(taken[k]) == list(range(len(bucket))) for k, bucket in enumerate(buckets))


def test_batches_of_large_crystals_are_smaller():
    big = pack(crystals(0, sizes=(20,) * 16))
    stage = StageConfig("diffusion", epochs=1, batch_size=16, max_pairs=1600)
    assert max(len(part) for _, part in EpochBatches(big, stage, 0, 0).plan) == 4


def test_a_plateau_waits_thirty_epochs_however_often_they_are_validated():
    stage = replace(STAGE, schedule="plateau", validate_every=10)
    buckets = pack(crystals(0))
    module = Stage(DiffCSP(DiffCSPConfig(network=NET)), stage, buckets, buckets, 0, None)
    (schedule,) = module.configure_optimizers()[1]
    assert schedule["scheduler"].patience == 3


def test_an_epoch_goes_on_after_the_batches_that_were_taken():
    whole = [batch.atomic_numbers.tolist() for batch in EpochBatches(pack(crystals(0)), STAGE, seed=0, epoch=1)]
    begun, rest = (EpochBatches(pack(crystals(0)), STAGE, seed=0, epoch=1) for _ in range(2))
    first = next(iter(begun)).atomic_numbers.tolist()
    rest.load_state_dict(begun.state_dict())
    assert [first, *(batch.atomic_numbers.tolist() for batch in rest)] == whole
    assert [batch.atomic_numbers.tolist() for batch in rest] == whole  # and then from the start, as a validation
