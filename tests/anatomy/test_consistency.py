"""Anatomical sanity: rules that hold for phantoms and break when boxes are put elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.anatomy import consistency, regions
from medground.anatomy.consistency import Rule
from medground.phantom.cohort import render

KNOWN = {rule.name: rule for rule in consistency.rules()}


@pytest.fixture(scope="module")
def phantoms():
    return [dict(render(5, patient, 64).regions) for patient in range(6)]


def test_every_rule_speaks_of_known_regions_once():
    assert len(KNOWN) == len(consistency.rules())
    for rule in consistency.rules():
        names = [each for each in (rule.first, rule.second, rule.third) if each]
        assert set(names) <= set(regions.NAMES) and len(set(names)) == len(names)
        assert rule.kind in consistency.KINDS
        assert (rule.third is not None) == (rule.kind == "between")
        assert (0 < rule.share <= 1) == (rule.kind == "inside")


def broken(boxes):
    return [rule.name for rule in consistency.rules() if rule.holds(boxes) is False]


def test_every_pair_has_its_sides():
    pairs = [name for name in regions.NAMES if name.startswith("left ")]
    assert len(pairs) == 12
    assert all(f"{name} right of {regions.mirror(name)}" in KNOWN for name in pairs)


@pytest.mark.slow
def test_phantoms_break_no_rule(phantoms):
    assert [broken(boxes) for boxes in phantoms] == [[]] * 6
    applied = {
        rule.name for rule in consistency.rules() for boxes in phantoms if rule.holds(boxes) is not None
    }
    assert len(applied) >= 40


@pytest.mark.parametrize("rule", consistency.rules(), ids=lambda rule: rule.name)
def test_a_region_in_the_far_corner_or_turned_sides_break_each_rule(phantoms, rule):
    boxes = next((each for each in phantoms if rule.holds(each)), None)
    if boxes is None:
        pytest.skip("phantoms have no boxes for this rule")
    corner = {"right of": (-50.0, 900, -40, 910), "between": (900.0, 0, 910, 10)}
    moved = boxes | {rule.first: corner.get(rule.kind, (900.0, 900, 910, 910))}
    assert rule.holds(moved) is False and rule.name in broken(moved)


def test_a_rule_is_not_applied_without_its_regions():
    assert KNOWN["carina on trachea"].holds({"carina": (0, 0, 1, 1)}) is None
    assert broken({}) == []


@pytest.mark.slow
@given(*[st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(21, 40)] * 2)] * 2, st.floats(0.05, 1))
def test_inside_counts_area_as_pixels_do(first, second, share):
    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    inside = len(pixels(first) & pixels(second)) / len(pixels(first))
    if abs(inside - share) > 1e-9:
        assert Rule("inside", "a", "b", share=share).holds({"a": first, "b": second}) == (inside > share)
