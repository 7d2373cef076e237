"""Areas and heat maps against counting pixels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import pixels

from medground.evaluation import metrics

CORNERS = st.integers(0, 12)


@st.composite
def box_lists(draw):
    side = st.tuples(CORNERS, st.integers(1, 6))
    one = st.builds(lambda x, y: (x[0], y[0], x[0] + x[1], y[0] + y[1]), side, side)
    return np.array(draw(st.lists(one, max_size=5)), dtype=float).reshape(-1, 4)


@pytest.mark.slow
@given(box_lists(), box_lists())
def test_covered_areas_are_counted_in_pixels(found, true):
    both, either = metrics.union_overlap(found, true)
    a, b = pixels(found.tolist()), pixels(true.tolist())
    assert (both, either) == (len(a & b), len(a | b))
    assert metrics.union_area(found) == len(a)


def test_heat_map_iou_is_the_mean_over_five_thresholds():
    heat = np.array([[0.15, 0.25, 0.35], [0.45, 0.55, -1.0]])
    mask = np.array([[0, 1, 1], [1, 1, 0]])
    slow = []
    for threshold in metrics.THRESHOLDS:
        hot = {(i, j) for i in range(2) for j in range(3) if heat[i, j] > threshold}
        true = {(0, 1), (0, 2), (1, 0), (1, 1)}
        slow.append(len(hot & true) / len(hot | true))
    assert metrics.heatmap_iou(heat, mask) == pytest.approx(sum(slow) / 5, abs=1e-12)
    assert metrics.heatmap_iou(heat * 0, mask) == 0


def test_contrast_to_noise_by_hand():
    heat = np.array([1.0, 3.0, 0.0, 0.0, 0.5, 0.5])
    mask = np.array([1, 1, 0, 0, 0, 0])
    expected = abs(2 - 0.25) / math.sqrt(1 + 0.0625)
    assert metrics.contrast_to_noise(heat, mask) == pytest.approx(expected, abs=1e-12)
    assert metrics.contrast_to_noise(heat, mask * 0 + 1) is None
    assert metrics.contrast_to_noise(np.ones(6), mask) == 0


@pytest.mark.slow
@given(box_lists(), st.sampled_from([(18, 18), (6, 9), (2, 3)]))
def test_covered_shares_are_counted_in_pixels(true, shape):
    inside = pixels(true.tolist())
    slow = np.zeros(shape)
    for x, y in inside:
        slow[y * shape[0] // 18, x * shape[1] // 18] += shape[0] * shape[1] / 18**2
    assert metrics.covered_shares(true, 18, 18, shape) == pytest.approx(slow)


def test_a_coarse_heat_map_scores_as_the_same_one_enlarged():
    rng = np.random.default_rng(0)
    coarse, true = rng.random((4, 5)), np.array([[3, 2, 33, 17], [20, 10, 49, 30]])
    fine = coarse.repeat(10, axis=0).repeat(10, axis=1)
    pairs = [(heat, metrics.covered_shares(true, 50, 40, heat.shape)) for heat in (coarse, fine)]
    for figure in (metrics.heatmap_iou, metrics.contrast_to_noise):
        assert figure(*pairs[0]) == pytest.approx(figure(*pairs[1]), abs=1e-12)
