"""TransVG's crop, scale and translation: boxes go where their pixels go."""

import numpy as np
import torch

from medground import ops
from medground.data import augment, crop

SIDE = 100


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
        moved, found, there = crop.draw(picture, box, torch.tensor([0]), [np.random.default_rng(seed)])
        assert ((moved[0, 1] > 0.5).float().mean() > 0.2).item()
        if there.item():
            kept += 1
            rows, columns = (moved[0, 0] > 0.5).nonzero(as_tuple=True)
            seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIDE
            assert torch.allclose(ops.cxcywh_to_xyxy(found)[0], seen, atol=0.025), seed
    assert kept > 30


def test_nothing_but_the_window_is_shown():
    picture, box = square(30, 20, 60, 50)
    for seed in range(20):
        moved, *_ = crop.draw(picture, box, torch.tensor([0]), [np.random.default_rng(seed)])
        assert not (moved[0, 0] * (moved[0, 1] == 0)).any()


def test_the_window_of_asg_is_224_of_256_pixels():
    ranges = augment.RANGES["window"]
    picture, box = square(40, 30, 60, 50)
    draws, noise = torch.zeros(1, augment.DRAWS), torch.zeros(1, SIDE, SIDE)
    _, found = augment.views(picture, box, torch.tensor([0]), ranges, draws, noise)
    assert torch.allclose(found[0, 2:], box[0, 2:] * 256 / 224)
    draws[:, 1] = 1  # the window at one end
    _, ends = augment.views(
        picture, torch.tensor([[0.0, 0.5, 0.0, 0.2]]), torch.tensor([0]), ranges, draws, noise
    )
    assert ends[0, 0].item() < 0.01


def test_jitter_moves_nothing():
    picture, box = square(30, 20, 60, 50)
    rng = [np.random.default_rng(0)]
    moved, found, there = augment.draw("jitter", picture, box, torch.tensor([0]), rng)
    assert torch.allclose(found, box, atol=1e-6)
    assert there.all()
    assert torch.allclose(moved[:, 1], picture[:, 1], atol=1e-4)
    assert not torch.equal(moved[:, 0], picture[:, 0])
