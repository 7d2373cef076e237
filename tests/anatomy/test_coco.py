"""COCO's files of masks: run lengths, polygons and boxes, of many images or of one."""

import json

import numpy as np
import pytest
from drawn_masks import HEIGHT, LEFT, RIGHT, WIDTH, boxes, chest, detect, packed, runs, slow_box, write_images
from hypothesis import given
from hypothesis import strategies as st

from medground import run_lengths
from medground.anatomy import coco
from medground.errors import MedgroundError


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


def test_packed_run_lengths_are_those_of_pycocotools():
    rle = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    for mask in chest().values():
        theirs = rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert packed(runs(mask)) == theirs
        assert (run_lengths.mask_of(mask.shape, theirs) == mask).all()


@pytest.mark.slow
@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_any_mask_comes_back_from_its_run_lengths(pixels):
    mask = np.array(pixels).reshape(3, 4)
    for counts in (runs(mask), packed(runs(mask))):
        assert (run_lengths.mask_of([3, 4], counts) == mask).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@given(
    st.lists(st.tuples(st.floats(-20, 60), st.floats(-20, 60)), min_size=3, max_size=9, unique=True),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_polygons_are_those_of_pycocotools(points, width, height):
    rle = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    flat = [each for point in points for each in point]
    (encoded,) = rle.frPyObjects([flat], height, width)
    assert (coco.polygon_mask(flat, width, height) == rle.decode(encoded)).all()


@pytest.mark.parametrize("polygon", [[1, 1, 2, 2], [0, 0, 5, float("nan"), 5, 5], [0, 0, 1e9, 0, 1e9, 1e9]])
def test_a_polygon_that_cannot_be_drawn_is_refused(polygon):
    with pytest.raises(ValueError, match="polygon"):
        coco.polygon_mask(polygon, 10, 10)


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([2, 2], [1 << 62, 1 << 62, 1 << 62, 1 << 62, 4]),  # 4 in 64 bits
        ([2, 2], [(1 << 64) + 1, 3]),
        ([2, 2], [5, -1]),
        ([2, 2], [2.0, 2]),
        ([2, 2], [1, 2]),
        ([2, 2], packed([0, 3])),
        ([9000, 9000], [0, 81_000_000]),
        ([0, 4], []),
        ([-2, -2], [4]),
        (["2", 2], [4]),
    ],
)
def test_run_lengths_that_do_not_fill_an_image_are_refused(size, counts):
    with pytest.raises(ValueError, match=r"not a size, or too large|do not fill"):
        run_lengths.mask_of(size, counts)


@pytest.mark.parametrize("text", ["4~", "/4", "\x00", "o" * 20, "o" * 100_000])
def test_text_that_is_no_packed_run_length_is_refused(text):
    with pytest.raises(ValueError, match="not a packed run length"):
        run_lengths.unpacked(text)


@pytest.mark.parametrize("size", [(40_000, 40_000), (-9, -9), (9, -9), ("9", 9), (9.5, 9), ([9], 9)])
def test_a_size_that_an_image_cannot_have_is_refused(size, tmp_path):
    image = {"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image], "categories": [], "annotations": []}))
    with pytest.raises(MedgroundError, match="positive integers of at most 80 million pixels"):
        coco.load(tmp_path / "a.json")


def test_coco_with_polygons_boxes_and_plain_run_lengths(folder):
    heart = chest()["heart"]
    annotations = [
        {"category_id": 1, "segmentation": [[20, 20, 120, 20, 120, 200, 20, 200]], "bbox": [0, 0, 1, 1]},
        {"category_id": 2, "bbox": [170, 20, 100, 180]},
        {"category_id": 3, "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(heart)}},
    ]
    given = {
        "images": [
            {"id": n, "file_name": f"p{n}/image{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(2)
        ],
        "categories": [
            {"id": 1, "name": "Right Lung"},
            {"id": 2, "name": "left lung"},
            {"id": 3, "name": "heart"},
        ],
        "annotations": [each | {"image_id": n} for n in range(2) for each in annotations],
    }
    (folder / "coco.json").write_text(json.dumps(given))
    found = boxes(detect(folder, "coco", masks="coco.json"))
    assert found[RIGHT] == pytest.approx([20, 20, 120, 200], abs=1) and found[LEFT] == [170, 20, 270, 200]
    assert found["cardiac silhouette"] == pytest.approx(slow_box(heart), abs=0.1)


def test_a_name_that_two_images_share_is_nobodys(folder):
    images = [{"id": n, "file_name": f"x{n}/image0.png", "width": WIDTH, "height": HEIGHT} for n in range(2)]
    (folder / "coco.json").write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    result = detect(folder, "coco", masks="coco.json")
    assert result.exit_code == 1 and "no masks for this image" in result.stderr


@pytest.mark.parametrize("alone", [True, False])
def test_a_coco_file_for_each_image(folder, alone):
    """With one image in it the file's own name counts, with several the images' names do."""
    images = [{"id": n, "file_name": f"image{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(2)]
    drawn = [{"image_id": n, "category_id": 1, "bbox": [10 + 50 * n, 20, 60, 60]} for n in range(2)]
    categories = [{"id": 1, "name": "right lung"}]
    for n in range(2):
        own = [images[n] | {"file_name": "whatever.png"}] if alone else images
        given = {"images": own, "annotations": drawn, "categories": categories}
        (folder / "masks" / f"image{n}.json").write_text(json.dumps(given))
    result = detect(folder, "coco")
    assert [boxes(result, n)[RIGHT][0] for n in range(2)] == [10, 60]
