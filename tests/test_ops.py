"""Tensor operations on boxes and grey values, against slow references."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medground import boxes, ops

number = st.floats(0.05, 0.9)
box = st.tuples(number, number, number, number)  # cxcywh


def slow_iou_and_giou(a: list[float], b: list[float]) -> tuple[float, float]:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a, b
    inner = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inner
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return inner / union, inner / union - (hull - union) / hull


@given(box)
def test_a_box_survives_both_conversions(cxcywh):
    cx, cy, w, h = cxcywh
    given_box = torch.tensor(cxcywh, dtype=torch.float64)
    corners = ops.cxcywh_to_xyxy(given_box)
    assert corners.tolist() == pytest.approx([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    assert ops.xyxy_to_cxcywh(corners).tolist() == pytest.approx(list(cxcywh))


@pytest.mark.slow
@given(a=box, b=box)
def test_both_ious_against_a_slow_reference(a, b):
    one, other = ops.cxcywh_to_xyxy(torch.tensor([a, b], dtype=torch.float64))
    iou, giou = slow_iou_and_giou(one.tolist(), other.tolist())
    assert ops.box_iou(one, other).item() == pytest.approx(iou, abs=1e-9)
    for min_side in (0, 1e-3):
        assert ops.generalized_iou(one, other, min_side).item() == pytest.approx(giou, abs=1e-9)


@pytest.mark.slow
@given(st.lists(box, min_size=1, max_size=4), st.lists(box, min_size=1, max_size=4))
def test_tensors_and_arrays_have_the_same_iou(some, others):
    a, b = (ops.cxcywh_to_xyxy(torch.tensor(each, dtype=torch.float64)) for each in (some, others))
    expected = boxes.iou(a.numpy(), b.numpy())
    np.testing.assert_allclose(ops.box_iou(a[:, None], b[None]).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("min_side", [0, 1e-3])
def test_boxes_without_area_have_a_finite_overlap(min_side):
    point = torch.tensor([0.3, 0.3, 0.3, 0.3])
    assert ops.box_iou(point, point).item() == 0
    assert -1 <= ops.generalized_iou(point, point, min_side).item() <= 0


@pytest.mark.parametrize("min_side", [0, 1e-3])
def test_boxes_turned_inside_out_have_no_overlap(min_side):
    inside_out = torch.tensor([0.6, 0.7, 0.2, 0.2], requires_grad=True)
    found = ops.generalized_iou(inside_out, torch.tensor([0.2, 0.2, 0.6, 0.7]), min_side)
    assert found.item() <= 0
    found.backward()
    assert inside_out.grad is not None and inside_out.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.4, 1.0, 2.5])
def test_equalizing_undoes_exposure(gamma):
    levels = torch.arange(1, 65).repeat(64).view(1, 1, 64, 64) / 64
    assert torch.allclose(ops.equalize(levels**gamma), ops.equalize(levels), atol=0.1)


def test_equalizing_spreads_the_grey_values_and_leaves_padding_black():
    image = torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.3
    image[:, :10] = 0
    even = ops.equalize(image[None, None])[0, 0]
    assert (even[:, :10] == -1).all()
    quarters = torch.histc(even[:, 10:], 4, -1, 1) / even[:, 10:].numel()
    assert quarters == pytest.approx([0.25] * 4, abs=0.03)


def test_equalizing_a_black_image_does_not_divide_by_zero():
    assert (ops.equalize(torch.zeros(1, 1, 8, 8)) == -1).all()
