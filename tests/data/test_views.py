"""Views of images for training, with their boxes."""

import numpy as np
import pytest
import torch

from medground.data import augment


def test_a_view_moves_its_boxes_with_its_picture():
    rng = np.random.default_rng(0)
    pictures, boxes = torch.zeros(20, 2, 64, 64), torch.zeros(20, 4)
    pictures[:, 1] = 1
    for row in range(20):
        x, y, w, h = *rng.integers(16, 36, 2), *rng.integers(6, 12, 2)
        pictures[row, 0, y : y + h, x : x + w] = 1
        boxes[row] = torch.tensor([(x + w / 2) / 64, (y + h / 2) / 64, w / 64, h / 64])
    draws = torch.from_numpy(rng.uniform(-1, 1, (20, augment.DRAWS)).astype(np.float32))
    draws[:, 3:] = 0
    ranges = augment.Ranges(noise=0)
    moved, found = augment.views(pictures, boxes, torch.arange(20), ranges, draws, torch.zeros(20, 64, 64))
    for row in range(20):
        ys, xs = np.nonzero(moved[row, 0].numpy() > 0.5)
        seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        cx, cy, w, h = found[row].numpy() * 64
        assert np.abs(seen - [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).max() < 1.1


def test_a_rotated_view_moves_its_boxes_with_its_picture():
    rng = np.random.default_rng(3)
    pictures, boxes = torch.zeros(20, 2, 96, 96), torch.zeros(20, 4)
    pictures[:, 1] = 1
    for row in range(20):
        x, y, w, h = *rng.integers(24, 50, 2), *rng.integers(12, 20, 2)
        pictures[row, 0, y : y + h, x : x + w] = 1
        boxes[row] = torch.tensor([(x + w / 2) / 96, (y + h / 2) / 96, w / 96, h / 96])
    draws = torch.from_numpy(rng.uniform(-1, 1, (20, augment.DRAWS + 1)).astype(np.float32))
    draws[:, 3:6] = 0
    ranges = augment.Ranges(noise=0, angle=20)
    moved, found = augment.views(pictures, boxes, torch.arange(20), ranges, draws, torch.zeros(20, 96, 96))
    for row in range(20):
        ys, xs = np.nonzero(moved[row, 0].numpy() > 0.3)
        seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        cx, cy, w, h = found[row].numpy() * 96
        assert np.abs(seen - [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).max() < 1.6


def test_only_a_view_with_an_angle_draws_one():
    picture, box = torch.rand(1, 2, 8, 8), torch.rand(1, 4)
    for kind, numbers in (("mild", augment.DRAWS), ("rotate", augment.DRAWS + 1)):
        rng, same = np.random.default_rng(0), np.random.default_rng(0)
        augment.draw(kind, picture, box, torch.zeros(1, dtype=torch.long), [rng])
        same.uniform(-1, 1, numbers), same.standard_normal((8, 8), dtype=np.float32)
        assert rng.random() == same.random()


def test_a_mirrored_view_mirrors_its_boxes_and_no_others():
    pictures = torch.rand(40, 2, 8, 8)
    boxes = torch.rand(60, 4)
    image_of = torch.arange(60) % 40
    rngs = [np.random.default_rng(n) for n in range(40)]
    seen, found, there = augment.draw("none", pictures, boxes, image_of, rngs, flip_prob=0.5)
    turned = [torch.equal(new, old.flip(2)) for new, old in zip(seen, pictures, strict=True)]
    assert 10 < sum(turned) < 30 and there.all()
    for row, image in enumerate(image_of):
        across, *rest = boxes[row].tolist()
        assert found[row].tolist() == pytest.approx([1 - across if turned[image] else across, *rest])
        assert turned[image] or torch.equal(seen[image], pictures[image])


def test_a_strong_view_moves_its_boxes_with_its_picture_and_spoils_some():
    pictures, boxes = torch.zeros(60, 2, 64, 64), torch.tensor([[0.5, 0.5, 0.25, 0.25]]).repeat(60, 1)
    pictures[:, 1] = 1
    pictures[:, 0] = torch.rand(60, 64, 64) * 0.05
    pictures[:, 0, 24:40, 24:40] = 1
    rngs = [np.random.default_rng(n) for n in range(60)]
    moved, found, there = augment.draw("strong", pictures, boxes, torch.arange(60), rngs)
    assert 0 < (~there).sum() < 15  # a few are no chests on purpose
    again = augment.draw(
        "strong", pictures[7:8], boxes[7:8], torch.zeros(1, dtype=torch.long), [np.random.default_rng(7)]
    )
    assert torch.equal(again[0][0], moved[7])  # a view does not depend on its neighbours
    brighter = 0
    for row in there.nonzero()[:, 0].tolist():
        cx, cy, w, h = (found[row] * 64).round().int().tolist()
        inner = torch.zeros(64, 64, dtype=torch.bool)
        inner[max(0, cy - h // 2) : cy + h // 2, max(0, cx - w // 2) : cx + w // 2] = True
        pixels = moved[row, 0]
        brighter += pixels[inner].mean() > pixels[~inner & (moved[row, 1] > 0)].mean()
    assert brighter > 0.85 * there.sum()  # some are inverted, some hidden by a device
