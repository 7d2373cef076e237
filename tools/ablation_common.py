"""Short pre-trainings and their measures for ablations, in one process and without a run folder.

Letters: N images, K labels, D width, R region-sentence pairs. A label is 1, 0, or -1 if unknown.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medground import console, jsonl, registry
from medground.data.collate import Batch, Batches, Plan, Queried, collate
from medground.data.examples import Example, all_texts, from_anatomy, from_pairs, from_sentences
from medground.data.feature_maps import FeatureMaps
from medground.data.image_store import ImageStore
from medground.data.report_targets import Needs
from medground.models import grounder
from medground.objectives.learner import Learner, total
from medground.objectives.objective import Encoded
from medground.records import Anatomy, Pair, Sentence
from medground.training.optim import Schedule, build_optimizer, freeze, set_lr

Store = ImageStore | FeatureMaps
FROZEN, EARLY = "image-encoder", "early-stages"
LEAST = 3  # images with and without a label, that a label needs for an AUC

OFF = {"ira": 0.0, "arsa": 0.0, "irl": 0.0, "erl": 0.0}
ASG: dict[str, tuple[str, dict[str, float]]] = {  # pairs and weights, in the order of the published table
    "ira": ("merged", OFF | {"ira": 1.0}),
    "+ arsa, merged": ("merged", OFF | {"ira": 1.0, "arsa": 1.0}),
    "+ arsa, split": ("split", OFF | {"ira": 1.0, "arsa": 1.0}),
    "ira + irl": ("merged", OFF | {"ira": 1.0, "irl": 5.0}),
    "ira + irl + erl": ("merged", OFF | {"ira": 1.0, "irl": 5.0, "erl": 1.0}),
    "full": ("merged", registry.OBJECTIVES["asg"].weights(frozenset())),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The objective and length of a training; all other settings are those of `pretrain`.

    encoder: folder of a pre-trained image encoder; None for a small network from scratch.
    freeze: its part that stays fixed, as of --freeze.
    side: of the images, in pixels.
    """

    objective: str
    weights: Mapping[str, float]
    steps: int
    images: int = 16
    lr: float = 5e-4
    seed: int = 0
    encoder: str | None = None
    freeze: str = FROZEN
    side: int = 128


@dataclass(frozen=True)
class Trained:
    """A trained model with its learner, and the texts that every batch needs."""

    model: grounder.Grounder
    learner: Learner
    always: tuple[str, ...]

    @torch.inference_mode()
    def over(
        self, examples: Sequence[Example], store: Store, together: int = 16
    ) -> Iterator[tuple[Batch, Encoded]]:
        """Yield the examples in batches, without augmentation, and their encodings."""
        self.learner.eval()
        computed(store, examples)
        for first in range(0, len(examples), together):
            queried: list[Queried] = [(each, []) for each in examples[first : first + together]]
            batch = collate(queried, store, self.model.tokenize, self.always).viewed()
            yield batch, self.learner.encode(*batch.inputs())


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the files that `read` takes, and the folder of the images."""
    for name in ("pairs", "anatomy", "reports", "test-images", "images"):
        parser.add_argument(f"--{name}", type=Path, required=True)


def read(options: argparse.Namespace) -> tuple[list[Example], list[Example]]:
    """Return the training and the test images with a report, with their region boxes."""
    bad = jsonl.BadLines(None)
    found: dict[str, Example] = {}
    with open(options.pairs, "rb") as stream:
        from_pairs(jsonl.read(stream, Pair, bad), found, reads=True)
    with open(options.anatomy, "rb") as stream:
        from_anatomy(jsonl.read(stream, Anatomy, bad), found)
    with open(options.reports, "rb") as stream:
        from_sentences(jsonl.read(stream, Sentence, bad), found)
    with open(options.test_images, "rb") as stream:
        held = {each.image_id for each in jsonl.read(stream, Anatomy, bad)}
    reported = [each for each in found.values() if each.report]
    return [e for e in reported if e.image_id not in held], [e for e in reported if e.image_id in held]


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Add the options of a pre-trained image encoder."""
    parser.add_argument("--encoder", help="folder of a pre-trained image encoder")
    parser.add_argument("--freeze", choices=(FROZEN, EARLY), default=FROZEN, help="its part that stays fixed")
    parser.add_argument("--maps", type=Path, help="folder of its feature maps, which are computed once")


def store_of(options: argparse.Namespace) -> Store:
    """Return the images of a tool, or with `--encoder` their feature maps."""
    if options.encoder is None:
        return ImageStore(options.images, options.side)
    model = grounder.build("small", [], image_encoder=options.encoder, image_size=options.side)
    return FeatureMaps(options.maps, options.images, model.network, options.side, options.freeze == EARLY)


def computed(store: Store, examples: Sequence[Example]) -> Store:
    """Return the store after computing the feature maps that the examples lack."""
    if isinstance(store, FeatureMaps):
        store.add(
            [each.path for each in examples],
            lambda found, count: console.progress(found, "batches of feature maps", count),
        )
    return store


def train(examples: Sequence[Example], store: Store, recipe: Recipe) -> Trained:
    """Return a small model trained on the examples' reports with one objective; the recipe determines it."""
    always = Needs.of([recipe.objective]).always or ()
    torch.manual_seed(recipe.seed)
    words = [*all_texts(examples), *always]
    model = grounder.build("small", words, image_encoder=recipe.encoder, image_size=recipe.side)
    learner = Learner(model, [recipe.objective], dict(recipe.weights))
    views = "mild" if recipe.encoder is None else "none"
    if recipe.encoder is not None:
        freeze(model.network, [recipe.freeze])
    plan = Plan(images=recipe.images, terms=0, sentences=0, seed=recipe.seed, views=views, always=always)
    batches = Batches(examples, computed(store, examples), model.tokenize, plan)
    schedule = Schedule(steps=recipe.steps, lr=recipe.lr)
    optimizer = build_optimizer(learner, schedule)
    learner.train()
    for step in range(recipe.steps):
        torch.manual_seed(hash((recipe.seed, step)))
        set_lr(optimizer, schedule.lr_factor(step))
        optimizer.zero_grad()
        weights = {n: weight for n, weight in learner.weights(step / recipe.steps).items() if weight}
        losses = learner(batches.at(step).viewed())
        total({name: losses[name] for name in weights}, weights).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), schedule.max_grad_norm)
        optimizer.step()
    return Trained(model, learner.eval(), always)


def auc(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float | None:
    """Return the probability that an image with the label scores higher than one without.

    Ties count half. Return None if fewer than LEAST images have the label, or fewer lack it.
    """
    known = labels >= 0
    scores, labels = scores[known], labels[known]
    have = int(labels.sum())
    if min(have, len(labels) - have) < LEAST:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[inverse]
    return float((ranks[labels == 1].sum() - have * (have + 1) / 2) / (have * (len(labels) - have)))


def macro_auc(scores: Tensor, labels: Tensor) -> float:
    """Return the mean AUC of the (N, K) labels that have one; NaN if none has."""
    table, truth = scores.double().numpy(), labels.double().numpy()
    each = [auc(table[:, k], truth[:, k]) for k in range(truth.shape[1])]
    found = [value for value in each if value is not None]
    return float(np.mean(found)) if found else float("nan")


def linear_probe(
    learned: tuple[Tensor, Tensor], tested: tuple[Tensor, Tensor], share: float, seed: int
) -> float:
    """Return the macro AUC on `tested` of a logistic regression on a share of `learned`: (N, D) and (N, K).

    Features are standardized. The weights have an L2 penalty of 1 / the number of images. A label that no
    selected image has gives all images the same score, an AUC of 0.5.
    """
    features, labels = learned
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(features), generator=generator)[: max(2, round(share * len(features)))]
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    given, wanted = (features[chosen] - mean) / deviation, labels[chosen]
    weights = torch.zeros(features.shape[1] + 1, labels.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = given @ weights[:-1] + weights[-1]
        cost = functional.binary_cross_entropy_with_logits(logits, wanted.clamp(min=0), reduction="none")
        loss = cost[wanted >= 0].sum() / len(given) + weights[:-1].square().sum() / len(given) / 2
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        scores = (tested[0] - mean) / deviation @ weights[:-1]
    return macro_auc(scores, tested[1])


def best_of_image(similar: Tensor, images: Tensor, rows: Tensor) -> tuple[float, float, int]:
    """Return hits at 1, the hits expected by chance, and the number of queries, over the pairs of each image.

    similar: (R, R), regions by sentences; images: (R,). Each region is a query for its sentence, and each
    sentence for its region. Another pair with the same text (rows: (R,)) is also a hit. Pairs that are the
    only one of their image are no queries.
    """
    same_image = images[:, None] == images
    right = same_image & (rows[:, None] == rows)
    queried = same_image.sum(dim=1) > 1
    hits = chance = 0.0
    for table in (similar, similar.T):
        best = table.masked_fill(~same_image, -torch.inf).argmax(dim=1) if len(table) else rows
        hits += right[torch.arange(len(best)), best][queried].sum().item()
        chance += (right.sum(dim=1) / same_image.sum(dim=1).clamp(min=1))[queried].sum().item()
    return hits, chance, 2 * int(queried.sum())


def table(lines: Sequence[Mapping[str, Any]], variants: Sequence[str]) -> str:
    """Return a Markdown table with one row per variant; each cell is the mean over its lines.

    With several lines, half the width of Student's 95 % interval is added.
    """
    measures = [name for name in lines[0] if name not in ("variant", "seed", "steps")]
    rows = [["", *measures], ["---"] * (len(measures) + 1)]
    for variant in variants:
        own = [line for line in lines if line["variant"] == variant]
        if own:
            rows.append([variant, *(_cell([line[name] for line in own]) for name in measures)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def rounded(measured: Mapping[str, float]) -> dict[str, float | None]:
    """Return the figures rounded to four digits; None for one that could not be measured."""
    return {name: None if np.isnan(value) else round(value, 4) for name, value in measured.items()}


def _cell(measured: Sequence[float | None]) -> str:
    values = [value for value in measured if value is not None]
    if not values:
        return "–"
    if len(values) < 2:
        return f"{np.mean(values):.3f}"
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.3f} ± {half:.3f}"
