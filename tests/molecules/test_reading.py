"""Files of molecules, whole and broken."""

import gzip
import logging

import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from suffuse.errors import SuffuseError
from suffuse_molecules import reading
from suffuse_molecules.chemistry import canonical, known
from suffuse_molecules.datasets import NCI, QM9, Smiles
from suffuse_molecules.files import Files
from suffuse_molecules.properties import PROPERTIES, property_of

LINES = """smiles name
CCO ethanol
c1ccccc1 benzene

# a comment
C1CC broken ring
[2H]C([2H])[2H] heavy
CC(=O)[O-].[Na+] acetate
C[Hg]C
CC.CC pair
CN
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_broken_lines_are_counted_named_and_skipped(tmp_path):
    found = reading.read(write(tmp_path / "in.smi", LINES))
    assert [(r.line, r.smiles, r.name) for r in found.records] == [
        (2, "CCO", "ethanol"),
        (3, "c1ccccc1", "benzene"),
        (11, "CN", ""),
    ]
    assert [(s.line, s.reason) for s in found.skipped] == [
        (6, "unreadable"),
        (7, "isotope"),
        (8, "fragments"),
        (9, "metal"),
        (10, "fragments"),
    ]
    account = found.account()
    assert "5 of 8 molecules are skipped" in account
    assert "line 6: 'C1CC' (unreadable)" in account


def test_of_salts_the_largest_piece_is_taken_on_request(tmp_path):
    found = reading.read(write(tmp_path / "in.smi", LINES), salts=True)
    assert [(r.line, r.smiles) for r in found.records][-3:] == [
        (8, "CC(=O)[O-]"),
        (10, "CC"),
        (11, "CN"),
    ]


def test_tables_are_read_by_the_name_of_their_column(tmp_path):
    text = "id;SMILES;activity\na;CCO;1.5\nb;C(;2\nc;CCN;\n"
    found = reading.read(write(tmp_path / "in.csv", text))
    assert [(r.smiles, r.name, dict(r.values)) for r in found.records] == [
        ("CCO", "a", {"activity": "1.5"}),
        ("CCN", "c", {}),
    ]
    assert [(s.line, s.reason) for s in found.skipped] == [(3, "unreadable")]
    broken = write(tmp_path / "lines.csv", 'smiles,note\nCCO,"two\nlines"\n\nCCN,5"-x\n')
    rows = [(r.line, r.smiles, dict(r.values)) for r in reading.read(broken).records]
    assert rows == [(3, "CCO", {"note": "two\nlines"}), (5, "CCN", {"note": '5"-x'})]
    other = write(tmp_path / "other.csv", "mols,y\nCCO,1\n")
    with pytest.raises(SuffuseError, match=r"no column .* named for SMILES \(there are: mols, y\)"):
        reading.read(other)
    assert reading.read(other, column="mols").records[0].smiles == "CCO"
    with pytest.raises(SuffuseError, match="did you mean 'mols'"):
        reading.read(other, column="mol")


def test_an_sdf_without_coordinates_and_with_a_broken_record(tmp_path):
    blocks = []
    for smiles, name in (("CC(=O)O", "acid"), ("C[N+](C)(C)C", "amine")):
        mol = known(smiles)
        mol.SetProp("_Name", name)
        blocks.append(Chem.MolToMolBlock(mol) + ">  <logp>\n0.5\n\n$$$$\n")
    broken = blocks[0].replace("  4  3", "  9  3")
    path = write(tmp_path / "in.sdf", blocks[0] + broken + blocks[1])
    found = reading.read(path)
    assert [canonical(mol) for mol in reading.molecules(found)] == ["CC(=O)O", "C[N+](C)(C)C"]
    assert [r.name for r in found.records] == ["acid", "amine"]
    assert [(s.line, s.reason) for s in found.skipped] == [(2, "unreadable")]


@pytest.fixture
def shape():
    """An SDF's text: a molecule with two centres and its hydrogens in space, and a data field."""
    mol = Chem.AddHs(known("C[C@H](O)[C@@H](F)Cl"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    mol.SetProp("_Name", "one")
    return Chem.MolToMolBlock(mol) + ">  <score>\n1.50\n\n$$$$\n"


@pytest.mark.parametrize("name", ["in.sdf", "in.sdf.gz", "in.sd", "in.mol"])
def test_an_sdf_keeps_stereo_shape_hydrogens_and_fields(tmp_path, shape, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(shape.encode()) if name.endswith(".gz") else shape.encode())
    found = reading.read(path)
    assert found.records[0].smiles == Chem.CanonSmiles("C[C@H](O)[C@@H](F)Cl")
    (mol,), (whole,) = reading.molecules(found), reading.molecules(found, hydrogens=True)
    assert (mol.GetNumAtoms(), whole.GetNumAtoms()) == (6, 12)
    assert (whole.GetProp("_Name"), whole.GetProp("score")) == ("one", "1.50")
    assert mol.GetConformer().Is3D()
    assert shape.startswith(Chem.MolToMolBlock(whole))
    assert Files().read(path).GetNumConformers() == 1
    assert Files().metadata(path) == {"score": "1.50"}


def test_compressed_files_are_read(tmp_path):
    path = tmp_path / "in.smi.gz"
    path.write_bytes(gzip.compress(LINES.encode()))
    assert len(reading.read(path).records) == 3
    (tmp_path / "bad.smi.gz").write_bytes(b"not gzip")
    (tmp_path / "torn.smi.gz").write_bytes(path.read_bytes()[:14] + b"\xff" * 40)
    for name in ("bad", "torn"):
        with pytest.raises(SuffuseError, match="cannot read"):
            reading.read(tmp_path / f"{name}.smi.gz")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("in.smi", "", "holds no molecule"),
        ("in.smi", "C(\n", r"holds no molecule.*line 1: 'C\(' \(unreadable\)"),
        ("in.csv", "", "no column"),
        ("in.pdb", "x", "is no file of molecules by its name"),
        ("in", "x", "is no file of molecules by its name"),
        ("in.csv", 'smiles,name\nCCO,"a\nCCN,b\n', "row that begins in line 2 .* ends with one"),
        ("in.csv", 'smiles,name\nCCO,a\nCCN,"b\nC,"c\n', "row that begins in line 3"),
    ],
)
def test_files_without_molecules_are_refused(tmp_path, name, text, words):
    with pytest.raises(SuffuseError, match=words):
        reading.read(write(tmp_path / name, text))


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(SuffuseError, match=r"cannot read .*none\.smi"):
        reading.read(tmp_path / "none.smi")


# Data sets


def test_a_users_file_is_a_data_set_with_its_numbers(tmp_path, caplog):
    rows = "".join(f"{'C' * k}O,{k / 2},note\n" for k in range(1, 31))
    path = write(tmp_path / "in.csv", "smiles,activity,text\n" + rows + "C(,1,bad\n")
    with caplog.at_level(logging.WARNING):
        train, test = (Smiles(split, str(path), held_out=100) for split in ("train", "test"))
    assert len(train) + len(test) == 30
    assert len(test) == 6
    assert not set(train.smiles()) & set(test.smiles())
    assert caplog.text.count("1 of 31 molecules are skipped") == 1
    assert train.conditions["activity"].kind == "number"
    assert "text" not in train.conditions
    example = train[0]
    carbons = canonical(example.data).count("C")
    assert example.conditions["activity"] == carbons / 2
    assert example.conditions["logp"] == property_of(example.data, "logp")
    assert example.conditions.get("text") is None


def test_most_molecules_keep_their_split_when_others_come(tmp_path):
    few = write(tmp_path / "a.smi", "".join(f"{'C' * k}N\n" for k in range(1, 31)))
    more = write(
        tmp_path / "b.smi", few.read_text() + "".join(f"{'C' * k}O\n" for k in range(1, 5))
    )
    first, then = (set(Smiles("test", str(path)).smiles()) for path in (few, more))
    assert len(first) == len(then) == 6
    assert len(first - then) == sum(smiles.endswith("O") for smiles in then)


def test_a_molecule_is_on_one_side_however_it_is_written(tmp_path):
    lines = [
        text
        for k in range(1, 21)
        for text in (f"{'C' * k}[C@H](F)O", f"O[C@H](F){'C' * k}", f"{'C' * k}/N=C/Cl")
    ]
    path = write(tmp_path / "a.smi", "\n".join(lines) + "\nC\\N=C/Cl\n")
    train, test = (
        {canonical(known(smiles)) for smiles in Smiles(split, str(path)).smiles()}
        for split in ("train", "test")
    )
    assert len(train) + len(test) == 40
    assert len(test) > 2


def test_qm9_needs_its_file(monkeypatch, tmp_path):
    monkeypatch.delenv("SUFFUSE_DATA", raising=False)
    with pytest.raises(SuffuseError, match="set SUFFUSE_DATA to a folder"):
        QM9("train")
    with pytest.raises(SuffuseError, match="is no file"):
        QM9("train", path=str(tmp_path / "none.csv"))


def test_qm9_is_whole(data_folder):
    train, test = QM9("train"), QM9("test")
    assert (len(train), len(test)) == (131_885, 2_000)
    assert not set(train.smiles()) & set(test.smiles())


def test_the_nci_set_comes_with_rdkit():
    train, test = NCI("train", largest=12), NCI("test", largest=12)
    assert len(test) == 300
    assert 1000 < len(train) < 2000
    assert max(train[i].data.GetNumHeavyAtoms() for i in range(100)) <= 12
    assert {s.reason for s in train.skipped} >= {"unreadable", "radical", "size", "metal"}


def test_properties_are_rdkits():
    mol = known("CC(=O)Oc1ccccc1C(=O)O")
    expected = {"logp": 1.3101, "tpsa": 63.6, "weight": 180.159, "rings": 1, "rotatable": 2}
    for name, value in expected.items():
        assert property_of(mol, name) == pytest.approx(value, abs=1e-3)
    assert 1 < property_of(mol, "sa") < 3
    assert 0 < property_of(mol, "qed") < 1
    assert all(isinstance(property_of(mol, name), float) for name in PROPERTIES)
    with pytest.raises(SuffuseError, match="did you mean 'logp'"):
        property_of(mol, "logP")
