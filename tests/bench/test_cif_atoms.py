"""Which atoms a CIF lists: syntax, elements, coordinates, occupancies. What is not certain is a reason."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.cif_texts import ATOMS, atoms, cell, counts_of, operators, read_text, reason_of

HEAD = "data_x\n" + cell(5)
INVERSION = "_symmetry_space_group_name_H-M 'P -1'\n" + operators("x,y,z", "-x,-y,-z")
FE_O = ["Fe1 Fe 0.1 0.2 0.3", "O1 O 0.6 0.7 0.8"]


@pytest.mark.parametrize(
    ("symbol", "element"),
    [("Fe", "Fe"), ("Fe3+", "Fe"), ("O2-", "O"), ("Fe2.5+", "Fe"), ("Na+", "Na"), ("Cl1-", "Cl"), ("Ti+4", "Ti"),
     ("FE", "Fe"), ("fe", "Fe"), ("Fe0+", "Fe"), ("Fe1", "Fe"), ("'Fe'", "Fe"), ("o", "O"), ("Og", "Og")],
)  # fmt: skip
def test_a_type_is_an_element_with_or_without_its_charge(symbol: str, element: str, tmp_path: Path) -> None:
    assert counts_of(HEAD + atoms([f"M1 {symbol} 0 0 0"]), tmp_path) == {element: 1}


@pytest.mark.parametrize("symmetry", ["", INVERSION])
@pytest.mark.parametrize("symbol", ["Bx", "Vac", "X", "OH", "H(SDS)", "Q1", "Wat", "Du", "M", "1", "NaCl", "fE"])
def test_a_type_that_is_no_element_is_a_reason(symbol: str, symmetry: str, tmp_path: Path) -> None:
    text = HEAD + symmetry + atoms(["Ca1 Ca 0.1 0.2 0.3", f"Y1 {symbol} 0.6 0.7 0.8"])
    assert f"'{symbol}' is no element" in reason_of(text, tmp_path)


@pytest.mark.parametrize("site", ["D1 D 0 0 0", "H1 T 0 0 0", "X2 D+ 0 0 0", "D3 . 0 0 0"])
def test_deuterium_and_tritium_are_reasons_that_say_what_to_do(site: str, tmp_path: Path) -> None:
    assert "write H where it stands for it" in reason_of(HEAD + atoms(["O1 O .5 .5 .5", site]), tmp_path)


@pytest.mark.parametrize(
    ("label", "element"),
    [("Na1", "Na"), ("Fe1A", "Fe"), ("OW", "O"), ("OW2", "O"), ("OH1", "O"), ("C1A", "C"), ("Cs1", "Cs"), ("MG1", "Mg"),
     ("ZN", "Zn"), ("na2", "Na"), ("CO1", "C"), ("HO2", "H"), ("Co1", "Co"), ("Fe_2", "Fe"), ("Fe(1)", "Fe")],
)  # fmt: skip
def test_a_label_without_a_type_begins_with_its_element(label: str, element: str, tmp_path: Path) -> None:
    without = [name for name in ATOMS if name != "type_symbol"]
    assert counts_of(HEAD + atoms([f"{label} 0 0 0"], without), tmp_path) == {element: 1}
    assert counts_of(HEAD + atoms([f"{label} . 0 0 0"]), tmp_path) == {element: 1}


@pytest.mark.parametrize("label", ["CA1", "CS2", "SI1", "SN", "CU1", "NB2"])
def test_a_label_of_two_possible_elements_is_one_only_where_the_file_says_which(label: str, tmp_path: Path) -> None:
    without = [name for name in ATOMS if name != "type_symbol"]
    listed = atoms([f"{label} 0 0 0"], without)
    assert f"{label[:2].capitalize()} or {label[0]}" in reason_of(HEAD + listed, tmp_path)
    for element in (label[:2].capitalize(), label[0]):
        formula = f"_chemical_formula_sum '{element}1'\n"
        assert counts_of(HEAD + formula + listed, tmp_path) == {element: 1}
        assert counts_of(HEAD + f"loop_\n_atom_type_symbol\n{element}\n" + listed, tmp_path) == {element: 1}


def test_a_label_is_cobalt_where_the_formula_has_cobalt(tmp_path: Path) -> None:
    listed = atoms(["CO1 0 0 0"], ["label", "fract_x", "fract_y", "fract_z"])
    assert counts_of(HEAD + "_chemical_formula_sum 'Co'\n" + listed, tmp_path) == {"Co": 1}


@pytest.mark.parametrize("label", ["M1", "X2", "Wat", "Vac1", "Bx9", "1", "A1", "(Fe)"])
def test_a_label_that_begins_with_no_element_is_a_reason(label: str, tmp_path: Path) -> None:
    assert "is no element" in reason_of(HEAD + atoms([f"{label} ? 0 0 0"]), tmp_path)


def test_types_without_labels_are_enough(tmp_path: Path) -> None:
    listed = atoms(["Fe 0.1 0.2 0.3", "O 0.6 0.7 0.8"], ATOMS[1:])
    assert counts_of(HEAD + listed, tmp_path) == {"Fe": 1, "O": 1}


def test_neither_types_nor_labels_is_a_reason(tmp_path: Path) -> None:
    assert "neither" in reason_of(HEAD + atoms(["0.1 0.2 0.3"], ATOMS[2:]), tmp_path)


@pytest.mark.parametrize(
    ("written", "value"),
    [("0.123(4)", 0.123), (".5", 0.5), ("5.", 0.0), ("1e-1", 0.1), ("+0.25", 0.25), ("-.25(13)", 0.75), ("1.25", 0.25),
     ("\u22120.10", 0.9), ("\u20130.10", 0.9), ("'0.5'", 0.5), ("\u00a00.5", 0.5)],
)  # fmt: skip
def test_a_coordinate_is_read_as_it_is_written(written: str, value: float, tmp_path: Path) -> None:
    result = read_text(HEAD + atoms([f"Na1 Na {written} 0.2 0.3"]), tmp_path)
    np.testing.assert_allclose(result.filtered.crystals.arrays(0)[1][0], [value, 0.2, 0.3], atol=1e-12)


@pytest.mark.parametrize(
    "written", [".", "?", "0,5", "1/2", "x", "0.5.1", "\u20140.1", "0.5(", "nan", "inf", "٠.٥", "0x1"]
)
def test_a_coordinate_that_is_no_number_is_a_reason(written: str, tmp_path: Path) -> None:
    assert "of atom site 2 is" in reason_of(HEAD + atoms([*FE_O[:1], f"Na1 Na {written} 0.2 0.3"]), tmp_path)


@pytest.mark.parametrize("symmetry", ["", INVERSION])
@pytest.mark.parametrize("whole", [".", "1", "1.0", "1.00(2)", "1.", "'1'"])
def test_an_occupancy_that_is_left_out_is_one(whole: str, symmetry: str, tmp_path: Path) -> None:
    rows = [f"{FE_O[0]} 1", f"{FE_O[1]} {whole}"]
    times = 2 if symmetry else 1
    assert counts_of(HEAD + symmetry + atoms(rows, (*ATOMS, "occupancy")), tmp_path) == {"Fe": times, "O": times}


@pytest.mark.parametrize("partial", ["0.5", "0", "0.99", "1.5", "-1"])
def test_a_partial_occupancy_is_a_reason(partial: str, tmp_path: Path) -> None:
    text = HEAD + atoms([f"{FE_O[0]} .", f"{FE_O[1]} {partial}"], (*ATOMS, "occupancy"))
    assert reason_of(text, tmp_path).startswith("has partial occupancies (O1 ")


def test_an_unknown_occupancy_is_a_reason(tmp_path: Path) -> None:
    assert "'?'" in reason_of(HEAD + atoms([f"{row} ?" for row in FE_O], (*ATOMS, "occupancy")), tmp_path)


@pytest.mark.parametrize("symmetry", ["", INVERSION])
@pytest.mark.parametrize(
    "second", ["H1 H 0.6 0.7 0.8", "O2 O 0.6 0.7 0.8", "H1 H 1.6 -0.3 0.8", "S1 S 0.60001 0.7 0.8"]
)
def test_two_atoms_on_one_site_are_a_reason(second: str, symmetry: str, tmp_path: Path) -> None:
    assert " are one" in reason_of(HEAD + symmetry + atoms([*FE_O, second]), tmp_path)


def test_another_element_on_the_image_of_a_site_is_a_reason(tmp_path: Path) -> None:
    text = HEAD + INVERSION + atoms([*FE_O, "S1 S 0.4 0.3 0.2"])
    assert "atom sites 2 and 3 are one, by symmetry" in reason_of(text, tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [("attached_hydrogens", "2", "2 hydrogens without coordinates"), ("calc_flag", "dum", "dummy atoms")],
)
def test_atoms_that_are_not_quite_there_are_reasons(column: str, value: str, says: str, tmp_path: Path) -> None:
    rows = [f"{FE_O[0]} .", f"{FE_O[1]} {value}"]
    assert says in reason_of(HEAD + atoms(rows, (*ATOMS, column)), tmp_path)


def test_alternative_places_of_an_atom_are_a_reason(tmp_path: Path) -> None:
    rows = [f"{FE_O[0]} 1", f"{FE_O[1]} 2"]
    assert "is disordered (groups 1, 2)" in reason_of(HEAD + atoms(rows, (*ATOMS, "disorder_group")), tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + atoms(FE_O) + atoms(["O1 -2", "Fe1 2"], ("label", "charge")), "_atom_site_label stands there twice"),
        (HEAD + "_cell_length_a 5\n" + atoms(FE_O), "duplicate tag _cell_length_a"),
        (HEAD + "_cell.length_a 6\n" + atoms(FE_O), "stands there twice, with different values"),
        (HEAD + atoms(["0 0 0"], ATOMS[2:]) + atoms(["Fe1 Fe"], ATOMS[:2]), "stands in another loop"),
        (HEAD + atoms([FE_O[0], "O1 O 0.5 0.5"]), "Wrong number of values"),
        (HEAD + "_title 'not closed\n" + atoms(FE_O), "not CIF: line 8"),
        (HEAD + "_title two words\n" + atoms(FE_O), "at '_title two words'; a value with blanks needs quotes"),
        (HEAD + "_a\n;\nno end\n" + atoms(FE_O), "has no end"),
        (HEAD + atoms(FE_O, (*ATOMS[:2], "Cartn_x", "Cartn_y", "Cartn_z")), "Cartesian ones; write fractional ones"),
        (HEAD + atoms([]), "list of atom sites is empty"),
        ("data_x\n" + cell(5).replace("_cell_angle_beta 90\n", "") + atoms(FE_O), "has no cell (_cell_angle_beta)"),
        ("data_x\n" + cell(-5) + atoms(FE_O), "_cell_length_a is -5"),
        ("data_x\n" + cell(5, 5, 5, 90, 90, 180) + atoms(FE_O), "_cell_angle_gamma is 180"),
        ("data_x\n" + cell(5, 5, 5, 30, 30, 90) + atoms(FE_O), "lattice has volume"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(text: str, says: str, tmp_path: Path) -> None:
    assert says in reason_of(text, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "_a\n;\ndata_ of a table\n_cell_length_a 7\n;\n" + atoms(FE_O),
        HEAD + "_a 'it's ok'\n_b \"data_y\"\n" + atoms(FE_O),
        "\ufeff" + HEAD + atoms(FE_O),
        (HEAD + atoms(FE_O)).replace("\n", "\r\n"),
        (HEAD + atoms(FE_O)).replace("\n", "\r"),
        (HEAD + atoms(FE_O)).replace(" ", "\t").rstrip(),
        HEAD.replace("data_x", "data_") + atoms(FE_O),
        "# a comment: é \u2212\n\n" + HEAD + f"# {'x' * 100_000}\n\n" + atoms(FE_O),
        HEAD + "_name Müller\n" + atoms(FE_O),
        HEAD + "save_frame\n_cell_length_a 9\nsave_\n" + atoms(FE_O),
        (HEAD + atoms(FE_O)).upper().replace("FE 0", "Fe 0"),
        "data_x\n" + cell(5).replace("_cell_", "_cell.") + atoms(FE_O).replace("_site_", "_site."),
        HEAD + atoms(["Fe1 0.01", "O1 0.02"], ("aniso_label", "aniso_U_11")) + atoms(FE_O),
        "data_empty\n\n" + HEAD + atoms(FE_O),
        "data_paper\n_journal_year 1998\n" + HEAD + atoms(FE_O) + "data_refs\n_a 1\n",
        "data_x " + HEAD.removeprefix("data_x").replace("\n", " ") + atoms(FE_O),
    ],
)  # fmt: skip
def test_the_ways_in_which_a_cif_may_be_laid_out_make_no_difference(text: str, tmp_path: Path) -> None:
    assert counts_of(text, tmp_path) == {"Fe": 1, "O": 1}


def test_every_block_with_a_cell_or_with_atoms_is_a_place(tmp_path: Path) -> None:
    text = HEAD + "data_no_cell\n" + atoms(FE_O) + "data_no_atoms\n" + cell(5) + HEAD + atoms(FE_O)
    result = read_text(text, tmp_path)
    assert [result.reasons().get(f"0.cif block {n}", "read")[:29] for n in range(4)] == [
        "no CIF of a crystal: has no a",
        "no CIF of a crystal: has no c",
        "no CIF of a crystal: has no a",
        "read",
    ]


def test_one_atom_may_stand_there_without_a_loop(tmp_path: Path) -> None:
    pairs = "".join(f"_atom_site_{name} {value}\n" for name, value in zip(ATOMS, FE_O[0].split(), strict=True))
    assert counts_of(HEAD + pairs, tmp_path) == {"Fe": 1}
