import os
from pathlib import Path

import pytest
import torch

from suffuse.plugins.contracts import Example
from suffuse_molecules.chemistry import known
from suffuse_molecules.graph import Graph

SMILES = [
    "C", "N", "O", "CC", "CO", "C#N", "C=O", "CCO", "CCN", "CC=O", "NC=O", "CC#N", "C1CC1", "OCCO",
    "c1ccccc1", "c1ccoc1", "c1cc[nH]c1", "C1CCCCC1", "CC(=O)[O-]", "C[NH3+]", "[O-][n+]1ccccc1",
    "CC(F)(F)F", "OC1CC1O", "CC(C)(C)O", "C1CN1", "C1CO1", "N#CC#N", "CC(=O)N", "NC(=O)N",
    "Cc1ccno1",
    "[NH3+]CC([O-])=O", "C1=CC2CC1C2", "FC=C(F)F", "CN(C)C", "O=C1CCC1", "C1C2CC1C2", "COC(C)=O",
]  # fmt: skip


class Molecules(list):
    """A data set of SMILES."""

    conditions = {}  # noqa: RUF012

    def __init__(self, smiles):
        super().__init__(Example(known(s)) for s in smiles)


@pytest.fixture
def molecules():
    return [known(s) for s in SMILES]


@pytest.fixture
def graph():
    encoder = Graph()
    encoder.fit(Molecules(SMILES))
    return encoder


@pytest.fixture
def data_folder():
    folder = os.environ.get("SUFFUSE_DATA")
    if not folder or not (Path(folder) / "molecules").is_dir():
        pytest.skip("needs SUFFUSE_DATA with the folder molecules")
    return Path(folder) / "molecules"


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
