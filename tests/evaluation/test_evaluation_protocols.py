"""The protocols against slow and obvious references."""

import random

import pytest
from scored import box_of, boxes_of, case_of, phrase_of, pixels, slow_iou, value_of

from medground.evaluation.cases import Case
from medground.evaluation.protocols import named
from medground.records import Box, ScoredBox

RNG = random.Random(7)


def test_single_box_is_the_mean_iou_of_first_boxes_and_the_share_at_a_half():
    truth = (10.0, 10.0, 30.0, 30.0)
    answers = [(10, 10, 30, 30), (10, 10, 30, 20), (20, 10, 40, 30), (50, 50, 60, 60), None]
    ious = [1.0, 0.5, 1 / 3, 0.0, 0.0]
    cases = [
        Case(phrase_of(i, [truth]), [ScoredBox(box=a, score=1)] if a else []) for i, a in enumerate(answers)
    ]
    assert value_of("single-box", "miou", cases) == pytest.approx(sum(ious) / 5, abs=1e-9)
    assert value_of("single-box", "acc@.5", cases) == pytest.approx(2 / 5, abs=1e-9)


def test_single_box_takes_only_phrases_with_one_true_box_and_only_the_first_box_found():
    assert not named("single-box").scores(phrase_of(0, []))
    assert not named("single-box").scores(phrase_of(0, [box_of(RNG), box_of(RNG)]))
    good, bad = ScoredBox(box=(0, 0, 9, 9), score=0.1), ScoredBox(box=(50, 50, 60, 60), score=0.9)
    assert value_of("single-box", "miou", [Case(phrase_of(0, [(0, 0, 9, 9)]), [good, bad])]) == 1


@pytest.mark.parametrize("seed", range(5))
def test_single_box_against_a_loop(seed):
    rng = random.Random(seed)
    cases = [case_of(rng, i, true=1) for i in range(40)]
    slow = [slow_iou(c.found[0].box, c.phrase.boxes[0]) if c.found else 0.0 for c in cases]
    assert value_of("single-box", "miou", cases) == pytest.approx(sum(slow) / 40, abs=1e-12)
    assert value_of("single-box", "acc@.5", cases) == sum(iou >= 0.5 for iou in slow) / 40


@pytest.mark.parametrize("seed", range(3))
def test_pooled_counts_pixels(seed):
    rng = random.Random(seed)
    cases = [case_of(rng, i) for i in range(12)]
    slow = []
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.5):
        both = either = 0
        for case in cases:
            found = pixels([each.box for each in case.found if each.score >= threshold])
            true = pixels(case.phrase.boxes)
            both, either = both + len(found & true), either + len(found | true)
        slow.append(both / either)
    assert value_of("pooled", "miou", cases) == pytest.approx(sum(slow) / 5, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_all_pairs_averages_every_pair_of_a_phrase(seed):
    rng = random.Random(seed)
    cases = [case_of(rng, i) for i in range(20)]
    slow = []
    for case in cases:
        pairs = [slow_iou(a, b) for a in boxes_of(case) for b in case.phrase.boxes]
        slow.append(sum(pairs) / len(pairs) if pairs else 0.0)
    assert value_of("all-pairs", "miou", cases) == pytest.approx(sum(slow) / 20, abs=1e-12)


def slow_matching(found: list[Box], true: list[Box]) -> int:
    """The largest number of pairs with IoU >= .5, by trying everything."""
    if not found:
        return 0
    best = slow_matching(found[1:], true)
    for i, each in enumerate(true):
        if slow_iou(found[0], each) >= 0.5:
            best = max(best, 1 + slow_matching(found[1:], true[:i] + true[i + 1 :]))
    return best


@pytest.mark.parametrize("seed", range(3))
def test_set_metrics_against_brute_force(seed):
    rng = random.Random(seed)
    cases = [case_of(rng, i, true=rng.randint(0, 3)) for i in range(30)]
    f1, cover, union = [], [], []
    for case in cases:
        found, true = boxes_of(case), case.phrase.boxes
        nothing = not found and not true
        f1.append(1.0 if nothing else 2 * slow_matching(found, true) / (len(found) + len(true)))
        best = [max((slow_iou(f, t) for f in found), default=0.0) for t in true]
        cover.append(sum(best) / len(best) if best else float(not found))
        either = pixels(found) | pixels(true)
        union.append(len(pixels(found) & pixels(true)) / len(either) if either else 1.0)
    assert value_of("set", "setf1@.5", cases) == pytest.approx(sum(f1) / len(cases), abs=1e-12)
    assert value_of("set", "precision@f1=1", cases) == sum(each == 1 for each in f1) / len(cases)
    assert value_of("set", "coverage", cases) == pytest.approx(sum(cover) / len(cases), abs=1e-12)
    assert value_of("set", "union_iou", cases) == pytest.approx(sum(union) / len(cases), abs=1e-12)


def test_a_hull_that_beats_two_right_boxes_at_union_iou_does_not_at_setf1():
    true = [(0, 0, 20, 40), (22, 0, 42, 40)]
    close = [(0, 0, 20, 28), (22, 0, 42, 28)]
    hull, two = [
        [Case(phrase_of(0, true), [ScoredBox(box=b, score=1) for b in found])]
        for found in ([(0, 0, 42, 40)], close)
    ]
    assert value_of("set", "union_iou", hull) > value_of("set", "union_iou", two)
    assert value_of("set", "setf1@.5", hull) < value_of("set", "setf1@.5", two)
