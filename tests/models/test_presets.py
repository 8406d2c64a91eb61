"""Presets: the published sizes, and one small network for both diffusion models."""

from dataclasses import replace

import pytest

from models.presets import preset


@pytest.mark.parametrize(("names", "message"), [(("gan", "perov5", "cpu"), "crysldm, diffcsp, .*cdvae"),
                                                (("crysldm", "carbon", "cpu"), "perov5, mp20"),
                                                (("crysldm", "perov5", "huge"), "cpu, cpu-weak, paper")])  # fmt: skip
def test_unknown_presets_list_the_known_ones(names, message):
    with pytest.raises(ValueError, match=message):
        preset(*names)


def test_paper_preset_has_the_published_sizes():
    config = preset("diffcsp", "perov5", "paper").config
    assert (config.network.hidden_dim, config.network.num_layers, config.network.num_frequencies) == (512, 6, 128)
    assert (config.num_steps, config.sampler.step_lr, config.loss_weights) == (1000, 1e-6, (1.0, 1.0, 20.0))
    assert preset("diffcsp", "mp20", "paper").config.sampler.step_lr == 5e-6
    assert preset("crysldm", "perov5", "paper").config.num_steps == 100


def test_cdvae_has_the_published_sizes_noise_and_optimiser():
    chosen = preset("cdvae", "perov5", "paper")
    config, stage = chosen.config, chosen.stages[0]
    assert (config.latent_dim, config.decoder.hidden_dim, config.decoder.num_blocks) == (256, 128, 3)
    assert (config.encoder.hidden_channels, config.encoder.num_blocks) == (128, 4)
    assert (config.num_levels, config.num_steps, config.kl_weight, config.teacher_forcing) == (50, 5000, 0.01, 0.5)
    assert (config.sigma_range, config.type_sigma_range) == ((10.0, 0.01), (5.0, 0.01))
    assert (stage.batch_size, stage.epochs, stage.learning_rate, stage.schedule) == (512, 3000, 1e-3, "plateau")
    assert (stage.clip_algorithm, stage.clip, stage.precision) == ("value", 0.5, "32-true")
    assert preset("cdvae", "mp20", "paper").stages[0].batch_size == 256


def test_both_cpu_presets_share_the_network():
    latent, features = (preset(model, "perov5", "cpu").config.network for model in ("crysldm", "diffcsp"))
    assert replace(latent, node_dim=features.node_dim) == features
