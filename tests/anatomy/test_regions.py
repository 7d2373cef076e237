import pytest

from medground.anatomy import regions

EVERY = [each["name"] for each in regions._table()]  # also places that reports name and no detector draws
LOBES = {"right middle lobe", "lingula"}  # the two lobe words that have no partner on the other side


def test_the_order_starts_with_the_silver_set():
    assert len(regions.SILVER) == 29
    assert len(regions.NAMES) == 36
    assert regions.NAMES[:29] == regions.SILVER
    assert regions.SILVER[0] == "right lung"
    assert regions.SILVER[-1] == "abdomen"


def test_no_name_occurs_twice():
    assert len(EVERY) == len(set(EVERY)) == len(regions.SYNONYMS)


def test_a_word_names_one_region_only():
    words = [word for name in EVERY for word in (name, *regions.SYNONYMS[name])]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("name", regions.NAMES)
def test_each_region_with_a_box_has_five_synonyms(name):
    assert len(regions.SYNONYMS[name]) >= 5


@pytest.mark.parametrize("name", EVERY)
def test_synonyms_are_lower_case_and_of_the_same_side(name):
    side = {"left", "right"} & set(name.split())
    for word in regions.SYNONYMS[name]:
        assert word == word.lower().strip()
        named = {"left", "right"} & set(word.replace("-", " ").split())
        # "lingula" has its side in the word; the cavoatrial junction may name the right atrium
        assert named == side or word == "lingula" or (not side and "right atri" in word)


LEVELS = {"upper": "upper", "mid": "mid", "middle": "mid", "lower": "lower"}
LEVELS |= dict.fromkeys(["base", "bases", "basal", "basilar"], "lower")
LEVELS |= dict.fromkeys(["apex", "apical", "apices"], "apical")


@pytest.mark.parametrize("name", [each for each in EVERY if "lung" in each or "apical" in each])
def test_a_word_for_one_height_of_the_lung_names_no_other(name):
    own = {LEVELS[word] for word in name.split() if word in LEVELS}
    for synonym in regions.SYNONYMS[name]:
        assert {LEVELS[word] for word in synonym.replace("-", " ").split() if word in LEVELS} <= own, synonym


@pytest.mark.parametrize("name", [each for each in regions.NAMES if each.endswith(("lung", "zone"))])
def test_a_zone_is_no_lung_and_no_other_part_of_it(name):
    for synonym in regions.SYNONYMS[name]:
        words = set(synonym.replace("-", " ").split())
        assert not words & {"hilum", "hilar", "costophrenic", "hemidiaphragm", "pleura", "heart"}, synonym
        if name.endswith("lung"):
            assert not words & {"zone", "lobe", "lingula"}, synonym
        else:
            assert not words & {"entire", "whole"}, synonym


@pytest.mark.parametrize("name", regions.NAMES)
def test_left_and_right_are_worded_alike(name):
    other = regions.mirror(name)
    if other != name:
        swapped = {regions.swap_sides(word) for word in regions.SYNONYMS[name] if word not in LOBES}
        assert swapped == set(regions.SYNONYMS[other]) - LOBES


@pytest.mark.parametrize(
    "word", ["right breast", "left breast", "retrocardiac region", "right pleural space"]
)
def test_words_for_other_places_name_no_drawn_region(word):
    assert regions.NAME_OF.get(word) not in regions.NAMES


def test_mirror_is_its_own_inverse():
    assert all(regions.mirror(regions.mirror(name)) == name for name in EVERY)
    assert regions.mirror("right lung") == "left lung"
    assert regions.mirror("spine") == "spine"
    assert regions.mirror("right atrium") == "right atrium"


def test_parents_are_regions_and_lie_on_no_other_side():
    for part, whole in regions.PARENT.items():
        assert whole in regions.NAMES
        assert regions.PARENT.get(whole) != part
        assert ("left" in whole) <= ("left" in part)
        assert ("right" in whole) <= ("right" in part)


def test_every_lung_zone_lies_in_its_lung():
    for side in ("left", "right"):
        for zone in ("upper lung zone", "mid lung zone", "lower lung zone", "apical zone"):
            assert regions.PARENT[f"{side} {zone}"] == f"{side} lung"


def test_parts_lie_in_their_whole():
    for whole, parts in regions.PARTS.items():
        assert all(regions.PARENT[part] == whole for part in parts)
        assert len(parts) > 1


def test_a_region_holds_itself_and_what_lies_in_it():
    assert regions.holds("spine", "spine")
    assert regions.holds("mediastinum", "right atrium")
    assert not regions.holds("right atrium", "mediastinum")
    assert not regions.holds("left lung", "right apical zone")
    assert not regions.holds("left lung", "a place that is no region")
