"""MedRPG's contrast against its formulas, written out pair by pair and region by region."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medground.boxes import paired_iou
from medground.errors import MedgroundError
from medground.models import grounder, layers
from medground.objectives import medrpg
from medground.objectives.learner import Learner
from medground.objectives.objective import Encoded
from medground.ops import cxcywh_to_xyxy


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = grounder.build("small", ["opacity in the left lung", "effusion"])
    made.network.eval()
    return made


def slow_contrast(outputs, attention, shares, found):
    costs = []
    for h, a, weights, counts in zip(outputs, attention, shares, found, strict=True):
        tokens, patches = len(h), weights.shape[1]
        alike = []
        for w, counted in zip(weights, counts, strict=True):
            if not counted:
                continue
            w = [float(each) / float(w.sum()) for each in w]
            v = sum(w[p] * h[tokens - patches + p] for p in range(patches))
            look = [
                sum(w[p] * float(a[tokens - patches + p, t]) for p in range(patches))
                * float(a[1, t] * a[0, t])
                for t in range(tokens)
            ]
            c = sum(look[t] / sum(look) * h[t] for t in range(tokens))
            one, other = v + c, h[1] + c
            alike.append(float(one @ other / one.norm() / other.norm()) / 0.1)
        costs.append(math.log(sum(math.exp(each) for each in alike)) - alike[0])
    return costs


def test_the_contrast_against_a_slow_reference():
    torch.manual_seed(1)
    outputs, attention = torch.randn(3, 9, 5), torch.rand(3, 9, 9).softmax(2)
    shares, found = torch.rand(3, 6, 4), torch.rand(3, 6) > 0.3
    found[:, 0] = True
    fast = medrpg.contrast(outputs, attention, shares, found)
    assert fast.tolist() == pytest.approx(slow_contrast(outputs, attention, shares, found), rel=1e-4)


def test_a_region_like_the_phrase_costs_less_than_one_unlike_it():
    outputs, attention = torch.eye(6)[None], torch.full((1, 6, 6), 1 / 6)
    outputs[0, 4] = outputs[0, 1]  # the first patch's output is the phrase's
    shares = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    every = torch.ones(1, 2, dtype=torch.bool)
    good = medrpg.contrast(outputs, attention, shares, every)
    assert good < medrpg.contrast(outputs, attention, shares.flip(1), every)


def test_the_other_boxes_lie_in_the_square_and_far_from_the_true_one():
    torch.manual_seed(2)
    true = torch.cat([torch.rand(200, 2) * 0.4 + 0.3, torch.rand(200, 2) * 0.3 + 0.05], dim=1)
    regions, apart = medrpg.other_boxes(true)
    assert torch.equal(regions[:, 0], true) and apart[:, 0].all()
    ends = cxcywh_to_xyxy(regions).double().numpy()
    assert ends.min() >= -1e-6 and ends.max() <= 1 + 1e-6
    for n in range(1, 6):
        iou = paired_iou(ends[:, 0], ends[:, n])
        assert np.array_equal(iou <= 0.25, apart[:, n].numpy())
    assert apart.float().mean() > 0.99


def test_a_box_that_leaves_no_room_has_no_others():
    regions, apart = medrpg.other_boxes(torch.tensor([[0.5, 0.5, 1.0, 1.0]]))
    assert apart.tolist() == [[True, *((regions[0, 1:, 2:].prod(1) <= 0.25).tolist())]]


def test_the_share_of_a_patch_is_its_covered_area():
    shares = medrpg.covered(torch.tensor([[0.5, 0.25, 0.5, 0.5], [0.1, 0.1, 0.02, 0.02]]), 2, 4)
    assert shares[0].tolist() == pytest.approx([0, 1, 1, 0, 0, 0, 0, 0])
    assert shares[1].tolist() == pytest.approx([0.08 * 0.04, *[0] * 7])  # smaller than a patch, yet there


def test_a_rounded_box_has_the_patches_of_the_published_loop():
    torch.manual_seed(5)
    boxes = torch.cat([torch.rand(50, 2) * 0.6 + 0.2, torch.rand(50, 2) * 0.38 + 0.01], dim=1)
    found = medrpg.rounded(boxes, 8, 10).unflatten(1, (8, 10))
    for (x1, y1, x2, y2), patches in zip(cxcywh_to_xyxy(boxes).tolist(), found, strict=True):
        left, top, right, bottom = (math.floor(each) for each in (x1 * 10, y1 * 8, x2 * 10, y2 * 8))
        if left == right:
            left, right = max(0, left - 1), min(10, right + 1)
        if top == bottom:
            top, bottom = max(0, top - 1), min(8, bottom + 1)
        wanted = torch.zeros(8, 10)
        wanted[top:bottom, left:right] = 1
        assert torch.equal(patches, wanted)


def test_the_published_contrast_differs_by_patches_and_sides(model):
    torch.manual_seed(6)
    true = torch.tensor([[0.5, 0.5, 0.2, 0.3]]).repeat(20, 1)
    sides = medrpg.other_boxes(true, *medrpg.Rounded.sides)[0][:, 1:, 2:] / true[:, None, 2:]
    assert 0.9 <= sides.min() < 0.92 and 1.08 < sides.max() <= 1.1
    batch = encoded_batch(model, [0, 2])
    costs = []
    for objective in (medrpg.TaCo(model), medrpg.Rounded(model)):
        torch.manual_seed(7)
        costs.append(objective(*batch)["taco"].item())
    assert costs[0] != costs[1] and min(costs) > 0


def test_attended_gives_what_the_whole_stack_gives(model):
    torch.manual_seed(3)
    tokens, hidden = torch.randn(2, 7, 128), torch.zeros(2, 7, dtype=torch.bool)
    hidden[1, 5:] = True
    outputs, attention = layers.attended(model.network.fusion, tokens, hidden)
    whole = model.network.fusion(tokens, src_key_padding_mask=hidden)
    assert torch.allclose(outputs[0], whole[0], atol=1e-5) and torch.allclose(
        outputs[1, :5], whole[1, :5], atol=1e-5
    )
    first = layers.first_output(model.network.fusion, tokens, hidden)
    assert torch.allclose(outputs[:, 0], first, atol=1e-5)
    assert torch.allclose(attention.sum(2), torch.ones(2, 7), atol=1e-5) and attention[1, :, 5:].max() == 0


def encoded_batch(model, box_of):
    torch.manual_seed(4)
    ids, mask = model.tokenize(["opacity in the left lung", "effusion"])
    with torch.no_grad():
        images = model.network.encode_images(torch.rand(2, 1, 160, 160), torch.ones(2, 1, 160, 160))
        tokens = model.network.encode_texts(ids, mask)
    batch = SimpleNamespace(
        image_of=torch.tensor([0, 0, 1]),
        text_of=torch.tensor([0, 1, 1]),
        box_of=torch.tensor(box_of, dtype=torch.long),
        boxes=torch.tensor([[0.3, 0.4, 0.2, 0.3]] * len(box_of)).reshape(-1, 4),
    )
    return Encoded(images, tokens, mask, None), batch


def test_pairs_without_a_box_do_not_count_and_a_batch_of_them_costs_nothing(model):
    objective = medrpg.TaCo(model)
    cost = objective(*encoded_batch(model, []))["taco"]
    assert cost.item() == 0
    assert objective(*encoded_batch(model, [0, 2]))["taco"].item() > 0


def test_its_gradient_reaches_the_joint_encoder_and_no_parameter_is_its_own(model):
    objective = medrpg.TaCo(model)
    assert not list(objective.parameters())
    objective(*encoded_batch(model, [0, 2]))["taco"].backward()
    assert model.network.fusion.layers[0].linear1.weight.grad.abs().sum() > 0
    model.network.zero_grad()


def test_its_weight_grows_as_published(model):
    weights = [Learner(model, ("agp", "taco")).weights(share)["taco"] for share in (0, 0.5, 1)]
    assert weights == pytest.approx([0, 0.05 * 0.5**0.9, 0.05])


def test_it_requires_transvg():
    with pytest.raises(MedgroundError, match="--objective taco requires --architecture transvg"):
        Learner(grounder.build("small", ["a"], architecture="mdetr"), ("agp", "taco"))


@pytest.mark.slow
def test_rows_that_are_taken_many_times_have_the_same_gradient_each_time():
    torch.manual_seed(5)
    values, index, upstream = torch.randn(6, 100, 128), torch.randint(6, (40,)), torch.randn(40, 100, 128)

    def gradient():
        leaf = values.clone().requires_grad_()
        layers.rows(leaf, index).backward(upstream)
        return leaf.grad

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    first = gradient()
    assert all(torch.equal(first, gradient()) for _ in range(20))
    torch.set_num_threads(threads)
    assert torch.equal(layers.rows(values, index), values[index])


def test_a_weight_of_the_users_own_is_what_the_ramp_ends_at():
    learner = Learner(grounder.build("small", ["a"]), ("agp", "taco"), {"taco": 0.2, "l1": 3.0})
    assert [learner.weights(share)["taco"] for share in (0, 1)] == [0, pytest.approx(0.2)]
    assert learner.weights(0.5)["taco"] == pytest.approx(0.2 * 0.5**0.9)
    assert learner.weights(0.5)["l1"] == 3.0
