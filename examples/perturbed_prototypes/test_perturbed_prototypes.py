"""What every generator's own tests need: the harness checks the protocol."""

from perturbed_prototypes import PerturbedPrototypes

from bench.testing import check_generator


def test_the_generator_keeps_the_protocol() -> None:
    """Every fault is a line of the failure."""
    check_generator(PerturbedPrototypes)
