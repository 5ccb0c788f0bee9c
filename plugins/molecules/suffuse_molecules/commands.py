"""`suffuse molecules ...`: editing, shapes, and the daily work on files of molecules."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from suffuse.errors import SuffuseError
from suffuse_molecules.affinity_command import affinity
from suffuse_molecules.docking_command import dock

if TYPE_CHECKING:
    from rdkit import Chem

    from suffuse_molecules.editing import Made

F = TypeVar("F", bound=Callable[..., Any])

_OUT = click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .smi, .csv or .sdf file, or .png for drawings.  [SMILES on the terminal]",
)
_FILE = click.Path(path_type=Path)


def _making(command: F) -> F:
    """The options of commands that sample a model."""
    for option in (
        click.option("--model", default="molecules/qm9", show_default=True, help="Of graphs."),
        click.option("-n", "n", type=int, default=16, show_default=True, help="How many."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option("--steps", type=int, help="The most network calls.  [the model's]"),
        click.option("--batch", type=int, default=128, show_default=True, help="Made at once."),
        _OUT,
    ):
        command = option(command)
    return command


_ATOMS = click.option("--atoms", help="New atoms: a number, or a range like 2-5.")


@click.group()
def molecules() -> None:
    """Edit, examine and shape molecules."""


@molecules.command()
@click.argument("scaffold")
@_ATOMS
@_making
def decorate(scaffold: str, atoms: str | None, **options: Any) -> None:
    """New groups on SCAFFOLD, a SMILES with attachment points.

    \b
    suffuse molecules decorate "[*:1]c1ccccc1" -n 8 --atoms 1-3
    """
    from suffuse_molecules.editing import decorate as work

    _edit(lambda model, n, more: work(model, scaffold, n, **more), atoms, options)


@molecules.command()
@click.argument("parts")
@_ATOMS
@_making
def link(parts: str, atoms: str | None, **options: Any) -> None:
    """Join PARTS, SMILES with an attachment point each, by new atoms between them.

    \b
    suffuse molecules link "[*:1]C=O|[*:1]C#N" -n 8
    """
    from suffuse_molecules.editing import link as work

    _edit(lambda model, n, more: work(model, parts, n, **more), atoms, options)


@molecules.command()
@click.argument("molecule")
@click.option("--keep", required=True, help="SMARTS of what stays.")
@_ATOMS
@_making
def hop(molecule: str, keep: str, atoms: str | None, **options: Any) -> None:
    """Keep a part of MOLECULE, a SMILES, and replace the rest.

    \b
    suffuse molecules hop "OC(=O)c1ccco1" --keep "C(=O)O"
    """
    from suffuse_molecules.editing import hop as work

    _edit(lambda model, n, more: work(model, molecule, keep, n, **more), atoms, options)


@molecules.command()
@click.argument("molecule")
@click.option("--strength", type=float, default=0.4, show_default=True, help="0 to 1: how far.")
@_making
def vary(molecule: str, strength: float, **options: Any) -> None:
    """Molecules like MOLECULE, a SMILES: it is noised in part, and made clean again.

    \b
    suffuse molecules vary "CCOC(C)=O" --strength 0.4
    """
    from suffuse_molecules.editing import vary as work

    _edit(lambda model, n, more: work(model, molecule, strength, n, **more), None, options)


@molecules.command()
@click.argument("file", type=_FILE)
@click.option("-k", "k", type=int, default=10, show_default=True, help="Shapes embedded of each.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--distinct", type=float, default=0.1, show_default=True, help="Å between shapes.")
@click.option("--column", help="Of a table, the column with SMILES.")
@click.option(
    "--method",
    type=click.Choice(["etkdg", "torsional", "both"]),
    default="etkdg",
    show_default=True,
    help="torsional: ETKDG's rings and angles, torsions by diffusion; both: half of each.",
)
@click.option("--torsions", type=_FILE, help="A folder of fit-torsions.  [the one that ships]")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def conformers(
    file: Path,
    k: int,
    seed: int,
    distinct: float,
    column: str | None,
    method: Literal["etkdg", "torsional", "both"],
    torsions: Path | None,
    out: Path,
) -> None:
    """Shapes of the molecules in FILE, into an SDF with energies (relaxed by MMFF94s or UFF).

    \b
    suffuse molecules conformers in.smi -k 10 -o confs.sdf
    suffuse molecules conformers in.smi -k 10 --method torsional -o confs.sdf
    """
    from suffuse.storage import write_bytes
    from suffuse_molecules import reading
    from suffuse_molecules.conformers import conformers as work
    from suffuse_molecules.files import shapes

    if out.suffix.lower() != ".sdf":
        raise SuffuseError(f"shapes are written as .sdf, and {str(out)!r} is another kind")
    if k < 1 or not 0 <= seed < 2**31 - 1:
        raise SuffuseError(f"k is 1 or more and the seed 0 to 2^31 - 2; given {k} and {seed}")
    if not distinct >= 0:
        raise SuffuseError(f"--distinct is 0 Å or more, and {distinct} is not")
    if torsions is not None and method == "etkdg":
        raise SuffuseError(
            "--torsions goes with --method torsional or both, and the method is etkdg"
        )
    if method != "etkdg":
        from suffuse_molecules.torsional import load

        load(torsions)  # says what is missing before any work
    found = reading.read(file, column=column)
    _say(found.account())
    text, total, failed = [], 0, []
    for record, mol in zip(found.records, reading.molecules(found), strict=True):
        try:
            shaped = work(mol, k, seed=seed, distinct=distinct, method=method, torsions=torsions)
        except SuffuseError as error:
            failed.append(f"line {record.line}: {error}")
            continue
        text.append(shapes(shaped.mol, record.name or str(record.line), shaped))
        total += len(shaped.energies)
    for line in failed[:10]:
        _say(line)
    if not total:
        raise SuffuseError(f"not one molecule of {str(file)!r} got a shape")
    write_bytes(out, "".join(text).encode())
    without = f"; {len(failed)} without one" if failed else ""
    click.echo(f"{total} shapes of {len(text)} molecules in {out}{without}")


@molecules.command("fit-torsions")
@click.option("-o", "--out", type=_FILE, required=True, help="The folder of the model.")
@click.option("--ligands", type=int, default=30000, show_default=True, help="The most to learn of.")
@click.option("--steps", type=int, default=4000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def fit_torsions(out: Path, ligands: int, steps: int, seed: int) -> None:
    """Train the model of torsions on crystal ligands, those that come with biotite (an extra).

    \b
    suffuse molecules fit-torsions -o torsions
    suffuse molecules conformers in.smi --method torsional --torsions torsions -o shapes.sdf
    """
    from suffuse_molecules.torsion_fit import fit

    if ligands < 1 or steps < 1 or not 0 <= seed < 2**31:
        raise SuffuseError(
            f"--ligands and --steps are 1 or more and --seed 0 or more; given {ligands}, {steps} "
            f"and {seed}"
        )
    fit(out, ligands=ligands, steps=steps, seed=seed, said=click.echo)
    click.echo(f"the model is in {out}")


@molecules.command("filter")
@click.argument("file", type=_FILE)
@click.option("--range", "ranges", multiple=True, metavar="NAME=LOW..HIGH", help="logp=0..3")
@click.option("--pains", is_flag=True, help="Leave out what the PAINS catalogue matches.")
@click.option("--unrepaired", is_flag=True, help="Leave out what was repaired in decoding.")
@click.option("--largest", type=int, help="The most heavy atoms.")
@click.option("--column", help="Of a table, the column with SMILES.")
@click.option("--rejected", type=_FILE, help="Write the others to this table, with the reasons.")
@_OUT
def filter_(
    file: Path,
    ranges: tuple[str, ...],
    pains: bool,
    unrepaired: bool,
    largest: int | None,
    column: str | None,
    rejected: Path | None,
    out: Path | None,
) -> None:
    """The molecules of FILE that are valid and lie within ranges of properties.

    They keep their columns, data fields and shapes, where the kind of file has a place for them.

    \b
    suffuse molecules filter made.sdf --range logp=0..3 --range weight=..350 -o good.smi
    """
    from suffuse_molecules import reading
    from suffuse_molecules.selection import Range, refused

    asked = [Range.of(text) for text in ranges]
    if largest is not None and largest < 1:
        raise SuffuseError(f"--largest is 1 or more heavy atoms, and {largest} is not")
    found = reading.read(file, column=column, largest=largest)
    kept, others = [], [(s.line, s.text, s.reason) for s in found.skipped]
    whole = reading.molecules(found, hydrogens=True)
    for record, mol, one in zip(found.records, reading.molecules(found), whole, strict=True):
        repaired = unrepaired and record.values.get("raw", "valid") != "valid"
        reason = "repaired" if repaired else refused(mol, asked, pains)
        if reason is None:
            kept.append(one)
        else:
            others.append((record.line, record.smiles, reason))
    _rejected(others, rejected)
    _write(kept, out, f"{len(kept)} of {len(kept) + len(others)} molecules pass")
    counts = Counter(reason for *_, reason in others).most_common()
    if counts:
        _say("left out: " + ", ".join(f"{count} {reason}" for reason, count in counts))


@molecules.command()
@click.argument("file", type=_FILE)
@click.option("--reference", type=_FILE, help="Leave out what is in this file, too.")
@click.option("--column", help="Of a table, the column with SMILES.")
@_OUT
def dedupe(file: Path, reference: Path | None, column: str | None, out: Path | None) -> None:
    """Each molecule of FILE once, stereo left aside.

    \b
    suffuse molecules dedupe made.smi --reference train.smi -o new.smi
    """
    from suffuse_molecules import reading
    from suffuse_molecules.chemistry import canonical

    found = reading.read(file, column=column)
    _say(found.account())
    seen: set[str] = set()
    if reference is not None:
        known = reading.read(reference)
        _say(known.account())
        seen = {canonical(mol) for mol in reading.molecules(known)}
    before = len(seen)
    kept: dict[str, Any] = {}
    for mol in reading.molecules(found, hydrogens=True):
        smiles = canonical(mol)
        if smiles not in seen:
            kept.setdefault(smiles, mol)
    beside = f", beside {before} of the reference" if reference is not None else ""
    _write([*kept.values()], out, f"{len(kept)} different of {len(found.records)}{beside}")


@molecules.command()
@click.argument("file", type=_FILE)
@click.option("--reference", type=_FILE, help="Training or other real molecules.")
@click.option("--column", help="Of a table, the column with SMILES.")
@click.option("--training", type=_FILE, help="MOSES's figures: what the model was trained on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    file: Path,
    reference: Path | None,
    column: str | None,
    training: Path | None,
    as_json: bool,
) -> None:
    """Figures of the molecules in FILE: validity, uniqueness, diversity, novelty, distances.

    With --training they are those of MOSES and GuacaMol against the test set --reference, beside
    those of the training set itself and of training molecules with one carbon more.

    \b
    suffuse molecules evaluate made.sdf --reference train.smi
    suffuse molecules evaluate made.smi --reference test.csv --training train.csv
    """
    from suffuse_molecules.selection import benchmark, figures

    if training is not None:
        if reference is None:
            raise SuffuseError("--training wants a test set beside it: --reference FILE")
        tables = benchmark(file, reference, training, column)
        if as_json:
            click.echo(_json(tables))
            return
        width = max(map(len, tables["made"]))
        click.echo(" " * width + "".join(f"  {name:>12}" for name in tables))
        for name in tables["made"]:
            values = (table.get(name, float("nan")) for table in tables.values())
            click.echo(f"{name:<{width}}" + "".join(f"  {value:>12.4g}" for value in values))
        return
    found = figures(file, reference, column)
    if as_json:
        click.echo(_json(found))
        return
    width = max(map(len, found))
    for name, value in found.items():
        click.echo(f"{name:<{width}}  {value if isinstance(value, str) else f'{value:.4g}'}")


@molecules.command()
@click.argument("file", type=_FILE)
@click.option("--reference", type=_FILE, help="Training or other real molecules.")
@click.option("--column", help="Of a table, the column with SMILES.")
@click.option("--receptor", type=_FILE, help="Of docked poses, the .pdb that they lie in.")
@click.option("--model", help="Show the way from noise to a molecule of this model.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def report(
    file: Path,
    reference: Path | None,
    column: str | None,
    receptor: Path | None,
    model: str | None,
    out: Path,
) -> None:
    """One HTML page of FILE: drawings, shapes to turn, the nearest real molecules, properties.

    \b
    suffuse molecules report made.sdf --reference train.smi -o made.html
    """
    from suffuse_molecules.page import write

    if out.suffix.lower() != ".html":
        raise SuffuseError(f"a page is written as .html, and {str(out)!r} is another kind")
    write(file, out, reference, column, receptor, model)
    click.echo(f"the page is {out}")


molecules.add_command(affinity)
molecules.add_command(dock)


def _edit(
    work: Callable[[Any, int, Mapping[str, Any]], Made], atoms: str | None, options: dict[str, Any]
) -> None:
    import suffuse

    if options["n"] < 1:
        raise SuffuseError(f"-n is 1 or more, and {options['n']} is not")
    model = suffuse.load(options["model"])
    more = {"seed": options["seed"], "steps": options["steps"], "batch": options["batch"]}
    if atoms is not None:
        more["atoms"] = _range(atoms)
    made = work(model, options["n"], more)
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(made.reasons.items()))
    summary = (
        f"{len(made.molecules)} different molecules of {made.tried} sampled: "
        f"{100 * made.raw / made.tried:.0f} % valid before repair"
        + (f" ({reasons})" if reasons else "")
        + (f", {100 * made.retained / made.tried:.0f} % fit" if made.retained is not None else "")
    )
    if not made.molecules:
        raise SuffuseError(f"nothing was found: {summary}; more steps or other sizes may help")
    _write(made.molecules, options["out"], summary)


def _range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not low.isdigit() or (dash and not high.isdigit()):
        raise SuffuseError(f"--atoms is a number or a range like 2-5, and {text!r} is neither")
    return int(low), int(high) if dash else int(low)


def _write(mols: Sequence[Chem.Mol], out: Path | None, summary: str) -> None:
    from suffuse import storage
    from suffuse_molecules.files import Files, smiles

    if out is None:
        for mol in mols:
            click.echo(smiles(mol))
        _say(summary)
        return
    if not mols and out.suffix.lower() in (".png", ".html"):
        raise SuffuseError(f"there is nothing to draw: {summary}")
    if out.suffix.lower() == ".png":
        storage.write_bytes(out, Files().sheet(mols, [smiles(mol) for mol in mols]))
    else:
        Files().write_all(mols, out, [{}] * len(mols))
    click.echo(f"{summary}; in {out}")


def _rejected(others: Sequence[tuple[int, str, str]], path: Path | None) -> None:
    import csv
    import io

    from suffuse import storage

    if path is None:
        return
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["line", "smiles", "reason"])
    writer.writerows(others)
    storage.write_bytes(path, file.getvalue().encode())


def _json(value: Any) -> str:
    """JSON, in which a figure that there is none of is null."""

    def plain(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {name: plain(inner) for name, inner in part.items()}
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(plain(value), indent=2)


def _say(text: str) -> None:
    """Something beside the result, which may be piped on."""
    if text:
        click.echo(text, err=True)
