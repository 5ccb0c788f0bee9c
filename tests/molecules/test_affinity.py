"""Affinities: trees as arrays against scikit-learn, intervals, tables, and what is refused."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from suffuse.cli import cli
from suffuse.errors import SuffuseError
from suffuse_molecules import torsional
from suffuse_molecules.affinity import Affinity, Features, concordance, sequence_of
from suffuse_molecules.affinity_fit import read_pairs

sklearn = pytest.importorskip("sklearn.ensemble")

MOLECULES = ["CCO", "CCN", "c1ccccc1O", "CC(=O)Nc1ccc(O)cc1", "OCC(O)CO", "c1ccncc1", "CCCCCC"]
PRETRAINED = torsional.SHIPPED.parent
LETTERS = np.array([*"ACDEFGHIKLMNPQRSTVWY"])


@pytest.fixture(scope="module")
def proteins() -> list[str]:
    source = np.random.default_rng(0)
    return ["".join(source.choice(LETTERS, 60)) for _ in range(9)]


@pytest.fixture(scope="module")
def table(tmp_path_factory, proteins):
    """Affinities that follow from the length of the SMILES and the place of the protein."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    lines = ["smiles,sequence,pkd"]
    for i, protein in enumerate(proteins):
        lines += [f"{mol},{protein},{5 + 0.1 * len(mol) + 0.2 * i:.2f}" for mol in MOLECULES]
    lines.insert(4, "C(,MKTAYIAKQRQISFVKSHFS,6")
    lines.insert(9, "CCO,MKTAYIAKQR1ISFVKSHFS,6")
    path.write_text("\n".join(lines))
    return path


def _run(*words: object) -> str:
    args = ["molecules", "affinity", *map(str, words)]
    return CliRunner().invoke(cli, args, catch_exceptions=False).output


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, table):
    out = tmp_path_factory.mktemp("model") / "m"
    return out, _run("--fit", table, "-o", out)


def test_concordance_is_counted_over_all_pairs() -> None:
    source = np.random.default_rng(3)
    wanted, found = source.integers(0, 5, 40), source.integers(0, 5, 40)
    right = total = 0.0
    for i in range(40):
        for j in range(40):
            if wanted[i] > wanted[j]:
                total += 1
                right += (found[i] > found[j]) + 0.5 * (found[i] == found[j])
    assert concordance(wanted, found) == pytest.approx(right / total)
    assert np.isnan(concordance([2.0, 2.0], [1.0, 3.0]))


def test_trees_as_arrays_answer_as_scikit_learn_does() -> None:
    from suffuse_molecules.affinity_fit import _arrays

    source = np.random.default_rng(1)
    x = source.normal(size=(600, 5)).astype(np.float32)
    x[:, 1] = x[:, 1].round(1)  # values that lie on thresholds
    y = np.sin(x[:, 0]) + x[:, 1] ** 2
    made = sklearn.HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(x, y)
    np.testing.assert_allclose(_arrays(made)(x), made.predict(x), atol=1e-5)


def test_a_fitted_model_tells_lines_that_it_skipped_and_answers(fitted, proteins) -> None:
    out, said = fitted
    assert "63 pairs of 7 molecules and 9 proteins" in said
    assert "line 5" in said
    assert "line 10" in said
    model = Affinity.load(out)
    answer = model("CCO", proteins[0])
    assert answer.low < answer.value < answer.high
    assert answer.molecule == pytest.approx(1)
    assert answer.protein == pytest.approx(1, abs=1e-5)
    assert not answer.warning
    far = model("FC(F)(F)S(=O)(=O)C#C", "W" * 40)
    assert "the molecule and the protein" in far.warning


def test_a_written_model_answers_as_the_fitted_one_does(tmp_path, table) -> None:
    from suffuse_molecules.affinity_fit import fit, matrix

    pairs, _ = read_pairs(table)
    model, _ = fit(pairs, trees=10)
    model.save(tmp_path)
    again = Affinity.load(tmp_path)
    for a, b in zip(model.features.axes, again.features.axes, strict=True):
        np.testing.assert_array_equal(a, b)
    x = matrix(model.features, pairs)
    np.testing.assert_array_equal(again.spread(matrix(again.features, pairs)), model.spread(x))


def test_the_model_that_ships_knows_what_imatinib_binds_to() -> None:
    """ABL1 and KIT, its targets (Druker et al. 1996, Heinrich et al. 2000), of 379 kinases."""
    model = Affinity.load()
    imatinib = "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1"
    found = np.array([model(imatinib, sequence).value for sequence in model.features.sequences])
    assert np.median(found) < 5.5
    for part in ("KHKLGGGQYGEVYEGVWKKYSLTVAVKTL", "GKTLGAGAFGKVVEATAYGL"):
        mine = [i for i, s in enumerate(model.features.sequences) if part in s]
        assert mine
        assert found[mine].max() > 6.5


def test_intervals_hold_about_as_many_as_they_say() -> None:
    from suffuse_molecules.affinity_fit import Pairs, fit, judged

    source = np.random.default_rng(5)
    sequences = tuple("".join(source.choice(LETTERS, 50)) for _ in range(30))
    molecules = tuple("C" * k + "O" for k in range(1, 31))
    m, p = (part.ravel() for part in np.meshgrid(np.arange(30), np.arange(30)))
    effect = source.normal(size=(2, 30))
    value = effect[0][m] + effect[1][p] + source.normal(size=900)
    order = source.permutation(900)
    pairs = Pairs(molecules, sequences, m, p, value)
    model, said = fit(pairs.of(order[:600]), coverage=0.8, trees=30)
    found = judged(model, pairs.of(order[600:]))
    assert 0.7 < found["covered"] < 0.92
    assert 0.65 < said["covered"] < 0.95
    assert said["pairs"] == 100
    assert said["mse"] == pytest.approx(found["mse"], rel=0.5)


def test_folds_stay_with_their_pairs_and_are_held_out_whole() -> None:
    from suffuse_molecules.affinity_fit import Pairs, _held_out

    fold = np.repeat(np.arange(5), 20)
    pairs = Pairs(("C",), ("A" * 20,), np.zeros(100, int), np.zeros(100, int), np.zeros(100), fold)
    assert pairs.of([0, 99]).fold.tolist() == [0, 4]
    held = _held_out(pairs, np.random.default_rng(0))
    assert held.sum() == 20
    assert len({*fold[held]}) == 1
    assert _held_out(pairs.of(fold < 2), np.random.default_rng(0)).sum() == 7


def test_the_command_answers_one_and_many(fitted, proteins, tmp_path) -> None:
    out, _ = fitted
    said = _run("--sequence", proteins[0], "--smiles", "CCO", "--model", out)
    assert "pKd" in said
    assert "nM" in said
    found = json.loads(_run("--sequence", proteins[0], "--smiles", "CCO", "--model", out, "--json"))
    assert found[0]["low"] <= found[0]["pkd"] <= found[0]["high"]
    many = tmp_path / "in.smi"
    many.write_text("CCO ethanol\nC(\nCCN\n")
    table = tmp_path / "out.csv"
    _run("--sequence", proteins[0], "--ligands", many, "--model", out, "-o", table)
    lines = table.read_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("CCO,ethanol,")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--smiles", "CCO"], "give a protein"),
        (["--sequence", "MKT", "--smiles", "CCO"], "at least 20"),
        (["--sequence", "MKTAYIAKQRQISFVKSHFS1", "--smiles", "CCO"], "letters '1'"),
        (["--sequence", "none.fasta", "--smiles", "CCO"], "no such file"),
        (["--sequence", ">a\nMK\n>b\nMK", "--smiles", "CCO"], "2 sequences were given"),
        (["--sequence", "M" * 30, "--smiles", "C("], "unreadable"),
        (["--sequence", "M" * 30, "--smiles", "CCO", "--coverage", "2"], "coverage"),
        (["--sequence", "M" * 30, "--smiles", "CCO", "--model", "none"], "no model of affinities"),
        (["--fit", "none.csv", "-o", "m"], "cannot read"),
        (["--fit", "few.csv", "-o", "m"], "50 or more"),
        (["--fit", "other.csv", "-o", "m"], "columns smiles, sequence"),
    ],
)
def test_bad_input_is_answered_with_a_sentence(tmp_path, monkeypatch, fitted, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.csv").write_text("smiles,sequence,pkd\nCCO,MKTAYIAKQRQISFVKSHFS,6\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    if "--model" not in words and "--fit" not in words:
        words = [*words, "--model", str(fitted[0])]
    with pytest.raises(SuffuseError, match=said):
        _run(*words)


def test_sequences_are_read_from_text_and_fasta(tmp_path) -> None:
    path = tmp_path / "a.fasta"
    path.write_text(">one two\nMKTAYIAKQR\nQISFVKSHFS\n")
    assert sequence_of(str(path)) == sequence_of("mktayiakqr qisfvkshfs") == "MKTAYIAKQRQISFVKSHFS"


@pytest.mark.parametrize("letters", [255, 256, 259, 5000])
def test_a_long_sequence_is_no_name_of_a_file(letters) -> None:
    assert len(sequence_of("M" * letters)) == letters


@pytest.mark.parametrize(("column", "value"), [("pkd", "nan"), ("kd_nm", "inf"), ("kd_nm", "0")])
def test_values_that_are_no_numbers_are_skipped(tmp_path, proteins, column, value) -> None:
    rows = [f"{mol},{protein},{i + 1}" for i, protein in enumerate(proteins) for mol in MOLECULES]
    rows.insert(3, f"CCO,{proteins[0]},{value}")
    (tmp_path / "pairs.csv").write_text("\n".join([f"smiles,sequence,{column}", *rows]))
    pairs, skipped = read_pairs(tmp_path / "pairs.csv")
    assert np.isfinite(pairs.value).all()
    assert [line.partition(":")[0] for line in skipped] == ["line 5"]


@pytest.mark.parametrize("broken", ["weights", "config"])
@pytest.mark.parametrize("kind", ["davis", "torsions"])
def test_a_broken_model_is_told(tmp_path, kind, broken) -> None:
    (tmp_path / "config.json").write_text("[]")
    if broken == "weights":
        config = (PRETRAINED / kind / "config.json").read_text()
        (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(
        (PRETRAINED / kind / "model.safetensors").read_bytes()[:900]
    )
    with pytest.raises(SuffuseError, match="holds no model of"):
        (Affinity.load if kind == "davis" else torsional.load)(tmp_path)


def test_features_are_similarities_and_what_is_known_around(proteins) -> None:
    source = np.random.default_rng(2)
    proteins = [proteins[0][:50] + other[50:] for other in proteins]
    known = source.random((7, 9)) < 0.6
    known[2, 4] = known[2, 1] = known[5, 4] = True
    value = np.where(known, source.normal(6, 1, (7, 9)), 0)
    features = Features(MOLECULES, proteins, value, known.astype(float), components=4)
    similar = np.array([features.molecule(smiles) for smiles in MOLECULES])
    alike = np.array([features.protein(sequence) for sequence in proteins])
    np.testing.assert_allclose(np.diag(similar), 1)
    np.testing.assert_allclose(np.diag(alike), 1, atol=1e-6)
    found = features(similar[[2]], alike[[4]], own=value[[2], [4]])[0]
    np.testing.assert_array_equal(found[:7], similar[2])
    assert found.shape == (7 + 4 + 4,)
    others = [i for i in range(7) if i != 2 and known[i, 4]]
    weight = similar[2, others] ** 4
    assert found[-4] == pytest.approx(weight @ value[others, 4] / weight.sum(), abs=1e-3)
    assert found[-3] == pytest.approx(np.log1p(weight.sum()), abs=1e-5)
    others = [j for j in range(9) if j != 4 and known[2, j]]
    weight = alike[4, others] ** 8
    assert found[-2] == pytest.approx(weight @ value[2, others] / weight.sum(), abs=1e-3)
    assert found[-1] == pytest.approx(np.log1p(weight.sum()), abs=1e-5)
    # what the pair itself is worth is not among what is known around it
    features.total[2, 4] += 3
    again = features(similar[[2]], alike[[4]], own=features.total[[2], [4]])[0]
    np.testing.assert_allclose(again, found, atol=1e-3)
    assert features(similar[[2]], alike[[4]])[0][-4] > found[-4] + 0.5


def test_for_an_unknown_protein_stand_those_like_it(proteins) -> None:
    known = np.ones((7, 9))
    features = Features(MOLECULES, proteins, known * np.arange(9), known)
    molecule = features.molecule("CCO")[None]
    half = proteins[3][:40] + proteins[5][40:]
    similar = features.protein(half).astype(float)
    wanted = similar**8 @ np.arange(9) / (similar**8).sum()
    found = features(molecule, features.protein(half)[None])[0]
    np.testing.assert_allclose(found[[-4, -2]], wanted, rtol=1e-4)
