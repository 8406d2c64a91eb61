"""The models that can be trained, and their named sizes: what `--preset cpu` and `--preset paper` mean for each.

`paper`: the published sizes and optimiser (DiffCSP's for both; the CrysLDM paper gives none). `cpu`: one small network,
shared by both models, that two cores train in about an hour on Perov-5. `cpu-weak`: a smaller one that is hardly
trained, for autoguidance (models/guidance.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from models.baselines.cdvae.autoencoder import CDVAE, CDVAEConfig
from models.baselines.cdvae.encoder import EncoderConfig
from models.baselines.cdvae.gemnet import GemNetConfig
from models.baselines.cdvae.langevin import LangevinSettings
from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.baselines.diffcsp.sampler import STRIDED_CLAMP
from models.baselines.diffcsp.sampler import SamplerSettings as DiffCSPSampler
from models.baselines.diffcsp.structure_prediction import StructurePrediction
from models.composition_first.composition_model import CompositionConfig, CompositionModel
from models.composition_first.transformer import TransformerConfig
from models.crysldm.autoencoder import AutoencoderConfig
from models.crysldm.latent_diffusion import CrysLDM, CrysLDMConfig
from models.crysldm.sampler import SamplerSettings as CrysLDMSampler
from models.crystal_draft.crystal_draft import CrystalDraft, CrystalDraftConfig
from models.crystal_draft.transformer import CrystalTransformerConfig
from models.cspnet import CSPNetConfig
from models.trainable import TrainableNetwork
from models.training.optimiser import OptimiserName

PresetName = Literal["cpu", "cpu-weak", "paper"]


@dataclass(frozen=True)
class StageConfig:
    """How one training stage runs.

    batch_size: crystals, all of one N; fewer where B N^2 would pass max_pairs. Those of one N are cut into equal parts
    of about that size, up to half as large again. schedule: "cosine" decays the learning rate to 1 % over all epochs;
    "hold" keeps it and decays linearly to 1 % in the last 30 %, so that until then a run can be made shorter or longer;
    "plateau" is DiffCSP's ReduceLROnPlateau (factor 0.6, patience 30 epochs, floor 1e-4) on the validation loss.
    warmup_steps: of a linear rise before (not with "plateau"). ema_decay: of the averaged weights that are sampled
    from. clip: gradient clipping by norm (cpu) or by value 0.5 (published). precision: Lightning's name.
    validate_every, sample_every: epochs.
    """

    name: str
    epochs: int
    batch_size: int = 128
    max_pairs: int = 20_000
    learning_rate: float = 1e-3
    optimiser: OptimiserName = "adam"
    schedule: Literal["cosine", "hold", "plateau"] = "cosine"
    warmup_steps: int = 0
    ema_decay: float = 0.999
    clip_algorithm: Literal["norm", "value"] = "norm"
    clip: float = 1.0
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed"
    validate_every: int = 10
    sample_every: int = 100


@dataclass(frozen=True)
class Preset:
    """A model's class, its configuration and its training stages in order."""

    model: Callable[[Any], TrainableNetwork]
    config: Any
    stages: tuple[StageConfig, ...]

    def build(self, seed: int) -> TrainableNetwork:
        """The model with fresh weights that the seed fixes; global random state is left alone."""
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            return self.model(self.config)


# Corrector steps published with DiffCSP's ab initio configurations.
_DIFFCSP_STEP_LR = {"perov5": 1e-6, "mp20": 5e-6}
# Those of its crystal structure prediction.
_PREDICTION_STEP_LR = {"perov5": 5e-7, "mp20": 1e-5}
_CPU_NETWORK = CSPNetConfig(hidden_dim=128, num_layers=4, num_frequencies=32, time_dim=64)
# Times the loss of types: of the other losses it is a tenth on MP-20, and a small network neglects it.
_MP20_TYPES = 8.0
_NUM_TYPES = 100
# Times the cross entropy of types, of a posterior head.
_CROSS_ENTROPY = 4.0
# Of 1, 3 and 8 the best on MP-20's validation split.
_URN_ATOMS = 3.0
_CPU_EPOCHS = {"perov5": 600, "mp20": 60}
# From weights of ab initio DiffCSP.
_PREDICTION_EPOCHS = {"perov5": 20, "mp20": 30}
_DRAFT_EPOCHS = 40
_WEAK_EPOCHS = {"perov5": 27, "mp20": 5}
_CDVAE_CPU_EPOCHS = {"perov5": 45, "mp20": 28}
# Of DiffCSP and CDVAE.
_PAPER_EPOCHS = {"perov5": 3000, "mp20": 1000}
_PAPER_BATCH = {"diffcsp": {"perov5": 1024, "mp20": 256}, "cdvae": {"perov5": 512, "mp20": 256}}


def preset(model: str, dataset: str, name: str) -> Preset:
    """The preset of a model for a data set ("perov5", "mp20"). ValueError lists the known ones."""
    if model not in PRESETS:
        raise ValueError(f"no preset for model {model!r}; known: {', '.join(PRESETS)}")
    if dataset not in _DIFFCSP_STEP_LR:
        raise ValueError(f"no preset for data set {dataset!r}; known: {', '.join(_DIFFCSP_STEP_LR)}")
    if name not in get_args(PresetName):
        raise ValueError(f"no preset {name!r}; known: {', '.join(get_args(PresetName))}")
    return PRESETS[model](dataset, name)


def _crysldm(dataset: str, name: str) -> Preset:
    small = name != "paper"
    types = _MP20_TYPES if small and dataset == "mp20" else 1.0
    autoencoder = AutoencoderConfig() if small else AutoencoderConfig(hidden_dim=256, num_frequencies=128)
    network = replace(_CPU_NETWORK if small else CSPNetConfig(), node_dim=autoencoder.latent_dim)
    # The remedies that a small network needs at T = 100 (models/crysldm/sampler.py says why). z_L has unit root mean
    # square; the largest training cell has 4.1 times (Perov-5) or 11.6 times (MP-20) an entry's as its norm.
    clamp = {"perov5": (3.5, 5.4), "mp20": (4.0, 15.0)}[dataset]
    sampler = CrysLDMSampler(corrector="variance", step_size=0.1, clamp=clamp) if small else CrysLDMSampler()
    vae = StageConfig("vae", epochs=40 if dataset == "perov5" else 20, sample_every=10**9)
    if small and dataset == "mp20":  # three epochs give all but one type in 10,000
        vae = replace(vae, epochs=3, max_pairs=8000, learning_rate=2e-3, ema_decay=0.99)
        vae = replace(vae, precision="32-true", validate_every=1)
    weights = (1.0, 1.0, types)
    config = CrysLDMConfig(autoencoder=autoencoder, network=network, loss_weights=weights, sampler=sampler)
    diffusion = _small_stage(dataset) if small else _published_stage(dataset)
    if name == "cpu-weak":
        narrow = replace(network, num_layers=2, hidden_dim=64)
        config, diffusion = replace(config, network=narrow), _weak_stage(dataset, diffusion)
    return Preset(CrysLDM, config, (vae, diffusion))


def _diffcsp(dataset: str, name: str) -> Preset:
    small = name != "paper"
    types = _MP20_TYPES if small and dataset == "mp20" else 1.0
    network = _CPU_NETWORK if small else CSPNetConfig()
    # As published, but that a quarter of a small network's cells on MP-20 blow up without a bound.
    clamp = STRIDED_CLAMP if small and dataset == "mp20" else None
    settings = DiffCSPSampler(step_lr=_DIFFCSP_STEP_LR[dataset], clamp=clamp)
    config = DiffCSPConfig(network=network, loss_weights=(1.0, 1.0, 20.0 * types), sampler=settings)
    diffusion = _small_stage(dataset) if small else _published_stage(dataset)
    if name == "cpu-weak":
        # As wide as the other: less width than 100 one-hot types could not even pass their noise on, and with types
        # weighing more the network would learn nothing of coordinates in this time.
        config = replace(config, network=replace(network, num_layers=2), loss_weights=(1.0, 1.0, 20.0))
        diffusion = _weak_stage(dataset, diffusion)
    return Preset(DiffCSP, config, (diffusion,))


def _crysldm_posterior(dataset: str, name: str) -> Preset:
    return _with_posterior_head(_crysldm(dataset, name), "crysldm-posterior", name)


def _diffcsp_posterior(dataset: str, name: str) -> Preset:
    return _with_posterior_head(_diffcsp(dataset, name), "diffcsp-posterior", name)


def _with_posterior_head(of_paper: Preset, model: str, name: str) -> Preset:
    """The preset of the paper's model with `PosteriorHead` on its network."""
    if name == "paper":
        raise ValueError(f"no preset paper for {model}, which no paper has; choose cpu or cpu-weak")
    config = of_paper.config
    network = replace(config.network, type_posterior=_NUM_TYPES, type_urn=_URN_ATOMS)
    weights = (*config.loss_weights, _CROSS_ENTROPY)
    return replace(of_paper, config=replace(config, network=network, loss_weights=weights))


def _diffcsp_csp(dataset: str, name: str) -> Preset:
    if name == "cpu-weak":
        raise ValueError("no preset cpu-weak for diffcsp-csp: its samplers take no guidance")
    small = name != "paper"
    network = _CPU_NETWORK if small else CSPNetConfig()
    settings = DiffCSPSampler(
        step_lr=_PREDICTION_STEP_LR[dataset], clamp=STRIDED_CLAMP if small and dataset == "mp20" else None
    )
    config = DiffCSPConfig(network=network, loss_weights=(1.0, 1.0, 0.0), sampler=settings)
    stage = _published_stage(dataset)
    if small:  # MP-20's for both: it goes on from trained weights, and Muon gets further in few epochs
        stage = replace(_small_stage("mp20"), epochs=_PREDICTION_EPOCHS[dataset])
    return Preset(StructurePrediction, config, (stage,))


def _compositions(dataset: str, name: str) -> Preset:
    """The composition model of `composition-first`; its structures are those of diffcsp-csp, which is trained apart."""
    if name != "cpu":
        raise ValueError(f"no preset {name} for composition-first, which no paper has; its only one is cpu")
    network = TransformerConfig(max_atoms=5 if dataset == "perov5" else 20)
    stage = StageConfig("compositions", epochs=16, max_pairs=128 * 20**2, optimiser="muon", warmup_steps=100)
    stage = replace(stage, ema_decay=0.995, precision="32-true", validate_every=1, sample_every=4)
    return Preset(CompositionModel, CompositionConfig(network=network), (stage,))


def _crystal_draft(dataset: str, name: str) -> Preset:
    """The drafts of `diffcsp-csp-draft`; the network that corrects them is diffcsp-csp's, which is trained apart."""
    if name != "cpu":
        raise ValueError(f"no preset {name} for crystal-draft, which no paper has; its only one is cpu")
    network = CrystalTransformerConfig(max_atoms=5 if dataset == "perov5" else 20)
    stage = StageConfig("draft", epochs=_DRAFT_EPOCHS, max_pairs=128 * 20**2, optimiser="muon")
    stage = replace(stage, schedule="hold", warmup_steps=100, ema_decay=0.995, precision="32-true", validate_every=1)
    return Preset(CrystalDraft, CrystalDraftConfig(network=network), (stage,))


def _cdvae(dataset: str, name: str) -> Preset:
    if name == "cpu-weak":
        raise ValueError("no preset cpu-weak for cdvae: its sampler takes no guidance")
    return (
        _small_cdvae(dataset) if name == "cpu" else Preset(CDVAE, CDVAEConfig(), (_published_stage(dataset, "cdvae"),))
    )


# (data set, name of the preset) -> preset. Another model joins here and in `bench.registry`, and nowhere else.
PRESETS: Mapping[str, Callable[[str, str], Preset]] = {
    "crysldm": _crysldm,
    "diffcsp": _diffcsp,
    "crysldm-posterior": _crysldm_posterior,
    "diffcsp-posterior": _diffcsp_posterior,
    "cdvae": _cdvae,
    "diffcsp-csp": _diffcsp_csp,
    "composition-first": _compositions,
    "crystal-draft": _crystal_draft,
}


def _small_stage(dataset: str) -> StageConfig:
    """MP-20 gets smaller batches, for more steps in the time of a CPU, and a run that can be made longer.

    In float32, by `EdgeMessages`, for its 20 sizes of N; Perov-5 has one, which is quick to compile with bfloat16.
    """
    stage = StageConfig("diffusion", epochs=_CPU_EPOCHS[dataset])
    if dataset == "perov5":
        return stage
    stage = replace(stage, max_pairs=8000, schedule="hold", warmup_steps=300, precision="32-true")
    return replace(stage, optimiser="muon", learning_rate=1.5e-3)


def _weak_stage(dataset: str, stage: StageConfig) -> StageConfig:
    """About 2400 steps, of a network of half the depth and, where latents are narrow, half the width.

    More would guide worse. With the usual 0.999 a tenth of the averaged weights would still be the random ones.
    """
    stage = replace(stage, epochs=_WEAK_EPOCHS[dataset], optimiser="adam", learning_rate=2e-3)
    return replace(stage, ema_decay=0.99)


def _small_cdvae(dataset: str) -> Preset:
    """A CDVAE that one core trains on Perov-5 in about an hour; docs/models.md says why it is cut so."""
    config = CDVAEConfig(
        latent_dim=64,
        hidden_dim=128,
        encoder=EncoderConfig(
            hidden_channels=32, num_blocks=1, int_emb_size=16, out_emb_channels=64, max_num_neighbors=8
        ),
        decoder=GemNetConfig(
            hidden_dim=64,
            latent_dim=64,
            num_blocks=2,
            emb_size_trip=32,
            emb_size_bil_trip=32,
            num_atom=1,
            max_neighbors=12,
        ),
        # A normal of 2.5 A, wrapped into the 4.1 A cells of Perov-5, is uniform to 0.2 %: more noise teaches nothing.
        sigma_range=(2.5 if dataset == "perov5" else 10.0, 0.01),
        # Losses of types are divided by their sigma: 0.01 would let a few wrong types in a thousand rule the gradient.
        type_sigma_range=(1.0, 0.05),
        # With the published 0.01 latents of the prior lie between those of crystals, and decode to mixtures.
        kl_weight=0.05,
        teacher_forcing=1.0,
        sampler=LangevinSettings(steps_per_level=10),
    )
    stage = StageConfig(
        "cdvae",
        epochs=_CDVAE_CPU_EPOCHS[dataset],
        batch_size=32,
        precision="32-true",
        validate_every=5,
        sample_every=20,
    )
    return Preset(CDVAE, config, (stage,))


def _published_stage(dataset: str, model: str = "diffcsp") -> StageConfig:
    batch = _PAPER_BATCH[model][dataset]
    return StageConfig(
        "cdvae" if model == "cdvae" else "diffusion",
        epochs=_PAPER_EPOCHS[dataset],
        batch_size=batch,
        max_pairs=batch * 400,
        schedule="plateau",
        clip_algorithm="value",
        clip=0.5,
        precision="32-true",
    )
