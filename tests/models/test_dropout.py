"""Dropout on a processor: its share and scale, and attention against a plain one with the same mask."""

import pytest
import torch

from medground.models import dropout, published

SHAPE, HEADS, P = (3, 9, 16), 4, 0.3


def apart(rows):
    return rows.unflatten(2, (HEADS, -1)).transpose(1, 2)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_a_share_is_zero_and_the_mean_stays(p):
    torch.manual_seed(0)
    module = dropout.Dropout(p)
    numbers = torch.full((1000, 401), 2.0, requires_grad=True)
    found = module(numbers)
    assert (found == 0).double().mean().item() == pytest.approx(p, abs=0.003)
    kept = found[found != 0]
    assert torch.all(kept == kept[0]) and kept[0].item() == pytest.approx(2 / (1 - p), rel=1e-4)
    found.sum().backward()
    assert torch.allclose(numbers.grad * 2, found)
    assert module.eval()(numbers) is numbers


def test_each_bit_pattern_decides_on_its_own_number():
    torch.manual_seed(0)
    kept = dropout._signs(torch.Size((40_000, 8)), 0.5) >= 0
    alike = (kept[:, :, None] == kept[:, None]).double().mean(0)
    assert alike[~torch.eye(8, dtype=torch.bool)].sub(0.5).abs().max() < 0.02


def test_the_mask_follows_from_the_seed():
    numbers, module = torch.ones(7, 5), dropout.Dropout(P)
    torch.manual_seed(1)
    first, second = module(numbers), module(numbers)
    torch.manual_seed(1)
    assert torch.equal(module(numbers), first) and not torch.equal(first, second)


def test_torchs_dropout_in_another_precision_and_at_the_ends():
    numbers = torch.ones(4, 4, dtype=torch.bfloat16)
    torch.manual_seed(0)
    found = dropout.Dropout(P)(numbers)
    torch.manual_seed(0)
    assert torch.equal(found, torch.nn.functional.dropout(numbers, P))
    assert not dropout.Dropout(1.0)(torch.ones(4)).any() and dropout.Dropout(0.0)(torch.ones(4)).all()


@pytest.mark.parametrize("rows", [4, 1024])
def test_a_feed_forward_network_against_a_plain_one_with_the_same_mask(rows, monkeypatch):
    monkeypatch.setattr(dropout, "ROWS", rows)  # the last part of 3 x 9 rows is shorter
    torch.manual_seed(0)
    first, second = torch.nn.Linear(16, 20), torch.nn.Linear(20, 16)
    tokens, along = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    torch.manual_seed(1)
    found = dropout.feed_forward(tokens, first, second, P)
    torch.manual_seed(1)
    kept = torch.cat(
        [dropout._signs(part.shape, P) >= 0 for part in torch.empty(27, 20).split(rows)]
    ).unflatten(0, SHAPE[:2])
    wanted = second(first(tokens).relu() * kept * dropout._scale(P))
    assert torch.allclose(found, wanted, atol=1e-6)
    inputs = [tokens, *first.parameters(), *second.parameters()]
    for one, other in zip(
        *(torch.autograd.grad(each, inputs, along) for each in (found, wanted)), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_attention_against_a_plain_one_with_the_same_mask():
    torch.manual_seed(0)
    inputs = [torch.randn(SHAPE, requires_grad=True) for _ in range(3)]
    hidden = torch.rand(SHAPE[:2]) < P
    hidden[:, 0] = False
    torch.manual_seed(1)
    found = dropout.attention(*inputs, hidden, HEADS, P)
    torch.manual_seed(1)
    row = torch.Size((HEADS, SHAPE[1], SHAPE[1]))
    kept = torch.stack([dropout._signs(row, P) >= 0 for _ in range(SHAPE[0])]) * dropout._scale(P)
    q, k, v = map(apart, inputs)
    scores = (q @ k.mT / (SHAPE[2] // HEADS) ** 0.5).masked_fill(hidden[:, None, None], -torch.inf)
    wanted = (scores.softmax(3) * kept @ v).transpose(1, 2).flatten(2)
    assert torch.allclose(found, wanted, atol=1e-6)
    along = torch.randn(SHAPE)
    for one, other in zip(
        *(torch.autograd.grad(each, inputs, along) for each in (found, wanted)), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_layer_of_almost_no_dropout_equals_one_of_none():
    """The smallest probability that the mask can have: of these numbers none is dropped."""
    torch.manual_seed(0)
    layer = published.EncoderLayer(16, HEADS, 32, 0.0)
    tokens, places = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    hidden = torch.zeros(SHAPE[:2], dtype=torch.bool)
    hidden[:, -2:] = True
    wanted = torch.autograd.grad(
        layer(tokens, hidden, places)[0].square().sum(), [tokens, *layer.parameters()]
    )
    almost = 1e-5
    for each in (layer.dropout, layer.dropout1, layer.dropout2):
        each.p = almost
    layer.self_attn.dropout = almost
    for first in (False, True):
        there = layer(tokens, hidden, places, first=first)[0]
        assert torch.allclose(there, layer.eval()(tokens, hidden, places, first=first)[0], atol=1e-4)
        layer.train()
    found = torch.autograd.grad(
        layer(tokens, hidden, places)[0].square().sum(), [tokens, *layer.parameters()]
    )
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-2)


def test_a_token_that_is_hidden_has_no_effect():
    torch.manual_seed(0)
    layer, tokens, places = published.EncoderLayer(16, HEADS, 32, P), torch.randn(SHAPE), torch.zeros(SHAPE)
    hidden = torch.zeros(SHAPE[:2], dtype=torch.bool)
    hidden[:, -1] = True
    other = tokens.clone()
    other[:, -1] = 100.0
    torch.manual_seed(1)
    one = layer(tokens, hidden, places)[0][:, :-1]
    torch.manual_seed(1)
    assert torch.equal(layer(other, hidden, places)[0][:, :-1], one)
