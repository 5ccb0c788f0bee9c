"""The commands, on files and on a small model, as a user types them."""

import csv
import json

import pytest
import torch
from click.testing import CliRunner
from rdkit import Chem
from rdkit.Chem import AllChem

import suffuse
from suffuse import plugins, recipe, training
from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse.model import Model
from suffuse_molecules import reading
from suffuse_molecules.chemistry import canonical, known

SMALL = {
    "denoiser.width": 16,
    "denoiser.edge": 8,
    "denoiser.depth": 1,
    "denoiser.heads": 2,
    "sampling.steps": 5,
    "dataset.largest": 9,
    "dataset.held_out": 40,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    chosen = recipe.load(
        "molecules/nci", {**SMALL, "conditions.logp.name": "number", "conditions.logp.mean": 1.0}
    )
    made = Model.untrained(chosen, plugins.build("dataset", chosen.dataset, split="train"))
    path = tmp_path_factory.mktemp("model")
    made.save(path)
    return str(path)


def run(*words):
    done = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize("suffix", ["sdf", "smi", "csv"])
def test_samples_are_one_file_of_exactly_n_molecules(model, tmp_path, suffix):
    out = tmp_path / f"made.{suffix}"
    run("sample", model, "-n", 7, "--set", "logp=1.5", "-o", out)
    found = reading.read(out)
    assert len(found.records) == 7
    assert not found.skipped
    if suffix == "smi":
        assert len(out.read_text().splitlines()) == 7
    if suffix == "sdf":
        first = json.loads(found.records[0].values["suffuse"])
        assert first["conditions"] == {"logp": 1.5}


def test_a_range_asks_each_sample_for_a_number_of_its_own(model, tmp_path):
    out = tmp_path / "made.sdf"
    run("sample", model, "-n", 5, "--set", "logp=-1..2", "--batch", 2, "-o", out)
    found = reading.read(out).records
    asked = [json.loads(record.values["suffuse"])["conditions"]["logp"] for record in found]
    assert len(set(asked)) == 5
    assert all(-1 <= value <= 2 for value in asked)
    made = suffuse.load(model).sample(5, logp="-1..2")
    assert [canonical(mol) for mol in made] == [
        canonical(mol) for mol in suffuse.load(model).sample(5, logp=asked)
    ]
    for text in ("2..1", "..2", "1..x", "1..2..3", "0..inf"):
        with pytest.raises(SuffuseError, match="a range of two like"):
            run("sample", model, "--set", f"logp={text}", "-o", out)


def test_raw_samples_are_left_as_they_were_drawn(model, tmp_path):
    def sampled(*words):
        out = tmp_path / "made.csv"
        run("sample", model, "-n", 20, "-o", out, *words)
        return list(csv.DictReader(out.open()))

    raw, safe = sampled("--raw"), sampled()
    assert [row["raw"] for row in raw] == [row["raw"] for row in safe]
    kept = [r["smiles"] == s["smiles"] for r, s in zip(raw, safe, strict=True)]
    assert kept == [row["raw"] == "valid" for row in raw]
    assert not all(kept)  # a model without training


def test_a_page_beside_the_file(model, tmp_path):
    out, page = tmp_path / "made.sdf", tmp_path / "made.html"
    told = run("sample", model, "-n", 7, "-o", out, "--report", page).output
    assert f"the page is {page}" in told
    text = page.read_text()
    assert "7 molecules" in text
    assert "Before valence-safe decoding" in text


def test_a_sample_is_the_same_at_any_batch_size(model, tmp_path):
    texts = []
    for batch in (2, 5):
        run("sample", model, "-n", 5, "--batch", batch, "-o", tmp_path / "x.smi")
        texts.append((tmp_path / "x.smi").read_text())
    assert texts[0] == texts[1]


def test_a_run_trains_samples_and_is_evaluated(tmp_path):
    steps = {"training.steps": 60, "training.batch": 32, "training.warmup": 5}
    chosen = recipe.load("molecules/nci", {**SMALL, **steps, "training.learning_rate": 5e-3})
    training.train(chosen, tmp_path / "run", progress=False)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    done = run("evaluate", tmp_path / "run", "-n", 60, "--json")
    found = {metric["name"]: metric for metric in json.loads(done.stdout)}
    assert found["Valid as decoded"]["value"] == 100
    assert found["Raw valid"]["value"] < 100
    assert "Distance of logp" in found


def test_edits_print_smiles_and_write_files(model, tmp_path):
    done = run("molecules", "decorate", "[*:1]CO", "--model", model, "-n", 3, "--atoms", "1-2")
    lines = done.stdout.split()
    assert 1 <= len(lines) <= 3
    assert all(known(line).HasSubstructMatch(known("CO")) for line in lines)
    assert "sampled" in done.stderr
    out = tmp_path / "made.csv"
    run("molecules", "vary", "CCOC(C)=O", "--model", model, "-n", 2, "-o", out)
    assert len(reading.read(out).records) == 2
    run("molecules", "hop", "CCOC(C)=O", "--keep", "C=O", "--model", model, "-n", 2, "-o", out)
    run("molecules", "link", "*CO|*CN", "--model", model, "-n", 2, "-o", tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_conformers_are_an_sdf_with_energies(tmp_path):
    (tmp_path / "in.smi").write_text("CCCCO butanol\nC1CC\nC[C@H](F)Cl chiral\n")
    out = tmp_path / "out.sdf"
    done = run("molecules", "conformers", tmp_path / "in.smi", "-k", 5, "-o", out)
    assert "line 2: 'C1CC' (unreadable)" in done.stderr
    shapes = [*Chem.SDMolSupplier(str(out), removeHs=False)]
    assert {mol.GetProp("_Name") for mol in shapes} == {"butanol", "chiral"}
    assert all(mol.GetConformer().Is3D() for mol in shapes)
    energies = [mol.GetDoubleProp("energy_kcal_mol") for mol in shapes]
    assert energies[0] == 0
    butanols = [e for mol, e in zip(shapes, energies, strict=True) if mol.GetNumAtoms() == 15]
    assert butanols == sorted(butanols)
    assert len(butanols) > 1
    assert canonical(Chem.RemoveHs(shapes[-1])) == canonical(known("CC(F)Cl"))
    Chem.AssignStereochemistryFrom3D(shapes[-1])
    assert Chem.MolToSmiles(Chem.RemoveHs(shapes[-1])) == Chem.MolToSmiles(known("C[C@H](F)Cl"))


def test_filtering_counts_what_it_leaves_out(tmp_path):
    (tmp_path / "in.smi").write_text("CCO\nCCCCCCCCCC\nC(\nO=C1C(=Cc2ccccc2)SC(=S)N1\n")
    words = ["molecules", "filter", tmp_path / "in.smi", "--range", "logp=-1..3", "--pains"]
    done = run(*words, "-o", tmp_path / "o.smi", "--rejected", tmp_path / "rejected.csv")
    assert "1 of 4 molecules pass" in done.stdout
    assert (tmp_path / "o.smi").read_text().split()[0] == "CCO"
    lines = (tmp_path / "rejected.csv").read_text().splitlines()
    assert sorted(line.rsplit(",", 1)[1] for line in lines[1:]) == ["logp", "pains", "unreadable"]


@pytest.mark.parametrize("command", ["filter", "dedupe"])
def test_what_is_kept_of_a_file_keeps_its_shapes_and_columns(tmp_path, command):
    mol = Chem.AddHs(known("C[C@H](O)F"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    mol.SetProp("_Name", "one")
    (tmp_path / "in.sdf").write_text(Chem.MolToMolBlock(mol) + ">  <score>\n1.50\n\n$$$$\n")
    run("molecules", command, tmp_path / "in.sdf", "-o", tmp_path / "out.sdf")
    (kept,) = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False)
    assert Chem.MolToMolBlock(kept) == Chem.MolToMolBlock(mol)
    assert kept.GetProp("score") == "1.50"
    assert kept.GetProp("SMILES") == Chem.CanonSmiles("C[C@H](O)F")
    (tmp_path / "in.csv").write_text("smiles,name,raw,pic50\nCCO,a,valence,7.20\n")
    run("molecules", command, tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    head, row = (tmp_path / "out.csv").read_text().splitlines()
    values = dict(zip(head.split(","), row.split(","), strict=True))
    assert (values["name"], values["raw"], values["pic50"]) == ("a", "valence", "7.20")
    assert head.split(",").count("raw") == 1


def test_what_was_repaired_is_left_out_on_request(tmp_path):
    (tmp_path / "in.csv").write_text("smiles,raw\nCCO,valid\nCCN,valence\n")
    done = run("molecules", "filter", tmp_path / "in.csv", "--unrepaired")
    assert done.stdout.split() == ["CCO"]
    assert "1 repaired" in done.stderr


def test_duplicates_and_known_ones_are_left_out(tmp_path):
    (tmp_path / "in.smi").write_text("CCO\nOCC\nCCN\nC[C@H](O)F\nC[C@@H](O)F\n")
    (tmp_path / "ref.smi").write_text("NCC\n")
    done = run("molecules", "dedupe", tmp_path / "in.smi", "--reference", tmp_path / "ref.smi")
    assert [canonical(known(s)) for s in done.stdout.split()] == ["CCO", "CC(O)F"]


def test_figures_of_a_file(tmp_path):
    (tmp_path / "in.smi").write_text("CCO\nOCC\nCCN\nC(\n")
    (tmp_path / "ref.smi").write_text("NCC\nCCCl\n")
    words = ["molecules", "evaluate", tmp_path / "in.smi", "--reference", tmp_path / "ref.smi"]
    found = json.loads(run(*words, "--json").stdout)
    assert found["molecules"] == 4
    assert found["valid (%)"] == 75
    assert found["unique (%)"] == pytest.approx(200 / 3)
    assert found["novel (%)"] == 50
    assert "diversity" in run(*words).stdout
    # one molecule without a ring has no scaffold, so that there is no figure
    words = ["molecules", "evaluate", tmp_path / "ref.smi", "--training", tmp_path / "ref.smi"]
    found = json.loads(run(*words, "--reference", tmp_path / "ref.smi", "--json").stdout)
    assert found["made"]["Scaf"] is None


def test_a_page_shows_molecules_their_neighbours_and_what_is_not_valid(model, tmp_path):
    (tmp_path / "in.csv").write_text("smiles,raw\nCCO,valid\nCCN,valence\nC(,\n")
    (tmp_path / "ref.smi").write_text("NCC\nCCCl\n")
    words = ["molecules", "report", tmp_path / "in.csv", "-o", tmp_path / "x.html"]
    run(*words, "--reference", tmp_path / "ref.smi")
    page = (tmp_path / "x.html").read_text()
    for text in ("similarity 1.00", "50.0 %", "66.7 %", "C(", "unreadable", "valence", "TPSA"):
        assert text in page
    assert page.count("data:image/png") == 4
    run(*words)
    plain = (tmp_path / "x.html").read_text()
    assert "similarity" not in plain
    # the viewer and what it shows lie in the page, which asks nothing of a network
    assert "V2000" in plain
    assert "createViewer" in plain
    assert 'src="http' not in plain
    (tmp_path / "in.smi").write_text("CCO\n")
    shapes = tmp_path / "s.sdf"
    run("molecules", "conformers", tmp_path / "in.smi", "-k", 2, "-o", shapes)
    receptor = tmp_path / "r.pdb"
    place = (
        "ATOM  {0:5d}  {1:3s} GLY A{0:4d}    {2:8.3f}   5.000   0.000  1.00  0.00           {1:.1}"
    )
    atoms = ("N", "CA", "C", "O")
    lines = [place.format(k, name, 0.3 * k) for k in range(1, 30) for name in atoms]
    receptor.write_text("\n".join(lines))
    words = ["molecules", "report", shapes, "--receptor", receptor, "-o", tmp_path / "y.html"]
    run(*words, "--model", model)
    page = (tmp_path / "y.html").read_text()
    assert "ATOM      2   CA GLY" in page
    assert "1 shape, as" in page
    assert "unique" not in page
    assert "energy_kcal_mol 0.0" in page
    assert "From noise to a molecule" in page
    words[2] = tmp_path / "in.smi"
    with pytest.raises(SuffuseError, match="no coordinates"):
        run(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["filter", "{}", "--range", "logp"], "NAME=LOW..HIGH"),
        (["filter", "{}", "--range", "logP=0..1"], "did you mean 'logp'"),
        (["filter", "{}", "--range", "logp=3..1"], "holds nothing"),
        (["filter", "{}", "--range", "logp=nan..1"], "NAME=LOW..HIGH"),
        (["filter", "{}", "--largest", "0"], "--largest is 1 or more"),
        (["filter", "{}", "--range", "logp=9..", "-o", "x.html"], "nothing to draw: 0 of 1"),
        (["conformers", "{}", "-o", "x.smi"], "written as .sdf"),
        (["conformers", "{}", "-k", "0", "-o", "x.sdf"], "k is 1 or more"),
        (["conformers", "{}", "--distinct", "nan", "-o", "x.sdf"], "0 Å or more"),
        (["report", "{}", "-o", "x.pdf"], "written as .html"),
        (["dedupe", "{}", "--column", "x", "-o", "x.pdb"], "written as .sdf, .smi, .csv"),
        (["decorate", "CO", "--model", "{model}", "--atoms", "a"], "--atoms is a number"),
        (["decorate", "CO", "--model", "{model}", "-n", "0"], "-n is 1 or more"),
        (["vary", "CO.CO", "--model", "{model}"], "fragments"),
        (["vary", "COC", "--model", "{model}", "--strength", "2"], "strength is above 0"),
    ],
)
def test_mistakes_are_sentences(model, tmp_path, words, message):
    path = tmp_path / "in.smi"
    path.write_text("CCO\n")
    filled = [word.format(path, model=model) for word in words]
    with pytest.raises(SuffuseError, match=message):
        CliRunner().invoke(cli, ["molecules", *filled], catch_exceptions=False)


def test_a_property_that_cannot_be_is_refused_or_told(model, tmp_path):
    with pytest.raises(SuffuseError, match="did you mean 'logp'"):
        CliRunner().invoke(
            cli, ["sample", model, "-n", "1", "--set", "logd=1"], catch_exceptions=False
        )
    with pytest.raises(SuffuseError, match="takes numbers"):
        CliRunner().invoke(
            cli, ["sample", model, "-n", "1", "--set", "logp=high"], catch_exceptions=False
        )
