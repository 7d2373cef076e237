"""Phrase records that are made for images."""

import pytest

from medground.errors import MedgroundError
from medground.grounding.phrases import phrases_for
from medground.records import Phrase


def test_every_phrase_is_paired_with_every_image():
    found = phrases_for(["x/a.png", "x/b.png"], ["left lung", "heart"])
    assert [each.phrase_id for each in found] == ["a|1", "a|2", "b|1", "b|2"]


def test_images_of_one_name_are_refused_as_their_groundings_would_have_the_same_ids():
    paths = ["p1/view1_frontal.jpg", "p2/view1_frontal.jpg"]
    with pytest.raises(MedgroundError, match=r"p2/view1_frontal\.jpg: two images have the same image_id"):
        phrases_for(paths, "heart")
    records = [Phrase(image_id=path, phrase_id="1", path=path, text="heart") for path in paths]
    assert phrases_for(records) == records
