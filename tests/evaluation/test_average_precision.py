"""Average precision against its definition, and against other people's."""

import random

import numpy as np
import pytest
from scored import all_apart, case_of, phrase_of, slow_iou, under, value_of

from medground.evaluation.cases import LEVELS, Case, Cases
from medground.evaluation.stats import ap_bootstrap, bootstrap
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Split
from medground.records import ScoredBox


def slow_precision(cases: list[Case], level: float, times: list[int] | None = None) -> float:
    """COCO's average precision, written as it is defined; case i is there times[i] times."""
    rows, total = [], 0
    for number, case in enumerate(cases):
        for _ in range(times[number] if times else 1):
            total += len(case.phrase.boxes)
            free = list(case.phrase.boxes)
            for each in sorted(case.found, key=lambda e: -e.score):
                best = max(free, key=lambda t: slow_iou(each.box, t), default=None)
                hit = best is not None and slow_iou(each.box, best) >= level
                if hit:
                    free.remove(best)
                rows.append((-each.score, hit))
    rows.sort(key=lambda row: row[0])
    right, curve = 0, []
    for taken, (_, hit) in enumerate(rows, start=1):
        right += hit
        curve.append((right / total, right / taken))
    found = [max((p for r, p in curve if r >= i / 100 - 1e-12), default=0.0) for i in range(101)]
    return sum(found) / 101


def distinct_scores(cases: list[Case], rng: random.Random) -> list[Case]:
    return [Case(c.phrase, [ScoredBox(box=e.box, score=rng.random()) for e in c.found]) for c in cases]


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_against_its_definition(seed):
    rng = random.Random(seed)
    cases = distinct_scores([case_of(rng, i) for i in range(25)], rng)
    assert value_of("coco", "ap@.5", cases) == pytest.approx(slow_precision(cases, 0.5), abs=1e-12)
    slow = [slow_precision(cases, level) for level in LEVELS]
    assert value_of("coco", "ap@.5:.95", cases) == pytest.approx(sum(slow) / 10, abs=1e-12)


def test_average_precision_counts_a_patient_as_often_as_it_is_drawn():
    rng = random.Random(3)
    cases = distinct_scores([case_of(rng, i) for i in range(9)], rng)
    owners, times = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3]), [2, 0, 1, 3]
    split, ranked = Split(owners, np.ones((1, 9), dtype=bool), 4), Cases(cases).ranked.at(0)
    slow = slow_precision(cases, 0.5, [times[owner] for owner in owners])
    weights = np.array([times, [1, 1, 1, 1]], dtype=float)
    assert under(ranked, split, weights[:1])[0, 0] == pytest.approx(slow, abs=1e-12)
    assert under(ranked, split, weights)[:, 0] == pytest.approx([slow, slow_precision(cases, 0.5)], abs=1e-6)


def test_average_precision_over_draws_hardly_changes_when_detections_are_ranked_in_blocks(monkeypatch):
    rng = random.Random(5)
    cases = distinct_scores([case_of(rng, i) for i in range(300)], rng)
    split = Split(np.arange(300) // 2, np.ones((1, 300), dtype=bool), 150)
    weights = np.vstack(list(bootstrap.draw_weights(150, 20, seed=0)))
    ranked = Cases(cases).ranked
    whole = under(ranked, split, weights)
    one_by_one = [under(ranked, split, row[None])[0, 0] for row in weights]
    assert whole[:, 0] == pytest.approx(one_by_one, abs=1e-6)
    monkeypatch.setattr(ap_bootstrap, "MOST", 200)
    monkeypatch.setattr(ap_bootstrap, "BLOCKS", 100)
    once = np.ones((2, 150))
    assert under(Cases(cases).ranked, split, weights) == pytest.approx(whole, abs=0.005)
    assert under(Cases(cases).ranked, split, once) == pytest.approx(under(ranked, split, once[:1])[0, 0])


def test_one_true_box_can_be_hit_only_once():
    same = [ScoredBox(box=(0, 0, 9, 9), score=score) for score in (0.4, 0.9)]
    hits = Cases([Case(phrase_of(0, [(0, 0, 9, 9)]), same)]).ranked.hits
    assert hits.tolist() == [[False, True]] * len(LEVELS)


def test_a_group_without_a_true_box_has_no_average_precision():
    nothing = Ranked(np.zeros(0, dtype=int), np.zeros(0), np.zeros((1, 0), dtype=bool), np.zeros(2))
    assert np.isnan(under(nothing, all_apart(2), np.ones((3, 2)))).all()
    assert np.isnan(under(nothing, all_apart(2), np.ones((1, 2)))).all()


def test_figures_that_share_a_ranking_are_those_of_each_alone():
    rng = random.Random(8)
    cases = distinct_scores([case_of(rng, i) for i in range(40)], rng)
    split = Split(np.arange(40) // 2, np.array([[True] * 40, [True, False] * 20]), 20)
    shared = Cases(cases).ranked
    figures = {"half": shared.at(0).bind(split), "all": shared.bind(split)}
    found = bootstrap.resample(figures, 20, 30, seed=1)
    for name, level in (("half", 0), ("all", None)):
        own = Cases(cases).ranked
        alone = bootstrap.resample(
            {"": (own if level is None else own.at(level)).bind(split)}, 20, 30, seed=1
        )[""]
        assert (found[name].draws == alone.draws).all() and (found[name].value == alone.value).all()
    assert (found["half"].draws > found["all"].draws).any()


@pytest.mark.parametrize("digits", [0, 1])
def test_the_order_of_the_truth_makes_no_difference_to_tied_scores(digits, monkeypatch):
    rng = random.Random(6)
    cases = [
        Case(c.phrase, [ScoredBox(box=e.box, score=round(e.score, digits)) for e in c.found])
        for c in distinct_scores([case_of(rng, i) for i in range(80)], rng)
    ]
    turned = rng.sample(range(80), 80)
    owners, one = np.arange(80) // 2, np.ones((1, 80), dtype=bool)
    splits = Split(owners, one, 40), Split(owners[turned], one, 40)
    orders = Cases(cases), Cases([cases[place] for place in turned])
    weights = np.vstack(list(bootstrap.draw_weights(40, 20, seed=0)))

    def both(weights):
        return [under(each.ranked, split, weights) for each, split in zip(orders, splits, strict=True)]

    value, draws = both(np.ones((1, 40))), both(weights)
    assert value[0] == pytest.approx(value[1], abs=1e-12) and draws[0] == pytest.approx(draws[1], abs=1e-6)
    single = [under(orders[0].ranked, splits[0], row[None])[0, 0] for row in weights]
    assert draws[0][:, 0] == pytest.approx(single, abs=1e-6)
    monkeypatch.setattr(ap_bootstrap, "MOST", 20)
    monkeypatch.setattr(ap_bootstrap, "BLOCKS", 10)
    blocks = [
        under(Cases(list(each)).ranked, split, weights) for each, split in zip(orders, splits, strict=True)
    ]
    assert blocks[0] == pytest.approx(blocks[1], abs=1e-6)


def test_detections_that_are_all_tied_have_the_precision_of_all():
    """Three of four boxes are hits: 3/4 at the recall levels 0, .01, ..., .75."""
    right, wrong = (0, 0, 9, 9), (50, 50, 60, 60)
    found = [right, wrong, right, right]
    cases = [Case(phrase_of(n, [right]), [ScoredBox(box=box, score=1)]) for n, box in enumerate(found)]
    assert value_of("coco", "ap@.5", cases) == pytest.approx(76 / 101 * 3 / 4)
