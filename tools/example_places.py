"""Typical places of boxes in the lungs: a small network of the example model on the text.

Used by tools/train_example. It learns from boxes of other patients, without their images, and from boxes of
the training images. The loss is 1 - generalized IoU, so the network predicts the box that overlaps best with
the boxes of a text. Boxes are in shares of the box around both lungs, as `text_query.placed_boxes` takes
them. That of another patient is unknown: it gets the mean box.

A box on one side that is not tall has texts that also name a level of the lung: the third of its middle.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from example_data import CLASSES, OTHER, Pair, phrased
from torch import Tensor, nn

from medground import ops
from medground.models import layers

LEVELS = (
    ("upper lobe", "upper lung", "upper zone", "apex"),
    ("mid lung", "mid zone", "midlung"),
    ("lower lobe", "lower lung", "lower zone", "base"),
)
TALL = 0.6  # share of the height of the lungs from which a box has no level
TEXTS = 12  # draws of texts for each finding, side and level
STEPS, BATCH, RATE = 1500, 512, 2e-3
SHARE = 0.2  # of the typical place in a box
Queries = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class Place:
    """Texts, and the box that they have in the box around both lungs: [cx, cy, w, h]."""

    texts: tuple[str, ...]
    box: tuple[float, ...]


def texts_of(finding: str, side: str | None, level: int | None) -> tuple[str, ...]:
    """Return texts with this finding, side and level of the lung."""
    rng = random.Random(0)
    if level is None or side not in OTHER:
        found = {phrased(Pair("", None, True, 1.0, finding, side), False, rng) for _ in range(TEXTS)}
        return tuple(sorted(found))
    found = set()
    for place in LEVELS[level]:
        name = rng.choice(CLASSES[finding])
        low = name[0].lower() + name[1:]
        found |= {f"{side} {place} {low}", f"{name} in the {side} {place}"}
    return tuple(sorted(found))


def relative(box: Sequence[float], frame: Sequence[float]) -> tuple[float, ...]:
    """Return corners as [cx, cy, w, h] in shares of a frame, which is given by its corners."""
    corner, size = np.array(frame[:2]), np.array(frame[2:]) - frame[:2]
    low, high = (np.array(box[:2]) - corner) / size, (np.array(box[2:]) - corner) / size
    return tuple(np.concatenate([(low + high) / 2, high - low]).tolist())


def places_of(pair: Pair, frame: Sequence[float]) -> list[Place]:
    """Return the box of a pair with its texts, and with texts that name its level."""
    if not pair.box:
        return []
    box = relative(pair.box, frame)
    if pair.finding is None:
        return [Place((pair.text,), box)]
    found = [Place(texts_of(pair.finding, pair.side, None), box)]
    if pair.side in OTHER and box[3] < TALL:
        level = min(max(int(box[1] * len(LEVELS)), 0), len(LEVELS) - 1)
        found.append(Place(texts_of(pair.finding, pair.side, level), box))
    return found


def fit_places(queries: Queries, places: Sequence[Place], width: int) -> nn.Sequential:
    """Return the network of (N, D) mean tokens; queries: returns those of N texts."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    every = sorted({text for each in places for text in each.texts})
    number, tokens = {text: n for n, text in enumerate(every)}, queries(every)
    boxes = torch.tensor([each.box for each in places])
    known = [np.array([number[text] for text in each.texts]) for each in places]
    layer = layers.mlp(width, width, 4)
    with torch.no_grad():
        layer[-1].bias.copy_(boxes.mean(0))  # type: ignore[union-attr]
    optimizer = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=0.01)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
        rows = rng.integers(len(places), size=BATCH)
        texts = [known[row][rng.integers(len(known[row]))] for row in rows]
        found = layer(tokens[texts])
        overlap = ops.generalized_iou(ops.cxcywh_to_xyxy(found), ops.cxcywh_to_xyxy(boxes[rows]), 0.01)
        optimizer.zero_grad()
        (1 - overlap).mean().backward()
        optimizer.step()
    return layer.requires_grad_(False)
