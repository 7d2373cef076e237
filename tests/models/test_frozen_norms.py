"""Frozen norms in the weights of their convolutions against the norms themselves."""

import copy

import pytest
import torch
from torch import nn

from medground.models import encoders, frozen_norms
from medground.training import optim

SMALL = {
    "model_type": "resnet",
    "num_channels": 3,
    "embedding_size": 4,
    "hidden_sizes": [8, 12],
    "depths": [1, 2],
    "layer_type": "bottleneck",
    "out_features": ["stage2"],
}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    made = encoders.build_image_encoder(dict(SMALL)).train()
    for each in optim.norms_of(made):
        each.requires_grad_(False).eval()
        for numbers in (each.weight, each.running_var):
            numbers.data.uniform_(0.5, 2)
        for numbers in (each.bias, each.running_mean):
            numbers.data.normal_()
    return made


def gradients(encoder, images):
    found = encoder(images).feature_maps[-1]
    parameters = [each for each in encoder.parameters() if each.requires_grad]
    return [found, *torch.autograd.grad(found.square().mean(), [images, *parameters])]


def images():
    torch.manual_seed(1)
    return torch.randn(2, 3, 64, 64, requires_grad=True)


def test_outputs_and_gradients_are_those_of_the_norms(encoder):
    folded = copy.deepcopy(encoder)
    frozen_norms.fold(folded)
    for one, other in zip(gradients(encoder, images()), gradients(folded, images()), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def test_a_convolution_with_a_bias(encoder):
    layer = encoder.embedder.embedder
    layer.convolution.bias = nn.Parameter(torch.randn(4))
    wanted = layer(images())
    frozen_norms.fold(layer)
    assert torch.allclose(layer(images()), wanted, atol=1e-5)


def test_predictions_have_the_same_bytes(encoder):
    folded = copy.deepcopy(encoder)
    frozen_norms.fold(folded)
    with torch.no_grad():
        one, other = (each.eval()(images()).feature_maps[-1] for each in (encoder, folded))
    assert torch.equal(one, other)


def test_norms_that_learn_are_not_folded(encoder):
    for each in optim.norms_of(encoder):
        each.requires_grad_(True).train()
    folded = copy.deepcopy(encoder)
    frozen_norms.fold(folded)
    for one, other in zip(gradients(encoder, images()), gradients(folded, images()), strict=True):
        assert torch.equal(one, other)


def test_a_copy_has_weights_of_its_own_and_the_same_names(encoder):
    names = list(encoder.state_dict())
    frozen_norms.fold(encoder)
    copied = copy.deepcopy(encoder)
    before = copied(images()).feature_maps[-1]
    for each in encoder.parameters():
        each.data.zero_()
    assert torch.equal(copied(images()).feature_maps[-1], before) and list(copied.state_dict()) == names
