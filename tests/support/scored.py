"""Cases for the tests of evaluation, drawn by chance, and slow and obvious references."""

import random

import numpy as np

from medground.evaluation.cases import Case, Cases
from medground.evaluation.protocols import named
from medground.evaluation.stats.average_precision import Ranked
from medground.evaluation.stats.bootstrap import Draws, Split
from medground.evaluation.stats.figures import Ratio
from medground.records import Box, Phrase, ScoredBox


def box_of(rng: random.Random, limit: int = 100) -> Box:
    x, y = sorted(rng.sample(range(limit), 2)), sorted(rng.sample(range(limit), 2))
    return (x[0], y[0], x[1], y[1])


def near(box: Box, rng: random.Random) -> Box:
    """The box, or one that lies near it: its edges moved by up to a fifth of its size."""
    x1, y1, x2, y2 = box
    x, y = (x2 - x1) // 5, (y2 - y1) // 5
    moved = (
        x1 + rng.randint(-x, x),
        y1 + rng.randint(-y, y),
        x2 + rng.randint(-x, x),
        y2 + rng.randint(-y, y),
    )
    return rng.choice([box, moved, moved])


def phrase_of(number: int, boxes: list[Box], text: str = "opacity", **more: str) -> Phrase:
    own = {"image_id": f"i{number // 2}", "phrase_id": f"p{number}", "subject_id": f"s{number // 3}"}
    return Phrase(path="x.png", width=100, height=100, text=text, boxes=boxes, **(own | more))


def case_of(rng: random.Random, number: int, most: int = 3, true: int | None = None) -> Case:
    wanted = rng.randint(1, most) if true is None else true
    phrase = phrase_of(number, [box_of(rng) for _ in range(wanted)], category=rng.choice(["Edema", "Nodule"]))
    found = [
        near(rng.choice(phrase.boxes or [box_of(rng)]), rng) if rng.random() < 0.7 else box_of(rng)
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


def under(measured: Ratio | Ranked, split: Split, weights: np.ndarray) -> np.ndarray:
    """(D, G) the figure of each group of the split where its clusters count as these (D, C) weights say."""
    figure = measured.bind(split)
    return figure.value(Draws(weights), [weights @ column.sums() for column in figure.columns])


def all_apart(size: int) -> Split:
    """Each item its own cluster, all in one group."""
    return Split(np.arange(size), np.ones((1, size), dtype=bool), size)


def value_of(name: str, metric: str, cases: list[Case]) -> float:
    """The metric over all cases, as the protocol's figure gives it without a draw."""
    measured = named(name).figures(Cases(cases))[metric]
    return float(under(measured, all_apart(len(cases)), np.ones((1, len(cases))))[0, 0])
