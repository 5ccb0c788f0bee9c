"""Blocks of space and time and of graphs, against code that does the same the long way."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import gelu, layer_norm, silu

from suffuse.errors import SuffuseError
from suffuse.nn import GraphBlock, SpaceTimeBlock
from suffuse.nn.attention import Attention
from suffuse.nn.graph import pairs_of
from suffuse.nn.network import flops, params
from suffuse.nn.spacetime import TimeAttention, turned, turns

F64 = torch.float64


def awake(module, std=0.3):
    """In float64, with nothing left at zero."""
    module = module.to(F64)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(std * torch.randn_like(p))
    return module


def unit(x):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def over_all(layer, x, looks, turn=None):
    """Attention among all tokens [B, M, width] by loops, where looks[i, j]; turned by `turn`."""
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    size = x.shape[-1] // layer.heads
    out = []
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        a, b = unit(q[..., part]) * layer.gain, unit(k[..., part])
        if turn is not None:
            a, b = turned(a, turn), turned(b, turn)
        logits = a @ b.mT / math.sqrt(size)
        weights = torch.where(looks, logits, -math.inf).softmax(-1)
        out.append(weights @ v[..., part])
    return layer.out(torch.cat(out, -1))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_turns_is_masked_attention_among_all(causal):
    b, f, n, width = 2, 5, 4, 8
    space, time = awake(Attention(width, 2)), awake(TimeAttention(width, 2))
    x = torch.randn(b, f, n, width, dtype=F64)
    frame = torch.arange(f).repeat_interleave(n)
    place = torch.arange(n).repeat(f)
    whole = x.reshape(b, f * n, width)

    found = space(x.flatten(0, 1)).reshape(whole.shape)
    expected = over_all(space, whole, frame[:, None] == frame)
    torch.testing.assert_close(found, expected)

    moments = torch.tensor([0.0, 1.0, 2.5, 3.0, 7.0], dtype=F64)
    mask = torch.ones(f, f, dtype=torch.bool).tril() if causal else None
    along = x.transpose(1, 2).flatten(0, 1)
    found = time(along, turns(moments, width // 2), mask).reshape(b, n, f, width)
    looks = place[:, None] == place
    if causal:
        looks = looks & (frame[:, None] >= frame)
    expected = over_all(time, whole, looks, turns(moments[frame], width // 2))
    torch.testing.assert_close(found.transpose(1, 2).reshape(whole.shape), expected)


def test_only_how_far_moments_are_apart_counts():
    time = awake(TimeAttention(8, 2))
    x, moments = torch.randn(3, 5, 8, dtype=F64), torch.rand(5, dtype=F64) * 10
    here, later = turns(moments, 4), turns(moments + 3.5, 4)
    torch.testing.assert_close(time(x, later), time(x, here), atol=1e-5, rtol=1e-5)
    assert (time(x, turns(2 * moments, 4)) - time(x, here)).abs().max() > 1e-4


@pytest.mark.parametrize("space", [True, False])
def test_a_block_of_space_and_time_is_its_formula(space):
    b, f, n, width = 2, 3, 4, 8
    block = awake(SpaceTimeBlock(width, 2, space=space))
    x = torch.randn(b * f, n, width, dtype=F64)
    e = torch.randn(b * f, 1, width, dtype=F64)
    turn = turns(torch.arange(f), 4)
    said = list(block.modulation(e).chunk(9 if space else 6, dim=-1))

    def modulate(x, shift, scale):
        return layer_norm(x, (width,), eps=1e-6) * (1 + scale) + shift

    expected = x
    if space:
        shift, scale, gate = said[:3]
        expected = expected + gate * block.space(modulate(expected, shift, scale))
    shift, scale, gate, *rest = said[-6:]
    h = modulate(expected, shift, scale).reshape(b, f, n, width)
    seen = torch.stack([block.time(h[:, :, i], turn) for i in range(n)], 2)
    expected = expected + gate * seen.flatten(0, 1)
    shift, scale, gate = rest
    h = block.linear_1(gelu(block.linear_0(modulate(expected, shift, scale))))
    torch.testing.assert_close(block(x, e, f, turn), expected + gate * h)


def test_padding_of_frames_and_tokens_is_not_looked_at():
    """What is left is as if the rest had been cut off."""
    b, f, n, width = 2, 5, 4, 8
    block = awake(SpaceTimeBlock(width, 2))
    x = torch.randn(b, f, n, width, dtype=F64)
    e = torch.randn(b, f, 1, width, dtype=F64)
    there = torch.zeros(b, f, n, dtype=torch.bool)
    there[:, :3, :2] = True
    turn = turns(torch.arange(f), 4)
    masks = [None, torch.ones(f, f, dtype=torch.bool).tril()]
    for mask in masks:
        found = block(x.flatten(0, 1), e.flatten(0, 1), f, turn, mask, there=there.flatten(0, 1))
        assert found.isfinite().all()
        found = found.reshape(x.shape)[:, :3, :2]
        cut = block(
            x[:, :3, :2].flatten(0, 1),
            e[:, :3].flatten(0, 1),
            3,
            turns(torch.arange(3), 4),
            None if mask is None else mask[:3, :3],
        )
        torch.testing.assert_close(found, cut.reshape(found.shape))


def test_what_is_remembered_counts_also_beside_padding():
    time = awake(TimeAttention(8, 2))
    x = torch.randn(2, 5, 8, dtype=F64)
    angles = turns(torch.arange(5), 4)
    late = tuple(k[3:] for k in angles)
    earlier = []
    time(x[:, :3], tuple(k[:3] for k in angles), kept=lambda k, v: earlier.extend((k, v)) or (k, v))

    def kept(k, v):
        return torch.cat([earlier[0], k], -2), torch.cat([earlier[1], v], -2)

    there = torch.tensor([[True, False], [True, False]])
    found = time(x[:, 3:], late, kept=kept, there=there)[:, 0]
    torch.testing.assert_close(found, time(x[:, :4], tuple(k[:4] for k in angles))[:, 3])


def test_a_fresh_block_of_space_and_time_changes_nothing():
    block = SpaceTimeBlock(8, 2)
    x = torch.randn(6, 4, 8)
    assert torch.equal(block(x, torch.randn(6, 1, 8), 3, turns(torch.arange(3), 4)), x)
    with pytest.raises(SuffuseError, match="even size"):
        TimeAttention(9, 3)


def graph(b=2, n=5, width=8, edge=6):
    block = awake(GraphBlock(width, edge, 2))
    pairs = pairs_of(n)
    x = torch.randn(b, n, width, dtype=F64)
    e = torch.randn(b, len(pairs.first), edge, dtype=F64)
    return block, x, e, torch.randn(b, 1, 6 * width + 3 * edge, dtype=F64), pairs


def test_a_graph_block_is_its_formula_on_dense_edges():
    block, x, sparse, y, pairs = graph()
    (b, n, width), edge, size = x.shape, sparse.shape[-1], x.shape[-1] // block.heads
    e = pairs.dense(sparse)
    there = torch.ones(b, n, dtype=torch.bool)
    there[0, 3:] = False
    sizes = [width] * 6 + [edge] * 3
    shift, scale, gate, shift_m, scale_m, gate_m, shift_e, scale_e, gate_e = (
        y + block.modulation
    ).split(sizes, -1)

    def modulate(k, shift, scale):
        return layer_norm(k, k.shape[-1:], eps=1e-5) * (1 + scale) + shift

    h = modulate(x, shift, scale)
    he = modulate(e, shift_e[:, None], scale_e[:, None])
    q, k, v = block.qkv(h).chunk(3, -1)
    moves, louder = block.steer(he).chunk(2, -1)
    total, other = block.from_nodes(h).split(2 * edge, -1)
    seen, message, edges = torch.zeros_like(x), torch.zeros(b, n, 2 * edge, dtype=F64), e.clone()
    for r in range(b):
        nodes = [i for i in range(n) if there[r, i]]
        for i in range(n):
            for head in range(block.heads):
                part = slice(head * size, (head + 1) * size)
                logits = torch.stack([
                    q[r, i, part] @ k[r, j, part] / math.sqrt(size)
                    + (moves[r, i, j, head] if i != j else 0)
                    for j in nodes
                ])  # fmt: skip
                for share, j in zip(logits.softmax(0), nodes, strict=True):
                    loud = 1 + (louder[r, i, j, head] if i != j else 0)
                    seen[r, i, part] += share * loud * v[r, j, part]
        for i in range(n):
            for j in range(i + 1, n):
                inner = block.from_edge(he[r, i, j]) + total[r, i] + total[r, j]
                inner = silu(inner + other[r, i] * other[r, j])
                edges[r, i, j] = e[r, i, j] + gate_e[r, 0] * block.edge_out(inner)
                if i in nodes and j in nodes:
                    message[r, i] += inner / math.sqrt(len(nodes))
                    message[r, j] += inner / math.sqrt(len(nodes))
    nodes_out = x + gate * block.out(seen)
    h = modulate(nodes_out, shift_m, scale_m) + block.gather(message)
    nodes_out = nodes_out + gate_m * block.linear_1(silu(block.linear_0(h)))

    found, found_edges = block(x, sparse, y, pairs, there)
    torch.testing.assert_close(found, nodes_out)
    torch.testing.assert_close(found_edges, pairs.sparse(edges))


def test_a_graph_block_does_not_know_the_numbers_of_nodes():
    block, x, e, y, pairs = graph()
    there = torch.tensor([[True] * 5, [True, True, False, True, False]])
    order = torch.randperm(5)
    nodes, edges = block(x, e, y, pairs, there)
    turned_edges = pairs.sparse(pairs.dense(e)[:, order][:, :, order])
    again, edges_again = block(x[:, order], turned_edges, y, pairs, there[:, order])
    torch.testing.assert_close(again, nodes[:, order])
    expected = pairs.sparse(pairs.dense(edges)[:, order][:, :, order])
    torch.testing.assert_close(edges_again, expected)


def test_nodes_that_are_not_there_are_as_if_cut_off():
    block, x, e, y, pairs = graph()
    there = torch.arange(5).expand(2, 5) < 3
    nodes, edges = block(x, e, y, pairs, there)
    few = pairs_of(3)
    alone = block(x[:, :3], few.sparse(pairs.dense(e)), y, few, there[:, :3])
    torch.testing.assert_close(nodes[:, :3], alone[0])
    torch.testing.assert_close(few.sparse(pairs.dense(edges)), alone[1])


def test_pairs_and_dense_edges_are_the_same():
    pairs = pairs_of(4)
    e = torch.randn(2, 6, 3)
    dense = pairs.dense(e)
    assert torch.equal(dense[:, 0, 3], e[:, 2])
    off = ~torch.eye(4, dtype=torch.bool)
    assert torch.equal(dense.transpose(1, 2)[:, off], dense[:, off])
    assert torch.equal(pairs.sparse(dense), e)


def test_what_blocks_cost_is_counted():
    b, n, width, edge = 3, 5, 8, 6
    pairs = n * (n - 1) // 2
    block = GraphBlock(width, edge, 2)
    layers = [
        (n, width, 3 * width), (pairs, edge, 4), (n, width, width), (n, width, 4 * edge),
        (pairs, edge, 2 * edge), (pairs, 2 * edge, edge), (n, 2 * edge, width),
        (n, width, 2 * width), (n, 2 * width, width),
    ]  # fmt: skip
    own = 6 * width + 3 * edge
    assert params(block) == own + sum(k * out + out for _, k, out in layers)
    products = sum(rows * k * out for rows, k, out in layers)
    products += 2 * n * n * width  # attention
    products += 2 * n * pairs * 2 * edge  # sums over the nodes of a pair, and over pairs of a node
    shapes = [(b, n, width), (b, pairs, edge), (b, 1, own)]
    x, e, y = (torch.zeros(shape, device="meta") for shape in shapes)
    there = torch.ones(b, n, dtype=torch.bool, device="meta")
    assert flops(block, x, e, y, pairs_of(n, x.device), there) == 2 * b * products
