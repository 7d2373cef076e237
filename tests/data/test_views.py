"""Views of images for training, with their boxes."""

import numpy as np
import pytest
import torch

from medground.boxes import Letterbox
from medground.data import augment
from medground.models.letterboxed import LetterboxedImage
from tests.support.waits import Waits


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
    moved = augment.transformed(pictures, ranges, draws, torch.zeros(20, 64, 64))
    found = augment.moved(boxes, torch.arange(20), ranges, draws)
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
    moved = augment.transformed(pictures, ranges, draws, torch.zeros(20, 96, 96))
    found = augment.moved(boxes, torch.arange(20), ranges, draws)
    for row in range(20):
        ys, xs = np.nonzero(moved[row, 0].numpy() > 0.3)
        seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        cx, cy, w, h = found[row].numpy() * 96
        assert np.abs(seen - [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).max() < 1.6


def plain(count: int, side: int) -> augment.Views:
    """Views of images that fill their squares."""
    return augment.Views(torch.tensor([[0, 0, side, side]] * count))


def of_each(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(n) for n in range(count)]


def test_only_a_view_with_an_angle_draws_one():
    for kind, numbers in (("mild", augment.DRAWS), ("rotate", augment.DRAWS + 1)):
        rng, same = np.random.default_rng(0), np.random.default_rng(0)
        augment.draw(kind, plain(1, 8), 8, torch.rand(1, 4), torch.zeros(1, dtype=torch.long), [rng])
        same.uniform(-1, 1, numbers), same.standard_normal((8, 8), dtype=np.float32)
        assert rng.random() == same.random()


def test_a_flipped_view_flips_its_boxes_and_no_others():
    squares = torch.randint(256, (40, 8, 8), dtype=torch.uint8)
    boxes = torch.rand(60, 4)
    image_of = torch.arange(60) % 40
    views, found, there = augment.draw("none", plain(40, 8), 8, boxes, image_of, of_each(40), flip_prob=0.5)
    seen, bare = views.of(squares), plain(40, 8).of(squares)
    flipped = [torch.equal(new, old.flip(2)) for new, old in zip(seen, bare, strict=True)]
    assert 10 < sum(flipped) < 30 and there.all()
    for row, image in enumerate(image_of):
        across, *rest = boxes[row].tolist()
        assert found[row].tolist() == pytest.approx([1 - across if flipped[image] else across, *rest])
        assert flipped[image] or torch.equal(seen[image], bare[image])


def test_the_planes_of_a_batch_are_those_of_each_image():
    rng = np.random.default_rng(0)
    images = [
        LetterboxedImage(rng.integers(256, size=(32, 32), dtype=np.uint8), Letterbox(w, h, 32))
        for w, h in ((100, 80), (70, 100), (32, 32), (1, 500))
    ]
    squares = torch.from_numpy(np.stack([each.square for each in images]))
    made = augment.Views(torch.tensor([each.inner for each in images])).of(squares)
    assert torch.equal(made, torch.stack([each.picture() for each in images]))


@pytest.mark.parametrize("kind", [each for each in augment.KINDS if each != "strong"])
def test_a_device_makes_the_same_views_but_for_its_noise(kind):
    squares = torch.randint(256, (12, 48, 48), dtype=torch.uint8)
    boxes, image_of = torch.rand(12, 4), torch.arange(12)
    inner = augment.Views(torch.tensor([[0, 5, 48, 43], [7, 0, 40, 48]] * 6))
    ours, theirs = (
        augment.draw(kind, inner, 48, boxes, image_of, of_each(12), 0.5, on_device)
        for on_device in (False, True)
    )
    assert torch.equal(ours[1], theirs[1]) and torch.equal(ours[2], theirs[2])
    a, b = ours[0].of(squares), theirs[0].of(squares)
    assert torch.equal(a[:, 1], b[:, 1]) and torch.equal(b, theirs[0].of(squares))
    spread = augment.RANGES[kind].noise if kind in augment.RANGES else 0
    clear = ((a[:, 0] > 0.2) & (a[:, 0] < 0.8) & (a[:, 1] == 1)).flatten()
    assert (a - b)[:, 0].flatten()[clear].std().item() == pytest.approx(2**0.5 * spread, rel=0.1)


def test_a_device_does_not_wait_for_its_views():
    squares = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
    for kind in ("mild", "rotate", "crop", "window"):
        views, *_ = augment.draw(
            kind, plain(3, 16), 16, torch.rand(3, 4), torch.arange(3), of_each(3), 0.5, on_device=True
        )
        with Waits() as waits:
            views.of(squares)
        assert waits.found == []


def test_a_strong_view_moves_its_boxes_with_its_picture_and_spoils_some():
    pictures, boxes = torch.zeros(60, 2, 64, 64), torch.tensor([[0.5, 0.5, 0.25, 0.25]]).repeat(60, 1)
    pictures[:, 1] = 1
    pictures[:, 0] = torch.rand(60, 64, 64) * 0.05
    pictures[:, 0, 24:40, 24:40] = 1
    rngs = [np.random.default_rng(n) for n in range(60)]
    moved, found, there = augment.strong(pictures, boxes, torch.arange(60), rngs)
    assert 0 < (~there).sum() < 15  # a few are no chests on purpose
    first = torch.zeros(1, dtype=torch.long)
    again = augment.strong(pictures[7:8], boxes[7:8], first, [np.random.default_rng(7)])
    assert torch.equal(again[0][0], moved[7])  # a view does not depend on its neighbours
    brighter = 0
    for row in there.nonzero()[:, 0].tolist():
        cx, cy, w, h = (found[row] * 64).round().int().tolist()
        inner = torch.zeros(64, 64, dtype=torch.bool)
        inner[max(0, cy - h // 2) : cy + h // 2, max(0, cx - w // 2) : cx + w // 2] = True
        pixels = moved[row, 0]
        brighter += pixels[inner].mean() > pixels[~inner & (moved[row, 1] > 0)].mean()
    assert brighter > 0.85 * there.sum()  # some are inverted, some hidden by a device
