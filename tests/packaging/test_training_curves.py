"""docs/figures/training-*.png: drawn from the stored logs, epochs counted on from part to part."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

import training_curves


def test_the_second_part_of_a_training_goes_on_where_the_first_ended() -> None:
    log = training_curves.read_parts(training_curves.LOGS / "diffcsp-mp20")
    epochs = log.dropna(subset="train_type")["epoch"].tolist()
    assert epochs == list(range(1, len(epochs) + 1))


def test_each_data_set_with_logs_has_its_figure(tmp_path: Path) -> None:
    datasets = {folder.name.rsplit("-", 1)[1] for folder in training_curves.LOGS.iterdir()}
    assert datasets
    for dataset in datasets:
        assert training_curves.draw(dataset, tmp_path).stat().st_size > 10_000
        assert (training_curves.FIGURES / f"training-{dataset}.png").is_file()
