"""What the molecules plugin brings. Nothing is imported here until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from suffuse.plugins import Register, hookimpl

if TYPE_CHECKING:
    import click

suffuse_api = 1
suffuse_conformance = "suffuse_molecules.conformance:CONFORMANCE"

_RECIPES = Path(__file__).parent / "recipes"
_PRETRAINED = Path(__file__).parent / "pretrained"


@hookimpl
def register_datasets(register: Register) -> None:
    register(
        "molecules/qm9",
        "suffuse_molecules.datasets:QM9",
        summary="133,885 molecules of up to nine atoms C, N, O, F (a file of yours)",
    )
    register(
        "molecules/nci",
        "suffuse_molecules.datasets:NCI",
        summary="the first 5,000 molecules of the NCI open database (come with rdkit)",
    )
    register(
        "molecules/smiles",
        "suffuse_molecules.datasets:Smiles",
        summary="a file of yours: .smi, .csv or .sdf; what cannot be read is listed and skipped",
    )
    register(
        "molecules/shapes",
        "suffuse_molecules.space_data:Shapes",
        summary="an .sdf of yours with coordinates",
    )


@hookimpl
def register_encoders(register: Register) -> None:
    register(
        "molecules/graph",
        "suffuse_molecules.graph:Graph",
        summary="atoms and bonds as tokens, dense; valence-safe decoding",
    )
    register(
        "molecules/space",
        "suffuse_molecules.space:Space",
        summary="the same with coordinates in space",
    )


@hookimpl
def register_processes(register: Register) -> None:
    register(
        "molecules/graph",
        "suffuse_molecules.process:molecular",
        summary="atoms x bonds, each forgotten towards its frequencies",
    )
    register(
        "molecules/space",
        "suffuse_molecules.process:spatial",
        summary="atoms x bonds x coordinates about their centre",
    )
    register(
        "molecules/torus",
        "suffuse_molecules.torus:torus",
        summary="angles: the wrapped normal distribution",
    )
    register(
        "molecules/so3",
        "suffuse_molecules.so3:so3",
        summary="rotations: the isotropic Gaussian IGSO3",
    )


@hookimpl
def register_denoisers(register: Register) -> None:
    register(
        "molecules/graph-transformer",
        "suffuse_molecules.network:GraphTransformer",
        summary="graph transformer with a stream for edges and random-walk features",
    )
    register(
        "molecules/equivariant",
        "suffuse_molecules.space_network:EquivariantTransformer",
        summary="E(3)-equivariant graph transformer, for molecules in space",
    )


@hookimpl
def register_guidance(register: Register) -> None:
    register(
        "molecules/resample",
        "suffuse_molecules.resampling:resample",
        summary="of several clean graphs drawn in each step, the one nearest to the properties",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    register(
        "molecules/validity",
        "suffuse_molecules.evaluators:Validity",
        summary="shares of valid molecules: raw, and after valence-safe decoding",
    )
    register(
        "molecules/distinct",
        "suffuse_molecules.evaluators:Distinct",
        summary="uniqueness and novelty",
    )
    register(
        "molecules/distributions",
        "suffuse_molecules.evaluators:Distributions",
        summary="distances of property distributions to held-out molecules",
    )
    register(
        "molecules/conditions",
        "suffuse_molecules.evaluators:Conditions",
        summary="how near properties come to those asked for",
    )
    register(
        "molecules/geometry",
        "suffuse_molecules.space_evaluators:Geometry",
        summary="of molecules in space: sound bonds and angles, and strain",
    )
    register(
        "molecules/fcd",
        "suffuse_molecules.evaluators:FCD",
        extra="fcd",
        summary="Fréchet ChemNet distance",
    )


@hookimpl
def register_renderers(register: Register) -> None:
    register(
        "molecules/files",
        "suffuse_molecules.files:Files",
        summary="SDF, SMILES and CSV files; sheets of drawings",
    )


@hookimpl
def register_recipes(register: Register) -> None:
    register(
        "molecules/qm9",
        _RECIPES / "qm9.toml",
        summary="QM9 by properties, graphs of up to nine atoms; ten minutes on two cores",
    )
    register(
        "molecules/qm9-3d",
        _RECIPES / "qm9-3d.toml",
        summary="molecules in space, QM9: atoms, bonds and coordinates at once; --data FILE.sdf",
    )
    register(
        "molecules/nci",
        _RECIPES / "nci.toml",
        summary="NCI, graphs of up to 20 atoms; the data come with rdkit",
    )
    register(
        "molecules/moses",
        _RECIPES / "moses.toml",
        summary="drug-like molecules of up to 27 atoms (MOSES), by properties: --data FILE",
    )
    register(
        "molecules/smiles",
        _RECIPES / "smiles.toml",
        summary="your own molecules (.smi, .csv, .sdf): --data FILE",
    )


@hookimpl
def register_models(register: Register) -> None:
    register(
        "molecules/qm9",
        _PRETRAINED / "qm9",
        summary="molecules of up to nine atoms C, N, O, F, by properties (1.3 million numbers)",
    )
    register(
        "molecules/moses",
        _PRETRAINED / "moses",
        summary="drug-like molecules of up to 27 atoms, by properties (0.5 million numbers)",
    )
    register(
        "molecules/qm9-3d",
        _PRETRAINED / "qm9-3d",
        summary="molecules of up to nine atoms C, N, O, F in space (0.6 million numbers)",
    )


@hookimpl
def register_benchmarks(register: Register) -> None:
    register(
        "molecules/molecules",
        "suffuse_molecules.bench:molecules",
        summary="round trips, sampling, conditions, scaffolds and linkers, shapes, speed",
    )
    register(
        "molecules/drug-like",
        "suffuse_molecules.bench_druglike:druglike",
        summary="MOSES's figures beside a language model of SMILES: --set data=FILE",
    )
    register(
        "molecules/interactions",
        "suffuse_molecules.bench_interactions:interactions",
        summary="crystal ligands beside ETKDG, redocking beside Vina, affinities on cold splits",
    )
    register(
        "molecules/training",
        "suffuse_molecules.bench:training",
        summary="long: five minutes of training on QM9, and what it comes to",
    )
    register(
        "molecules/short",
        "suffuse_molecules.bench:short",
        summary="a minute of the same",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    from suffuse_molecules.commands import molecules

    cli.add_command(molecules)
