"""Chains of potentials: who relaxes what, from where, and whose word counts."""

import numpy as np
import pytest
import torch

from bench.crystals import Crystals
from tasks.stability import chain, task
from tasks.stability.chain import Stage, chain_label, chain_names, chain_protocol, judge
from tasks.stability.hull import Hull, hull_path
from tasks.stability.relaxation import RelaxationSettings, relax
from tasks.stability.task import Stability
from tests.toy_potential import Counting, crystal, morse, rattled

SETTINGS = RelaxationSettings()


def deeper(found, vectors):
    """Morse's energies with bonds twice as strong and 3 % longer."""
    return 2 * morse(found, vectors / 1.03)


def element_hull(level):
    from pymatgen.core import Element

    symbols = [str(Element.from_Z(z)) for z in range(1, 95)]
    return Hull(symbols, np.full(len(symbols), level), {})


def stages(first_level, *more, first=None):
    first = first or Counting(name="first")
    return [Stage(first, element_hull(first_level)), *more]


def judging(level=-10.0, **how):
    return Stage(Counting(deeper, name="judge", **how), element_hull(level))


def test_the_judge_goes_on_from_where_the_first_ended():
    crystals = rattled(0, 3)
    first = relax(crystals, Counting(), SETTINGS)
    ends = Crystals.concatenate([crystal(crystals.arrays(b)[0], f.frac_coords, f.lattice) for b, f in enumerate(first)])
    expected = relax(ends, Counting(deeper), chain.stage_settings(SETTINGS, 1))
    assert sum(e.steps for e in expected) > 0
    found = judge(crystals, stages(0.0, judging()), SETTINGS)
    assert [v.potential for v in found] == ["judge"] * 3
    assert [v.relaxed.energy for v in found] == pytest.approx([e.energy for e in expected], abs=1e-4)
    assert [v.relaxed.steps for v in found] == [f.steps + e.steps for f, e in zip(first, expected, strict=True)]


def test_a_judge_may_end_sooner_than_the_first_and_never_looser_than_asked_for():
    assert chain.stage_settings(SETTINGS, 0) == SETTINGS
    assert chain.stage_settings(SETTINGS, 1).fmax == chain.JUDGE_FMAX > SETTINGS.fmax
    loose = RelaxationSettings(fmax=0.3)
    assert chain.stage_settings(loose, 1) == loose


def test_what_the_first_leaves_far_above_its_hull_is_not_shown_to_the_judge():
    simple_cubic = crystal([29], [[0, 0, 0]], np.eye(3) * 2.6)  # whose symmetry a relaxation keeps
    crystals = Crystals.concatenate([rattled(1), simple_cubic])
    levels = [f.energy / n for f, n in zip(relax(crystals, Counting(), SETTINGS), (4, 1), strict=True)]
    assert levels[1] - levels[0] > 1e-2
    line = (levels[0] + levels[1]) / 2 - chain.SCREEN_ABOVE
    second = judging()
    found = judge(crystals, stages(line, second), SETTINGS)
    assert [v.potential for v in found] == ["judge", "first"]
    assert found[1].above == pytest.approx(levels[1] - line, abs=1e-5)
    assert set(second.potential.batches) == {1}


def test_a_chain_of_three_hands_on_twice():
    third = Stage(Counting(name="third"), element_hull(-10.0))
    second = Stage(Counting(deeper, name="second"), element_hull(0.0))
    (found,) = judge(rattled(2), stages(0.0, second, third), SETTINGS)
    assert found.potential == "third"
    assert found.relaxed.converged


def test_what_the_first_cannot_relax_is_not_stable_and_costs_the_judge_nothing():
    second = judging()
    dense = crystal([29] * 4, np.random.default_rng(0).random((4, 3)), np.eye(3) * 1.5)
    lone, good = crystal([55], [[0, 0, 0]], np.eye(3) * 7.5), rattled(3)
    found = judge(Crystals.concatenate([dense, lone, good]), stages(0.0, second), SETTINGS)
    assert [v.potential for v in found] == ["first", "first", "judge"]
    assert found[0].relaxed.reason.startswith("over-dense")
    assert "no neighbour" in found[1].relaxed.reason
    assert second.potential.batches.count(1) == len(second.potential.batches)


def test_an_atom_beyond_the_judges_reach_is_not_stable_though_the_first_felt_it():
    def short(found, vectors):
        pairs = (1 - vectors.norm(dim=1) / 2.0).clamp(min=0) * 0
        return torch.zeros(len(found.crystal_of_atom)).index_add(0, torch.from_numpy(found.centres), pairs)

    blind = Counting(short, name="judge")
    blind.cutoff = 2.0
    (found,) = judge(rattled(4), stages(0.0, Stage(blind, element_hull(0.0))), SETTINGS)
    assert found.potential == "judge"
    assert not found.relaxed.converged
    assert "no neighbour within 2 A" in found.relaxed.reason


def test_a_crystal_of_an_element_that_the_first_does_not_know_goes_to_the_judge_as_it_is():
    first = Counting(name="first")
    first.elements = frozenset({1})
    (found,) = judge(rattled(5), stages(0.0, judging(), first=first), SETTINGS)
    (alone,) = relax(rattled(5), Counting(deeper), SETTINGS)
    assert found.potential == "judge"
    assert found.relaxed.energy == pytest.approx(alone.energy, abs=1e-4)
    assert first.batches == []


def test_without_a_hull_of_the_first_all_are_judged():
    found = judge(rattled(6, 2), [Stage(Counting(name="first"), None), judging()], SETTINGS)
    assert [v.potential for v in found] == ["judge", "judge"]


@pytest.mark.parametrize("text", ["chgnet+", "+chgnet", "a++b", "+"])
def test_a_chain_with_a_hole_is_refused(text):
    with pytest.raises(ValueError, match="write a chain as first"):
        chain_names(text)


def test_names_of_chains_are_those_of_their_parts():
    assert chain_names("chgnet") == ("chgnet",)
    assert chain_names("chgnet + m3gnet") == ("chgnet", "m3gnet")
    assert chain_label("chgnet+/some/where/M3") == "chgnet+M3"
    with pytest.raises(ValueError, match="twice in the chain"):
        chain_names("chgnet+chgnet")


def test_a_folder_of_weights_with_a_plus_in_its_name_is_no_chain(tmp_path):
    folder = tmp_path / "M3GNet+D3"
    folder.mkdir()
    for name in ("model.json", "model.pt", "state.pt"):
        (folder / name).touch()
    assert chain_names(str(folder)) == (str(folder),)


@pytest.fixture
def two_chgnets(monkeypatch):
    """A chain whose second potential has CHGNet's weights too, under another name."""
    for module in (chain, task):
        if hasattr(module, "potential_protocol"):
            own = module.potential_protocol
            monkeypatch.setattr(module, "potential_protocol", lambda name, own=own: {**own("chgnet"), "name": name})
    packaged = hull_path
    monkeypatch.setattr(task, "hull_path", lambda name: packaged("chgnet"))
    task._read_hull.cache_clear()
    yield "chgnet+twin"
    task._read_hull.cache_clear()


def test_every_part_of_a_chain_and_its_screen_are_in_the_protocol(two_chgnets):
    plain, chained = Stability("chgnet").protocol(), Stability(two_chgnets).protocol()
    assert "screen" not in plain
    assert [part["name"] for part in chained["potential"]["chain"]] == ["chgnet", "twin"]
    assert all(len(part["sha256"]) == 64 for part in chained["potential"]["chain"])
    assert chained["screen"] == {"above_ev_per_atom": chain.SCREEN_ABOVE, "hulls": [plain["hull"]["sha256"]]}
    assert chain_protocol("chgnet") == plain["potential"]


def test_a_second_chain_has_names_of_its_own_and_a_column_says_whose_verdict_a_row_is(two_chgnets, monkeypatch):
    loaded = {name: Counting(name=name) for name in ("chgnet", "twin")}
    monkeypatch.setattr(task, "load_potential", lambda name, device: loaded[name])
    found = Stability(two_chgnets, name=f"stability-{two_chgnets}").score(rattled(7, 2))
    assert set(found["potential_of_verdict"].to_pylist()) <= {"chgnet", "twin"}
    table = {f"stability-{two_chgnets}": found}
    metrics = Stability(two_chgnets, name=f"stability-{two_chgnets}").summary(table, None, 0)
    assert "stable_rate[chgnet+twin]" in metrics
