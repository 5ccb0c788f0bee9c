"""Molecules in three dimensions on a page: 3Dmol.js, which lies in the page itself.

Source: Rego, Koes, "3Dmol.js: molecular visualization with WebGL" (2015), doi
10.1093/bioinformatics/btu829; BSD-3-Clause, its licence lies beside it in `static`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import NamedTuple

import numpy as np
from markupsafe import Markup, escape
from rdkit import Chem

from suffuse.errors import SuffuseError
from suffuse.report.blocks import Html

from .conformers import conformers
from .receptor import Receptor

__all__ = ["Shown", "pocket", "shaped", "viewer"]

_AROUND = 7.0

_PAGE = """
<div class="viewer3d">
 <p><label>Molecule <select id="viewer3d-which">{options}</select></label>
 <label>as <select id="viewer3d-style"><option value="stick">sticks</option>
 <option value="sphere">spheres</option><option value="line">lines</option></select></label>
 <span id="viewer3d-caption"></span></p>
 <div id="viewer3d" style="height:26rem;position:relative;border:1px solid #8888"></div>
 <p>Drag to turn, scroll to come nearer. {note}</p>
</div>
<script>{library}</script>
<script>
(function () {{
  var molecules = {molecules}, around = {around};
  var which = document.getElementById("viewer3d-which");
  var style = document.getElementById("viewer3d-style");
  var view = $3Dmol.createViewer("viewer3d", {{backgroundColor: "white"}});
  function show() {{
    var one = molecules[which.value], drawn = {{}};
    drawn[style.value] = style.value === "sphere" ? {{scale: 0.8}} : {{}};
    view.clear();
    if (around) {{
      view.addModel(around, "pdb");
      view.setStyle({{}}, {{stick: {{radius: 0.08, colorscheme: "whiteCarbon", opacity: 0.7}}}});
    }}
    var model = view.addModel(one.block, "sdf");
    model.setStyle({{}}, drawn);
    view.zoomTo({{model: model}});
    view.render();
    document.getElementById("viewer3d-caption").textContent = one.caption;
  }}
  which.onchange = style.onchange = show;
  show();
}})();
</script>
"""


class Shown(NamedTuple):
    """A molecule with coordinates, what it is called, and what is said of it."""

    mol: Chem.Mol
    name: str
    caption: str


@cache
def _library() -> str:
    return resources.files("suffuse_molecules").joinpath("static/3Dmol-min.js").read_text("utf-8")


def viewer(molecules: Sequence[Shown], around: str = "", note: str = "") -> Html:
    """A block of a page that shows one of the molecules, which the reader picks.

    Args:
        molecules: at least one.
        around: what stands around them, as text of a PDB file; see `pocket`.
        note: a sentence under it.
    """
    if not molecules:
        raise ValueError("a viewer shows at least one molecule")
    listed = [{"block": Chem.MolToMolBlock(m.mol), "caption": m.caption} for m in molecules]
    options = Markup("").join(
        Markup('<option value="{}">{}</option>').format(i, m.name) for i, m in enumerate(molecules)
    )
    return Html(
        Markup(_PAGE).format(
            options=options,
            note=escape(note),
            library=Markup(_script(_library())),
            molecules=Markup(_script(json.dumps(listed))),
            around=Markup(_script(json.dumps(around))),
        )
    )


def _script(text: str) -> str:
    """Text that ends no script element."""
    return text.replace("</", "<\\/")


def shaped(mol: Chem.Mol, seed: int = 0) -> Chem.Mol | None:
    """The molecule as it is where it has coordinates in three dimensions, else in a shape of ETKDG.

    None where it has neither.
    """
    if mol.GetNumConformers() and np.ptp(mol.GetConformer().GetPositions(), axis=0).min() > 1e-3:
        return mol
    try:
        return Chem.Mol(conformers(mol, 1, seed=seed).mol)
    except SuffuseError:
        return None


def pocket(receptor: Receptor, molecules: Sequence[Chem.Mol]) -> str:
    """The residues of a receptor near any of the molecules, as text of a PDB file."""
    x = np.concatenate([mol.GetConformer().GetPositions() for mol in molecules])
    atoms = receptor.x.numpy()
    apart = np.full(len(atoms), np.inf)
    for part in np.array_split(x, max(1, len(x) // 200)):
        apart = np.minimum(apart, np.linalg.norm(atoms[:, None] - part, axis=-1).min(1))
    near = {receptor.residues[i] for i in np.flatnonzero(apart < _AROUND)}
    lines = []
    for i, residue in enumerate(receptor.residues):
        if residue in near:
            name, _, atom = receptor.names[i].partition(":")
            at = "".join(f"{k:8.3f}" for k in atoms[i].tolist())
            lines.append(
                f"ATOM  {len(lines) % 99999 + 1:5d} {atom:>4s} {name[:3]:3s} A{len(near) % 9999:4d}"
                f"    {at}  1.00  0.00          {receptor.elements[i]:>2s}"
            )
    return "\n".join(lines)
