"""The losses, each beside a slow, obvious reference."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medground.models.transvg import Answers
from medground.objectives import agp

number = st.floats(0.05, 0.9)
box = st.tuples(number, number, number, number)


def slow_giou(a: list[float], b: list[float]) -> float:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a, b
    inner = max(0, min(ax2, bx2) - max(ax1, bx1)) * max(0, min(ay2, by2) - max(ay1, by1))
    either = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inner
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return inner / either - (hull - either) / hull


def answers(boxes: torch.Tensor, present: list[float]) -> Answers:
    return Answers(boxes, torch.tensor(present))


@given(a=box, b=box)
def test_generalised_iou_against_a_slow_reference(a, b):
    pair = agp.corners(torch.tensor([a, b], dtype=torch.float64))
    expected = slow_giou(pair[0].tolist(), pair[1].tolist())
    assert agp.generalised_iou(pair[:1], pair[1:]).item() == pytest.approx(expected, abs=1e-9)


def test_boxes_where_nothing_is_shown_cost_nothing():
    torch.manual_seed(0)
    found, true = torch.rand(3, 4), torch.rand(3, 4)
    all_of_it = agp.losses(answers(found, [0.0] * 3), true, torch.tensor([1.0, 0.0, 0.0]))
    first = agp.losses(answers(found[:1], [0.0]), true[:1], torch.tensor([1.0]))
    assert all_of_it["l1"].item() == pytest.approx(first["l1"].item())
    assert all_of_it["giou"].item() == pytest.approx(first["giou"].item())


def test_a_batch_that_shows_nothing_is_finite():
    parts = agp.losses(answers(torch.rand(2, 4), [1.0, -1.0]), torch.rand(2, 4), torch.zeros(2))
    assert parts["l1"].item() == parts["giou"].item() == 0
    assert agp.total(parts, agp.WEIGHTS).isfinite()


def test_the_total_is_the_papers_weighted_sum():
    parts = {"l1": torch.tensor(0.1), "giou": torch.tensor(0.3), "present": torch.tensor(0.7)}
    assert agp.total(parts, agp.WEIGHTS).item() == pytest.approx(5 * 0.1 + 2 * 0.3 + 0.7)


def test_a_loss_without_a_weight_is_a_bug():
    with pytest.raises(KeyError):
        agp.total({"l1": torch.tensor(0.1)}, agp.WEIGHTS)
