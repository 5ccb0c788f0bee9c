"""Guidance by resampling: what is chosen, when, and that a batch changes nothing."""

from types import SimpleNamespace

import pytest
import torch

from suffuse.diffusion import Noise
from suffuse.errors import SuffuseError
from suffuse_molecules import resampling
from suffuse_molecules.chemistry import known, problem
from suffuse_molecules.properties import property_of
from suffuse_molecules.resampling import resample

SCALES = {"logp": SimpleNamespace(mean=1.0, scale=2.0), "colour": object()}


def blurred(graph, several, sharp):
    """A denoiser whose estimate is in doubt between molecules: each token is one of theirs."""
    states = graph.encode(several)
    kinds = {"atoms": len(graph.types), "bonds": 4}
    share = {
        name: torch.nn.functional.one_hot(states[name], k).double().mean(0)
        for name, k in kinds.items()
    }

    def denoiser(x_t, t, **conditions):
        b = len(x_t["atoms"])
        return {
            name: (sharp * p + 1e-9).log().expand(b, *p.shape).clone() for name, p in share.items()
        }

    return denoiser


def noisy(graph, b):
    bonds = torch.randint(4, (b, graph.largest, graph.largest)).triu(1)
    return {"atoms": torch.randint(len(graph.types), (b, graph.largest)), "bonds": bonds + bonds.mT}


def ask(graph, guided, b, t, logp, size):
    x = noisy(graph, b)
    mask = graph.mask(torch.full((b,), size))
    wanted = (torch.full((b,), logp) - 1.0) / 2.0
    return x, guided(x, torch.full((b,), t), logp=wanted, mask=mask)


def molecules_of(graph, estimate, size):
    atoms, bonds = (estimate[name].argmax(-1) for name in ("atoms", "bonds"))
    return [
        graph.build(a[:size].tolist(), b[:size, :size].numpy())
        for a, b in zip(atoms, bonds, strict=True)
    ]


def test_the_draw_nearest_to_what_is_asked_for_is_chosen(graph):
    pair = [known("CCO"), known("CCF")]  # of one skeleton: a draw is either
    values = [property_of(mol, "logp") for mol in pair]
    guided = resample(blurred(graph, pair, 1.0), graph, SCALES, draws=12)
    for mol, value in zip(pair, values, strict=True):
        _, found = ask(graph, guided, 20, 0.3, value, 3)
        made = molecules_of(graph, found, 3)
        assert all(problem(m) is None for m in made)
        same = sum(
            m.GetAtomWithIdx(2).GetSymbol() == mol.GetAtomWithIdx(2).GetSymbol() for m in made
        )
        assert same >= 18  # each of 12 draws is the wrong one with a half


def test_the_estimate_stays_while_it_is_early(graph):
    plain = blurred(graph, [known("CCO"), known("CCF")], 1.0)
    guided = resample(plain, graph, SCALES, below=0.5)
    x, late = ask(graph, guided, 3, 0.6, 0.0, 3)
    for name, logits in plain(x, 0.2).items():
        assert torch.equal(late[name], logits)


@pytest.mark.parametrize("asked", [{}, {"logp": torch.full((40,), torch.nan)}])
def test_where_nothing_is_asked_for_the_first_draw_that_is_a_molecule_is_taken(graph, asked):
    plain = blurred(graph, [known("CCO"), known("FC#N")], 1.0)
    guided = resample(plain, graph, SCALES, draws=2, tries=2)
    x, t = noisy(graph, 40), torch.full((40,), 0.2)
    mask = graph.mask(torch.full((40,), 3))
    found = guided(x, t, mask=mask, **asked)
    rows, estimate = torch.arange(40), plain(x, t)
    source = Noise([*resampling._seeds(x, t, rows).values()])
    drawn = [resampling._drawn(estimate, rows, source.branch(str(k))) for k in range(2)]
    chosen = []
    for i in range(40):
        several = [(atoms[i, :3], bonds[i, :3, :3]) for atoms, bonds in drawn]
        sound = [problem(graph.build(a.tolist(), b.numpy())) is None for a, b in several]
        chosen.append(sound.index(True) if any(sound) else None)
        for k, name in enumerate(("atoms", "bonds")):
            if any(sound):
                part = found[name][i].argmax(-1)
                part = part[:3] if name == "atoms" else part[:3, :3]
                assert torch.equal(part, several[sound.index(True)][k])
            else:
                assert torch.equal(found[name][i], estimate[name][i])
    assert {*chosen} == {None, 0, 1}
    more = resample(plain, graph, SCALES, draws=2)(x, t, mask=mask, **asked)
    changed = [not torch.equal(more["bonds"][i], estimate["bonds"][i]) for i in range(40)]
    assert all(changed)  # each of 16 draws is none with a half
    for i in range(40):
        if chosen[i] is not None:
            assert torch.equal(more["atoms"][i], found["atoms"][i])


def test_a_sample_is_the_same_in_any_batch(graph):
    guided = resample(blurred(graph, [known("CCO"), known("CCF")], 1.0), graph, SCALES, draws=2)
    x = noisy(graph, 6)
    mask = graph.mask(torch.full((6,), 3))
    wanted, t = torch.linspace(-1, 1, 6), torch.full((6,), 0.3)
    whole = guided(x, t, logp=wanted, mask=mask)
    one = slice(4, 5)
    alone = guided(
        {name: k[one] for name, k in x.items()},
        t[one],
        logp=wanted[one],
        mask={name: k[one] for name, k in mask.items()},
    )
    for name in ("atoms", "bonds"):
        assert torch.equal(whole[name][one], alone[name])


def test_bonds_stay_symmetric_and_no_molecule_means_no_change(graph):
    guided = resample(blurred(graph, [known("CCO"), known("CC#N")], 1.0), graph, SCALES)
    _, found = ask(graph, guided, 4, 0.1, 0.0, 3)
    assert torch.equal(found["bonds"], found["bonds"].transpose(1, 2))
    pieces = blurred(graph, [known("C"), known("N")], 1.0)  # of size 3 that is three pieces
    x, kept = ask(graph, resample(pieces, graph, SCALES), 4, 0.1, 0.0, 3)
    for name, logits in pieces(x, 0.1).items():
        assert torch.equal(kept[name], logits)


def test_other_models_and_options_are_refused(graph):
    denoiser = blurred(graph, [known("CCO")], 1.0)
    with pytest.raises(SuffuseError, match="guides models of molecular graphs"):
        resample(denoiser, None, {})
    for options in ({"draws": 1}, {"tries": 1}, {"below": 0.0}, {"below": 1.5}):
        with pytest.raises(SuffuseError, match="draws and tries are 2 or more"):
            resample(denoiser, graph, {}, **options)
