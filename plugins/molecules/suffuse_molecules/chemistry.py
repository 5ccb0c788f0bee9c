"""What a molecule may be here, and the codes of the reasons why one is not.

**What is kept.** Heavy atoms with their formal charges, and bonds that are single, double, triple
or aromatic; `suffuse_molecules.graph` tells how these are written. Hydrogens are implicit and
follow from the valences. **What is dropped:** stereo, that is chirality and the sides of double
bonds. **What is refused**, with a reason code: all else that would come back as another molecule,
for instance hydrogens that valences do not say.

A made molecule is **valid** if rdkit sanitises it and it is in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rdkit import Chem, rdBase

__all__ = [
    "REASONS",
    "canonical",
    "flat",
    "implicit",
    "known",
    "parse",
    "problem",
    "quiet",
    "refusal",
]

REASONS = {
    "unreadable": "no molecule can be read from the text",
    "empty": "there is no atom",
    "fragments": "it is in several pieces, for instance a salt",
    "wildcard": "it has an attachment point or another atom that is no element",
    "hydrogen": "it has a hydrogen that cannot be made implicit, or that its valences do not say",
    "metal": "an atom is a metal or another element whose bonds are no simple matter",
    "isotope": "an atom has a given isotope",
    "radical": "an atom has an unpaired electron, or a valence that the graph cannot hold",
    "bond": "a bond is neither single, double, triple nor aromatic",
    "element": "an atom has an element or a charge that the model does not know",
    "size": "it has more atoms than the model takes",
    "flat": "it has no coordinates in space",
    "valence": "an atom has more bonds than its element allows",
    "kekulize": "an aromatic ring has no Kekulé form",
    "sanitize": "rdkit refuses it for another reason",
}
"""Why a molecule is refused: the codes that reports count, and what they mean."""

_ELEMENTS = {1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53}  # H B C N O F Si P S Cl As Se Br I
_ORDERS = {Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE}
_KNOWN = {*_ORDERS, Chem.BondType.AROMATIC}

_IMPLICIT = Chem.RemoveHsParameters()  # all are removed that have one neighbour and no charge
_IMPLICIT.removeDefiningBondStereo = True
_IMPLICIT.removeNontetrahedralNeighbors = True
_IMPLICIT.removeInSGroups = True
_IMPLICIT.removeHydrides = False


@contextmanager
def quiet() -> Iterator[None]:
    """Without rdkit's own messages on the terminal."""
    block = rdBase.BlockLogs()
    try:
        yield
    finally:
        del block


def parse(smiles: str) -> Chem.Mol | None:
    """The molecule that a SMILES says, sanitised; None where it says none.

    >>> parse("c1ccccc1").GetNumAtoms(), parse("c1cccc1") is None
    (6, True)
    """
    with quiet():
        return Chem.MolFromSmiles(smiles)


def known(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES that is known to be one."""
    mol = parse(smiles)
    if mol is None:
        raise ValueError(f"{smiles!r} is no molecule")
    return mol


def implicit(mol: Chem.Mol) -> Chem.Mol:
    """The same molecule without explicit hydrogens, also those that tell a double bond's side.

    >>> implicit(parse("[H]/N=C(/C)CC")).GetNumAtoms()
    5
    """
    if all(atom.GetAtomicNum() != 1 for atom in mol.GetAtoms()):
        return Chem.Mol(mol)
    with quiet():
        return Chem.RemoveHs(mol, _IMPLICIT)


def flat(mol: Chem.Mol) -> Chem.Mol:
    """The same molecule without stereo and without explicit hydrogens."""
    out = implicit(mol)
    Chem.RemoveStereochemistry(out)
    return out


def canonical(mol: Chem.Mol) -> str:
    """The canonical SMILES without stereo: what tells two molecules apart here.

    >>> canonical(parse("C[C@H](O)F")) == canonical(parse("FC(C)O"))
    True
    """
    return Chem.MolToSmiles(implicit(mol), isomericSmiles=False)


def refusal(mol: Chem.Mol | None) -> str | None:
    """Why a molecule has no graph that would come back as it, as a code of `REASONS`; else None.

    >>> [refusal(parse(s)) for s in ("CCO", "CC(=O)[O-].[NH4+]", "[2H]C", "[CH3]", "*C", "C(")]
    [None, 'fragments', 'isotope', 'radical', 'wildcard', 'unreadable']
    >>> [refusal(parse(s)) for s in ("CP", "C[PH4]", "[H][H]")]
    [None, 'hydrogen', 'hydrogen']
    """
    if mol is None:
        return "unreadable"
    if not mol.GetNumAtoms():
        return "empty"
    if len(Chem.GetMolFrags(mol)) > 1:
        return "fragments"
    for atom in mol.GetAtoms():
        number = atom.GetAtomicNum()
        if number == 0:
            return "wildcard"
        if atom.GetIsotope():
            return "isotope"
        if number not in _ELEMENTS:
            return "metal"
        if atom.GetNumRadicalElectrons():
            return "radical"
    if any(bond.GetBondType() not in _KNOWN for bond in mol.GetBonds()):
        return "bond"
    try:
        return None if _implied(implicit(mol)) else "hydrogen"
    except Chem.KekulizeException:
        return "kekulize"


def _implied(mol: Chem.Mol) -> bool:
    """Whether there is no hydrogen but those that follow from valences."""
    if any(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms()):
        return False
    told = (atom for atom in mol.GetAtoms() if atom.GetNoImplicit() or atom.GetNumExplicitHs())
    given = [atom.GetIdx() for atom in told]
    if not given:
        return True
    free = Chem.Mol(mol)
    Chem.Kekulize(free, clearAromaticFlags=True)
    for i in given:
        free.GetAtomWithIdx(i).SetNoImplicit(False)
        free.GetAtomWithIdx(i).SetNumExplicitHs(0)
    free.UpdatePropertyCache(strict=False)
    return all(
        free.GetAtomWithIdx(i).GetTotalNumHs() == mol.GetAtomWithIdx(i).GetTotalNumHs()
        for i in given
    )


def problem(mol: Chem.Mol) -> str | None:
    """Why a made molecule, not sanitised, is not valid, as a code; None for a valid one.

    Hydrogens are implicit. The molecule is not written to.
    """
    if not mol.GetNumAtoms():
        return "empty"
    copy = Chem.Mol(mol)
    with quiet():
        failed = Chem.SanitizeMol(copy, catchErrors=True)
    if failed == Chem.SanitizeFlags.SANITIZE_PROPERTIES:
        return "valence"
    if failed == Chem.SanitizeFlags.SANITIZE_KEKULIZE:
        return "kekulize"
    if failed != Chem.SanitizeFlags.SANITIZE_NONE:
        return "sanitize"
    if len(Chem.GetMolFrags(copy)) > 1:
        return "fragments"
    return None
