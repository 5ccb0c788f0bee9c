"""One HTML page of a file of molecules: drawings, properties, what is known already, what is not
valid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rdkit import Chem

from suffuse.errors import SuffuseError
from suffuse.report.blocks import Cell, Chart
from suffuse.report.figures import distances, histogram
from suffuse.report.page import Page

from . import reading, viewer
from .chemistry import REASONS, canonical
from .files import Files, smiles
from .graph import RAW, Graph
from .moses import nearest
from .properties import property_of
from .receptor import read_receptor

__all__ = ["write"]

_SHOWN = 30
_ROW = 6
_LISTED = 200
_TURNED = 24
_STRIP = 8
_SEVERAL = {"conformer": "shape", "pose": "pose"}
"""Fields of files in which a molecule stands several times, and what stands there."""
_TOLD = ("pose", "affinity_kcal_mol", "energy_kcal_mol", "checks", "conformer", "raw")
_PROPERTIES = {
    "logp": "logP",
    "qed": "QED",
    "tpsa": "TPSA in Å²",
    "sa": "synthetic accessibility, 1 easy to 10",
    "weight": "weight in g/mol",
    "rings": "rings",
}


def write(
    path: str | Path,
    out: str | Path,
    reference: str | Path | None = None,
    column: str | None = None,
    receptor: str | Path | None = None,
    model: str | None = None,
) -> None:
    """Write the page of the molecules in a file.

    Args:
        path: what was made.
        out: of the page, .html.
        reference: real molecules: beside each made one stands the most similar of these.
        column: of a table, the name of the column with SMILES.
        receptor: of an SDF of poses, the .pdb file that they lie in.
        model: of molecular graphs, of which the way from noise to a molecule is shown.
    """
    found = reading.read(path, column=column)
    mols = reading.molecules(found)
    real = [] if reference is None else reading.molecules(reading.read(reference))
    once = {canonical(mol): mol for mol in reversed(mols)}
    different = once.keys()
    lines = len(found.records) + len(found.skipped)
    several = next((k for k in _SEVERAL if k in found.records[0].values), None)
    things = "molecule" if several is None else _SEVERAL[several]
    things += "s" if lines != 1 else ""
    page = Page(Path(path).name, f"{lines} {things}, as `suffuse molecules report` sees them")
    page.fact(f"{100 * len(mols) / lines:.1f} %", "valid")
    if several is None:
        page.fact(f"{100 * len(different) / len(mols):.1f} %", "unique")
    else:
        page.fact(str(len(different)), "molecule" if len(different) == 1 else "molecules")
    every = mols
    if several is not None:  # of one molecule, which is drawn and counted once
        mols = [*reversed(once.values())]
    if real:
        known = {canonical(mol) for mol in real}
        page.fact(f"{100 * len(different - known) / len(different):.1f} %", "novel")
    raw = Counter(str(r.values["raw"]) for r in found.records if r.values.get("raw"))
    if raw:
        share = 100 * raw["valid"] / sum(raw.values())
        page.fact(f"{share:.1f} %", "valid before repair")

    _drawings(page, mols, real)
    _shapes(page, Path(path), found, every, receptor)
    if model is not None:
        _way(page, model)
    if len(mols) > 1 or real:
        _distributions(page, mols, real)
    if raw:
        section = page.section("Before valence-safe decoding")
        section.table(
            ["the graph was", "molecules", "meaning"],
            [(code, count, REASONS.get(code, "")) for code, count in raw.most_common()],
        )
    if found.skipped:
        section = page.section("Not taken", lead="Lines of the file that hold no molecule.")
        section.table(
            ["line", "text", "reason", "meaning"],
            [(s.line, s.text[:80], s.reason, REASONS[s.reason]) for s in found.skipped[:_LISTED]],
            f"{len(found.skipped)} lines, of which at most {_LISTED} are listed",
        )
    page.write(Path(out))


def _drawings(page: Page, mols: list[Chem.Mol], real: list[Chem.Mol]) -> None:
    shown = [mols[i] for i in np.linspace(0, len(mols) - 1, min(len(mols), _SHOWN)).astype(int)]
    near = [*zip(*nearest(shown, real), strict=True)] if real else []
    rows: list[tuple[str, list[Cell]]] = []
    for start in range(0, len(shown), _ROW):
        part = shown[start : start + _ROW]
        rows.append(("made" if real else "", [_cell(mol, _caption(mol)) for mol in part]))
        if real:
            beside = near[start : start + _ROW]
            rows.append(("nearest", [_cell(real[k], f"similarity {s:.2f}") for k, s in beside]))
    caption = f"{len(shown)} of {len(mols)}, evenly spaced" + (
        "; below each the most similar one of the reference (Tanimoto, Morgan fingerprints)"
        if real
        else ""
    )
    page.section("Molecules").tiles(rows, caption=caption)


def _cell(mol: Chem.Mol, caption: str) -> Cell:
    return Cell(Files().sheet([mol]), caption, smiles(mol))


def _caption(mol: Chem.Mol) -> str:
    return f"logP {property_of(mol, 'logp'):.1f}, QED {property_of(mol, 'qed'):.2f}"


def _shapes(
    page: Page,
    path: Path,
    found: reading.Read,
    mols: list[Chem.Mol],
    receptor: str | Path | None,
) -> None:
    """The viewer: shapes and poses as they stand in the file, else shapes of ETKDG."""
    given = {}
    if reading.kind(path) == "sdf":
        whole = reading.molecules(found, hydrogens=True)
        given = {record.line: mol for record, mol in zip(found.records, whole, strict=True)}
    few = np.linspace(0, len(mols) - 1, min(len(mols), _TURNED)).astype(int).tolist()
    if given:
        few = list(range(min(len(mols), _TURNED)))  # poses and shapes stand in an order
    shown, own = [], False
    for i in few:
        record = found.records[i]
        mol = viewer.shaped(given.get(record.line, mols[i]))
        if mol is not None:
            own |= record.line in given and mol is given[record.line]
            told = (f"{k} {record.values[k]}" for k in _TOLD if record.values.get(k, "") != "")
            name = record.name or f"molecule {record.line}"
            shown.append(viewer.Shown(mol, f"{name} ({i + 1})", ", ".join(told)))
    if not shown:
        return
    around, note = "", "Shapes of ETKDG, relaxed in a force field."
    if own:
        note = "Coordinates are those of the file."
    if receptor is not None:
        if not own:
            raise SuffuseError(
                f"{str(path)!r} has no coordinates in three dimensions, so its molecules do not "
                "lie in the receptor; give the .sdf that docking wrote"
            )
        around = viewer.pocket(read_receptor(receptor), [one.mol for one in shown])
        note += f" Residues of {Path(receptor).name} within 7 Å are drawn thin."
    section = page.section("In three dimensions")
    section.add(viewer.viewer(shown, around, note))


def _way(page: Page, name: str) -> None:
    """Clean estimates on the way from noise to a molecule."""
    import suffuse

    model = suffuse.load(name)
    if not isinstance(model.encoder, Graph):
        raise SuffuseError(f"{name!r} makes no molecular graphs, so there is no way to show")
    steps: list[Any] = []
    made = model.sample(1, seed=0, on_step=steps.append)
    sizes = torch.tensor([steps[0].x["atoms"].shape[1]])
    if made[0].GetProp(RAW) == "valid":
        sizes = torch.tensor([made[0].GetNumAtoms()])
    chosen = np.linspace(0, len(steps) - 1, _STRIP).round().astype(int)
    raw = model.encoder.raw()
    cells = []
    for i in chosen:
        mol = raw.decode(steps[i].x, sizes)[0]
        cells.append(Cell(Files().sheet([mol], [" "]), f"t = {float(_time(steps[i].s)):.2f}"))
    page.section("From noise to a molecule").tiles(
        [("state", cells)],
        caption=f"one molecule of {name}: its noisy graph after some of the {len(steps)} steps",
    )


def _time(s: Any) -> Any:
    return next(iter(s.values())) if isinstance(s, Mapping) else s


def _distributions(page: Page, mols: list[Chem.Mol], real: list[Chem.Mol]) -> None:
    charts: list[Chart] = []
    for name, text in _PROPERTIES.items():
        made = _values(mols, name)
        if not len(made):
            continue
        held = _values(real, name)
        if len(held):
            chart = distances(made, held, xlabel=text)
            alt = f"{text}: made molecules against the reference"
        else:
            chart, alt = histogram(made, text), f"{text} of the made molecules"
        charts.append(Chart(chart, alt))
    section = page.section("Properties")
    for i in range(0, len(charts), 2):
        section.side(*charts[i : i + 2])


def _values(mols: list[Chem.Mol], name: str) -> Any:
    values = np.array([property_of(mol, name) for mol in mols])
    return values[np.isfinite(values)]
