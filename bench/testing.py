"""The conformance test that the author of a generator runs: `check_generator`.

In a test of the generator's own package:

    from bench.testing import check_generator

    def test_my_model_keeps_the_protocol() -> None:
        check_generator(MyModel)

or at the command line: `python -m bench.testing my_module:MyModel`. Of a model that predicts structures for given
compositions, `check_structure_predictor` checks `sample_given` besides; `check_trainable` checks what `bench learn` is
to train.
"""

from __future__ import annotations

import inspect
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from bench import model_specs
from bench.arrays import IntArray
from bench.errors import one_line
from bench.interfaces import SampleBatch
from bench.learning.conformance import trainable_faults
from bench.prediction.sampling import require_predictor, wrong_atoms
from bench.run_folder import manifest as manifests
from bench.sampling.sources import declared_batch_size

LARGEST_SEED = 2**32 - 1
# SrTiO3, LaAlO3, NaCl, Si, Li2O and SrTiO3 again, in cells of different sizes; ascending, as `bench csp` asks.
COMPOSITIONS = tuple(
    np.array(numbers)
    for numbers in ([8, 8, 8, 22, 38], [8, 8, 8, 13, 57], [11, 17], [14], [3, 3, 3, 3, 8, 8], [8, 8, 8, 22, 38])
)


def check_generator(
    make: Callable[[], Any] | str, *, device: str = "cpu", num_crystals: int = 4, seed: int = 0, dataset: str = "perov5"
) -> None:
    """AssertionError with one line for each way in which a generator breaks the protocol of `Generator`.

    make: its class or a function that builds it, called without arguments; or what `bench run --models` takes, which is
    built for `dataset`. It is built and loaded twice and samples some 5 num_crystals crystals.
    """
    faults = generator_faults(make, device=device, num_crystals=num_crystals, seed=seed, dataset=dataset)
    if faults:
        raise AssertionError("\n".join([f"{_named(make)} breaks the protocol of a generator:", *faults]))


def check_structure_predictor(
    make: Callable[[], Any] | str, *, device: str = "cpu", seed: int = 0, dataset: str = "perov5"
) -> None:
    """AssertionError with one line for each way in which a generator breaks the protocol of `StructurePredictor`.

    make: as of `check_generator`. It is built and loaded twice and predicts some forty crystals.
    """
    faults = predictor_faults(make, device=device, seed=seed, dataset=dataset)
    if faults:
        raise AssertionError("\n".join([f"{_named(make)} breaks the protocol of a structure predictor:", *faults]))


def check_trainable(
    make: Callable[[], Any], *, device: str = "cpu", seed: int = 0, dataset: str = "perov5", preset: str = "cpu"
) -> None:
    """AssertionError with one line for each way in which a model breaks the protocol of `Trainable`.

    make: its class or a function that builds it, called without arguments. It is trained eight times for at most eight
    steps, once with twice the learning rate, twice killed and resumed, and its samplers draw two crystals each.
    """
    faults = list(dict.fromkeys(trainable_faults(make, device, seed, dataset, preset, _random_states)))
    if faults:
        raise AssertionError("\n".join([f"{_named(make)} breaks the protocol of a trainable model:", *faults]))


def predictor_faults(
    make: Callable[[], Any] | str, *, device: str = "cpu", seed: int = 0, dataset: str = "perov5"
) -> list[str]:
    """The lines of `check_structure_predictor`; none where nothing is wrong."""
    build = (lambda: _from_text(make, dataset)) if isinstance(make, str) else make
    return list(dict.fromkeys(_predictor_faults(build, device, seed)))


def generator_faults(
    make: Callable[[], Any] | str, *, device: str = "cpu", num_crystals: int = 4, seed: int = 0, dataset: str = "perov5"
) -> list[str]:
    """The lines of `check_generator`; none where nothing is wrong."""
    build = (lambda: _from_text(make, dataset)) if isinstance(make, str) else make
    return list(dict.fromkeys(_faults(build, device, num_crystals, seed)))


def _from_text(text: str, dataset: str) -> Any:
    (spec,) = model_specs.parse_models(text)
    return model_specs.build_generator(spec, dataset, "cpu")


def _named(make: Callable[[], Any] | str) -> str:
    return make if isinstance(make, str) else getattr(make, "__name__", repr(make))


class Broken(Exception):
    """A fault after which nothing else can be checked."""


def _faults(build: Callable[[], Any], device: str, num_crystals: int, seed: int) -> Iterator[str]:
    try:
        generator = _built(build)
        yield from _attribute_faults(generator, device)
        _loaded(generator, device)
        probe = _Probe(generator)
        handed = probe.sample(num_crystals, seed)
        first = replace(handed, network_evaluations=handed.network_evaluations.copy())
        if num_crystals and not len(first.crystals):
            yield f"none of {num_crystals} crystals exists; the first reason: {next(iter(first.reasons.values()))}"
        yield from _reason_faults(first)
        yield from _repetition_faults(probe, first, num_crystals, seed)
        other = probe.sample(num_crystals, seed + 1)
        if other.crystals == first.crystals and len(first.crystals):
            yield f"seeds {seed} and {seed + 1} give the same crystals: the seed is not used"
        if other.steps != first.steps:
            yield f"steps is {first.steps} of one batch and {other.steps} of the next; it is what the sampler is set to"
        yield from _reason_faults(probe.sample(1, LARGEST_SEED))
        if not np.array_equal(handed.network_evaluations, first.network_evaluations):
            yield "network_evaluations of a batch changes after it was handed over: the array is used again; copy it"
        yield from probe.changed
        again = _built(build)
        _loaded(again, device)
        if not _same(_Probe(again).sample(num_crystals, seed), first):
            yield "built and loaded anew it gives other crystals for the same seed: a run could not be resumed"
    except Broken as fault:
        yield str(fault)


def _predictor_faults(build: Callable[[], Any], device: str, seed: int) -> Iterator[str]:
    try:
        generator = _built(build)
        require_predictor(generator)
        yield from _attribute_faults(generator, device)
        _loaded(generator, device)
        probe = _GivenProbe(generator, COMPOSITIONS)
        first = probe.sample(len(COMPOSITIONS), seed)
        if not len(first.crystals):
            yield f"none of {len(COMPOSITIONS)} crystals exists; the first reason: {next(iter(first.reasons.values()))}"
        yield from _reason_faults(first)
        yield from _repetition_faults(probe, first, len(COMPOSITIONS), seed)
        if probe.sample(len(COMPOSITIONS), seed + 1).crystals == first.crystals and len(first.crystals):
            yield f"seeds {seed} and {seed + 1} give the same structures: the seed is not used"
        for few in (COMPOSITIONS[:1], COMPOSITIONS[::-1]):  # alone, and in another order
            other = _GivenProbe(generator, few)
            other.sample(len(few), LARGEST_SEED)
            yield from other.changed
        yield from probe.changed
        again = _built(build)
        _loaded(again, device)
        if not _same(_GivenProbe(again, COMPOSITIONS).sample(len(COMPOSITIONS), seed), first):
            yield "built and loaded anew it gives other structures for the same seed: a run could not be resumed"
    except Broken as fault:
        yield str(fault)
    except ValueError as error:  # of `require_predictor`
        yield one_line(error)


def _built(build: Callable[[], Any]) -> Any:
    try:
        generator = build()
    except Exception as error:
        raise Broken(f"it cannot be built: {one_line(error, kind=True)}") from error
    missing = [name for name in ("name", "load", "sample") if not hasattr(generator, name)]
    if missing:
        raise Broken(f"it has no {', '.join(missing)}")
    for method, call in (("load", {"device": "cpu"}), ("sample", {"num_crystals": 1, "seed": 0})):
        try:
            bound = getattr(generator, method)
            # load is called with its argument in place, sample by keywords.
            inspect.signature(bound).bind(*call.values()) if method == "load" else inspect.signature(bound).bind(**call)
        except TypeError as error:
            asked = ", ".join(
                f"{name}={value!r}" if method == "sample" else repr(value) for name, value in call.items()
            )
            raise Broken(f"{method} cannot be called as {method}({asked}): {error}") from None
    return generator


def _attribute_faults(generator: Any, device: str) -> Iterator[str]:
    try:
        model_specs.require_distinct([generator.name])
    except (ValueError, TypeError) as error:
        yield f"name is {generator.name!r}: {one_line(error)}"
    try:
        declared_batch_size(generator, device)
    except Exception as error:
        yield one_line(error)


def _loaded(generator: Any, device: str) -> None:
    try:
        generator.load(device)
    except Exception as error:
        raise Broken(f"load({device!r}) raised {one_line(error, kind=True)}") from error
    try:
        manifests.as_json(getattr(generator, "card", None))
    except ValueError as error:
        raise Broken(f"card, which goes into the manifest, is {one_line(error)}") from error


def _reason_faults(batch: SampleBatch) -> Iterator[str]:
    for place, reason in batch.reasons.items():
        if not isinstance(reason, str) or not reason.strip() or len(reason.splitlines()) != 1:
            yield f"the reason of crystal {place} is {reason!r}; say in one line why there is none"
            return


def _repetition_faults(probe: _Probe, first: SampleBatch, num_crystals: int, seed: int) -> Iterator[str]:
    """Whether the same seed gives the same batch, whatever stands in the global random state and came before."""
    before = _random_states()
    with _kept():
        _seed_all(seed + 1)
        one = probe.sample(num_crystals, seed)
        _seed_all(seed + 1)
        two = probe.sample(num_crystals, seed)
    if _same(one, first) and _same(two, first):
        return
    if _same(one, two):
        yield (
            f"the same seed gives other crystals when the global random state ({', '.join(before)}) is another: draw "
            "from a generator that is made of the seed"
        )
    else:
        yield "the same seed gives other crystals: there is chance or a memory of earlier calls in it besides the seed"


def _same(one: SampleBatch, other: SampleBatch) -> bool:
    return (
        one.crystals == other.crystals
        and one.steps == other.steps
        and np.array_equal(one.network_evaluations, other.network_evaluations)
        and dict(one.reasons) == dict(other.reasons)
    )


class _Probe:
    """Samples and notes which state of the process that changed."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.changed: dict[str, None] = {}

    method = "sample"

    def asked(self, num_crystals: int) -> dict[str, Any]:
        """What the method is called with besides the seed."""
        return {"num_crystals": num_crystals}

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """A batch, of which type and number are right."""
        call = f"{self.method}({next(iter(self.asked(num_crystals)))}={num_crystals}, seed={seed})"
        before = {**_random_states(), **_process_state()}
        try:
            batch = getattr(self._generator, self.method)(**self.asked(num_crystals), seed=seed)
        except Exception as error:
            remedy = ""
            if isinstance(error, ValueError) and "crystal" in str(error):
                remedy = (
                    "; bench.crystals.filter_crystals sets impossible crystals aside, "
                    "and SampleBatch takes their reasons"
                )
            raise Broken(f"{call} raised {one_line(error, kind=True)}{remedy}") from error
        after = {**_random_states(), **_process_state()}
        for name in after:
            if name in before and before[name] != after[name]:
                self.changed[
                    f"{self.method} changes {name}, which belongs to the whole process; leave it as it was"
                ] = None
        if not isinstance(batch, SampleBatch):
            raise Broken(f"{call} gave {type(batch).__name__}, not a bench.interfaces.SampleBatch")
        if batch.requested != num_crystals:
            raise Broken(f"{call} gave {batch.requested} crystals and reasons, not {num_crystals}")
        return batch


class _GivenProbe(_Probe):
    """The same for given compositions; all of them at each call."""

    method = "sample_given"

    def __init__(self, generator: Any, compositions: Sequence[IntArray]) -> None:
        super().__init__(generator)
        self._compositions = compositions

    def asked(self, num_crystals: int) -> dict[str, Any]:
        """Copies: what a generator does to them must not reach the next call."""
        return {"compositions": [composition.copy() for composition in self._compositions]}

    def sample(self, num_crystals: int, seed: int) -> SampleBatch:
        """A batch of the right atoms, in their order."""
        batch = super().sample(num_crystals, seed)
        if wrong := wrong_atoms(batch, self._compositions):
            raise Broken(f"of sample_given, {wrong}")
        return batch


def _random_states() -> dict[str, Any]:
    """The state of each global random generator, as something that can be compared."""
    legacy = np.random.get_state(legacy=True)  # noqa: NPY002 - looked at, not drawn from
    found: dict[str, Any] = {
        "Python's random state": random.getstate(),
        "NumPy's global random state": [
            value.tobytes() if isinstance(value, np.ndarray) else value for value in legacy
        ],
    }
    if "torch" in sys.modules:
        import torch

        found["torch's global random state"] = torch.get_rng_state().numpy().tobytes()
        if torch.cuda.is_available():
            found["CUDA's global random state"] = [s.numpy().tobytes() for s in torch.cuda.get_rng_state_all()]
    return found


def _seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - what a generator must not depend on
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)


@contextmanager
def _kept() -> Iterator[None]:
    """Leaves Python's, NumPy's and torch's random state as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(state)


def _process_state() -> dict[str, Any]:
    """What else a sampler may change that others in the process, or the clock, depend on."""
    found: dict[str, Any] = {
        "the current folder": os.getcwd(),
        "the environment variables": dict(os.environ),
        "NumPy's handling of floating-point errors": np.geterr(),
    }
    if "torch" in sys.modules:
        import torch

        found |= {
            "torch's default type": torch.get_default_dtype(),
            "whether torch records gradients": torch.is_grad_enabled(),
            "torch's number of threads": torch.get_num_threads(),
            "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        }
    return found


if __name__ == "__main__":
    texts = sys.argv[1:]
    if not texts:
        sys.exit("python -m bench.testing MODULE:CLASS ...")
    status = 0
    for given in texts:
        lines = generator_faults(given)
        status |= bool(lines)
        sys.stdout.write("\n".join([f"{given}: {len(lines)} faults", *lines]) + "\n")
    sys.exit(status)
