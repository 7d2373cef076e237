"""Protocols of papers against slow references that follow the public implementations."""

import math
import random
from itertools import permutations

import numpy as np
import pytest

from medground.errors import MedgroundError
from medground.evaluation import evaluate
from medground.records import Grounding, Phrase, ScoredBox

SIDE = 1024  # so that corners are whole cells of the grids


def random_boxes(rng: random.Random, most: int) -> list[list[float]]:
    found = []
    for _ in range(rng.randint(0, most)):
        x, y = sorted(rng.sample(range(0, SIDE + 1, 8), 2)), sorted(rng.sample(range(0, SIDE + 1, 8), 2))
        found.append([x[0], y[0], x[1], y[1]])
    return found


def dataset(seed: int) -> tuple[list[Grounding], list[Phrase]]:
    rng = random.Random(seed)
    truth, found = [], []
    for number in range(40):
        keys = {"image_id": f"i{number // 2}", "phrase_id": f"p{number}", "text": "opacity"}
        boxes = [tuple(map(float, each)) for each in random_boxes(rng, 3)]
        near = [[x + rng.choice((-40, 0, 40)) for x in each] for each in boxes] if number % 3 else []
        own = [tuple(min(SIDE, max(0, x)) for x in each) for each in [*near, *random_boxes(rng, 2)]]
        scored = [
            ScoredBox(box=each, score=rng.random()) for each in own if each[2] > each[0] and each[3] > each[1]
        ]
        scored.sort(key=lambda each: -each.score)
        truth.append(Phrase(path="x.png", width=SIDE, height=SIDE, boxes=boxes, **keys))
        found.append(Grounding(boxes=scored, present=rng.random(), model="", **keys))
    return found, truth


@pytest.fixture(params=[0, 1])
def data(request):
    return dataset(request.param)


def values(data, protocol: str) -> dict[str, float]:
    scores = evaluate(*data, protocols=[protocol], draws=100)
    return {each.metric: each.value for each in scores if each.group == "all"}


def area(box) -> float:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def overlap(a, b) -> tuple[float, float]:
    both = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return both, area(a) + area(b) - both


def giou(a, b) -> float:
    both, either = overlap(a, b)
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return both / either - (around - either) / around


def test_rodeo_tries_all_assignments(data):
    near = alike = total = 0.0
    for found, phrase in zip(*data, strict=True):
        own, true = [each.box for each in found.boxes], phrase.boxes
        short, long = sorted([own, true], key=len)
        choices = permutations(range(len(long)), len(short))
        best = max(choices, key=lambda c: sum(giou(short[i], long[j]) for i, j in enumerate(c)))
        pairs = [(short[i], long[j]) if short is own else (long[j], short[i]) for i, j in enumerate(best)]
        for a, b in pairs:
            w, h = b[2] - b[0], b[3] - b[1]
            x, y = ((a[0] + a[2]) - (b[0] + b[2])) / 2 / w, ((a[1] + a[3]) - (b[1] + b[3])) / 2 / h
            near += 2 ** -(x * x + y * y)
            both, either = overlap([0, 0, a[2] - a[0], a[3] - a[1]], [0, 0, w, h])
            alike += both / either
        total += len(own) + len(true) - len(pairs)
    assert values(data, "rodeo") == {
        "localization": pytest.approx(near / total, abs=1e-9),
        "shape": pytest.approx(alike / total, abs=1e-9),
    }


def mask(boxes, cells: int) -> np.ndarray:
    """The mask of RadFact and of ChEX: corners cut to whole cells."""
    found = np.zeros((cells, cells), dtype=bool)
    for box in boxes:
        x1, y1, x2, y2 = (np.array(box) / SIDE * cells).astype(int)
        found[y1:y2, x1:x2] = True
    return found


def test_radfact_on_masks_and_per_report(data):
    reports: dict[str, list] = {}
    for found, phrase in zip(*data, strict=True):
        reports.setdefault(phrase.image_id, []).append((found, phrase))
    fractions = []
    for pairs in reports.values():
        rows = {"candidate": [], "reference": []}
        for found, phrase in pairs:
            own, true = mask([each.box for each in found.boxes], 224), mask(phrase.boxes, 224)
            stated, there = found.present >= 0.5, bool(phrase.boxes)
            for side, a, b, said in (("candidate", own, true, stated), ("reference", true, own, there)):
                entailed = stated and there
                boxed = said and bool(found.boxes if side == "candidate" else phrase.boxes)
                if boxed:
                    inside = entailed and a.any() and (a & b).sum() / a.sum() > 0.5
                    rows[side].append((entailed, inside))
        fractions.append([
            len([1 for _, good in rows[side] if good]) / max(1, count) if count else math.nan
            for side in rows
            for count in (len([1 for entailed, _ in rows[side] if entailed]), len(rows[side]))
        ])  # fmt: skip
    expected = np.nanmean(np.array(fractions), axis=0)
    names = ("grounding_precision", "spatial_precision", "grounding_recall", "spatial_recall")
    found = values(data, "radfact")
    assert [found[name] for name in names] == [pytest.approx(each, abs=1e-9) for each in expected]


def suppressed(found: Grounding) -> list[ScoredBox]:
    kept: list[ScoredBox] = []
    for each in found.boxes:
        ious = [both / either for both, either in (overlap(each.box, other.box) for other in kept)]
        if all(iou <= 0.25 for iou in ious):
            kept.append(each)
    return kept


def test_chex_on_masks_after_suppression(data):
    pairs = [(suppressed(found), phrase.boxes) for found, phrase in zip(*data, strict=True) if phrase.boxes]
    ious = {}
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.5):
        both = either = 0
        for kept, true in pairs:
            a, b = mask([each.box for each in kept if each.score > threshold], 1024), mask(true, 1024)
            both, either = both + (a & b).sum(), either + (a | b).sum()
        ious[threshold] = both / either
    assert values(data, "chex") == {
        "miou": pytest.approx(np.mean(list(ious.values())), abs=1e-9),
        "iou@.3": pytest.approx(ious[0.3], abs=1e-9),
    }


def test_the_pointing_game(data):
    hits = []
    for found, phrase in zip(*data, strict=True):
        if phrase.boxes and found.boxes:
            a = found.boxes[0].box
            x, y = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2
            hits.append(any(b[0] <= x < b[2] and b[1] <= y < b[3] for b in phrase.boxes))
        elif phrase.boxes:
            hits.append(False)
    assert values(data, "pointing") == {"pointing": pytest.approx(np.mean(hits))}


@pytest.mark.parametrize("protocol", ["rodeo", "radfact", "chex", "pointing"])
def test_baselines_and_groups_have_these_figures_too(data, protocol):
    found, truth = data
    train = [p for p in dataset(5)[1] if p.boxes]
    scores = evaluate(found, truth, protocols=[protocol], draws=100, train=train, allow_leakage=True)
    metrics = {each.metric for each in scores}
    assert {
        f"{prefix}{name}" for name in values(data, protocol) for prefix in ("", "prior_", "gain_")
    } <= metrics
    perfect = [
        Grounding(
            image_id=p.image_id, phrase_id=p.phrase_id, text="", model="", present=float(bool(p.boxes)),
            boxes=[ScoredBox(box=box, score=1.0) for box in p.boxes[:1]],
        )
        for p in truth
    ]  # fmt: skip
    single = [p for p in truth if len(p.boxes) < 2]
    kept = [g for g, p in zip(perfect, truth, strict=True) if len(p.boxes) < 2]
    assert all(value == 1 for value in values((kept, single), protocol).values())


@pytest.mark.parametrize("protocol", ["radfact", "chex"])
def test_shares_of_the_image_need_its_size(protocol):
    keys = {"image_id": "i", "phrase_id": "p", "text": "x"}
    truth = [Phrase(path="x.png", boxes=[(1, 1, 2, 2)], **keys)]
    with pytest.raises(MedgroundError, match="needs width and height"):
        evaluate([Grounding(boxes=[], present=0, model="", **keys)], truth, protocols=[protocol], draws=100)


def slow_kaggle(found: list[Grounding], truth: list[Phrase]) -> float:
    """The score of the RSNA challenge, image by image and level by level."""
    per_image = []
    for grounding, phrase in zip(found, truth, strict=True):
        if not grounding.boxes and not phrase.boxes:
            continue
        levels = []
        for level in (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75):
            free, hits = list(phrase.boxes), 0
            for each in sorted(grounding.boxes, key=lambda e: -e.score):
                ious = [both / union for both, union in (overlap(each.box, box) for box in free)]
                if ious and max(ious) >= level:
                    free.pop(ious.index(max(ious)))
                    hits += 1
            levels.append(hits / (hits + len(grounding.boxes) - hits + len(free)))
        per_image.append(np.mean(levels))
    return float(np.mean(per_image))


def test_the_score_of_the_rsna_challenge_is_that_of_a_loop(data):
    found, truth = data
    assert any(not each.boxes for each in truth), "negatives are scored"
    assert values(data, "rsna")["kaggle@.4:.75"] == pytest.approx(slow_kaggle(found, truth), abs=1e-9)


def test_a_box_on_a_negative_image_costs_precision_and_an_image_without_any_counts_in_neither():
    keys = {"text": "opacity", "path": "x.png", "width": 100, "height": 100}
    box = (10.0, 10.0, 50.0, 50.0)
    truth = [
        Phrase(image_id=f"i{n}", phrase_id=f"p{n}", boxes=[box] if n == 0 else [], **keys) for n in range(3)
    ]

    def scores(boxes_of_1, score):
        boxes = [[ScoredBox(box=box, score=0.5)], [ScoredBox(box=b, score=score) for b in boxes_of_1], []]
        found = [
            Grounding(image_id=f"i{n}", phrase_id=f"p{n}", text="opacity", boxes=each, present=1, model="")
            for n, each in enumerate(boxes)
        ]
        return values((found, truth), "rsna")

    assert scores([], 0) == {"ap@.4:.75": 1.0, "kaggle@.4:.75": 1.0}
    assert scores([box], 0.1) == {"ap@.4:.75": 1.0, "kaggle@.4:.75": 0.5}
    assert scores([box], 0.9) == {"ap@.4:.75": 0.5, "kaggle@.4:.75": 0.5}
