"""The presence of findings in the example model: a linear function of an image's features for each finding.

Used by tools/train_example. It is a ridge regression, so it is fitted in closed form. Its targets are:

- ChestX-Det's classes on its images, present or absent: weight 3.
- NIH's mined labels on the other images, which are weak: a label is a positive of weight 3, a missing
  label a negative of weight .5, since it may only be unlabeled.
- Images with "No Finding": negatives of weight .5, balanced by view (`Nih.said`). Classes that NIH has no
  label for weigh .3 of that, and are unknown on other images.
- ChestX-Det's Consolidation is wider than NIH's label: Infiltration and Edema are positives of weight 1.5.

The features are means of the map of EfficientNet-Lite2 over the image and its flipped copy.

The output becomes a logit by a logistic regression on ChestX-Det's images. It has one slope for all findings,
and an offset for the share of images that have the finding. Its inputs are out-of-fold outputs.

A second linear classifier tells which finding a text names. It is trained on the lexicon's words for each.
Findings that are easy to localize get a higher score: by the share of boxes of other patients that the
image-free baseline hits.

Letters: N images, K findings, F features of an image.
"""

import random
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from example_data import CLASSES, HEALTHY, UNLABELED, Nih, Pair, phrased
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medground import boxes
from medground.evaluation import baseline
from medground.models.text_query import mean_of
from medground.records import Phrase
from medground.reports.negation import negated_forms
from medground.reports.paraphrase import paraphrases
from medground.reports.parser import Parser

FINDINGS = sorted(CLASSES)
RIDGE = 4.0  # relative to the mean squared norm of an image's features, 1
SHARE = 0.15  # of the text query in the presence of a finding
SMOOTH = 4.0  # images that the mean share of findings counts as
INNER = 5
AXES, FAMILIAR = 16, 0.99  # of the distance from the images of the training
STEPS = 1200  # of the classifier of texts
SHARPNESS = 2.0  # of the logits of names: a text that names nothing must have no share of a finding
PRIOR = 2.0  # weight of a finding's log odds of a hit in the score
HIT = 0.5  # IoU from which a box counts as a hit
REPEATS = 40  # of the names of regions
WORDS = 12  # paraphrases of a phrase
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Labels:
    """(N, K) targets and weights of the images, and which entries ChestX-Det states."""

    targets: Array
    weights: Array
    stated: NDArray[np.bool_]


def labels_of(nih: Nih, images: list[str]) -> Labels:
    """Return the labels of the images."""
    stated = {(e.image_id, e.category): bool(e.boxes) for e in nih.bare + nih.absent}
    shape = len(images), len(FINDINGS)
    found = Labels(np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool))
    for row, image in enumerate(images):
        for column, finding in enumerate(FINDINGS):
            known = stated.get((image, finding))
            present, share = nih.said(image, finding) if known is None else (known, 1.0)
            weight = 3.0 * share if known is not None or present else share
            if known is None and finding in UNLABELED:
                weight *= 0.3 if nih.labels[image] == HEALTHY else 0.0
            found.targets[row, column], found.weights[row, column] = present, weight
            found.stated[row, column] = known is not None
    return found


@dataclass(frozen=True)
class Ridge:
    """(F, K) weights and (K,) offsets of a linear function of features."""

    weights: Array
    offsets: Array

    @classmethod
    def fit(cls, features: Array, labels: Labels, rows: NDArray[np.intp]) -> "Ridge":
        """Return the weighted ridge regression on some rows, solved in the space of images."""
        products = features[rows] @ features[rows].T
        weights, offsets = np.zeros((features.shape[1], len(FINDINGS))), np.zeros(len(FINDINGS))
        for k in range(len(FINDINGS)):
            weight, target = labels.weights[rows, k], labels.targets[rows, k]
            root = np.sqrt(weight)
            offsets[k] = (weight * target).sum() / weight.sum()
            inner = root[:, None] * products * root + RIDGE * np.eye(len(rows))
            weights[:, k] = features[rows].T @ (root * np.linalg.solve(inner, root * (target - offsets[k])))
        return cls(weights, offsets)


def pooled(maps: Tensor, visible: Tensor) -> Array:
    """Return the (N, F) features of (N, C, h, w) maps, as the network computes them."""
    parts = [
        mean_of(each.float(), seen) for each, seen in zip(maps.split(64), visible.split(64), strict=True)
    ]
    return torch.cat(parts).double().numpy()


def fit_findings(features: Array, labels: Labels, groups: NDArray[np.intp]) -> nn.Linear:
    """Return the layer of K logits; groups: (N,) the inner fold of each image, patients apart."""
    mean, scale = features.mean(0), scale_of(features)
    scaled = (features - mean) / scale
    held_out, every = np.zeros(labels.targets.shape), np.arange(len(features))
    for each in range(INNER):
        found = Ridge.fit(scaled, labels, every[groups != each])
        held_out[groups == each] = scaled[groups == each] @ found.weights  # no offset: it tells the fold
    ridge = Ridge.fit(scaled, labels, every)
    spread = held_out.std(0) + 1e-6
    slope, offsets = to_logits(held_out / spread, labels)
    weights = ridge.weights / spread * slope / scale[:, None]
    layer = nn.Linear(*weights.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights.T))
        layer.bias.copy_(torch.from_numpy(offsets - mean @ weights))
    return layer


def scale_of(features: Array) -> Array:
    """Return what to divide (N, F) features by, so that their mean squared norm is 1."""
    scale: Array = (features.std(0) + 1e-3 * features.std()) * np.sqrt(features.shape[1])
    return scale


def to_logits(outputs: Array, labels: Labels) -> tuple[float, Array]:
    """Return the slope of all findings and the offset of each; outputs: (N, K) out-of-fold."""
    known = labels.stated
    prior = known.sum(0) > 0
    some = np.where(prior, known, labels.weights > 0)
    count, there = some.sum(0), (labels.targets * some).sum(0)
    typical = there[prior].sum() / max(count[prior].sum(), 1)
    share = (there + SMOOTH * typical) / (count + SMOOTH)
    log_odds = np.log(share / (1 - share))
    at, true = torch.from_numpy(outputs[known]), torch.from_numpy(labels.targets[known])
    base = torch.from_numpy(np.broadcast_to(log_odds, known.shape)[known])
    values = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([values], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = functional.binary_cross_entropy_with_logits(values[0] * at + base + values[1], true)
        found.backward()
        return found

    optimizer.step(loss)
    slope, offset = values.detach().tolist()
    return max(slope, 0.0), log_odds + offset


def score_offsets(phrases: list[Phrase]) -> list[float]:
    """Return what each finding adds to the logit of the score, from boxes of other patients, without images.

    It is PRIOR times the log odds that the image-free baseline hits a box, less those of all findings.
    """
    free = baseline.fit_phrases(phrases)
    hits = [boxes.iou(np.array([free.box_of(e)]), np.array(e.boxes)).max() >= HIT for e in phrases]
    typical, counts = np.mean(hits), Counter(e.category for e in phrases)
    hit = Counter(each.category for each, found in zip(phrases, hits, strict=True) if found)
    shares = np.array([(hit[f] + SMOOTH * typical) / (counts[f] + SMOOTH) for f in FINDINGS])
    odds = np.log(shares / (1 - shares)) - np.log(typical / (1 - typical))
    return [round(float(PRIOR * each), 4) for each in odds]


def named_texts(regions: list[str]) -> tuple[list[str], list[int]]:
    """Return texts and the number of the finding that each names; K for none of them, or a negated one."""
    rng, parser, found = random.Random(0), Parser(), {}
    for number, finding in enumerate(FINDINGS):
        for side in (None, "left", "right", "both"):
            pair = Pair("", None, True, 1.0, finding, side)
            for text in sorted({phrased(pair, False, rng) for _ in range(12)}):
                forms = (text, *paraphrases(text, parser, WORDS))
                found |= {form: number for form in forms if form not in found}
                found |= {form: len(FINDINGS) for form in negated_forms(text, parser)[:3]}
    texts, numbers = list(found), list(found.values())
    some = [name for name in regions if name not in found] * REPEATS  # few, but in many texts of findings
    return texts + some, numbers + [len(FINDINGS)] * len(some)


def fit_names(queries: Tensor, numbers: Tensor) -> nn.Linear:
    """Return the classifier of (N, D) mean tokens of texts; numbers: (N,) the finding of each, K for none."""
    torch.manual_seed(0)
    layer = nn.Linear(queries.shape[1], len(FINDINGS) + 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.03, weight_decay=0.0)
    counts = torch.bincount(numbers, minlength=len(FINDINGS) + 1).float()
    weights = (1 / counts.clamp(min=1)).sqrt()
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(layer(queries), numbers, weight=weights).backward()
        optimizer.step()
    layer.requires_grad_(False)
    for each in (layer.weight, layer.bias):
        each.mul_(SHARPNESS)
    return layer


def fit_familiar(features: Array, groups: NDArray[np.intp]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of (N, C) features, the axes in which they vary most, and the limit of the distance.

    The limit is exceeded by 1 % of the images if their patients are left out of the fit.
    """
    held_out = np.zeros(len(features))
    for each in range(INNER):
        typical, axes = axes_of(features[groups != each])
        held_out[groups == each] = outside(features[groups == each] - typical, axes)
    limit = np.array(np.quantile(held_out, FAMILIAR))
    typical, axes = (torch.from_numpy(each).float() for each in axes_of(features))
    return typical, axes, torch.from_numpy(limit).float()


def axes_of(features: Array) -> tuple[Array, Array]:
    """Return the mean of (N, C) features and their first principal axes, (C, AXES)."""
    typical = features.mean(0)
    return typical, np.linalg.eigh(np.cov(features, rowvar=False))[1][:, -AXES:]


def outside(apart: Array, axes: Array) -> Array:
    """Return the lengths of (N, C) vectors outside the axes."""
    rest: Array = (apart**2).sum(1) - ((apart @ axes) ** 2).sum(1)
    return np.sqrt(rest.clip(min=0))
