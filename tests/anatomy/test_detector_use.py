"""How a trained detector is used: the black frame around images, and the edges that are added to boxes."""

import numpy as np
import pytest
import torch

from medground import checkpoints, shipped
from medground.anatomy import detector, region_query
from medground.anatomy.region_query import Config, RegionQuery
from medground.errors import MedgroundError

CONFIG = Config(names=("spine", "right lung"), size=48, channels=(8, 8, 8, 8), width=16, heads=2)


@pytest.fixture
def saved(tmp_path):
    """Return a function that saves one network with a `use`, and loads it as a detector."""
    torch.manual_seed(0)
    network = RegionQuery(CONFIG).eval()

    def save(**use):
        path = tmp_path / "model.safetensors"
        checkpoints.save(
            path, network.state_dict(), region_query.to_json(CONFIG) | ({"use": use} if use else {})
        )
        return detector.load(path, "cpu")

    return save


def test_an_inset_puts_the_image_into_a_black_frame(saved):
    image = np.random.default_rng(0).random((1, 32, 32), dtype=np.float32)
    framed = np.pad(image, ((0, 0), (8, 8), (8, 8)))
    plain, inset = saved(), saved(inset=8)
    assert (plain.size, inset.size) == (48, 32)
    for whole, inner in zip(plain.find(framed)[0], inset.find(image)[0], strict=True):
        assert np.array(inner.box) == pytest.approx(np.array(whole.box) - 8, abs=1e-3)
        assert inner.score == whole.score


def test_edges_move_by_shares_of_the_size(saved):
    image = np.random.default_rng(0).random((1, 48, 48), dtype=np.float32)
    spine, lung = saved().find(image)[0]
    same, moved = saved(edges={"right lung": [0.1, 0, 0, -0.25]}).find(image)[0]
    wide, high = lung.box[2] - lung.box[0], lung.box[3] - lung.box[1]
    assert same == spine
    expected = np.array(lung.box) + np.array([0.1 * wide, 0, 0, -0.25 * high])
    assert np.array(moved.box) == pytest.approx(expected, abs=1e-3)


def test_scores_are_those_of_the_network(saved):
    image = np.random.default_rng(0).random((1, 48, 48), dtype=np.float32)
    found = saved()
    _, logits = found.network(torch.from_numpy(image)[None])
    assert [each.score for each in found.find(image)[0]] == pytest.approx(logits.sigmoid()[0].tolist())


@pytest.mark.parametrize("use", [{"inset": -1}, {"inset": "2"}, {"edges": {"spine": [0.1]}}, {"edges": [1]}])
def test_a_use_that_is_not_valid_is_one_line(saved, use):
    with pytest.raises(MedgroundError, match="use in its config"):
        saved(**use)


def test_the_example_refuses_no_image_by_its_scores():
    assert detector.load(shipped.DETECTOR, "cpu").doubt == 0


@pytest.mark.slow
def test_lungs_of_real_images_are_where_people_draw_them(shared):
    """At least .84 on average; .80 without the inset and the edges."""
    import csv

    from medground import api, boxes

    drawn = {}
    with open(shared / "data" / "real_cxr" / "lung_boxes.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            drawn[row["image"], row["region"]] = [float(row[key]) for key in ("x1", "y1", "x2", "y2")]
    folder = shared / "data" / "real_cxr" / "images"
    overlaps = []
    for found in api.detect(folder):
        for region in found.regions:
            if truth := drawn.get((found.image_id + ".jpg", region.name)):
                overlaps.append(boxes.paired_iou(np.array([region.box]), np.array([truth]))[0])
    assert len(overlaps) > 70 and np.mean(overlaps) > 0.84
