"""Protocols, prior, groups and intervals against slow and obvious references."""

import math
import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.errors import MedgroundError
from medground.evaluation import groups, intervals, metrics, prior, scoring
from medground.evaluation.figures import Ratio, mean_over
from medground.evaluation.protocols import LEVELS, PROTOCOLS, Case, greedy_hits
from medground.evaluation.ranking import Ranked
from medground.evaluation.scoring import Measured, Resampling
from medground.records import Box, Phrase, ScoredBox

RNG = random.Random(7)
CORNERS = st.integers(0, 12)


def box_of(rng: random.Random, limit: int = 100) -> Box:
    x, y = sorted(rng.sample(range(limit), 2)), sorted(rng.sample(range(limit), 2))
    return (x[0], y[0], x[1], y[1])


def phrase_of(number: int, boxes: list[Box], text: str = "opacity", **more: str) -> Phrase:
    own = {"image_id": f"i{number // 2}", "phrase_id": f"p{number}", "subject_id": f"s{number // 3}"}
    return Phrase(path="x.png", width=100, height=100, text=text, boxes=boxes, **(own | more))


def case_of(rng: random.Random, number: int, most: int = 3, true: int | None = None) -> Case:
    wanted = rng.randint(1, most) if true is None else true
    phrase = phrase_of(number, [box_of(rng) for _ in range(wanted)], category=rng.choice(["Edema", "Nodule"]))
    found = [
        rng.choice(phrase.boxes or [box_of(rng)]) if rng.random() < 0.5 else box_of(rng)
        for _ in range(rng.randint(0, most))
    ]
    return Case(phrase, [ScoredBox(box=box, score=round(rng.random(), 1)) for box in found])


def slow_iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, width) * max(0, height)
    sizes = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / (sum(sizes) - both)


def pixels(boxes: list[Box]) -> set[tuple[int, int]]:
    return {(x, y) for b in boxes for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))}


def boxes_of(case: Case) -> list[Box]:
    return [each.box for each in case.found]


def value_of(name: str, metric: str, cases: list[Case]) -> float:
    """The metric over all cases, as the protocol's figure gives it without a draw."""
    owners = np.arange(len(cases))
    figure = PROTOCOLS[name].measure(cases)[metric].bind(owners, np.ones((1, len(cases)), dtype=bool))
    return float(figure(np.ones((1, len(cases))))[0, 0])


# --- protocols ------------------------------------------------------------------------------------------


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
    assert not PROTOCOLS["single-box"].takes(phrase_of(0, []))
    assert not PROTOCOLS["single-box"].takes(phrase_of(0, [box_of(RNG), box_of(RNG)]))
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


def slow_precision(cases: list[Case], level: float, times: list[int] | None = None) -> float:
    """COCO's average precision, written as its definition is told; case i is there times[i] times."""
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
    figure = PROTOCOLS["coco"].measure(cases)["ap@.5"].bind(owners, np.ones((1, 9), dtype=bool))
    slow = slow_precision(cases, 0.5, [times[owner] for owner in owners])
    weights = np.array([times, [1, 1, 1, 1]], dtype=float)
    assert figure(weights[:1])[0, 0] == pytest.approx(slow, abs=1e-12)
    assert figure(weights)[:, 0] == pytest.approx([slow, slow_precision(cases, 0.5)], abs=1e-6)


def test_average_precision_over_draws_hardly_changes_when_detections_are_ranked_in_blocks(monkeypatch):
    rng = random.Random(5)
    cases = distinct_scores([case_of(rng, i) for i in range(300)], rng)
    owners, masks = np.arange(300) // 2, np.ones((1, 300), dtype=bool)
    weights = np.vstack(list(intervals.draw_weights(150, 20, seed=0)))
    figure = PROTOCOLS["coco"].measure(cases)["ap@.5:.95"].bind(owners, masks)
    whole, one_by_one = figure(weights), [figure(row[None])[0, 0] for row in weights]
    assert whole[:, 0] == pytest.approx(one_by_one, abs=1e-6)
    monkeypatch.setattr("medground.evaluation.ranking.BLOCKS", 100)
    assert figure(weights) == pytest.approx(whole, abs=0.01)


def test_average_precision_agrees_with_pycocotools():
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    from pycocotools.cocoeval import COCOeval

    rng = random.Random(11)
    cases = distinct_scores([case_of(rng, i) for i in range(30)], rng)
    truth, found = coco.COCO(), []
    truth.dataset = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    for number, case in enumerate(cases, start=1):
        truth.dataset["images"].append({"id": number})
        for b in case.phrase.boxes:
            wide = {"bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "area": (b[2] - b[0]) * (b[3] - b[1])}
            own = {
                "id": len(truth.dataset["annotations"]) + 1,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
            }
            truth.dataset["annotations"].append(wide | own)
        for each in case.found:
            b = each.box
            wide = [b[0], b[1], b[2] - b[0], b[3] - b[1]]
            found.append({"image_id": number, "category_id": 1, "bbox": wide, "score": each.score})
    truth.createIndex()
    judge = COCOeval(truth, truth.loadRes(found), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert value_of("coco", "ap@.5:.95", cases) == pytest.approx(judge.stats[0], abs=1e-9)
    assert value_of("coco", "ap@.5", cases) == pytest.approx(judge.stats[1], abs=1e-9)


def test_one_true_box_can_be_hit_only_once():
    same = [ScoredBox(box=(0, 0, 9, 9), score=score) for score in (0.4, 0.9)]
    assert greedy_hits(Case(phrase_of(0, [(0, 0, 9, 9)]), same), (0.5,)).tolist() == [[False, True]]


# --- metrics --------------------------------------------------------------------------------------------


@st.composite
def box_lists(draw):
    side = st.tuples(CORNERS, st.integers(1, 6))
    one = st.builds(lambda x, y: (x[0], y[0], x[0] + x[1], y[0] + y[1]), side, side)
    return np.array(draw(st.lists(one, max_size=5)), dtype=float).reshape(-1, 4)


@given(box_lists(), box_lists())
def test_covered_areas_are_counted_in_pixels(found, true):
    both, either = metrics.union_overlap(found, true)
    a, b = pixels(found.tolist()), pixels(true.tolist())
    assert (both, either) == (len(a & b), len(a | b))
    assert metrics.union_area(found) == len(a)


def test_heat_map_iou_is_the_mean_over_five_thresholds():
    heat = np.array([[0.15, 0.25, 0.35], [0.45, 0.55, -1.0]])
    mask = np.array([[0, 1, 1], [1, 1, 0]])
    slow = []
    for threshold in metrics.THRESHOLDS:
        hot = {(i, j) for i in range(2) for j in range(3) if heat[i, j] > threshold}
        true = {(0, 1), (0, 2), (1, 0), (1, 1)}
        slow.append(len(hot & true) / len(hot | true))
    assert metrics.heatmap_iou(heat, mask) == pytest.approx(sum(slow) / 5, abs=1e-12)
    assert metrics.heatmap_iou(heat * 0, mask) == 0


def test_contrast_to_noise_by_hand():
    heat = np.array([1.0, 3.0, 0.0, 0.0, 0.5, 0.5])
    mask = np.array([1, 1, 0, 0, 0, 0])
    expected = abs(2 - 0.25) / math.sqrt(1 + 0.0625)
    assert metrics.contrast_to_noise(heat, mask) == pytest.approx(expected, abs=1e-12)
    assert metrics.contrast_to_noise(heat, mask * 0 + 1) is None
    assert metrics.contrast_to_noise(np.ones(6), mask) == 0


@given(box_lists(), st.sampled_from([(18, 18), (6, 9), (2, 3)]))
def test_covered_shares_are_counted_in_pixels(true, shape):
    inside = pixels(true.tolist())
    slow = np.zeros(shape)
    for x, y in inside:
        slow[y * shape[0] // 18, x * shape[1] // 18] += shape[0] * shape[1] / 18**2
    assert metrics.covered_shares(true, 18, 18, shape) == pytest.approx(slow)


def test_a_coarse_heat_map_scores_as_the_same_one_enlarged():
    rng = np.random.default_rng(0)
    coarse, true = rng.random((4, 5)), np.array([[3, 2, 33, 17], [20, 10, 49, 30]])
    fine = coarse.repeat(10, axis=0).repeat(10, axis=1)
    pairs = [(heat, metrics.covered_shares(true, 50, 40, heat.shape)) for heat in (coarse, fine)]
    for figure in (metrics.heatmap_iou, metrics.contrast_to_noise):
        assert figure(*pairs[0]) == pytest.approx(figure(*pairs[1]), abs=1e-12)


# --- the prior ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_medoid_overlaps_the_others_most(seed):
    rng = random.Random(seed)
    found = [box_of(rng) for _ in range(30)]
    slow = max(found, key=lambda box: round(sum(slow_iou(box, each) for each in found), 9))
    assert prior.medoid(found) == slow


def test_the_prior_knows_the_side_word_and_falls_back_to_category_then_all():
    left, right, nodule = (50, 50, 90, 90), (10, 50, 50, 90), (5, 5, 9, 9)
    train = [phrase_of(i, [left], "left effusion", category="Effusion") for i in range(3)]
    train += [phrase_of(i, [right], "right effusion", category="Effusion") for i in range(4)]
    train += [phrase_of(9, [nodule], "left nodule", category="Nodule")]
    fitted = prior.fit_phrases(train)

    def answer(text, category):
        asked = phrase_of(0, [], text, category=category)
        return tuple(round(x, 6) for x in fitted.answer(prior.cell_of(asked), 200, 100))

    assert answer("Left effusion.", "Effusion") == (100, 50, 180, 90)
    assert answer("right-sided effusion", "Effusion") == (20, 50, 100, 90)
    assert answer("bilateral effusions", "Effusion") == (20, 50, 100, 90)
    assert answer("left nodule", "Nodule") == (20, 50, 100, 90)  # one box is no cell to trust


def test_a_prior_without_training_boxes_is_refused():
    with pytest.raises(MedgroundError, match="no prior"):
        prior.fit_phrases([phrase_of(0, [])])


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("small LEFT effusion", "left"),
        ("right-sided", "right"),
        ("left and right", "both"),
        ("Bibasilar atelectasis", "both"),
        ("bilaterally", "both"),
        ("upright film, cleft", "none"),
        ("", "none"),
    ],
)
def test_side_words(text, side):
    assert prior.side_of(text) == side


# --- groups ---------------------------------------------------------------------------------------------


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


# --- intervals ------------------------------------------------------------------------------------------


def test_draws_take_as_many_patients_as_there_are():
    weights = np.vstack(list(intervals.draw_weights(7, 50, seed=1)))
    assert weights.shape == (50, 7)
    assert (weights.sum(axis=1) == 7).all() and (weights == weights.round()).all()


def test_draws_are_the_same_for_any_block_size(monkeypatch):
    whole = np.vstack(list(intervals.draw_weights(9, 100, seed=1)))
    monkeypatch.setattr(intervals, "CELLS", 50)
    assert (np.vstack(list(intervals.draw_weights(9, 100, seed=1))) == whole).all()


@given(st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=20)
def test_ratios_over_draws_against_lists_of_patients(clusters, seed):
    rng = np.random.default_rng(seed)
    size = 12
    owners = np.concatenate([np.arange(clusters), rng.integers(0, clusters, size - clusters)])
    tops = [rng.random(size).round(2) for _ in range(2)]
    bottoms = [rng.integers(0, 3, size).astype(float) for _ in range(2)]
    masks = rng.random((3, size)) < 0.5
    figure = Ratio(list(zip(tops, bottoms, strict=True))).bind(owners, masks)
    for weights in intervals.draw_weights(clusters, 4, seed):
        drawn = figure(weights)
        for d, row in enumerate(weights):
            items = [
                i for c in range(clusters) for _ in range(int(row[c])) for i in range(size) if owners[i] == c
            ]
            for g, mask in enumerate(masks):
                kept = [i for i in items if mask[i]]
                sums = [
                    (sum(t[i] for i in kept), sum(b[i] for i in kept))
                    for t, b in zip(tops, bottoms, strict=True)
                ]
                if all(bottom for _, bottom in sums):
                    assert drawn[d, g] == pytest.approx(sum(t / b for t, b in sums) / 2)
                else:
                    assert np.isnan(drawn[d, g])


def slow_interval(values: list[float], patients: list[str], draws: int) -> tuple[float, float]:
    """Patients drawn one by one, phrases of each put on a list, the list's mean; the middle 95 % of those."""
    of_patient = defaultdict(list)
    for value, patient in zip(values, patients, strict=True):
        of_patient[patient].append(value)
    rng, means = random.Random(5), []
    for _ in range(draws):
        drawn = [v for _ in of_patient for v in of_patient[rng.choice(list(of_patient))]]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    return means[round(0.025 * draws)], means[round(0.975 * draws) - 1]


def test_the_interval_is_that_of_drawing_patients_one_by_one():
    rng = random.Random(2)
    patients = [f"s{i // 4}" for i in range(120)]
    centre = {p: rng.random() for p in patients}
    values = [centre[p] + rng.gauss(0, 0.05) for p in patients]
    owners = np.array([int(p[1:]) for p in patients])
    figure = mean_over(values).bind(owners, np.ones((1, 120), dtype=bool))
    sample = intervals.resample({"m": figure}, 30, 20_000, seed=0)["m"]
    low, high = intervals.interval(sample.draws[:, 0])
    assert (low, high) == pytest.approx(slow_interval(values, patients, 20_000), abs=0.006)
    assert high - low > 0.15  # phrases drawn one by one would say 0.1: too sure of itself


def test_p_is_small_where_the_interval_leaves_zero_out_and_one_without_a_difference():
    draws = np.linspace(-0.02, 1.0, 10_001)
    assert intervals.p_value(draws) == pytest.approx(2 * 0.02 / 1.02, abs=0.001)
    assert intervals.p_value(-draws) == intervals.p_value(draws)
    assert intervals.p_value(np.zeros(100)) == 1
    assert intervals.p_value(np.ones(100)) == pytest.approx(2 / 101)
    assert intervals.p_value(np.full(3, np.nan)) is None


# --- scoring --------------------------------------------------------------------------------------------


def measured(cases: list[Case], **others: list[Case]) -> Measured:
    phrases, measure = [case.phrase for case in cases], PROTOCOLS["single-box"].measure
    parted = groups.of_phrases(phrases)
    return Measured(
        protocol="single-box", groups=parted, owners=scoring.clusters(phrases), counts=parted.counts,
        own=measure(cases), **{name: measure(each) for name, each in others.items()},
    )  # fmt: skip


def test_macro_is_the_mean_over_categories_and_gain_is_over_the_prior():
    rng = random.Random(1)
    own = [case_of(rng, i, true=1) for i in range(40)]
    fixed = [Case(case.phrase, [ScoredBox(box=(0, 0, 50, 50), score=1)]) for case in own]
    found = {(s.group, s.metric): s for s in scoring.score(measured(own, prior=fixed), Resampling(200, 0))}
    parts = [found[f"category:{name}", "miou"].value for name in ("Edema", "Nodule")]
    assert found["macro", "miou"].value == pytest.approx(sum(parts) / 2)
    assert found["macro", "miou"].n == 40
    own_value, prior_value = found["all", "miou"].value, found["all", "prior_miou"].value
    assert found["all", "gain_miou"].value == pytest.approx(own_value - prior_value)
    assert all(s.low <= s.value <= s.high for s in found.values() if s.group == "all")


def test_a_difference_is_paired():
    """Two models that differ by the same little on every phrase: no doubt about the sign."""
    rng = random.Random(1)
    phrases = [phrase_of(i, [(0, 0, rng.randint(20, 100), 100)]) for i in range(40)]
    narrow, wide = [
        [Case(p, [ScoredBox(box=(0, 0, p.boxes[0][2] * part, 100), score=1)]) for p in phrases]
        for part in (0.5, 0.52)
    ]
    found = {
        s.metric: s
        for s in scoring.score(measured(wide, other=narrow), Resampling(500, 0))
        if s.group == "all"
    }
    assert found["difference_miou"].value == pytest.approx(0.02)
    assert found["difference_miou"].low == pytest.approx(0.02)
    assert found["difference_miou"].extra["p"] < 0.01


def test_one_patient_alone_gives_no_interval():
    cases = [case_of(random.Random(i), 0, true=1) for i in range(3)]
    assert {(s.low, s.high) for s in scoring.score(measured(cases), Resampling(100, 0))} == {(None, None)}


def test_no_phrase_gives_no_score():
    assert list(scoring.score(measured([]), Resampling(100, 0))) == []


def test_without_a_subject_the_image_stands_for_the_patient(caplog):
    phrases = [phrase_of(i, [(0, 0, 1, 1)], subject_id=None) for i in range(4)]
    assert scoring.clusters(phrases).tolist() == [0, 0, 1, 1]
    scoring.warn_of_lone_images(phrases)
    assert "no subject_id for 2 images" in caplog.text


def test_a_group_without_a_true_box_has_no_average_precision():
    nothing = Ranked(np.zeros(0, dtype=int), np.zeros(0), np.zeros((1, 0), dtype=bool), np.zeros(2))
    assert np.isnan(nothing.bind(np.array([0, 1]), np.ones((1, 2), dtype=bool))(np.ones((1, 2)))).all()
