"""Compiled networks: the samples of plain ones but for rounding, ready for every shape before anything is timed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from bench.model_specs import build_generator, parse_models, with_compiled
from models.baselines.diffcsp.diffusion import DiffCSP, DiffCSPConfig
from models.compiled import COMPILERS, CompiledForward, compile_networks, require_compiler
from models.cspnet import CSPNet, CSPNetConfig, EvaluationCounter
from models.diffusion import SeededNoise
from models.generation import DiffusionGenerator
from tests.perf.gpu import compared

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason="needs a C++ compiler for torch.compile: apt-get install g++"
)
NETWORK = CSPNetConfig(node_dim=6, hidden_dim=16, num_layers=1, num_frequencies=4, time_dim=8)


def network() -> CSPNet:
    """A small network with a posterior head and weights that are not trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = CSPNet(replace(NETWORK, type_posterior=7, type_urn=3.0)).requires_grad_(False).eval()
        assert made.head is not None
        made.head.fit(torch.arange(7), torch.randn(7, NETWORK.node_dim), 0.1)
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        return made


def inputs(size: int, num_atoms: int) -> tuple[torch.Tensor, ...]:
    """Noisy crystals."""
    noise = SeededNoise.from_seed(size, "cpu")
    shapes = (size, num_atoms, NETWORK.node_dim), (size, num_atoms, 3), (size, 3, 3), (size, NETWORK.time_dim)
    return *(noise.normal("", shape) for shape in shapes), noise.uniform("alpha_bar", (size,))


@needs_compiler
@pytest.mark.slow
def test_every_shape_gives_the_plain_numbers_and_none_is_compiled_later() -> None:
    plain, compiled = network(), network()
    atom_numbers = [2, 5]
    assert compile_networks([compiled], atom_numbers, "cpu", 50) > 0
    graphs = counters["stats"]["unique_graphs"]
    with torch.no_grad():
        for num_atoms in atom_numbers:
            for size in (1, 2, 3, 5, 9):
                given = inputs(size, num_atoms)
                for expected, found in zip(plain(*given), compiled(*given), strict=True):
                    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == graphs


@needs_compiler
@pytest.mark.slow
def test_a_compiled_sampler_gives_the_plain_samples_but_for_rounding_and_counts_its_evaluations() -> None:
    model = DiffCSP(DiffCSPConfig(network=NETWORK, num_steps=10))
    model.requires_grad_(False).eval()

    def sample() -> Any:
        with EvaluationCounter(model.network) as counter:
            return model.sample(4, 3, SeededNoise.from_seed(1, "cpu"), 5), counter.per_crystal

    (expected, evaluations), _ = sample(), compile_networks([model.network], [3], "cpu", 4)
    found, counted = sample()
    assert counted == evaluations == 10
    assert torch.equal(found.atomic_numbers, expected.atomic_numbers)
    turned = (found.frac_coords - expected.frac_coords + 0.5) % 1.0 - 0.5
    torch.testing.assert_close(turned, torch.zeros_like(turned), rtol=0, atol=1e-3)
    torch.testing.assert_close(found.lattices, expected.lattices, rtol=1e-3, atol=1e-3)
    assert not torch.equal(found.lattices, torch.zeros_like(found.lattices))


@pytest.mark.parametrize(
    ("device", "sizes"), [("cpu", {1: 2, 2: 2, 3: 3, 50: 50}), ("cuda", {1: 8, 8: 8, 9: 16, 500: 512})]
)
def test_batches_are_padded_to_sizes_that_are_ready(device: str, sizes: dict[int, int]) -> None:
    forward = CompiledForward(network(), device)
    assert {size: forward.padded(size) for size in sizes} == sizes


def test_what_fills_a_batch_changes_no_crystal(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = network()
    monkeypatch.setattr(torch, "compile", lambda forward, **options: forward)
    for device, size in (("cpu", 1), ("cuda", 3)):
        given = inputs(size, 4)
        for expected, found in zip(plain(*given), CompiledForward(plain, device)(*given), strict=True):
            torch.testing.assert_close(found, expected)


def test_without_a_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"--compile needs a C\+\+ compiler"):
        require_compiler("cpu")


def test_entries_that_can_be_compiled_are_and_others_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    specs = with_compiled(parse_models("crysldm,cdvae,diffcsp-fast"))
    assert [spec.compiled for spec in specs] == [True, False, True]
    assert "cdvae: not compiled" in capsys.readouterr().err
    with pytest.raises(ValueError, match="none of cdvae can be compiled"):
        with_compiled(parse_models("cdvae"))


def test_the_card_of_a_compiled_model_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.generation.compile_networks", lambda networks, atoms, device, size: 12.0)
    plain, compiled = (
        build_generator(spec, "perov5", "cpu")
        for spec in (*parse_models("crysldm-fast"), *with_compiled(parse_models("crysldm-fast")))
    )
    assert isinstance(plain, DiffusionGenerator) and isinstance(compiled, DiffusionGenerator)
    assert "compiled" not in plain.card["sampling"]
    assert compiled.card["sampling"]["compiled"] is True
    compiled.load("cpu")
    assert (plain.compile_seconds, compiled.compile_seconds) == (None, 12.0)


def test_the_report_of_a_gpu_has_plain_beside_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.perf.gpu.compile_networks", lambda networks, atoms, device, size: 7.0)
    model = DiffCSP(DiffCSPConfig(network=NETWORK, num_steps=20))
    rows = list(compared("tiny", model, 2, (2, 3), device="cpu"))
    assert len(rows) == 2
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells[:2] == ["tiny", "2"] and cells[-1] == "7"
    plain, fused, ratio = (float(cell) for cell in cells[2:5])
    assert np.isclose(ratio, plain / fused, rtol=0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: make gpu")
def test_a_compiled_network_gives_the_plain_numbers_on_a_gpu() -> None:
    plain, compiled = network().to("cuda"), network().to("cuda")
    compile_networks([compiled], [2, 5], "cuda", 20)
    with torch.no_grad():
        for size, num_atoms in ((1, 2), (9, 5), (20, 5), (9, 5)):
            given = [tensor.to("cuda") for tensor in inputs(size, num_atoms)]
            for expected, found in zip(plain(*given), compiled(*given), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
