"""The protocol of `present`, the anatomy-relative baseline, and figures of few patients."""

import itertools
import random

import numpy as np
import pytest

from medground.errors import MedgroundError
from medground.evaluation import baseline, front
from medground.evaluation.stats import bootstrap
from medground.records import Anatomy, Grounding, Phrase, Region, ScoredBox


def phrase(number: int, boxes: list, category: str = "Effusion", subject: str | None = None) -> Phrase:
    return Phrase(
        image_id=f"i{number}", phrase_id="p", subject_id=subject or f"s{number}", path=f"i{number}.png",
        width=100, height=100, text="effusion", boxes=boxes, category=category,
    )  # fmt: skip


def found(each: Phrase, present: float, box: tuple = (0, 0, 50, 50)) -> Grounding:
    return Grounding(
        image_id=each.image_id, phrase_id="p", text="", boxes=[ScoredBox(box=box, score=0.5)],
        present=present, model="m",
    )  # fmt: skip


def scores(phrases: list[Phrase], groundings: list[Grounding], protocol: str, **more):
    made = front.evaluate(groundings, phrases, [protocol], draws=200, **more)
    return {(each.group, each.metric): each for each in made}


def slow_auc(presents: list[float], true: list[bool]) -> float:
    pairs = [
        (p, q) for (p, t), (q, u) in itertools.product(zip(presents, true, strict=True), repeat=2) if t > u
    ]
    return sum((p > q) + (p == q) / 2 for p, q in pairs) / len(pairs)


def test_presence_has_the_area_error_and_shares_of_a_slow_count():
    rng = random.Random(3)
    true = [rng.random() < 0.4 for _ in range(60)]
    presents = [round(min(1.0, max(0.0, rng.gauss(0.35 + 0.2 * t, 0.2))), 1) for t in true]  # many are equal
    phrases = [phrase(n, [(0, 0, 9, 9)] if t else [], subject=f"s{n // 3}") for n, t in enumerate(true)]
    groundings = [found(*each) for each in zip(phrases, presents, strict=True)]
    result = scores(phrases, groundings, "presence")
    area = result["all", "auc"]
    assert area.value == pytest.approx(slow_auc(presents, true))
    assert area.low < area.value < area.high
    bins = [
        [(p, t) for p, t in zip(presents, true, strict=True) if min(int(p * 10), 9) == b] for b in range(10)
    ]
    gaps = sum(abs(sum(p - t for p, t in some)) for some in bins)
    assert result["all", "ece"].value == pytest.approx(gaps / 60)
    absent = [p for p, t in zip(presents, true, strict=True) if not t]
    assert result["all", "specificity@.5"].value == pytest.approx(np.mean([p < 0.5 for p in absent]))
    assert ("all", "prior_auc") not in scores(
        phrases, groundings, "presence", train=[phrase(99, [(0, 0, 9, 9)])]
    )


def test_a_finding_that_is_always_present_has_no_area_and_is_not_in_the_mean():
    phrases = [phrase(0, [(0, 0, 9, 9)]), phrase(1, []), phrase(2, [(0, 0, 9, 9)], "Mass")]
    result = scores(phrases, [found(p, s) for p, s in zip(phrases, (0.9, 0.2, 0.5), strict=True)], "presence")
    assert result["category:Mass", "auc"].value is None
    assert result["macro", "auc"].value == 1


def lungs(number: int, x1: float, x2: float, y1: float, y2: float) -> Anatomy:
    middle = (x1 + x2) / 2
    both = [("right lung", (x1, y1, middle, y2)), ("left lung", (middle, y1, x2, y2))]
    regions = [Region(name=name, box=box) for name, box in both]
    return Anatomy(image_id=f"i{number}", path="", width=100, height=100, regions=regions)


def test_the_anatomy_relative_baseline_moves_with_the_lungs():
    train = [phrase(n, [(20, 40, 40, 60)]) for n in range(90, 93)]
    truth = [phrase(n, [(40, 40, 60, 60)]) for n in range(12)]
    places = [lungs(n, 10, 90, 0, 80) for n in range(90, 93)] + [lungs(n, 30, 99, 0, 80) for n in range(11)]
    groundings = [found(each, 1.0, (40, 40, 60, 60)) for each in truth]
    result = scores(truth, groundings, "single-box", train=train, anatomy=places)
    placed = baseline.fit_placed(train, baseline.lungs_of(places))
    assert placed.box_of(truth[0]) == pytest.approx((38.625, 40, 55.875, 60))
    assert placed.box_of(truth[11]) == (20, 40, 40, 60)  # without lungs: the image-free box
    assert result["all", "anatomy_miou"].value > result["all", "prior_miou"].value == 0
    gain = 1 - result["all", "anatomy_miou"].value
    assert result["all", "over_anatomy_miou"].value == pytest.approx(gain)
    with pytest.raises(MedgroundError, match="--train"):
        scores(truth, groundings, "single-box", anatomy=places)


def test_few_patients_get_the_exact_p_and_a_wide_interval():
    truth = [phrase(n, [(0, 0, 50, 50)]) for n in range(7)]
    right, wrong = ([found(each, 1.0, box) for each in truth] for box in ((0, 0, 50, 50), (60, 60, 90, 90)))
    result = scores(truth, right, "single-box", compare=wrong)
    assert result["all", "difference_miou"].extra["p"] == pytest.approx(2 / 2**7, abs=1e-6)
    assert result["all", "miou"].low == pytest.approx(0.025 ** (1 / 7), abs=1e-6)
    assert result["all", "other_miou"].high == pytest.approx(1 - 0.025 ** (1 / 7), abs=1e-6)
    assert "p" not in scores(truth, right, "coco", compare=wrong)["all", "difference_ap@.5"].extra
    assert bootstrap.sign_flip_p(np.array([0.3, 0.1, 0.0])) == 0.5


def test_an_interval_rests_on_the_patients_that_the_figure_is_computed_from():
    """Many present phrases do not make the specificity of two patients' absent ones exact."""
    phrases = [phrase(n, [(0, 0, 9, 9)]) for n in range(40)] + [phrase(40 + n, []) for n in range(2)]
    result = scores(phrases, [found(each, 0.9 if each.boxes else 0.1) for each in phrases], "presence")
    for metric, patients in [("sensitivity@.5", 40), ("specificity@.5", 2), ("auc", 2)]:
        exact = bootstrap.exact_bounds(1.0, patients)
        for group in ("all", "macro"):
            assert (result[group, metric].low, result[group, metric].high) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(("protocol", "metric"), [("presence", "ap"), ("coco", "ap@.5")])
def test_an_average_precision_rests_on_the_patients_with_true_boxes(protocol, metric):
    phrases = [phrase(n, [(0, 0, 50, 50)]) for n in range(3)] + [phrase(3 + n, []) for n in range(40)]
    groundings = [found(each, 0.9 if each.boxes else 0.1) for each in phrases]
    for each in groundings[3:]:
        each.boxes[:] = []
    result = scores(phrases, groundings, protocol)["all", metric]
    exact = bootstrap.exact_bounds(1.0, 3)
    assert result.value == 1 and (result.low, result.high) == pytest.approx(exact, abs=1e-6)


def test_a_figure_of_one_patient_among_others_has_no_interval():
    phrases = [phrase(n, [(0, 0, 9, 9)]) for n in range(12)]
    phrases += [phrase(12 + n, [], subject="alone") for n in range(3)]
    presents = [0.9] * 12 + [0.1, 0.2, 0.7]
    result = scores(phrases, list(map(found, phrases, presents)), "presence")
    specificity = result["all", "specificity@.5"]
    assert specificity.value == pytest.approx(2 / 3) and specificity.low is specificity.high is None
    assert result["all", "sensitivity@.5"].low is not None


def test_a_difference_on_few_of_many_patients_has_the_exact_p():
    """Three patients with absent phrases: of the eight choices of signs, two are as far from 0."""
    phrases = [phrase(n, [(0, 0, 9, 9)]) for n in range(40)] + [phrase(40 + n, []) for n in range(3)]
    own, other = ([found(each, 0.9 if each.boxes else p) for each in phrases] for p in (0.1, 0.8))
    result = scores(phrases, own, "presence", compare=other)
    assert result["all", "difference_specificity@.5"].extra["p"] == pytest.approx(0.25)
