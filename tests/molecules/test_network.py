"""The denoiser: symmetries, masks and features; and the process around it."""

import math

import pytest
import torch

from suffuse.diffusion import Noise, sample, schedules, solvers
from suffuse.errors import SuffuseError
from suffuse_molecules.chemistry import known
from suffuse_molecules.graph import RAW, Graph
from suffuse_molecules.network import GraphTransformer
from suffuse_molecules.process import molecular


@pytest.fixture
def network(graph):
    net = GraphTransformer(graph.shape, graph, width=32, edge=16, depth=2, heads=4, walks=4)
    for p in net.parameters():  # gates and outputs begin at zero
        torch.nn.init.normal_(p, std=0.2)
    return net


def noisy(graph, b=4):
    bonds = torch.randint(4, (b, graph.largest, graph.largest)).triu(1)
    x = {"atoms": torch.randint(len(graph.types), (b, graph.largest)), "bonds": bonds + bonds.mT}
    return x, {"atoms": torch.randn(b), "bonds": torch.randn(b)}


def test_it_does_not_know_the_numbering_of_atoms(graph, network):
    x, level = noisy(graph)
    order = torch.randperm(graph.largest)
    out = network(x, level)
    permuted = {"atoms": x["atoms"][:, order], "bonds": x["bonds"][:, order][:, :, order]}
    again = network(permuted, level)
    torch.testing.assert_close(again["atoms"], out["atoms"][:, order], atol=1e-4, rtol=1e-4)
    off = ~torch.eye(graph.largest, dtype=torch.bool)
    torch.testing.assert_close(
        again["bonds"][:, off],
        out["bonds"][:, order][:, :, order][:, off],
        atol=1e-4,
        rtol=1e-4,
    )
    torch.testing.assert_close(out["bonds"], out["bonds"].transpose(1, 2))


def test_what_is_masked_does_not_matter(graph, network):
    x, level = noisy(graph, 2)
    sizes = torch.tensor([3, 5])
    mask = graph.mask(sizes)
    empty = {name: torch.where(mask[name], part, 0) for name, part in x.items()}
    out = network(empty, level, mask=mask)
    for row, size in enumerate(sizes.tolist()):
        cut = {
            "atoms": empty["atoms"][row : row + 1, :size],
            "bonds": empty["bonds"][row : row + 1, :size, :size],
        }
        alone = network(
            cut,
            {name: k[row : row + 1] for name, k in level.items()},
            mask={"atoms": torch.ones(1, size, dtype=torch.bool)},
        )
        torch.testing.assert_close(
            out["atoms"][row, :size], alone["atoms"][0], atol=1e-4, rtol=1e-4
        )
        off = ~torch.eye(size, dtype=torch.bool)
        torch.testing.assert_close(
            out["bonds"][row, :size, :size][off], alone["bonds"][0][off], atol=1e-4, rtol=1e-4
        )


def test_walks_are_those_of_the_random_walk(graph, network):
    mol = known("CC(=O)O")
    x = graph.encode([mol])
    there = graph.mask(graph.sizes([mol]))["atoms"]
    node, walk, _ = network._features(x["atoms"], x["bonds"], there)
    orders = x["bonds"][0, :4, :4].double()
    p = orders / orders.sum(1, keepdim=True)
    for k in range(1, 5):
        power = torch.linalg.matrix_power(p, k)
        expected = (power * power.T).sqrt().float()
        torch.testing.assert_close(walk[0, :4, :4, k - 1], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(node[0, :4, 2 + k], power.diagonal().float())
    assert (walk[0, 4:] == 0).all()
    assert node[0, :4, 0].tolist() == [0.25, 1.0, 0.5, 0.25]
    assert node[0, :4, 2].tolist() == [-0.75, 0.0, 0.0, -0.25]


def test_it_tells_what_it_costs(graph, network):
    assert network.params() == sum(p.numel() for p in network.parameters())
    one = network.flops(atoms=4)
    assert network.flops(batch=3, atoms=4) == 3 * one
    assert network.flops() > one > 0


def test_a_fresh_network_answers_with_the_frequencies(graph):
    net = GraphTransformer(graph.shape, graph, width=16, edge=8, depth=1, heads=2)
    x, level = noisy(graph, 1)
    out = net(x, level)
    shares = torch.tensor(graph.bonds) / sum(graph.bonds)
    torch.testing.assert_close(out["bonds"][0, 0, 1].softmax(-1), shares, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["marginal", "uniform", "absorbing"])
@pytest.mark.parametrize("solver", ["renoise", "ancestral", "tau-leaping", "remask"])
def test_every_sampler_makes_graphs_of_the_sizes_drawn(graph, network, kernel, solver):
    process = molecular(schedules.flow(power=2.0), graph, kernel=kernel)
    plan = solvers.plan(solver, schedules.flow(power=2.0), steps=4)
    noise = Noise(0, 6)
    sizes = graph.draw_sizes(noise)
    x = sample(
        process.denoiser(network),
        {"atoms": plan, "bonds": plan},
        noise=noise,
        shape=graph.shape,
        process=process,
        mask=graph.mask(sizes),
    )
    assert torch.equal(x["bonds"], x["bonds"].mT)
    mask = graph.mask(sizes)
    assert (x["atoms"][~mask["atoms"]] == 0).all()
    assert (x["bonds"][~mask["bonds"]] == 0).all()
    assert x["bonds"].max() < 4
    assert x["atoms"].max() < len(graph.types)
    assert x["bond_logits"].shape == (*x["bonds"].shape, 4)
    mols = graph.decode(x, sizes)
    assert [mol.GetNumAtoms() for mol in mols if mol.GetProp(RAW) == "valid"] == [
        n for n, mol in zip(sizes.tolist(), mols, strict=True) if mol.GetProp(RAW) == "valid"
    ]


def test_the_loss_of_a_sure_network_is_nothing_and_of_a_blind_one_the_entropy(graph, molecules):
    process = molecular(schedules.flow(), graph, bond_weight=2.0)
    x = graph.encode(molecules)
    mask = graph.mask(graph.sizes(molecules))
    t = torch.full((len(molecules),), 0.5, dtype=torch.float64)
    noise = process.noise(Noise(0, len(molecules)), x, step=0, stream=2)

    def sure(x_t, level, **conditions):
        kinds = len(graph.types)
        return {
            "atoms": 50.0 * torch.nn.functional.one_hot(x["atoms"], kinds),
            "bonds": 50.0 * torch.nn.functional.one_hot(x["bonds"], 4),
        }

    def blind(x_t, level, **conditions):
        return {
            "atoms": torch.zeros(*x["atoms"].shape, len(graph.types)),
            "bonds": torch.zeros(*x["bonds"].shape, 4),
        }

    several = graph.sizes(molecules) > 1
    assert process.loss(sure, x, t, noise, mask=mask).max() < 1e-12
    expected = math.log(len(graph.types)) + 2 * math.log(4)
    found = process.loss(blind, x, t, noise, mask=mask)
    torch.testing.assert_close(found[several], torch.full_like(found[several], expected))


def test_temperature_divides_the_logits_of_sampling_alone(graph, network):
    plain, cold = (molecular(schedules.flow(), graph, temperature=k) for k in (1.0, 0.5))
    x, _ = noisy(graph, 2)
    t = torch.full((2,), 0.3, dtype=torch.float64)
    a, b = (p.denoiser(network)(x, t) for p in (plain, cold))
    torch.testing.assert_close(b["bonds"], 2 * a["bonds"])
    noise = plain.noise(Noise(0, 2), x, step=0, stream=2)
    assert torch.equal(plain.loss(network, x, t, noise), cold.loss(network, x, t, noise))


def test_parts_of_other_domains_are_refused(graph):
    with pytest.raises(SuffuseError, match="needs the encoder 'molecules/graph'"):
        molecular(schedules.flow(), Graph())
    with pytest.raises(SuffuseError, match="above 0"):
        molecular(schedules.flow(), graph, temperature=0.0)
    with pytest.raises(SuffuseError, match="30 cannot be split into 8 heads"):
        GraphTransformer(graph.shape, graph, width=30)
