"""`suffuse molecules dock`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from suffuse.errors import SuffuseError

if TYPE_CHECKING:
    from suffuse_molecules.receptor import Box

_FILE = click.Path(path_type=Path)
_LARGEST = 100  # heavy atoms of a ligand


@click.command()
@click.option("--receptor", type=_FILE, required=True, help="A protein, .pdb or .cif.")
@click.option("--ligand", type=_FILE, help="A file of ligands: .sdf, .smi, .csv.")
@click.option("--smiles", help="One ligand, instead of a file.")
@click.option("--box-from", type=_FILE, help="A ligand in the pocket, .sdf or .pdb.")
@click.option("--box", metavar="X,Y,Z,A,B,C", help="The box's centre and sides in Å, instead.")
@click.option("--padding", type=float, default=4.0, show_default=True, help="Å about --box-from.")
@click.option("-k", "k", type=int, default=9, show_default=True, help="The most poses of a ligand.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--starts", type=int, help="Poses at once; more find more.  [256]")
@click.option(
    "--method",
    type=click.Choice(["diffusion", "vina"]),
    default="diffusion",
    show_default=True,
    help="vina: AutoDock Vina itself, an extra.",
)
@click.option("--no-minimize", is_flag=True, help="Poses as they are before the last minimisation.")
@click.option("--column", help="Of a table, the column with SMILES.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def dock(
    receptor: Path,
    ligand: Path | None,
    smiles: str | None,
    box_from: Path | None,
    box: str | None,
    padding: float,
    k: int,
    seed: int,
    starts: int | None,
    method: str,
    no_minimize: bool,
    column: str | None,
    out: Path,
) -> None:
    """Poses of ligands in a known pocket of a receptor, into an SDF, the best first.

    Every pose has its affinity, and the checks that it fails.

    \b
    suffuse molecules dock --receptor p.pdb --ligand l.sdf --box-from ref.sdf -o poses.sdf
    """
    from suffuse.storage import write_bytes
    from suffuse_molecules.checks import failed, strain
    from suffuse_molecules.docking import Search
    from suffuse_molecules.docking import dock as work
    from suffuse_molecules.files import posed
    from suffuse_molecules.receptor import Box, points, read_receptor

    if out.suffix.lower() != ".sdf":
        raise SuffuseError(f"poses are written as .sdf, and {str(out)!r} is another kind")
    if k < 1 or not 0 <= seed < 2**31 - 1 or (starts is not None and starts < 16):
        raise SuffuseError(
            f"k is 1 or more, the seed 0 to 2^31 - 2 and --starts 16 or more; given {k}, {seed} "
            f"and {starts}"
        )
    if no_minimize and method == "vina":
        raise SuffuseError("Vina minimises its poses itself: leave out --no-minimize")
    if (box_from is None) == (box is None):
        raise SuffuseError(
            "say where the pocket is, by --box-from FILE of a ligand that lies in it, or by "
            "--box X,Y,Z,A,B,C, its centre and sides in Å"
        )
    ligands = _ligands(ligand, smiles, column)
    around = None if box_from is None else points(box_from)
    protein = read_receptor(receptor, ligand=around)
    where = Box.about(around, padding) if box is None else _box(box)
    for sentence in protein.check(where):
        click.echo(f"{receptor}: {sentence}", err=True)
    search = Search() if starts is None else Search(starts=starts)
    text, count, sound, nothing = [], 0, 0, []
    for name, mol in ligands:
        try:
            if method == "vina":
                from suffuse_molecules.vina import dock_with_vina

                poses = dock_with_vina(mol, protein, where, k, seed=seed)
            else:
                poses = work(
                    *(mol, protein, where, k),
                    seed=seed,
                    search=search,
                    minimised=not no_minimize,
                )
        except SuffuseError as error:
            if len(ligands) == 1:
                raise
            nothing.append(f"{name}: {error}")
            continue
        ground = strain(mol)
        for place, pose in enumerate(poses, start=1):
            bad = failed(pose.mol, protein, mol, ground)
            sound += not bad
            fields = {
                "pose": str(place),
                "affinity_kcal_mol": f"{pose.affinity:.2f}",
                "energy_kcal_mol": f"{pose.energy:.2f}",
                "checks": "passed" if not bad else "failed: " + " ".join(bad),
            }
            text.append(posed(pose.mol, name, fields))
        count += len(poses)
        click.echo(f"{name}: {len(poses)} poses, the best {poses[0].affinity:.1f} kcal/mol")
    for line in nothing:
        click.echo(line, err=True)
    if not count:
        raise SuffuseError(f"none of {len(ligands)} ligands got a pose")
    write_bytes(out, "".join(text).encode())
    click.echo(
        f"{count} poses of {len(ligands) - len(nothing)} ligands in {out}; {sound} pass all checks"
    )


def _ligands(path: Path | None, smiles: str | None, column: str | None) -> list[tuple[str, Any]]:
    """Names and molecules; an SDF's charges and stereo are kept, its shapes embedded anew."""
    from suffuse_molecules import reading
    from suffuse_molecules.chemistry import REASONS, parse, refusal

    if (path is None) == (smiles is None):
        raise SuffuseError("give the ligand by --ligand FILE or by --smiles, and not by both")
    if smiles is not None:
        mol = parse(smiles)
        reason = refusal(mol)
        if mol is not None and mol.GetNumHeavyAtoms() > _LARGEST:
            reason = reason or "size"
        if mol is None or reason is not None:
            raise SuffuseError(
                f"the ligand {smiles!r} is not taken ({reason}): {REASONS[reason or 'unreadable']}"
            )
        return [("ligand", mol)]
    assert path is not None
    found = reading.read(path, column=column, largest=_LARGEST)
    if found.skipped:
        click.echo(found.account(), err=True)
    shaped = reading.molecules(found)
    return [
        (record.name or f"{path.stem}-{record.line}", mol)
        for record, mol in zip(found.records, shaped, strict=True)
    ]


def _box(text: str) -> Box:
    import torch

    from suffuse_molecules.receptor import Box

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 6:
        raise SuffuseError(f"--box is six numbers X,Y,Z,A,B,C with commas, and not {text!r}")
    return Box(torch.tensor(numbers[:3]), torch.tensor(numbers[3:]))
