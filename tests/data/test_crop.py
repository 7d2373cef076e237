"""TransVG's crop, scale and translation: boxes go where their pixels go."""

import numpy as np
import torch

from medground import ops
from medground.data import augment, crop

SIDE = 100
INNER = torch.tensor([[0, 0, SIDE, 80]])


def square(left: int, top: int, right: int, bottom: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a picture of 100 x 80 pixels in a square with a bright rectangle, and its box."""
    picture = torch.zeros(1, 2, SIDE, SIDE)
    picture[:, 1, :80] = 1
    picture[:, 0, top:bottom, left:right] = 1
    return picture, ops.xyxy_to_cxcywh(torch.tensor([[left, top, right, bottom]]) / SIDE)


def test_a_box_stays_around_its_pixels():
    picture, box = square(30, 20, 60, 50)
    kept = 0
    for seed in range(40):
        crops = crop.draw(INNER, SIDE, [np.random.default_rng(seed)])
        moved, (found, there) = crops.of(picture), crops.moved(box, torch.tensor([0]))
        assert ((moved[0, 1] > 0.5).float().mean() > 0.2).item()
        if there.item():
            kept += 1
            rows, columns = (moved[0, 0] > 0.5).nonzero(as_tuple=True)
            seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIDE
            assert torch.allclose(ops.cxcywh_to_xyxy(found)[0], seen, atol=0.025), seed
    assert kept > 30


def test_nothing_but_the_window_is_shown():
    picture, _ = square(30, 20, 60, 50)
    for seed in range(20):
        moved = crop.draw(INNER, SIDE, [np.random.default_rng(seed)]).of(picture)
        assert not (moved[0, 0] * (moved[0, 1] == 0)).any()


def test_the_window_of_asg_is_224_of_256_pixels():
    ranges = augment.RANGES["window"]
    _, box = square(40, 30, 60, 50)
    draws, first = torch.zeros(1, augment.DRAWS), torch.tensor([0])
    found = augment.moved(box, first, ranges, draws)
    assert torch.allclose(found[0, 2:], box[0, 2:] * 256 / 224)
    draws[:, 1] = 1  # the window at one end
    ends = augment.moved(torch.tensor([[0.0, 0.5, 0.0, 0.2]]), first, ranges, draws)
    assert ends[0, 0].item() < 0.01


def test_jitter_moves_nothing():
    picture, box = square(30, 20, 60, 50)
    squares, rng = (picture[:, 0] * 255).byte(), [np.random.default_rng(0)]
    views, found, there = augment.draw("jitter", augment.Views(INNER), SIDE, box, torch.tensor([0]), rng)
    moved = views.of(squares)
    assert torch.allclose(found, box, atol=1e-6)
    assert there.all()
    assert torch.allclose(moved[:, 1], picture[:, 1], atol=1e-4)
    assert not torch.equal(moved[:, 0], picture[:, 0])
