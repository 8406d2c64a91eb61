"""The bounded composition check gives SMACT's own answers, for any number of elements."""

import warnings

import numpy as np
import pytest
from pymatgen.core import Composition, Element
from smact.screening import smact_validity

from tasks.composition import CompositionRule, composition_fault, composition_rule

SETS = {"smact14": "smact14", "icsd24": None}  # ours -> SMACT's argument, None for its default
# Elements with many states of both signs, without states, without electronegativity, and the halogens and noble gases.
AWKWARD = [
    1,
    2,
    5,
    6,
    7,
    8,
    9,
    11,
    14,
    15,
    16,
    17,
    24,
    25,
    26,
    33,
    35,
    36,
    52,
    53,
    54,
    61,
    76,
    77,
    85,
    86,
    87,
    100,
    103,
]


def smacts_answer(counts, oxidation_states_set):
    composition = Composition({Element.from_Z(z): n for z, n in counts.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return smact_validity(composition, oxidation_states_set=SETS[oxidation_states_set])


def random_compositions(seed, number, sizes):
    rng = np.random.default_rng(seed)
    for place in range(number):
        size = int(rng.choice(sizes))
        pool = AWKWARD if place % 3 == 0 else np.arange(1, 104)
        chosen = rng.choice(pool, size, replace=False)
        most = rng.choice([2, 4, 9, 13])
        yield {int(z): int(n) for z, n in zip(chosen, rng.integers(1, most, size), strict=True)}


def assert_same_answers(compositions):
    answers = []
    for counts in compositions:
        for name in SETS:
            expected = smacts_answer(counts, name)
            assert (composition_rule(name).fault(counts) is None) == expected, (counts, name)
            answers.append(expected)
    assert 0.1 < np.mean(answers) < 0.9  # both answers are well represented


def test_random_compositions_get_smacts_own_answer_with_both_sets_of_states():
    assert_same_answers(random_compositions(seed=0, number=1500, sizes=[1, 2, 3, 4, 5]))


@pytest.mark.slow
def test_larger_random_compositions_get_smacts_own_answer_with_both_sets_of_states():
    assert_same_answers(random_compositions(seed=1, number=3000, sizes=[2, 3, 4, 5, 6]))
    assert_same_answers(random_compositions(seed=2, number=12, sizes=[7, 8]))


@pytest.mark.parametrize("name", SETS)
def test_each_pair_of_elements_one_to_one_gets_smacts_own_answer(name):
    rule = composition_rule(name)
    for first in range(1, 104, 3):
        for second in range(first + 1, 104, 2):
            counts = {first: 1, second: 1}
            assert (rule.fault(counts) is None) == smacts_answer(counts, name), counts


@pytest.mark.parametrize("size", [12, 30, 80])
def test_many_different_elements_take_no_time(size):
    rng = np.random.default_rng(size)
    known = sorted(composition_rule("smact14").states)
    for _ in range(20):
        counts = {
            int(z): int(n) for z, n in zip(rng.choice(known, size, False), rng.integers(1, 40, size), strict=True)
        }
        assert composition_rule("smact14").fault(counts) in (
            None,
            "no charge-neutral oxidation states with cations less electronegative than anions",
            "no electronegativity for Pm",
            "no electronegativity for Rn",
            "no electronegativity for Lr",
            "no electronegativity for Pm, Rn",
            "no electronegativity for Pm, Lr",
            "no electronegativity for Rn, Lr",
            "no electronegativity for Pm, Rn, Lr",
        )


def test_twelve_elements_get_the_answer_of_trying_every_choice_of_states():
    """Twelve elements of two states each: 4096 choices can be tried one by one. Most signs follow electronegativity."""
    rng = np.random.default_rng(5)
    answers = []
    for _ in range(200):
        values = rng.choice([0.9, 1.3, 1.7, 2.2, 2.6, 3.0], 12)
        signs = np.where(rng.random((12, 2)) < 0.9, np.sign(2 - values)[:, None], np.sign(values - 2)[:, None])
        states = {z: tuple((signs[z - 1] * rng.integers(1, 5, 2)).astype(int).tolist()) for z in range(1, 13)}
        rule = CompositionRule("smact14", frozenset(), states, dict(zip(range(1, 13), values.tolist(), strict=True)))
        counts = {z: int(n) for z, n in zip(range(1, 13), rng.integers(1, 9, 12), strict=True)}
        choices = np.stack(np.meshgrid(*(states[z] for z in range(1, 13)), indexing="ij"), -1).reshape(-1, 12)
        neutral = choices @ np.array([counts[z] for z in range(1, 13)]) == 0
        highest_cation = np.where(choices > 0, values, -np.inf).max(axis=1)
        lowest_anion = np.where(choices < 0, values, np.inf).min(axis=1)
        expected = bool((neutral & (highest_cation < lowest_anion)).any())
        assert (rule.fault(counts) is None) == expected
        answers.append(expected)
    assert 0.05 < np.mean(answers) < 0.95


def test_multiples_of_a_composition_get_the_same_answer():
    for counts in random_compositions(seed=3, number=200, sizes=[2, 3, 4]):
        rule = composition_rule("smact14")
        assert rule.fault(counts) == rule.fault({z: 7 * n for z, n in counts.items()})


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({2: 1, 8: 1}, "no oxidation states for He in smact14"),
        ({104: 1, 8: 2}, "SMACT has no data for Rf"),
        ({104: 1, 118: 2}, "SMACT has no data for Rf, Og"),
        ({61: 2, 8: 3}, "no electronegativity for Pm"),
        ({11: 1, 17: 2}, "no charge-neutral oxidation states with cations less electronegative than anions"),
    ],
)
def test_an_invalid_composition_has_its_reason(counts, reason):
    assert composition_rule("smact14").fault(counts) == reason


@pytest.mark.parametrize("counts", [{104: 3}, {2: 1}, {26: 1, 29: 3}, {11: 1, 17: 1}, {38: 1, 22: 1, 8: 3}])
def test_elements_alloys_and_salts_are_valid(counts):
    assert composition_fault("smact14", tuple(sorted(counts.items()))) is None


def test_a_state_of_zero_is_neither_cation_nor_anion():
    """SMACT's tables may hold zeros: an element of state 0 may stand on either side of the others."""
    states, values = {1: (1,), 2: (0,), 3: (-1,)}, {1: 1.0, 2: 3.9, 3: 2.0}
    assert CompositionRule("smact14", frozenset(), states, values).fault({1: 1, 2: 5, 3: 1}) is None
    low = {**values, 2: 0.1}
    assert CompositionRule("smact14", frozenset(), states, low).fault({1: 1, 2: 5, 3: 1}) is None
