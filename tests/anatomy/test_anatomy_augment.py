"""Views of images for a detector: where a thing lies on the view, there its box lies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.anatomy import augment
from medground.anatomy.augment import Dice, Ranges, Views

STILL = Ranges(
    shift=0,
    zoom=0,
    stretch=0,
    bend=0,
    turn=0,
    light=0,
    shadow=0,
    noise=0,
    blur=0,
    border=0,
    device=0,
    inversion=0,
    spoilt=0,
)
MOVING = {"shift": 0.08, "zoom": 0.2, "stretch": 0.15, "bend": 0.5, "smear": 0}


def given_images(count: int, side: int = 64) -> Views:
    """Images with one bright rectangle each on grey, and its box."""
    generator = torch.Generator().manual_seed(3)
    views, boxes = torch.full((count, 1, side, side), 0.2), torch.zeros(count, 1, 4)
    for n in range(count):
        x, y = (torch.randint(12, 28, (2,), generator=generator)).tolist()
        views[n, 0, y : y + 20, x : x + 24] = 0.9
        boxes[n, 0] = torch.tensor([x, y, x + 24, y + 20]) / side
    return Views(views, boxes, torch.ones(count, 1), torch.ones(count, 1))


def ranges(**changed: float) -> Ranges:
    return Ranges(**{**vars_of(STILL), **changed})


def vars_of(chosen: Ranges) -> dict[str, float]:
    return {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}


def view(views: Views, seed: int = 0, **changed: float) -> Views:
    return augment.views(views, ranges(**changed), torch.Generator().manual_seed(seed))


def bright_box(image: torch.Tensor) -> torch.Tensor:
    """The box of what is brighter than the middle between dark and bright, in shares of the side."""
    rows, columns = torch.nonzero(image > (image.max() + image.median()) / 2, as_tuple=True)
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return torch.stack(corners) / image.shape[-1]


@pytest.mark.parametrize("seed", range(5))
def test_boxes_go_where_their_pixels_go(seed):
    seen = view(given_images(6), seed, **MOVING)
    for n in torch.nonzero(seen.known[:, 0]).flatten():
        assert bright_box(seen.images[n, 0]) == pytest.approx(seen.boxes[n, 0], abs=2 / 64)


def test_a_turned_disc_keeps_its_box():
    steps = torch.linspace(0, 1, 96)
    disc = (((steps[None] - 0.4) / 0.2) ** 2 + ((steps[:, None] - 0.5) / 0.2) ** 2 < 1).float() * 0.7 + 0.2
    views = Views(
        disc[None, None],
        torch.tensor([[[0.2, 0.3, 0.6, 0.7]]]),
        torch.ones(1, 1),
        torch.ones(1, 1),
    )
    for seed in range(4):
        seen = view(views, seed, turn=25)
        assert bright_box(seen.images[0, 0]) == pytest.approx(seen.boxes[0, 0], abs=0.03)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.9))
def test_bending_and_back(seed, strength):
    dice = Dice(torch.Generator().manual_seed(seed))
    steps = augment.bends(2, strength, dice)
    places = dice.between(-0.3, 1.3, 2, 5, 4)
    corners = augment.bend_boxes(places, steps).view(2, 5, 2, 2)
    assert augment.unbend(corners * 2 - 1, steps) == pytest.approx(places.view(2, 5, 2, 2) * 2 - 1, abs=1e-4)


def test_a_region_that_left_the_view_teaches_nothing():
    views = given_images(1)
    views.boxes[:] = torch.tensor([0.9, 0.4, 1.0, 0.6])
    gone = augment._cut(Views(views.images, views.boxes + 0.08, views.known, views.present))
    assert gone.known.item() == 0 and gone.present.item() == -1
    kept = augment._cut(Views(views.images, views.boxes + 0.02, views.known, views.present))
    assert kept.known.item() == 1 and kept.boxes[0, 0, 2] == 1


def test_an_absent_region_stays_absent():
    views = given_images(4)
    views.known[:], views.present[:] = 0, 0
    seen = view(views, **MOVING)
    assert (seen.present == 0).all() and (seen.known == 0).all()


def test_spoilt_views_have_no_region():
    seen = view(given_images(60), spoilt=0.5)
    spoilt = seen.present[:, 0] == 0
    assert 10 < spoilt.sum() < 50
    assert (seen.known[:, 0] == (~spoilt).float()).all()


@pytest.mark.parametrize("seed", range(3))
def test_images_stay_images(seed):
    seen = augment.views(given_images(16), Ranges(), torch.Generator().manual_seed(seed))
    assert seen.images.isfinite().all()
    assert seen.images.min() >= 0 and seen.images.max() <= 1
    assert (seen.boxes >= 0).all() and (seen.boxes <= 1).all()


def test_left_stays_left():
    views = given_images(8, 64)
    views.images[:] = torch.linspace(0.1, 0.9, 64).expand(8, 1, 64, 64)  # brighter to the right
    seen = view(views, 0, **MOVING, turn=8).images[:, 0]
    assert (seen[:, 20:44, 40:56].mean((1, 2)) > seen[:, 20:44, 8:24].mean((1, 2))).all()


def test_the_same_generator_gives_the_same_views():
    first, again = (
        augment.views(given_images(8), Ranges(), torch.Generator().manual_seed(5)) for _ in range(2)
    )
    other = augment.views(given_images(8), Ranges(), torch.Generator().manual_seed(6))
    assert torch.equal(first.images, again.images) and torch.equal(first.boxes, again.boxes)
    assert not torch.equal(first.images, other.images)
