"""The measures of ablations, each beside a slow, obvious reference."""

import math

import ablation_common
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0, 1, -1])), min_size=1, max_size=30))
@settings(deadline=None)
def test_auc_counts_pairs(scored):
    scores, labels = (np.array(each, dtype=float) for each in zip(*scored, strict=True))
    have, lack = scores[labels == 1], scores[labels == 0]
    found = ablation_common.auc(scores, labels)
    if min(len(have), len(lack)) < ablation_common.LEAST:
        assert found is None
    else:
        wins = [(a > b) + (a == b) / 2 for a in have for b in lack]
        assert found == pytest.approx(sum(wins) / len(wins))


def test_labels_without_an_auc_are_left_out_of_the_mean():
    scores = torch.arange(8.0)[:, None].expand(8, 3)
    labels = torch.zeros(8, 3)
    labels[4:, 0] = 1  # perfect
    labels[7, 1] = 1  # too few
    assert ablation_common.macro_auc(scores, labels) == 1
    assert math.isnan(ablation_common.macro_auc(scores[:, 1:], labels[:, 1:]))


def test_a_linear_probe_learns_from_its_share():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 6, generator=generator)
    labels = (features[:, :2] + 0.3 * torch.randn(400, 2, generator=generator) > 0).float()
    labels[0] = -1
    learned, tested = (features[:200], labels[:200]), (features[200:], labels[200:])
    few, all_of_them = (ablation_common.linear_probe(learned, tested, share, seed=1) for share in (0.02, 1.0))
    assert 0.5 < few < all_of_them and all_of_them > 0.95
    assert ablation_common.linear_probe(learned, tested, 0.02, seed=1) == few


def test_retrieval_asks_among_the_pairs_of_one_image():
    images, rows = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([5, 6, 7, 8, 8, 9])
    similar = torch.full((6, 6), 9.0)  # what lies in other images is more alike, and not compared
    similar[:2, :2] = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    similar[2:5, 2:5] = torch.tensor([[2.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    hits, chance, count = ablation_common.best_of_image(similar, images, rows)
    # regions: 0 takes the wrong one, all others right (3 and 4 have the same words); sentences: all right
    assert (hits, count) == (9, 10)
    assert chance == pytest.approx(2 * (2 / 2 + 1 / 3 + 2 * 2 / 3))
    assert ablation_common.best_of_image(similar[:0, :0], images[:0], rows[:0]) == (0, 0, 0)
