"""A batch in parts has the gradient of the whole, whatever the losses are."""

from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from medground.models import grounder
from medground.objectives import distributed
from medground.objectives.learner import Learner, total
from medground.objectives.objective import Objective
from medground.training import grad_cache


@dataclass(frozen=True)
class Batch:
    pictures: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    image_of: torch.Tensor
    text_of: torch.Tensor
    boxes: torch.Tensor
    box_of: torch.Tensor

    def inputs(self):
        image, inside = self.pictures[:, :1], self.pictures[:, 1:]
        return image, inside, self.ids, self.mask, self.image_of, self.text_of


class Contrast(Objective):
    """Images against texts of the whole batch, by a head of its own: no sum over images."""

    def __init__(self, model):
        super().__init__(model)
        self.defaults = {"contrast": 1.0}
        self.head = nn.Linear(model.config.width, 8)

    def forward(self, encoded, batch):
        images = distributed.gathered(self.head(encoded.images.patches.mean(1)))
        texts = self.head(encoded.tokens.mean(1))[: len(images)]
        return {"contrast": nn.functional.cross_entropy(images @ texts.T, torch.arange(len(images)))}


@pytest.fixture(scope="module", params=["transvg", "mdetr"])
def learner(request) -> Learner:
    torch.manual_seed(0)
    model = grounder.build("small", ["left lung", "right", "spine"], architecture=request.param)
    learner = Learner(model, ["agp"])
    learner.objectives["contrast"] = Contrast(model)
    return learner.eval()  # no dropout, norms as they are


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Five images; uneven pairs, one image without any, and a text that no pair has."""
    rng = torch.Generator().manual_seed(1)
    pictures = torch.rand(5, 2, 64, 64, generator=rng)
    pictures[:, 1] = 1
    image_of, text_of = torch.tensor([0, 0, 1, 1, 1, 4]), torch.tensor([2, 0, 0, 1, 3, 2])
    boxes = torch.rand(4, 4, generator=rng) * 0.4 + 0.3
    ids = torch.randint(4, 9, (6, 8), generator=rng)
    mask = torch.ones(6, 8, dtype=torch.bool)
    return Batch(pictures, ids, mask, image_of, text_of, boxes, torch.tensor([0, 2, 3, 5]))


def gradients(learner: Learner) -> dict[str, torch.Tensor]:
    grads = {name: each.grad for name, each in learner.named_parameters() if each.grad is not None}
    learner.zero_grad(set_to_none=True)
    return grads


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 5])
def test_parts_have_the_losses_and_gradients_of_the_whole(learner, batch, count):
    weights = learner.weights(0)
    expected = learner(batch)
    whole = total(expected, weights)
    whole.backward()
    wanted = gradients(learner)
    loss, found = grad_cache.backward(
        learner, learner, batch, count, lambda parts: total(parts, weights), Accelerator(cpu=True)
    )
    got = gradients(learner)
    assert found.keys() == expected.keys()
    assert loss.item() == pytest.approx(whole.item(), abs=1e-5)
    for name, each in expected.items():
        assert found[name].item() == pytest.approx(each.item(), abs=1e-5)
    for name, gradient in wanted.items():
        assert torch.allclose(got.get(name, torch.zeros(())), gradient, atol=1e-5), name


def test_dropout_is_the_same_when_a_part_is_encoded_again(learner, batch, monkeypatch):
    seen = []
    real = Learner.encode

    def encode(self, *inputs):
        encoded = real(self, *inputs)
        seen.append(encoded.tokens.detach().clone())
        return encoded

    monkeypatch.setattr(Learner, "encode", encode)
    learner.network.text_encoder.train()  # BERT's own dropout
    weights = learner.weights(0)
    engine = Accelerator(cpu=True)
    grad_cache.backward(learner, learner, batch, 2, lambda parts: total(parts, weights), engine)
    learner.eval().zero_grad(set_to_none=True)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2]) and torch.equal(seen[1], seen[3])


def test_every_row_is_in_one_part(batch):
    for count in (1, 2, 3, 5):
        parts = grad_cache.parts_of(batch, count)
        assert sorted(torch.cat([part.images for part in parts]).tolist()) == list(range(5))
        assert sorted(torch.cat([part.pairs for part in parts]).tolist()) == list(range(6))
        assert sorted(torch.cat([part.texts[part.own] for part in parts]).tolist()) == list(range(6))
        for part in parts:
            *_, ids, _, image_of, text_of = part.inputs
            assert torch.equal(ids[text_of], batch.ids[batch.text_of[part.pairs]])
            assert torch.equal(part.images[image_of], batch.image_of[part.pairs])


def test_texts_without_a_pair_are_divided_among_the_parts(batch):
    alone = Batch(
        batch.pictures,
        batch.ids,
        batch.mask,
        batch.image_of[:0],
        batch.text_of[:0],
        batch.boxes[:0],
        batch.box_of[:0],
    )
    parts = grad_cache.parts_of(alone, 3)
    assert [len(part.texts) for part in parts] == [2, 2, 2]
    assert torch.cat([part.texts for part in parts]).tolist() == list(range(6))
