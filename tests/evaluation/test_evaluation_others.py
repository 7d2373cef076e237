"""The protocols against other people's implementations: pycocotools, shapely, scipy, torchmetrics.

torchmetrics' detection metrics ask for torchvision, which is not used here. They only convert boxes of other
forms with it, so a stand-in takes its place.
"""

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scored import boxes_of, case_of, under, value_of

from medground.evaluation import metrics, paper_protocols
from medground.evaluation.cases import Case, Cases
from medground.evaluation.stats.bootstrap import Split
from medground.records import Box, ScoredBox

shapely = pytest.importorskip("shapely", reason="shapely is not installed")
CATEGORIES = ("Edema", "Nodule")


def drawn(seed: int, count: int = 30, **more: int) -> list[Case]:
    """Cases whose boxes all have scores of their own."""
    rng = random.Random(seed)
    cases = [case_of(rng, number, **more) for number in range(count)]
    return [Case(c.phrase, [ScoredBox(box=e.box, score=rng.random()) for e in c.found]) for c in cases]


def area_of(boxes: list[Box]):
    return shapely.union_all([shapely.box(*box) for box in boxes])


def shape_iou(a, b) -> float:
    return a.intersection(b).area / a.union(b).area


def as_coco(cases: list[Case]) -> tuple[dict, list[dict]]:
    """Truth and results: a phrase is an image, its category a class."""
    truth = {"images": [], "annotations": [], "categories": []}
    truth["categories"] = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)]
    results = []
    for number, case in enumerate(cases, start=1):
        own = {"image_id": number, "category_id": CATEGORIES.index(case.phrase.category) + 1}
        truth["images"].append({"id": number})
        for x1, y1, x2, y2 in case.phrase.boxes:
            wide, high = x2 - x1, y2 - y1
            shape = {"bbox": [x1, y1, wide, high], "area": wide * high, "iscrowd": 0}
            truth["annotations"].append(own | shape | {"id": len(truth["annotations"]) + 1})
        for each in case.found:
            x1, y1, x2, y2 = each.box
            results.append(own | {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": each.score})
    return truth, results


def coco_precision(cases: list[Case]) -> tuple[float, float]:
    """(AP at .5:.95, AP at .5), the means over categories, as pycocotools has them."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    from pycocotools.cocoeval import COCOeval

    truth, results = as_coco(cases)
    judged = coco.COCO()
    judged.dataset = truth
    judged.createIndex()
    judge = COCOeval(judged, judged.loadRes(results), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge.stats[0], judge.stats[1]


@pytest.mark.parametrize("name", CATEGORIES)
def test_average_precision_of_a_category_is_that_of_pycocotools(name):
    cases = [case for case in drawn(11, 60) if case.phrase.category == name]
    both, half = coco_precision(cases)
    assert value_of("coco", "ap@.5:.95", cases) == pytest.approx(both, abs=1e-9)
    assert value_of("coco", "ap@.5", cases) == pytest.approx(half, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_over_categories_is_the_map_of_pycocotools(seed):
    cases = drawn(seed, 40)
    masks = np.array([[case.phrase.category == name for case in cases] for name in CATEGORIES])
    found = under(Cases(cases).ranked, Split(np.arange(40), masks, 40), np.ones((1, 40)))
    assert found.mean() == pytest.approx(coco_precision(cases)[0], abs=1e-9)


def test_average_precision_of_a_draw_is_that_of_pycocotools_on_the_cases_drawn():
    cases = [case for case in drawn(4, 70) if case.phrase.category == "Edema"][:30]
    times = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=3)
    ranked = Cases(cases).ranked
    split = Split(np.arange(30), np.ones((1, 30), dtype=bool), 30)
    fast = under(ranked, split, times.astype(float))[:, 0]
    for row, value in zip(times, fast, strict=True):
        again = [case for case, count in zip(cases, row, strict=True) for _ in range(count)]
        assert value == pytest.approx(coco_precision(again)[0], abs=2e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_at_the_levels_of_rsna_is_that_of_torchmetrics(seed, monkeypatch):
    """One class, and a third of the images without a true box."""
    detection = pytest.importorskip("torchmetrics.detection.mean_ap")
    monkeypatch.setattr(detection, "_TORCHVISION_AVAILABLE", True)
    same = SimpleNamespace(box_convert=lambda boxes, in_fmt, out_fmt: boxes)
    monkeypatch.setitem(sys.modules, "torchvision.ops", same)
    rng = random.Random(seed)
    cases = [case_of(rng, number, true=rng.choice([0, 1, 2])) for number in range(60)]
    cases = [Case(c.phrase, [ScoredBox(box=e.box, score=rng.random()) for e in c.found]) for c in cases]
    metric = detection.MeanAveragePrecision(
        box_format="xywh", iou_thresholds=list(paper_protocols.RSNA_LEVELS), backend="pycocotools"
    )
    for case in cases:
        found, true = (
            torch.tensor([[b[0], b[1], b[2] - b[0], b[3] - b[1]] for b in some]).float().reshape(-1, 4)
            for some in (boxes_of(case), case.phrase.boxes)
        )
        scores = torch.tensor([each.score for each in case.found])
        own = {"boxes": found, "scores": scores, "labels": torch.zeros(len(found), dtype=torch.int64)}
        metric.update([own], [{"boxes": true, "labels": torch.zeros(len(true), dtype=torch.int64)}])
    expected = metric.compute()["map"].item()
    assert 0 < expected < 1
    assert value_of("rsna", "ap@.4:.75", cases) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_shapely(seed):
    cases = drawn(seed, 40, true=1)
    first = [shape_iou(area_of(boxes_of(c)[:1]), area_of(c.phrase.boxes)) if c.found else 0.0 for c in cases]
    assert value_of("single-box", "miou", cases) == pytest.approx(np.mean(first), abs=1e-9)
    cases = drawn(seed, 40)
    union = [shape_iou(area_of(boxes_of(case)), area_of(case.phrase.boxes)) for case in cases]
    assert value_of("set", "union_iou", cases) == pytest.approx(np.mean(union), abs=1e-9)
    pairs = [
        [shape_iou(area_of([a]), area_of([b])) for a in boxes_of(c) for b in c.phrase.boxes] for c in cases
    ]
    means = [np.mean(each) if each else 0.0 for each in pairs]
    assert value_of("all-pairs", "miou", cases) == pytest.approx(np.mean(means), abs=1e-9)


def test_pooled_areas_are_those_of_shapely():
    cases, found = drawn(5, 30), []
    for threshold in metrics.THRESHOLDS:
        kept = [area_of([e.box for e in case.found if e.score >= threshold]) for case in cases]
        true = [area_of(case.phrase.boxes) for case in cases]
        both = sum(a.intersection(b).area for a, b in zip(kept, true, strict=True))
        found.append(both / sum(a.union(b).area for a, b in zip(kept, true, strict=True)))
    assert value_of("pooled", "miou", cases) == pytest.approx(np.mean(found), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_matchings_are_those_of_scipy(seed):
    cases, f1, best = drawn(seed, 40, most=4), [], []
    for case in cases:
        found, true = boxes_of(case), case.phrase.boxes
        overlap = np.array([[shape_iou(area_of([a]), area_of([b])) for b in true] for a in found])
        overlap = overlap.reshape(len(found), len(true))
        rows, columns = linear_sum_assignment(overlap >= 0.5, maximize=True)
        f1.append(2 * (overlap >= 0.5)[rows, columns].sum() / (len(found) + len(true)))
        best.append(overlap.max(axis=0).mean() if len(found) else 0.0)
    assert value_of("set", "setf1@.5", cases) == pytest.approx(np.mean(f1), abs=1e-9)
    assert value_of("set", "coverage", cases) == pytest.approx(np.mean(best), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_heat_map_iou_is_the_jaccard_index_of_torchmetrics(seed):
    name = "torchmetrics.functional.classification"
    jaccard = pytest.importorskip(name, reason="torchmetrics is not installed").binary_jaccard_index
    rng = np.random.default_rng(seed)
    heat, mask = rng.random((30, 40)), np.zeros((30, 40))
    mask[3:17, 5:30] = mask[10:25, 20:38] = 1
    true = np.array([[5, 3, 30, 17], [20, 10, 38, 25]], dtype=float)
    slow = [
        float(jaccard(torch.tensor(heat), torch.tensor(mask, dtype=torch.long), threshold=t))
        for t in metrics.THRESHOLDS
    ]
    shares = metrics.covered_shares(true, 40, 30, heat.shape)
    assert metrics.heatmap_iou(heat, shares) == pytest.approx(np.mean(slow), abs=1e-6)
