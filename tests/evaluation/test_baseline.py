"""The image-free prior, and the groups that figures are given for."""

import random

import numpy as np
import pytest
from scored import box_of, phrase_of, slow_iou

from medground.errors import MedgroundError
from medground.evaluation import baseline
from medground.evaluation.stats import groups
from medground.reports import laterality


@pytest.mark.parametrize("seed", range(3))
def test_the_medoid_overlaps_the_others_most(seed):
    rng = random.Random(seed)
    found = [box_of(rng) for _ in range(30)]
    slow = max(found, key=lambda box: round(sum(slow_iou(box, each) for each in found), 9))
    assert baseline.medoid(found) == slow


def test_the_prior_knows_the_side_word_and_falls_back_to_category_then_all():
    left, right, nodule = (50, 50, 90, 90), (10, 50, 50, 90), (5, 5, 9, 9)
    train = [phrase_of(i, [left], "left effusion", category="Effusion") for i in range(3)]
    train += [phrase_of(i, [right], "right effusion", category="Effusion") for i in range(4)]
    train += [phrase_of(9, [nodule], "left nodule", category="Nodule")]
    fitted = baseline.fit_phrases(train)

    def answer(text, category):
        phrase = phrase_of(0, [], text, category=category)
        return tuple(round(x, 6) for x in fitted.answer(baseline.cell_of(phrase), 200, 100))

    assert answer("Left effusion.", "Effusion") == (100, 50, 180, 90)
    assert answer("right-sided effusion", "Effusion") == (20, 50, 100, 90)
    assert answer("bilateral effusions", "Effusion") == (20, 50, 100, 90)
    assert answer("left nodule", "Nodule") == (20, 50, 100, 90)  # one box is no cell to trust


def test_a_prior_without_training_boxes_is_refused():
    with pytest.raises(MedgroundError, match="no prior"):
        baseline.fit_phrases([phrase_of(0, [])])


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("small LEFT effusion", "left"),
        ("right-sided", "right"),
        ("left and right", "both"),
        ("Bibasilar atelectasis", "both"),
        ("bilaterally", "both"),
        ("upright film, cleft", "none"),
        ("RLL and RML opacity", "right"),
        ("lul mass", "left"),
        ("RUL, LLL", "both"),
        ("L effusion", "left"),
        ("effusions, R > L", "both"),
        ("effusion, leftward shift", "left"),
        ("r. l effusion of L. 3 and L1", "none"),
        ("effusion on the left.", "left"),
        ("", "none"),
    ],
)
def test_side_words(text, side):
    assert laterality.side_of(text) == side


def test_groups_name_category_side_and_phrases_of_the_image():
    phrases = [
        phrase_of(0, [(0, 0, 1, 1)], "left nodule", category="Nodule", image_id="a"),
        phrase_of(1, [(0, 0, 1, 1)], "big heart", category="Cardiomegaly", image_id="a"),
        phrase_of(2, [(0, 0, 1, 1)], "right nodule", category="Nodule", image_id="b"),
    ]
    found = groups.of_phrases(phrases)
    table = {name: np.flatnonzero(mask).tolist() for name, mask in zip(found.names, found.masks, strict=True)}
    assert table == {
        "all": [0, 1, 2],
        "category:Cardiomegaly": [1],
        "category:Nodule": [0, 2],
        "without:Cardiomegaly": [0, 2],
        "side:left": [0],
        "side:none": [1],
        "side:right": [2],
        "phrases:1": [2],
        "phrases:2": [0, 1],
    }
    assert [found.names[g] for g in found.parts] == ["category:Cardiomegaly", "category:Nodule"]
