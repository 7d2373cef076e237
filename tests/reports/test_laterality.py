"""Phrases about both sides, and phrases about one; and the model that learned them so."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from medground.data.examples import Sizes, from_phrases
from medground.grounding import predict
from medground.models import grounder, letterboxed
from medground.records import Phrase
from medground.reports.laterality import split_bilateral


@pytest.mark.parametrize(
    ("text", "right", "left"),
    [
        ("bilateral peripheral opacities", "right peripheral opacities", "left peripheral opacities"),
        ("Bibasilar atelectasis", "right basilar atelectasis", "left basilar atelectasis"),
        ("opacities in both lower lung zones", "opacities in the right lower lung zone", None),
        ("scarring at both lung apices", "scarring at the right lung apex", None),
        ("opacities bilaterally", "opacities on the right", None),
        ("small right and large left effusions", "small right effusions", "large left effusions"),
        ("large left and small right effusions", "small right effusions", "large left effusions"),
    ],
)
def test_a_phrase_about_both_sides_becomes_two(text, right, left):
    assert split_bilateral(text) == (right, left or right.replace("right", "left"))


@pytest.mark.parametrize(
    "text",
    [
        "opacity",
        "left lung opacity",
        "pulmonary edema",
        "bilateral effusions, larger on the right",
        "right upper and left lower lobe opacity",
        "left effusion and left atelectasis",
        "",
    ],
)
def test_other_phrases_stay_whole(text):
    assert split_bilateral(text) is None


def phrase(text, *boxes):
    known = {"subject_id": "s", "width": 100, "height": 100, "boxes": [*boxes]}
    return Phrase(image_id="i", phrase_id=text, path="i.png", text=text, **known)


def test_training_gives_each_side_its_own_box(tmp_path):
    given = [
        phrase("bilateral effusions", (60.0, 50.0, 90.0, 80.0), (10.0, 40.0, 30.0, 80.0)),
        phrase("edema", (60.0, 50.0, 90.0, 80.0), (10.0, 40.0, 30.0, 80.0)),
        phrase("bilateral edema", (10.0, 10.0, 90.0, 90.0)),
    ]
    (example,) = from_phrases(given, Sizes(tmp_path), "sides")
    assert [(query.texts[0], query.boxes) for query in example.sentences] == [
        ("right effusions", ((10.0, 40.0, 30.0, 80.0),)),
        ("left effusions", ((60.0, 50.0, 90.0, 80.0),)),
        ("edema", ((10.0, 40.0, 90.0, 80.0),)),
        ("bilateral edema", ((10.0, 10.0, 90.0, 90.0),)),
    ]


def test_a_model_that_learned_sides_apart_answers_for_each(tmp_path):
    toy.make(tmp_path, count=1)
    torch.manual_seed(0)
    model = grounder.build("small", ["left right bilateral opacities"])
    model = replace(model, config=replace(model.config, sides_apart=True))
    model.network.eval()
    shown = letterboxed.read(tmp_path / "image0.png", model.config.image_size)
    phrases = [phrase("right opacities"), phrase("bilateral opacities"), phrase("left opacities")]
    right, both, left = predict.predict_on_image(phrases, shown, model)
    assert np.allclose(both.boxes, np.concatenate([right.boxes, left.boxes]), atol=1e-3)
    assert both.present == pytest.approx(max(right.present, left.present), abs=1e-4)
    (grounding,) = predict.ground_on_image(phrases[1:2], shown, model, predict.PredictOptions(min_score=0))
    assert len(grounding.boxes) == 2 and grounding.text == "bilateral opacities"
    sides = [replace(right, present=present) for present in (2.0, 1.0, -1.0)]
    certain = predict.PredictOptions(
        min_score=0.99
    )  # as calibrated scores may be, of boxes that are meant all the same
    kept = [len(predict.ranked_boxes(predict._together(two), certain)) for two in (sides[:2], sides[1:])]
    assert kept == [2, 1]
    whole = replace(model, config=replace(model.config, sides_apart=False))
    (one,) = predict.predict_on_image(phrases[1:2], shown, whole)
    assert len(one.boxes) == 1
