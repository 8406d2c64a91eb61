"""Which symmetry holds in a CIF, and what was read held against the rest of the file. A contradiction is a reason."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from bench import cli
from bench.store import Run
from tests.bench.cif_texts import ATOMS, atoms, cell, counts_of, operators, read_text, reason_of

HM, NUMBER, HALL = "_symmetry_space_group_name_H-M", "_symmetry_Int_Tables_number", "_space_group_name_Hall"
SALT = atoms(["Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5"])
SILICON = atoms(["Si1 Si 0.125 0.125 0.125"])  # 8 atoms about the second origin, 16 about the first
BISMUTH = atoms(["Bi1 Bi 0.234 0.234 0.234"])
HEXAGONAL_BISMUTH = atoms(["Bi1 Bi 0 0 0.234"])
RHOMBOHEDRON, HEXAGONAL = cell(4.75, 4.75, 4.75, 57.2, 57.2, 57.2), cell(4.55, 4.55, 11.86, 90, 90, 120)
FULL = ("site_symmetry_multiplicity",)


def text(cell_lines: str, symmetry: str, sites: str) -> str:
    return f"data_x\n{cell_lines}{symmetry}{sites}"


@pytest.mark.parametrize(
    "symbol",
    ["F m -3 m", "Fm-3m", "F m 3 m", "Fm3m", "FM-3M", "fm-3m", "F 4/m -3 2/m", "F 4/m 3 2/m", "F4/m-32/m", "F_m_-3_m",
     "F m\u22123m", "F  m -3  m"],
)  # fmt: skip
@pytest.mark.parametrize(
    "tag", [HM, "_space_group_name_H-M_alt", "_space_group.name_H-M_full", "_SYMMETRY_SPACE_GROUP_NAME_h-m"]
)
def test_a_symbol_is_known_in_all_its_spellings(symbol: str, tag: str, tmp_path: Path) -> None:
    assert counts_of(text(cell(5.64), f"{tag} '{symbol}'\n", SALT), tmp_path) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize("tag", [NUMBER, "_space_group_IT_number", "_space_group.IT_number"])
def test_a_number_alone_is_the_standard_setting(tag: str, tmp_path: Path) -> None:
    assert counts_of(text(cell(5.64), f"{tag} 225\n", SALT), tmp_path) == {"Na": 4, "Cl": 4}


@pytest.mark.parametrize(
    "name", [f"{NUMBER} 166\n", f"{HM} 'R -3 m'\n", f"{HM} R-3m\n", f"{HM} 'R -3 2/m'\n{NUMBER} 166\n"]
)
def test_a_rhombohedral_group_has_the_axes_of_the_cell(name: str, tmp_path: Path) -> None:
    assert counts_of(text(RHOMBOHEDRON, name, BISMUTH), tmp_path) == {"Bi": 2}
    assert counts_of(text(HEXAGONAL, name, HEXAGONAL_BISMUTH), tmp_path) == {"Bi": 6}


@pytest.mark.parametrize("suffix", [":{}", " :{}", " {}", "{}", " ({})"])
def test_axes_behind_a_symbol_are_heeded(suffix: str, tmp_path: Path) -> None:
    for axes, shape, sites, count in (("R", RHOMBOHEDRON, BISMUTH, 2), ("H", HEXAGONAL, HEXAGONAL_BISMUTH, 6)):
        name = f"{HM} 'R -3 m{suffix.format(axes)}'\n"
        assert counts_of(text(shape, name, sites), tmp_path) == {"Bi": count}
        other = HEXAGONAL if axes == "R" else RHOMBOHEDRON
        assert "do not fit the cell" in reason_of(text(other, name, sites), tmp_path)


@pytest.mark.parametrize(
    "name",
    ["F d -3 m :2", "F d -3 m:2", "Fd-3m:2", "F d -3 m Z", "Fd-3mZ", "F d 3 m :2", "F 41/d -3 2/m :2", "F d -3 m (2)"],
)
def test_an_origin_behind_a_symbol_is_heeded(name: str, tmp_path: Path) -> None:
    assert counts_of(text(cell(5.431), f"{HM} '{name}'\n", SILICON), tmp_path) == {"Si": 8}
    first = name.replace("2)", "1)").replace(":2", ":1").replace("Z", "S")
    assert counts_of(text(cell(5.431), f"{HM} '{first}'\n", SILICON), tmp_path) == {"Si": 16}


def test_an_origin_by_its_code_is_heeded(tmp_path: Path) -> None:
    for code, count in (("1", 16), ("2", 8)):
        name = f"{NUMBER} 227\n_space_group_IT_coordinate_system_code {code}\n"
        assert counts_of(text(cell(5.431), name, SILICON), tmp_path) == {"Si": count}


@pytest.mark.parametrize("name", [f"{HM} 'F d -3 m'\n", f"{NUMBER} 227\n", f"{HM} Fd3m\n{NUMBER} 227\n"])
def test_an_origin_that_is_not_said_is_a_reason_unless_the_rest_of_the_file_tells_it(name: str, tmp_path: Path) -> None:
    assert "F d -3 m:1 or F d -3 m:2; list the symmetry operators" in reason_of(
        text(cell(5.431), name, SILICON), tmp_path
    )
    for formula, count in (("Si8", 8), ("Si16", 16)):
        said = f"_chemical_formula_sum {formula}\n_cell_formula_units_Z 1\n"
        assert counts_of(text(cell(5.431), name + said, SILICON), tmp_path) == {"Si": count}
    assert counts_of(text(cell(5.431), name + "_exptl_crystal_density_diffrn 2.33\n", SILICON), tmp_path) == {"Si": 8}


def test_a_hall_symbol_alone_is_enough(tmp_path: Path) -> None:
    for hall, count in (("-F 4vw 2vw 3", 8), ("F 4d 2 3 -1d", 16), ("-F 4vw 2vw 3 (x+1/8,y+1/8,z+1/8)", 16)):
        assert counts_of(text(cell(5.431), f"{HALL} '{hall}'\n", SILICON), tmp_path) == {"Si": count}
    assert "Hall symbol 'F 9' is not known" in reason_of(text(cell(5.431), f"{HALL} 'F 9'\n", SILICON), tmp_path)


@pytest.mark.parametrize(
    ("symbol", "angles"),
    [("P 1 21/c 1", (90, 100, 90)), ("P21/c", (90, 100, 90)), ("P 2_1/c", (90, 100, 90)), ("P2(1)/c", (90, 100, 90)),
     ("P 21/n", (90, 100, 90)), ("P 1 1 21/b", (90, 90, 100)), ("P 21/b", (90, 90, 100)), ("P 21/a", (90, 100, 90)),
     ("P 21/b 1 1", (100, 90, 90)), ("P 21/c", (90, 90, 90))],
)  # fmt: skip
def test_the_settings_of_a_monoclinic_group_are_told_by_symbol_and_cell(
    symbol: str, angles: tuple[float, ...], tmp_path: Path
) -> None:
    listed = atoms(["Fe1 Fe 0 0 0", "O1 O 0.1 0.2 0.3"])
    assert counts_of(text(cell(5, 6, 7, *angles), f"{HM} '{symbol}'\n", listed), tmp_path) == {"Fe": 2, "O": 4}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (f"{HM} ?\n{NUMBER} ?\n", "does not tell (_symmetry_space_group_name_h-m is '?'); list the symmetry operators"),
        (f"{HM} '?'\n", "has a symmetry that it does not tell"),
        ("loop_\n_symmetry_equiv_pos_as_xyz\n?\n", "has a symmetry that it does not tell"),
        ("_symmetry_cell_setting cubic\n", "the crystal system 'cubic'"),
        ("_space_group_crystal_system hexagonal\n", "the crystal system 'hexagonal'"),
        (f"{HM} 'F n o 1'\n", "the space group 'F n o 1' is not known; list the symmetry operators"),
        (f"{HM} unknown\n{NUMBER} 225\n", "the space group 'unknown' is not known"),
        (f"{NUMBER} 231\n", "is 231, not one of 1 to 230"),
        (f"{NUMBER} 225.5\n", "is 225.5, not one of"),
        (f"{HM} 'P 63/m m c'\n", "the space group 'P 63/m m c' do not fit the cell (5.64, 5.64"),
        (f"{HM} 'F m -3 m'\n{NUMBER} 221\n", "names the space group 'F m -3 m' and number 221"),
        (operators("x,y,z", "-x,-y"), "'-x,-y' is no symmetry operator"),
        (operators("x,y,z", "a,b,c"), "'a,b,c' is no symmetry operator"),
        (operators("x,y,z", "x,x,z"), "does not keep volumes"),
        (operators("x,y,z", "x+1/7,y,z"), "is no symmetry operator"),
        (operators("x,y,z", "x+0.123,y,z"), "is no symmetry operator"),
        (operators("x,y,z", "-y,x,z"), "form no group; list all of them"),
        (operators("x,y,z", "y,z,x", "z,x,y").replace("z,x,y", "z,x,-y"), "form no group"),
        ("loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n", "is magnetic or modulated"),
        ("_cell_modulation_dimension 1\n", "is magnetic or modulated"),
    ],
)
def test_a_symmetry_that_is_not_understood_is_a_reason(name: str, says: str, tmp_path: Path) -> None:
    assert says in reason_of(text(cell(5.64), name, SALT), tmp_path)


@pytest.mark.parametrize(
    "symmetry", ["", f"{HM} 'P 1'\n", f"{NUMBER} 1\n", operators("x,y,z"), "_symmetry_cell_setting triclinic\n"]
)
def test_without_any_symmetry_the_atoms_are_those_listed(symmetry: str, tmp_path: Path) -> None:
    assert counts_of(text(cell(5.64), symmetry, SALT), tmp_path) == {"Na": 1, "Cl": 1}


@pytest.mark.parametrize(
    "triplets",
    [("x,y,z", "-x+1/2,-y,z+1/2"), ("X, Y, Z", "1/2-X, -Y, 1/2+Z"), ("+x,+y,+z", "-x+.5,-y,z+0.5"),
     ("x,y,z", "0.5-x,-y,0.50+z"), ("x , y , z", "-x - 1/2, -y, z + 3/2"), ("x,y,z", "-x+1/2,-y,z+1/2", "x,y,z")],
)  # fmt: skip
@pytest.mark.parametrize(
    "tag", ["_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz", "_symmetry_equiv.pos_as_xyz"]
)
def test_operators_are_read_in_all_their_notations(triplets: tuple[str, ...], tag: str, tmp_path: Path) -> None:
    result = read_text(text(cell(5, 6, 7), operators(*triplets, tag=tag), atoms(["Fe1 Fe .1 .2 .3"])), tmp_path)
    np.testing.assert_allclose(result.filtered.crystals[:1].frac_coords, [[0.1, 0.2, 0.3], [0.4, 0.8, 0.8]], atol=1e-12)


def test_thirds_of_operators_may_be_decimals(tmp_path: Path) -> None:
    listed = operators("x,y,z", "-y,x-y,z+.33333", "-x+y,-x,z+0.6667")
    crystals = read_text(text(HEXAGONAL, listed, atoms(["Se1 Se .2 0 0"])), tmp_path).filtered.crystals
    assert sorted(crystals.arrays(0)[1][:, 2].round(9)) == [0, 0.333333333, 0.666666667]


@pytest.mark.parametrize("rows", ["x, y, z\n-x, -y, z\n", "x, y, z -x, -y, z\n"])
def test_operators_with_blanks_and_without_quotes_are_put_together(rows: str, tmp_path: Path) -> None:
    listed = f"loop_\n_symmetry_equiv_pos_as_xyz\n{rows}"
    assert counts_of(text(cell(5), listed, atoms(["Fe1 Fe .1 .2 .3"])), tmp_path) == {"Fe": 2}
    numbered = "loop_\n_symmetry_equiv_pos_site_id\n_symmetry_equiv_pos_as_xyz\n1 x, y, z\n2 -x, -y, z\n"
    assert counts_of(text(cell(5), numbered, atoms(["Fe1 Fe .1 .2 .3"])), tmp_path) == {"Fe": 2}


def test_operators_that_cannot_be_put_together_are_a_reason(tmp_path: Path) -> None:
    listed = "loop_\n_symmetry_equiv_pos_as_xyz\nx, y, z + 1/2\n"
    assert "put each in quotes" in reason_of(text(cell(5), listed, SALT), tmp_path)


def test_operators_of_a_setting_that_has_no_symbol_hold(tmp_path: Path) -> None:
    listed = operators("x,y,z", "-x+1/4,-y+1/4,-z+1/4") + f"{HM} 'P -1'\n{NUMBER} 2\n"
    assert counts_of(text(cell(5, 6, 7), listed, atoms(["Fe1 Fe .1 .2 .3"])), tmp_path) == {"Fe": 2}


def test_operators_given_twice_have_to_be_the_same(tmp_path: Path) -> None:
    new, old = "_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz"
    both = operators("x,y,z", "-x,-y,-z", tag=new) + operators("-x, -y, -z", "x, y, z", tag=old)
    listed = atoms(["Fe1 Fe .1 .2 .3"])
    assert counts_of(text(cell(5, 6, 7), both, listed), tmp_path) == {"Fe": 2}
    other = operators("x,y,z", "-x,-y,-z", tag=new) + operators("x,y,z", "-x,y,-z", tag=old)
    assert "lists operators of group 2 and operators of group 3" in reason_of(
        text(cell(5, 6, 7), other, listed), tmp_path
    )


def test_operators_have_to_fit_the_cell(tmp_path: Path) -> None:
    listed = operators("x,y,z", "-y,x-y,z", "-x+y,-x,z")
    assert "its symmetry operators do not fit the cell" in reason_of(text(cell(5), listed, SALT), tmp_path)


# Special positions

WURTZITE = [f"'{op.triplet()}'" for op in gemmi.find_spacegroup_by_name("P 63 m c").operations()]


@pytest.mark.parametrize(
    ("x", "y"),
    [("0.3333", "0.6667"), ("0.333", "0.667"), ("0.33", "0.67"), ("0.3333", "0.6666"), ("0.33334", "0.66667")],
)
def test_a_rounded_special_position_is_one_atom_an_image(x: str, y: str, tmp_path: Path) -> None:
    symmetry = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(WURTZITE) + "\n"
    listed = atoms([f"Zn1 Zn {x} {y} 0", f"O1 O {x} {y} .38"])
    result = read_text(text(cell(3.25, 3.25, 5.2, 90, 90, 120), symmetry, listed), tmp_path)
    assert result.filtered.crystals.num_atoms.tolist() == [4, 1]
    assert not result.remarks
    coords = result.filtered.crystals.arrays(0)[1]
    np.testing.assert_allclose(np.sort(coords[:, 0]), [1 / 3, 1 / 3, 2 / 3, 2 / 3], atol=1e-3)


def test_a_position_that_rounding_does_not_explain_is_where_it_is_written(tmp_path: Path) -> None:
    mirror = operators("x,y,z", "-x,y,z")
    assert counts_of(text(cell(5), mirror, atoms(["Fe1 Fe 0.003 .2500 .3"])), tmp_path) == {"Fe": 2}
    assert counts_of(text(cell(5), mirror, atoms(["Fe1 Fe 0.2 .1 .3"])), tmp_path) == {"Fe": 2}
    assert counts_of(text(cell(5), mirror, atoms(["Fe1 Fe 0.49 .1 .3"])), tmp_path) == {"Fe": 2}


# Held against the rest of the file


def crystallm(symbol: str, number: int, z: int, multiplicities: tuple[int, int] = (4, 4), extra: str = "") -> str:
    """As a language model writes it before anything is repaired: a group, multiplicities, and the identity alone."""
    rows = [f"Na Na0 {multiplicities[0]} 0 0 0 1", f"Cl Cl1 {multiplicities[1]} 0 0 0.5 1"]
    columns = ("type_symbol", "label", "symmetry_multiplicity", "fract_x", "fract_y", "fract_z", "occupancy")
    said = f"_chemical_formula_sum 'Na{z} Cl{z}'\n_cell_volume 179.4\n_cell_formula_units_Z {z}\n"
    group = f"{HM} {symbol}\n{NUMBER} {number}\n"
    return text(cell(5.64), f"{group}{said}{extra}" + operators("x, y, z"), atoms(rows, columns))


def test_a_group_whose_operators_are_missing_is_taken_where_all_else_agrees_with_it(tmp_path: Path) -> None:
    result = read_text(crystallm("Fm-3m", 225, 4), tmp_path)
    assert result.filtered.crystals.num_atoms.tolist() == [8, 1]
    assert result.filtered.crystals.densities[0] == pytest.approx(2.164, abs=1e-3)
    assert list(result.remarks.values()) == [1]
    assert "read in the one way that agrees with all else" in next(iter(result.remarks))


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (crystallm("Fm-3m", 225, 3), "but the formula is Cl3 Na3 with 3 formula units"),
        (crystallm("Fm-3m", 225, 4, (4, 8)), "has 4 images, but a multiplicity of 8"),
        (crystallm("Fm-3m", 221, 4), "number 221"),
        (crystallm("Fm-3m", 225, 4, extra="_exptl_crystal_density_diffrn 1.5\n"), "but the density is 1.5"),
        (crystallm("Fm-3m", 225, 4).replace("179.4", "150.0"), "_cell_volume is 150"),
    ],
)
def test_what_agrees_with_no_reading_is_a_reason(written: str, says: str, tmp_path: Path) -> None:
    assert says in reason_of(written, tmp_path)
    assert "contradicts itself" in reason_of(written, tmp_path)


def test_operators_and_a_group_that_differ_are_a_reason_where_nothing_tells_which_holds(tmp_path: Path) -> None:
    symmetry = f"{HM} 'F m -3 m'\n{NUMBER} 225\n" + operators("x,y,z")
    assert "list the symmetry operators" in reason_of(text(cell(5.64), symmetry, SALT), tmp_path)


@pytest.mark.parametrize(
    ("said", "agrees"),
    [("'Na4 Cl4'", True), ("'Na Cl'", True), ("'Cl1 Na1'", True), ("NaCl", True),
     ("'Na2 Cl1'", False), ("'Na Br'", False),
     ("'Na8 Cl8'", False), ("'Na4 Cl4 H2'", False), ("?", True), ("'(Na Cl)4'", True)],
)  # fmt: skip
def test_the_formula_has_to_be_that_of_the_cell(said: str, agrees: bool, tmp_path: Path) -> None:
    written = text(cell(5.64), f"{HM} 'F m -3 m'\n_chemical_formula_sum {said}\n", SALT)
    if agrees:
        assert counts_of(written, tmp_path) == {"Na": 4, "Cl": 4}
    else:
        assert "but the formula is" in reason_of(written, tmp_path)


@pytest.mark.parametrize(("units", "agrees"), [("4", True), ("4.0", True), ("2", False), ("8", False), ("?", True)])
def test_formula_units_have_to_fill_the_cell(units: str, agrees: bool, tmp_path: Path) -> None:
    said = f"{HM} 'F m -3 m'\n_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z {units}\n"
    written = text(cell(5.64), said, SALT)
    if agrees:
        assert counts_of(written, tmp_path) == {"Na": 4, "Cl": 4}
    else:
        assert f"with {units} formula units" in reason_of(written, tmp_path)


def test_hydrogens_that_only_the_formula_has_are_a_reason(tmp_path: Path) -> None:
    written = text(cell(5), "_chemical_formula_sum 'H2 O'\n", atoms(["O1 O 0 0 0"]))
    assert "the cell holds O1, but the formula is H2 O1" in reason_of(written, tmp_path)


def test_multiplicities_may_be_of_the_site_symmetry_as_old_programs_have_them(tmp_path: Path) -> None:
    rows = ["Fe1 Fe 0 0 0 {}", "O1 O .1 .2 .3 {}"]
    for first, second in ((1, 2), (2, 1)):
        listed = atoms([rows[0].format(first), rows[1].format(second)], (*ATOMS, "symmetry_multiplicity"))
        symmetry = operators("x,y,z", "-x,-y,-z")
        assert counts_of(text(cell(5, 6, 7), symmetry, listed), tmp_path) == {"Fe": 1, "O": 2}
    assert "has 1 images, but a multiplicity of 2" in reason_of(text(cell(5, 6, 7), f"{HM} 'P -1'\n", listed), tmp_path)


def test_atoms_that_symmetry_gives_as_well_are_taken_once_with_a_remark(tmp_path: Path) -> None:
    every = [f"{e}{x}{y}{z} {e} {x} {y} {z}" for e, s in (("Na", 0), ("Cl", 1)) for x in (0, 0.5) for y in (0, 0.5)
             for z in (0, 0.5) if int(2 * (x + y + z)) % 2 == s]  # fmt: skip
    result = read_text(text(cell(5.64), f"{HM} 'F m -3 m'\n", atoms(every)), tmp_path)
    assert result.filtered.crystals.num_atoms.tolist() == [8, 1]
    assert list(result.remarks) == ["atoms listed that symmetry gives as well: each taken once"]
    assert "are images of others" in reason_of(text(cell(5.64), f"{HM} 'F m -3 m'\n", atoms(every[:3])), tmp_path)


def test_a_site_farther_off_is_moved_only_where_the_formula_has_it_there(tmp_path: Path) -> None:
    mirror = operators("x,y,z", "-x,y,z") + "_chemical_formula_sum Fe\n_cell_formula_units_Z {}\n"
    loose = text(cell(5), mirror, atoms(["Fe1 Fe 0.0102 .25 .3"]))
    result = read_text(loose.format(1), tmp_path)
    assert result.filtered.crystals.num_atoms.tolist() == [1, 1]
    assert "moved there" in next(iter(result.remarks))
    assert counts_of(loose.format(2), tmp_path) == {"Fe": 2}


def test_a_number_that_contradicts_operators_and_symbol_is_a_reason_where_nothing_confirms_them(tmp_path: Path) -> None:
    symmetry = f"{HM} 'P 1'\n{NUMBER} 225\n" + operators("x,y,z")
    assert "and number 225; list the symmetry operators" in reason_of(text(cell(5.64), symmetry, SALT), tmp_path)
    confirmed = symmetry + "_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 1\n"
    assert len(read_text(text(cell(5.64), confirmed, SALT), tmp_path).remarks) == 1


def test_a_primitive_cell_that_keeps_the_symbol_of_its_group_is_what_it_lists(tmp_path: Path) -> None:
    said = f"{HM} 'F m -3 m'\n{NUMBER} 225\n_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 1\n"
    result = read_text(text(cell(3.99, 3.99, 3.99, 60, 60, 60), said + operators("x,y,z"), SALT), tmp_path)
    assert result.filtered.crystals.num_atoms.tolist() == [2, 1]
    assert len(result.remarks) == 1


def test_operators_of_another_group_than_the_one_named_are_a_reason(tmp_path: Path) -> None:
    symmetry = f"{HM} 'P 1 21/c 1'\n_chemical_formula_sum Fe4\n_cell_formula_units_Z 1\n"
    listed = operators("x,y,z", "-x,y,-z") + atoms(["Fe1 Fe .1 .2 .3"])
    assert "contradicts itself: lists operators of group 3" in reason_of(text(cell(5), symmetry, listed), tmp_path)


def test_a_remark_is_told_once_and_kept_in_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "salts").mkdir()
    for number in range(3):
        (tmp_path / "salts" / f"{number}.cif").write_text(crystallm("Fm-3m", 225, 4))
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        cli.main(["score", str(tmp_path / "salts"), "--dataset", "perov5", "--tasks", "properties", "--out", str(out)])
    assert ended.value.code in (0, None)
    assert capsys.readouterr().err.count("3 of 3 crystals: symmetry contradicts itself or leaves a choice") == 1
    (model,) = Run.open(out).manifest["models"].values()
    assert list(model["remarks"].values()) == [3]
