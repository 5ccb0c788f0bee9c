"""`suffuse molecules affinity`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from suffuse.errors import SuffuseError

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--sequence", help="A protein in one-letter codes, or a FASTA file.")
@click.option("--smiles", help="A molecule.")
@click.option("--ligands", type=_FILE, help="Many molecules: .smi, .csv, .sdf; a table comes back.")
@click.option("--column", help="Of a table of ligands, the column with SMILES.")
@click.option("--model", type=_FILE, help="A folder of --fit.  [the one that ships, of kinases]")
@click.option("--fit", "table", type=_FILE, help="Fit a model to this table instead.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of fitting.")
@click.option("--coverage", type=float, default=0.9, show_default=True, help="Of the intervals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-o", "--out", type=_FILE, help="A .csv; for --fit a folder.")
def affinity(
    sequence: str | None,
    smiles: str | None,
    ligands: Path | None,
    column: str | None,
    model: Path | None,
    table: Path | None,
    seed: int,
    coverage: float,
    as_json: bool,
    out: Path | None,
) -> None:
    """How strongly molecules bind to a protein, as pKd with an interval.

    \b
    suffuse molecules affinity --sequence kinase.fasta --smiles "Cc1ccc(cc1)NC(=O)c1ccccc1"
    suffuse molecules affinity --fit pairs.csv -o mine       # columns smiles, sequence, pkd
    """
    if not 0 < coverage < 1:
        raise SuffuseError(f"a coverage is between 0 and 1, and {coverage} is not")
    if table is not None:
        _fit(table, out, seed, coverage)
        return
    from suffuse_molecules.affinity import Affinity

    if sequence is None or (smiles is None) == (ligands is None):
        raise SuffuseError(
            "give a protein by --sequence, and molecules by --smiles or --ligands FILE; or a table "
            "to fit by --fit"
        )
    ask = Affinity.load(model)
    if smiles is not None:
        named = [("", smiles)]
    else:
        from suffuse_molecules import reading

        assert ligands is not None
        found = reading.read(ligands, column=column, salts=True)
        if found.skipped:
            click.echo(found.account(), err=True)
        named = [(record.name, record.smiles) for record in found.records]
    rows = []
    for name, text in named:
        answer = ask(text, sequence)
        rows.append(
            {
                "smiles": text,
                "name": name,
                "pkd": round(answer.value, 3),
                "low": round(answer.low, 3),
                "high": round(answer.high, 3),
                "kd_nm": float(f"{10 ** (9 - answer.value):.3g}"),
                "nearest_molecule": round(answer.molecule, 3),
                "nearest_protein": round(answer.protein, 3),
                "warning": answer.warning,
            }
        )
    if out is not None:
        _table(rows, out)
        return
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(
            f"{row['smiles']}  pKd {row['pkd']:.2f} ({row['low']:.2f} to {row['high']:.2f}, "
            f"{100 * ask.coverage:.0f} %), Kd {row['kd_nm']:g} nM"
        )
        if row["warning"]:
            click.echo(str(row["warning"]), err=True)


def _table(rows: list[dict[str, object]], out: Path) -> None:
    import csv
    import io

    from suffuse.storage import write_bytes

    if out.suffix.lower() != ".csv":
        raise SuffuseError(f"affinities are written as .csv, and {str(out)!r} is another kind")
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(out, file.getvalue().encode())
    click.echo(f"{len(rows)} affinities in {out}")


def _fit(table: Path, out: Path | None, seed: int, coverage: float) -> None:
    from suffuse_molecules.affinity_fit import fit, read_pairs

    if out is None:
        raise SuffuseError("say by -o which folder the fitted model goes to")
    pairs, skipped = read_pairs(table)
    if skipped:
        more = "; ".join(skipped[:5])
        click.echo(f"{table}: {len(skipped)} lines are skipped: {more}", err=True)
    model, found = fit(pairs, coverage=coverage, seed=seed)
    model.save(out)
    click.echo(
        f"{len(pairs.value)} pairs of {len(pairs.smiles)} molecules and {len(pairs.sequences)} "
        f"proteins; on {found['pairs']:.0f} pairs held out: concordance "
        f"{found['concordance']:.3f}, mean squared error {found['mse']:.3f}, "
        f"{100 * found['covered']:.0f} % of intervals hold the truth; the model is in {out}"
    )
