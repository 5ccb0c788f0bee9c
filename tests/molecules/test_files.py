"""Files and drawings of molecules."""

import csv
import io
import json

import pytest
import torch
from PIL import Image
from rdkit import Chem

from suffuse.errors import SuffuseError
from suffuse_molecules import reading
from suffuse_molecules.chemistry import canonical, known
from suffuse_molecules.files import Files
from suffuse_molecules.graph import RAW


@pytest.fixture
def made(molecules):
    for i, mol in enumerate(molecules):
        mol.SetProp(RAW, "valence" if i % 2 else "valid")
    return molecules


@pytest.mark.parametrize("suffix", [".sdf", ".smi", ".csv"])
def test_all_molecules_come_back_in_order(made, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    Files().write_all(made, path, [{}] * len(made))
    back = reading.molecules(reading.read(path))
    assert [canonical(mol) for mol in back] == [canonical(mol) for mol in made]


def test_a_smi_has_a_smiles_first_on_each_of_exactly_n_lines(made, tmp_path):
    Files().write_all(made, tmp_path / "out.smi", [{}] * len(made))
    lines = (tmp_path / "out.smi").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [Chem.MolToSmiles(mol) for mol in made]


def test_an_sdf_tells_properties_and_how_it_was_made(made, tmp_path):
    record = json.dumps({"seed": 3, "conditions": {"logp": 1.5}})
    Files().write(made[4], tmp_path / "one.sdf", {"suffuse": record})
    (mol,) = Chem.SDMolSupplier(str(tmp_path / "one.sdf"))
    fields = mol.GetPropsAsDict()
    assert fields["SMILES"] == "CO"
    assert fields["raw"] == "valid"
    assert fields["weight"] == pytest.approx(32.04)
    assert Files().metadata(tmp_path / "one.sdf")["suffuse"] == record
    assert canonical(Files().read(tmp_path / "one.sdf")) == "CO"


def test_a_table_has_a_row_for_each(made, tmp_path):
    Files().write_all(made, tmp_path / "out.csv", [{}] * len(made))
    rows = [*csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))]
    assert len(rows) == len(made)
    assert rows[1]["raw"] == "valence"
    assert float(rows[7]["tpsa"]) == pytest.approx(20.23)


def test_a_molecule_that_is_not_valid_is_written_and_drawn_as_it_is(tmp_path):
    broken = Chem.MolFromSmiles("CF(C)C", sanitize=False)
    broken.UpdatePropertyCache(strict=False)
    pair = known("C.C")
    for suffix in (".sdf", ".smi", ".csv"):
        Files().write_all([broken, pair], tmp_path / f"x{suffix}", [{}, {}])
    assert (tmp_path / "x.smi").read_text().splitlines()[0].split()[0] == "CF(C)C"
    assert (tmp_path / "x.csv").read_text().splitlines()[1].startswith("CF(C)C,0,,,")
    assert Files().sheet([broken, pair])[:4] == b"\x89PNG"


def test_a_sheet_has_a_cell_for_each(made):
    sheet = Image.open(io.BytesIO(Files().sheet(made[:6], ["a"] * 6, columns=3)))
    assert sheet.size == (3 * 220, 2 * 220)
    first = sheet.convert("L").crop((0, 0, 220, 220)).getextrema()
    assert first[0] < 128
    with pytest.raises(ValueError, match="at least one"):
        Files().sheet([])


def test_graphs_of_noise_are_drawn_and_written(graph, tmp_path):
    n = graph.largest
    bonds = torch.randint(5, (20, n, n)).triu(1)
    x = {"atoms": torch.randint(len(graph.types) + 1, (20, n)), "bonds": bonds + bonds.mT}
    noise = graph.decode(x, torch.full((20,), n))
    assert Files().sheet(noise)[:4] == b"\x89PNG"
    for suffix in Files().collections:
        Files().write_all(noise, tmp_path / f"noise{suffix}", [{}] * 20)


def test_other_suffixes_are_refused(made, tmp_path):
    with pytest.raises(SuffuseError, match=r"written as \.sdf, \.smi, \.csv"):
        Files().write(made[0], tmp_path / "x.pdb", {})


def test_every_molecule_of_a_file_is_read_with_its_name(tmp_path, caplog):
    (tmp_path / "a.smi").write_text("CCO ethanol\nnonsense\nc1ccccc1\n")
    names, mols = zip(*Files().read_all(tmp_path / "a.smi"), strict=True)
    assert names == ("ethanol", "line 3")
    assert [canonical(mol) for mol in mols] == ["CCO", "c1ccccc1"]
    assert "line 2" in caplog.text
    Files().write_all(mols, tmp_path / "b.sdf", [{}, {}])
    again = [mol for _, mol in Files().read_all(tmp_path / "b.sdf")]
    assert [mol.GetNumAtoms() for mol in again] == [3, 6]
    assert again[0].GetNumConformers() == 1
