"""CDVAE as a generator of the harness."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from bench.datasets import canonical_name
from bench.interfaces import SampleBatch
from models.baselines.cdvae.autoencoder import CDVAE, CDVAEConfig
from models.baselines.cdvae.encoder import EncoderConfig
from models.baselines.cdvae.gemnet import ActivationScales, GemNetConfig
from models.baselines.cdvae.langevin import LangevinSettings
from models.baselines.cdvae.official import from_official, published_checkpoint
from models.sampling import StepCallback
from models.weights import find_weights, load_into, read_card, read_weights, require_trained_for


def config_from_card(values: dict[str, Any]) -> CDVAEConfig:
    """The configuration written in a weights card."""
    decoder = dict(values["decoder"])
    scales = ActivationScales(**{name: tuple(numbers) for name, numbers in decoder.pop("scales").items()})
    tuples = {name: tuple(values[name]) for name in ("sigma_range", "type_sigma_range", "loss_weights")}
    return CDVAEConfig(
        **{
            **values,
            **tuples,
            "encoder": EncoderConfig(**values["encoder"]),
            "decoder": GemNetConfig(**decoder, scales=scales),
            "sampler": LangevinSettings(**values["sampler"]),
        }
    )


class CDVAEGenerator:
    """A trained CDVAE as a `bench.interfaces.Generator`; it decides itself how many atoms a crystal has.

    steps: Langevin steps in all, shared evenly among the noise levels; the weights' own number when None. Any number
    will do: more are more at each level. weights: a file, a published checkpoint folder (`official.from_official`), or
    None for the shipped weights of (dataset, preset). name: of the model in a run.
    """

    # Crystals a batch on a CPU: few enough for edges to stay in cache and for a fine-grained budget.
    batch_size = 16

    def __init__(
        self,
        dataset: str,
        preset: str = "cpu",
        steps: int | None = None,
        weights: Path | None = None,
        name: str = "cdvae",
    ) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"{name}@{steps}: steps must be at least 1")
        self.name = name
        self.dataset = canonical_name(dataset)
        self.preset = preset
        self.weights = weights or find_weights("cdvae", self.dataset, preset)
        if not self.weights.is_dir():
            require_trained_for("cdvae", self.dataset, read_card(self.weights), self.weights)
        self._requested_steps = steps
        self._model: CDVAE | None = None

    @property
    def card(self) -> dict[str, Any]:
        """The weights' card; of a published folder, its name and the checksums of what the crystals depend on."""
        if not self.weights.is_dir():
            return read_card(self.weights)
        files = [published_checkpoint(self.weights), *(self.weights / n for n in ("lattice_scaler.pt", "hparams.yaml"))]
        return {"published": self.weights.name, "sha256": {file.name: _sha256(file) for file in files}}

    def load(self, device: str = "cpu") -> None:
        """Reads the weights, checks them against their card and moves them to the device."""
        if self.weights.is_dir():
            model = from_official(self.weights)
        else:
            state_dict, card = read_weights(self.weights)
            model = CDVAE(config_from_card(card["config"]))
            load_into(model, state_dict, self.weights)
        self._model = model.requires_grad_(False).eval().to(device)
        self.steps = self._requested_steps or model.config.num_steps

    def sample(self, num_crystals: int, seed: int, callback: StepCallback | None = None) -> SampleBatch:
        """That many crystals; a function of (seed, num_crystals, weights, steps, threads, device).

        callback: watches or records the trajectory, as of `annealed_langevin`.
        """
        if self._model is None:
            self.load("cpu")
        assert self._model is not None
        return self._model.sample_crystals(num_crystals, seed, self.steps, callback)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cdvae(dataset: str, preset: str = "cpu", steps: int | None = None, weights: Path | None = None) -> CDVAEGenerator:
    """CDVAE, a baseline: a variational autoencoder whose decoder moves atoms by Langevin steps, 500 of them.

    steps: of all, shared evenly among the 50 noise levels.
    """
    return CDVAEGenerator(dataset, preset, steps, weights)


def published(weights: Path, name: str, dataset: str, steps: int | None = None) -> CDVAEGenerator:
    """The CDVAE of a published checkpoint folder. All its Langevin steps, or `steps` of them."""
    return CDVAEGenerator(dataset, steps=steps, weights=weights, name=name)
