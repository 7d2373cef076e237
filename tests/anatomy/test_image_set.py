"""What a detector learns from: images at its size, boxes where they lie on them."""

import drawn_images
import numpy as np
import pytest

from medground import jsonl
from medground.anatomy import image_set, regions
from medground.errors import MedgroundError
from medground.records import Anatomy

HEART = regions.NAMES.index("cardiac silhouette")
RIGHT_LUNG = regions.NAMES.index("right lung")


def fail(anatomy, error):
    raise error


def read(lines, folder, reject=fail, size=64):
    records = [jsonl.record_of(line, Anatomy) for line in lines]
    return image_set.read_images(records, folder, regions.NAMES, size, reject)


def test_boxes_lie_on_the_square_as_on_the_image(tmp_path):
    found = read(drawn_images.write_images(tmp_path, 4), tmp_path)
    assert found.squares.shape == (4, 64, 64) and found.squares.dtype == np.uint8
    for square, box in zip(found.squares, found.boxes[:, RIGHT_LUNG], strict=True):
        x1, y1, x2, y2 = np.rint(box * 64).astype(int)
        middle = square[(y1 + y2) // 2 - 3 : (y1 + y2) // 2 + 3]
        assert middle[:, (x1 + x2) // 2 - 3 : (x1 + x2) // 2 + 3].mean() < 110  # the lung is dark
        assert middle[:, max(0, x1 - 5) : x1 - 2].mean() > 140  # beside it is not


def test_a_region_that_is_left_out_is_not_there(tmp_path):
    found = read(drawn_images.write_images(tmp_path, 3), tmp_path)
    assert found.present[:, HEART].tolist() == [1, 1, 0]
    assert (found.present[:, RIGHT_LUNG] == 1).all()


def test_a_box_outside_the_image_teaches_nothing(tmp_path):
    lines = drawn_images.write_images(tmp_path, 1)
    lines[0]["regions"][0]["box"] = [500, 500, 600, 600]
    assert read(lines, tmp_path).present[0, RIGHT_LUNG] == -1


def test_a_box_over_the_edge_is_cut(tmp_path):
    lines = drawn_images.write_images(tmp_path, 1)
    lines[0]["regions"][0]["box"] = [-50, 0, 60, 5000]
    box = read(lines, tmp_path).boxes[0, RIGHT_LUNG] * 64
    assert box == pytest.approx([0, 5, 32, 58], abs=1)  # 100 of 120 rows, in the middle of the square


def test_a_lateral_view_has_no_regions(tmp_path):
    lines = drawn_images.write_images(tmp_path, 2)
    lines[1]["view"] = "LATERAL"
    assert read(lines, tmp_path).present.max(axis=1).tolist() == [1, 0]


def test_unknown_regions_are_passed_over(tmp_path):
    lines = drawn_images.write_images(tmp_path, 1)
    lines[0]["regions"].append({"name": "left shoe", "box": [1, 1, 2, 2]})
    assert read(lines, tmp_path).present.sum() == 4


def test_images_may_be_smaller_than_their_records_say_if_the_shape_is_the_same(tmp_path):
    lines = drawn_images.write_images(tmp_path, 1)
    same = read(lines, tmp_path)
    for region in lines[0]["regions"]:
        region["box"] = [10 * each for each in region["box"]]
    lines[0] |= {"width": 1200, "height": 1000}
    assert read(lines, tmp_path).boxes == pytest.approx(same.boxes, abs=0.002)
    lines[0] |= {"width": 1000, "height": 1000}
    with pytest.raises(MedgroundError, match="is 120 x 100, its record says 1000 x 1000"):
        read(lines, tmp_path)


def test_what_cannot_be_read_is_put_aside_in_order(tmp_path):
    lines, aside = drawn_images.write_images(tmp_path, 6), []
    (tmp_path / "image0_2.png").write_bytes(b"no image")
    (tmp_path / "image0_4.png").unlink()
    found = read(lines, tmp_path, lambda anatomy, error: aside.append((anatomy.image_id, str(error))))
    assert len(found) == 4
    assert [image_id for image_id, _ in aside] == ["image0_2", "image0_4"]
    assert "not an image" in aside[0][1] and "No such file" in aside[1][1]


def test_no_images_at_all_are_refused(tmp_path):
    with pytest.raises(MedgroundError, match="no images to train on"):
        read([], tmp_path)
