"""Masks of other people's models: from outlines to boxes of our regions."""

import numpy as np
import pytest
from drawn_masks import HEIGHT, WIDTH, chest, slow_box
from hypothesis import given
from hypothesis import strategies as st

from medground.anatomy import masks, regions
from medground.anatomy.masks import Frame, Shape
from medground.errors import MedgroundError

# The table


def test_the_table_knows_every_class_of_both_models_once():
    for name, count in (("cxas", 159), ("pspnet", 14)):
        known = masks.model(name)
        assert len(known.classes) == len(set(known.classes)) == count
        assert known.names.keys() <= {masks.plain(each) for each in known.classes}
        assert set(known.names.values()) <= {*regions.NAMES, *masks.HELPERS}
        assert len(set(known.names.values())) == len(known.names)
    assert masks.model("cxas").classes[135] == "right lung" and len(masks.model("cxas").names) == 23


def test_both_models_keep_the_patients_sides():
    for name in ("cxas", "pspnet"):
        for spelled, region in masks.model(name).names.items():
            for side in ("left", "right"):
                assert (side in spelled) == (side in region)


def test_every_rule_makes_a_region_of_ours_from_known_things():
    for rule in masks.rules():
        assert rule.region in regions.NAMES
        assert rule.needs <= {*regions.NAMES, *masks.HELPERS}
        for side, other in (("left", "right"), ("right", "left")):
            if side in rule.region:
                assert not any(other in name for name in rule.needs)


@pytest.mark.parametrize(("name", "direct", "all_there"), [("cxas", 23, 34), ("pspnet", 10, 31)])
def test_what_each_model_gives_and_what_stays_absent(name, direct, all_there):
    have = set(masks.model(name).names.values())
    shapes = {each: Shape((10.0, 10, 40, 60) if "right" in each else (50.0, 10, 80, 60)) for each in have}
    shapes |= {"spine": Shape((40.0, 0, 50, 90)), "cardiac silhouette": Shape((30.0, 30, 70, 50))}
    if "diaphragm" in shapes:
        shapes["diaphragm"] = Shape((10.0, 50, 80, 60))
    found = masks.complete(shapes)
    assert len(have & set(regions.NAMES)) == direct
    made = found.keys() & set(regions.NAMES)
    assert len(made) == all_there and "svc" not in made and "cavoatrial junction" not in made


# Shapes


def test_specks_do_not_count_and_pieces_do():
    mask = np.zeros((100, 100), bool)
    mask[40:60, 40:60] = True
    mask[70:80, 40:50] = True  # a quarter of the largest piece: counts
    mask[2:4, 2:4] = True
    assert masks.shape_of(mask).box == (40, 40, 60, 80)


def test_an_empty_mask_and_a_few_lone_pixels_are_no_structure():
    mask = np.zeros((400, 400), bool)
    assert masks.shape_of(mask) is None
    mask[5, 5:8] = True
    assert masks.shape_of(mask) is None


@pytest.mark.slow
@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 10)] * 2), min_size=1, max_size=4))
def test_the_box_is_that_of_the_pieces_that_count(rectangles):
    from scipy import ndimage

    mask = np.zeros((40, 40), bool)
    for x, y, w, h in rectangles:
        mask[y : y + h, x : x + w] = True
    labels, count = ndimage.label(mask)
    areas = [(labels == n).sum() for n in range(1, count + 1)]
    kept = np.isin(labels, [n for n, area in enumerate(areas, 1) if area >= 0.1 * max(areas)])
    assert masks.shape_of(mask).box == slow_box(kept)


def test_the_score_is_the_mean_probability_inside():
    likely = np.full((20, 20), 0.1)
    likely[5:10, 5:10] = 0.9
    assert masks.shape_of(likely >= 0.5, likely).score == pytest.approx(0.9)


# Rules


@pytest.fixture(scope="module")
def found():
    names = masks.model("cxas").names
    shapes = {names[name]: masks.shape_of(mask) for name, mask in chest().items()}
    return masks.complete(shapes)


@pytest.mark.parametrize("side", ["right", "left"])
def test_lung_zones_are_thirds_of_the_lungs_height(found, side):
    mask = chest()[f"{side} lung"]
    _, top, _, bottom = slow_box(mask)
    for n, zone in enumerate(("upper", "mid", "lower")):
        part = mask.copy()
        part[: round(top + n * (bottom - top) / 3)] = False
        part[round(top + (n + 1) * (bottom - top) / 3) :] = False
        assert found[f"{side} {zone} lung zone"].box == pytest.approx(slow_box(part), abs=1)


def test_the_apex_lies_above_the_clavicle_and_is_narrower_than_the_lung(found):
    lung, apex, clavicle = (found[f"right {name}"].box for name in ("lung", "apical zone", "clavicle"))
    assert lung[1] == apex[1] < clavicle[1] <= apex[3] <= clavicle[3]
    assert apex[2] - apex[0] < lung[2] - lung[0]


def test_sides_of_the_heart_meet_at_the_spine(found):
    whole, right, left = (found[f"{s}cardiac silhouette"].box for s in ("", "right ", "left "))
    assert right[0] == whole[0] and right[2] == pytest.approx(150, abs=1)
    assert left[0] == pytest.approx(150, abs=1) and left[2] == whole[2]


def test_costophrenic_angles_lie_outwards_and_hila_inwards(found):
    middle = 150
    for side in ("right", "left"):
        lung, angle, hilum = (
            found[f"{side} {n}"].box for n in ("lung", "costophrenic angle", "hilar structures")
        )
        centre = (lung[0] + lung[2]) / 2
        assert abs((angle[0] + angle[2]) / 2 - middle) > abs(centre - middle)
        assert abs((hilum[0] + hilum[2]) / 2 - middle) < abs(centre - middle)


def test_the_abdomen_reaches_the_edge_of_the_image(found):
    box = Frame((WIDTH, HEIGHT), (600, 480), "stretch").to_image(found["abdomen"].box)
    domes = min(found[f"{s} hemidiaphragm"].box[1] for s in ("right", "left"))
    assert box[3] == 480 and box[1] == pytest.approx(2 * domes, abs=0.1)


def test_no_mask_is_replaced_by_a_rule():
    shapes = {"right lung": Shape((0.0, 0, 30, 90)), "right mid lung zone": Shape((1.0, 2, 3, 4))}
    assert masks.complete(shapes)["right mid lung zone"].box == (1, 2, 3, 4)


def test_without_what_a_rule_needs_there_is_no_region():
    assert masks.complete({"spine": Shape((0.0, 0, 1, 1))}).keys() == {"spine"}
    assert "right apical zone" not in masks.complete({"right lung": Shape((0.0, 0, 30, 90))})


# On the image


@pytest.mark.slow
@given(
    st.integers(200, 3000),
    st.integers(200, 3000),
    st.sampled_from(masks.FITS),
    st.tuples(*[st.floats(0, 0.45)] * 2, *[st.floats(0.55, 1)] * 2),
)
def test_boxes_come_back_to_where_they_were_on_the_image(width, height, fit, shares):
    side = min(width, height)
    x0, y0 = (width // 2 - side // 2, height // 2 - side // 2) if fit == "crop" else (0, 0)
    w, h = (side, side) if fit == "crop" else (width, height)
    box = np.array([x0 + shares[0] * w, y0 + shares[1] * h, x0 + shares[2] * w, y0 + shares[3] * h])
    if fit == "letterbox":
        from medground.boxes import Letterbox

        there = Letterbox(width, height, 512).to_square(box[None])[0]
    else:  # what cropping (or not) and then resizing to 512 x 512 does to a point
        there = (box - np.array([x0, y0, x0, y0])) * np.array([512 / w, 512 / h] * 2)
    back = Frame((512, 512), (width, height), fit).to_image(tuple(there))
    assert back == pytest.approx(tuple(box), abs=0.11)


def test_masks_of_another_shape_need_a_mask_fit():
    assert masks.frame_of((150, 120), (300, 240), None).fit == "stretch"
    with pytest.raises(MedgroundError, match="masks are 512 x 512, the image is 300 x 240"):
        masks.frame_of((512, 512), (300, 240), None)
    with pytest.raises(MedgroundError, match="not square"):
        masks.frame_of((512, 400), (300, 240), "crop")
