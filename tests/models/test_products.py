"""Products by oneDNN and by torch against torch's linear layer."""

import pytest
import torch

from medground.models import products


@pytest.fixture(params=[True, False])
def library(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(products, "_has_onednn", lambda: False)
    elif not products._has_onednn():
        pytest.skip("this torch has no oneDNN")


@pytest.mark.parametrize("shape", [(3, 9, 16), (1, 16), (0, 9, 16)])
def test_a_projection_has_the_outputs_and_gradients_of_a_linear_layer(shape, library):
    torch.manual_seed(0)
    layer, tokens = torch.nn.Linear(16, 20), torch.randn(shape, requires_grad=True)
    inputs = [tokens, layer.weight, layer.bias]
    found, wanted = products.project(*inputs), layer(tokens)
    assert found.shape == wanted.shape and torch.allclose(found, wanted, atol=1e-6)
    along = torch.randn(wanted.shape)
    for one, other in zip(
        *(torch.autograd.grad(each, inputs, along) for each in (found, wanted)), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_gradient_of_a_sum(library):
    tokens, layer = torch.randn(5, 16, requires_grad=True), torch.nn.Linear(16, 20)
    products.project(tokens, layer.weight, layer.bias).sum().backward()
    assert torch.allclose(tokens.grad, layer.weight.sum(0).expand(5, -1), atol=1e-5)


def test_rows_and_weights_may_be_transposed(library):
    torch.manual_seed(0)
    rows, weight, bias = torch.randn(16, 5), torch.randn(16, 20), torch.randn(20)
    wanted = rows.t() @ weight + bias
    assert torch.allclose(products.linear(rows.t(), weight.t(), bias), wanted, atol=1e-5)
    assert torch.allclose(products.relu_linear(rows.t(), weight.t(), bias), wanted.relu(), atol=1e-5)


def test_double_precision(library):
    rows, weight = torch.randn(5, 16, dtype=torch.float64), torch.randn(20, 16, dtype=torch.float64)
    assert torch.equal(products.linear(rows, weight), torch.nn.functional.linear(rows, weight))
