"""What recording batches takes, beside sampling them with the quickest of our models at its own number of steps."""

from __future__ import annotations

import time
from pathlib import Path

from bench import model_specs
from bench.run_folder.shards import SHARD_CRYSTALS, SampleFolder

BATCH = 50


def test_recording_takes_less_than_a_hundredth_of_the_cpu_time_of_sampling(tmp_path: Path) -> None:
    [spec] = model_specs.parse_models("crysldm")
    generator = model_specs.build_generator(spec, "perov5", "cpu")
    generator.load("cpu")
    started = time.process_time()
    sampled = generator.sample(num_crystals=BATCH, seed=0)
    sampling = time.process_time() - started

    folder = SampleFolder(tmp_path, BATCH)
    folder.recover()
    batches = SHARD_CRYSTALS // BATCH
    cost = {"start_s": 0.0, "end_s": 1.0, "wall_s": 1.0, "network_evaluations": 1e4, "steps": 100, "counted": True}
    folder.append(sampled.filtered(), handed_over=BATCH, **cost)  # imports what it needs
    started = time.process_time()
    for _ in range(batches - 1):  # the last of them is merged with all the others
        folder.append(sampled.filtered(), handed_over=BATCH, **cost)
    recording = (time.process_time() - started) / (batches - 1)

    assert len(list(folder.samples.iterdir())) == 1
    assert recording < 0.01 * sampling, f"{recording:.4f} s of {sampling:.3f} s"
